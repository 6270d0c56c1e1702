"""White-box attacks in pixel space: FGSM, BIM (I-FGSM), MI-FGSM, PGD, ODI-PGD and ODI-BIM in the L-infinity ball, and PGD in the L2 ball.

An attack is a frozen recipe and one call, `PGD(steps=20)(model, images, labels, index=index, seed=0)`; `recipe.record(...)` takes the same
and also says of each image whether it fools the model and what it cost. Images are float NCHW in [0,1], so eps is in pixel units; the
model normalises inside itself and returns logits (N,K). While an attack runs, the model is in eval mode, without autocast, and only the
input receives a gradient; afterwards every module's mode and every parameter's requires_grad are as before. Losses are summed over the
batch and random numbers are drawn per image, so the result for an image does not depend on its batch (up to float rounding).

    attack(recipe, model, data)               uint8 images in, uint8 images out, success checked on these bytes
    sweep(recipe, [2/255, 8/255], model, ...) one result per budget
    prepared(model, "bfloat16")               a faster stand-in for the model, for any recipe

Sources: Goodfellow et al. 2015 (FGSM); Kurakin et al. 2017 (BIM); Dong et al. 2018 (MI-FGSM); Madry et al. 2018 (PGD); Tashiro et al. 2020
(ODI). Warnings and what to do about them: docs/attacks.md.
"""

from torch import Tensor, nn

from rtalib.attacks.checks import AttackWarning, attackable
from rtalib.attacks.folding import fold_batchnorm, prepared
from rtalib.attacks.odi import ODI_BIM_PRESETS, ODIBIM, ODIPGD, cosine_sizes, has_low_logits, odi_bim_recipe
from rtalib.attacks.on_dataset import attack, quantize, sweep, with_eps
from rtalib.attacks.pgd import BIM, FGSM, MIFGSM, PGD, PGDL2
from rtalib.attacks.steps import EPS, LOSSES, STEP, Attacked

__all__ = [
    "BIM", "EPS", "FGSM", "LOSSES", "MIFGSM", "ODIBIM", "ODIPGD", "ODI_BIM_PRESETS", "PGD", "PGDL2", "STEP", "AttackWarning", "Attacked",
    "attack", "attackable", "bim", "cosine_sizes", "fgsm", "fold_batchnorm", "has_low_logits", "mi_fgsm", "odi_bim", "odi_bim_recipe",
    "odi_bim_record", "odi_pgd", "pgd", "pgd_l2", "prepared", "quantize", "sweep", "with_eps",
]  # fmt: skip


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float = EPS) -> Tensor:
    """FGSM on float images in [0,1]; see FGSM."""
    return FGSM(eps)(model, images, labels)


def bim(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float = EPS, step_size: float = STEP, steps: int = 10) -> Tensor:
    """BIM (I-FGSM) with cross-entropy; see BIM."""
    return BIM(eps, step_size, steps)(model, images, labels)


def mi_fgsm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float = EPS,
    step_size: float = STEP,
    steps: int = 10,
    decay: float = 1.0,
) -> Tensor:
    """Momentum iterative FGSM with cross-entropy; see MIFGSM."""
    return MIFGSM(eps, step_size, steps, decay=decay)(model, images, labels)


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


def pgd_l2(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float = 0.5,
    step_size: float = 0.1,
    steps: int = 10,
    random_start: bool = True,
    restarts: int = 1,
    seed: int = 0,
    index: Tensor | None = None,
) -> Tensor:
    """PGD in the L2 ball with cross-entropy; see PGDL2. |delta|_2 <= eps per image."""
    return PGDL2(eps, step_size, steps, random_start, restarts)(model, images, labels, index=index, seed=seed)


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
    return odi_bim_record(
        model, images, labels, eps=eps, preset=preset, seed=seed, index=index, restarts=restarts, steps=steps, low_logits=low_logits
    ).images
