"""White-box L-infinity attacks in pixel space: FGSM, BIM (I-FGSM), PGD, ODI-PGD and ODI-BIM.

An attack is a frozen recipe and one call: `PGD(steps=20)(model, images, labels, index=index, seed=0)`. Images are float NCHW in [0,1], so
eps is in pixel units; the model normalises inside itself and returns logits (N,K). While an attack runs, the model is in eval mode, without
autocast, and only the input receives a gradient; afterwards every module's mode and every parameter's requires_grad are as before. Losses
are summed over the batch and random numbers are drawn per image, so the result for an image does not depend on its batch (up to float
rounding).

Sources: Goodfellow et al. 2015 (FGSM); Kurakin et al. 2016 (BIM); Madry et al. 2018 (PGD); Tashiro et al. 2020 (ODI).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rtalib.attack_steps import (
    EPS,
    LOSSES,
    STEP,
    attackable,
    ball,
    check_numbers,
    checked,
    input_gradient,
    logits_of,
    project,
    warn_if_flat,
)
from rtalib.errors import unknown
from rtalib.odi import ODI_BIM_PRESETS, ODIBIM, ODIPGD, Attacked, cosine_sizes, has_low_logits, odi_bim_recipe

__all__ = [
    "BIM", "EPS", "FGSM", "LOSSES", "ODIBIM", "ODIPGD", "ODI_BIM_PRESETS", "PGD", "STEP", "Attacked", "attackable", "bim", "cosine_sizes",
    "fgsm", "has_low_logits", "odi_bim", "odi_bim_recipe", "odi_bim_record", "odi_pgd", "pgd", "quantize",
]  # fmt: skip


@dataclass(frozen=True)
class PGD:
    """`steps` sign-gradient steps of `step_size` on `loss` from a random start; of the restarts, the highest final loss is kept."""

    eps: float = EPS
    step_size: float = STEP
    steps: int = 10
    random_start: bool = True
    restarts: int = 1
    loss: str = "cross_entropy"

    def __post_init__(self) -> None:
        check_numbers(self, ("steps", "restarts"))
        if self.loss not in LOSSES:
            raise unknown("loss", self.loss, LOSSES)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, *, index: Tensor | None = None, seed: int = 0) -> Tensor:
        """float (N,C,H,W) in [0,1] within eps of `images`; `index` int64 (N,) names each image's random stream (default 0..N-1)."""
        with attackable(model):
            _, index = checked(model, images, labels, index)
            best = self._restart(model, images, labels, index, seed, 0)
            if self.restarts > 1:
                score = self._score(model, best, labels)
                for restart in range(1, self.restarts):
                    x = self._restart(model, images, labels, index, seed, restart)
                    new = self._score(model, x, labels)
                    best = torch.where((new > score)[:, None, None, None], x, best)
                    score = torch.maximum(new, score)
        return best

    def _score(self, model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            return LOSSES[self.loss](logits_of(model, x), labels)

    def _restart(self, model: nn.Module, clean: Tensor, labels: Tensor, index: Tensor, seed: int, restart: int) -> Tensor:
        x = ball(seed, index, restart, clean, self.eps) if self.random_start else clean
        for step in range(self.steps):
            _, gradient = input_gradient(model, x, lambda logits: LOSSES[self.loss](logits, labels))
            if step == 0:
                warn_if_flat(gradient)
            x = project(x + self.step_size * gradient.sign(), clean, self.eps)
        return x


@dataclass(frozen=True)
class BIM(PGD):
    """I-FGSM: PGD without a random start."""

    random_start: bool = False


@dataclass(frozen=True)
class FGSM:
    """One step of size eps along the sign of the cross-entropy gradient."""

    eps: float = EPS

    def __post_init__(self) -> None:
        check_numbers(self)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, *, index: Tensor | None = None, seed: int = 0) -> Tensor:
        """float (N,C,H,W) in [0,1] within eps of `images`; deterministic, so `seed` changes nothing."""
        return BIM(eps=self.eps, step_size=self.eps, steps=1)(model, images, labels, index=index, seed=seed)


def quantize(adversarial: Tensor, clean: Tensor, eps: float = EPS) -> Tensor:
    """uint8 of `adversarial` (float in [0,1]), rounded to nearest and clipped to clean +- floor(255 eps) grey levels.

    Truncation instead of rounding would leave the ball (9 levels at eps 8/255). `clean` is the uint8 image that was attacked.
    """
    if clean.dtype != torch.uint8 or not adversarial.is_floating_point() or clean.shape != adversarial.shape:
        got = f"{adversarial.dtype} {tuple(adversarial.shape)} and {clean.dtype} {tuple(clean.shape)}"
        raise ValueError(f"quantize: expected float adversarial and uint8 clean of one shape, got {got}")
    radius = math.floor(255 * eps + 1e-6)
    centre = clean.short()
    levels = (adversarial * 255).round().short()
    return torch.clamp(levels, centre - radius, centre + radius).clamp_(0, 255).to(torch.uint8)


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float = EPS) -> Tensor:
    """FGSM on float images in [0,1]; see FGSM."""
    return FGSM(eps)(model, images, labels)


def bim(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float = EPS, step_size: float = STEP, steps: int = 10) -> Tensor:
    """BIM (I-FGSM) with cross-entropy; see BIM."""
    return BIM(eps, step_size, steps)(model, images, labels)


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float = EPS,
    step_size: float = STEP,
    steps: int = 10,
    random_start: bool = True,
    restarts: int = 1,
    seed: int = 0,
    index: Tensor | None = None,
) -> Tensor:
    """PGD with cross-entropy; see PGD."""
    return PGD(eps, step_size, steps, random_start, restarts)(model, images, labels, index=index, seed=seed)


def odi_pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float = EPS,
    step_size: float = STEP,
    steps: int = 20,
    restarts: int = 20,
    seed: int = 0,
    index: Tensor | None = None,
) -> Tensor:
    """ODI-PGD on the logit margin; see ODIPGD."""
    return ODIPGD(eps=eps, step_size=step_size, steps=steps, restarts=restarts)(model, images, labels, index=index, seed=seed)


def odi_bim_record(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float = EPS,
    preset: str = "author",
    seed: int = 0,
    index: Tensor | None = None,
    restarts: int | None = None,
    steps: int | None = None,
    low_logits: bool = False,
) -> Attacked:
    """ODI-BIM with its bookkeeping; presets and overrides as in odi_bim_recipe."""
    recipe = odi_bim_recipe(preset, eps=eps, low_logits=low_logits, restarts=restarts, steps=steps)
    return recipe.record(model, images, labels, index=index, seed=seed)


def odi_bim(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float = EPS,
    preset: str = "author",
    seed: int = 0,
    index: Tensor | None = None,
    restarts: int | None = None,
    steps: int | None = None,
    low_logits: bool = False,
) -> Tensor:
    """ODI-BIM; presets and overrides as in odi_bim_recipe."""
    recipe = odi_bim_recipe(preset, eps=eps, low_logits=low_logits, restarts=restarts, steps=steps)
    return recipe(model, images, labels, index=index, seed=seed)
