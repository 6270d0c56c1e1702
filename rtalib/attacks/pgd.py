"""Recipes of plain gradient steps: PGD and what differs from it in one line: BIM, FGSM, MI-FGSM, and PGD in the L2 ball."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from rtalib.attacks.checks import attackable, check_numbers, checked, logits_of, warn_if_chance, warn_if_flat
from rtalib.attacks.steps import EPS, LOSSES, STEP, Attacked, ball, ball_l2, input_gradient, length, misclassified, project, project_l2
from rtalib.errors import unknown


@dataclass(frozen=True)
class PGD:
    """Projected gradient descent (Madry et al. 2018): `steps` sign-gradient steps of `step_size` on `loss` from a uniform random start.

    A restart runs to its end, so that images get the full strength of the recipe; images that it fools skip the next restarts, and of one
    that no restart fools, the highest final loss is kept. stop_on_success=True, for evaluation and for mining misclassified images: the
    first misclassified iterate is the result, an image misclassified from the start is returned unmodified, and only images still to be
    fooled are computed. loss: 'cross_entropy', 'margin' or 'dlr'. eps and step_size are in units of [0,1] pixels.
    """

    eps: float = EPS
    step_size: float = STEP
    steps: int = 10
    random_start: bool = True
    restarts: int = 1
    loss: str = "cross_entropy"
    stop_on_success: bool = False

    norm: ClassVar[str] = "linf"

    def __post_init__(self) -> None:
        check_numbers(self, ("steps", "restarts"), largest=1.0 if self.norm == "linf" else math.inf)
        if self.loss not in LOSSES:
            raise unknown("loss", self.loss, LOSSES)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, *, index: Tensor | None = None, seed: int = 0) -> Tensor:
        """float (N,C,H,W) in [0,1] within eps of `images`; `index` int64 (N,) names each image's random stream (default 0..N-1)."""
        judged = self.stop_on_success or self.restarts > 1  # else nobody asks about the end point, and a forward pass is saved
        return self._attack(model, images, labels, index, seed, judged).images

    def record(self, model: nn.Module, images: Tensor, labels: Tensor, *, index: Tensor | None = None, seed: int = 0) -> Attacked:
        """The same attack with its bookkeeping."""
        return self._attack(model, images, labels, index, seed, judged=True)

    def _attack(self, model: nn.Module, images: Tensor, labels: Tensor, index: Tensor | None, seed: int, judged: bool) -> Attacked:
        with attackable(model):
            _, index = checked(model, images, labels, index)
            return _Search(self, model, images, labels, index, seed, judged).run()

    def start(self, clean: Tensor, seed: int, index: Tensor, restart: int) -> Tensor:
        """Where a restart begins."""
        return ball(seed, index, restart, clean, self.eps) if self.random_start else clean

    def direction(self, gradient: Tensor, previous: Tensor) -> Tensor:
        """Where to go, given this gradient and the previous direction (zero at first)."""
        return gradient

    def step(self, x: Tensor, direction: Tensor, clean: Tensor) -> Tensor:
        """One step, projected."""
        return project(x + self.step_size * direction.sign(), clean, self.eps)


@dataclass(frozen=True)
class BIM(PGD):
    """I-FGSM (Kurakin et al. 2017): PGD without a random start."""

    random_start: bool = False


@dataclass(frozen=True)
class MIFGSM(BIM):
    """Momentum iterative FGSM (Dong et al. 2018): BIM along the sign of a running sum of L1-normalised gradients.

    The sum before each step is multiplied by `decay`; 0 is BIM. The authors step by eps / steps.
    """

    decay: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay < math.inf:
            raise ValueError(f"decay: expected a finite factor, not negative, got {self.decay}")

    def direction(self, gradient: Tensor, previous: Tensor) -> Tensor:
        return self.decay * previous + gradient / length(gradient, 1)


@dataclass(frozen=True)
class PGDL2(PGD):
    """PGD in the L2 ball (Madry et al. 2018): steps of length `step_size` along the gradient. eps 0.5 is usual for CIFAR-10."""

    eps: float = 0.5
    step_size: float = 0.1

    norm: ClassVar[str] = "l2"

    def start(self, clean: Tensor, seed: int, index: Tensor, restart: int) -> Tensor:
        return ball_l2(seed, index, restart, clean, self.eps) if self.random_start else clean

    def step(self, x: Tensor, direction: Tensor, clean: Tensor) -> Tensor:
        return project_l2(x + self.step_size * direction / length(direction), clean, self.eps)


@dataclass(frozen=True)
class FGSM:
    """Fast gradient sign method (Goodfellow et al. 2015): one step of size eps along the sign of the cross-entropy gradient."""

    eps: float = EPS

    norm: ClassVar[str] = "linf"

    def __post_init__(self) -> None:
        check_numbers(self)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, *, index: Tensor | None = None, seed: int = 0) -> Tensor:
        """float (N,C,H,W) in [0,1] within eps of `images`; deterministic, so `seed` changes nothing."""
        return self._bim(model, images, labels, index=index, seed=seed)

    def record(self, model: nn.Module, images: Tensor, labels: Tensor, *, index: Tensor | None = None, seed: int = 0) -> Attacked:
        """The same attack with its bookkeeping."""
        return self._bim.record(model, images, labels, index=index, seed=seed)

    @property
    def _bim(self) -> BIM:
        return BIM(eps=self.eps, step_size=self.eps, steps=1)


class _Search:
    """One run of a recipe on one batch; `active` are the positions of the images that are still attacked."""

    def __init__(self, recipe: PGD, model: nn.Module, clean: Tensor, labels: Tensor, index: Tensor, seed: int, judged: bool) -> None:
        self.recipe, self.model, self.clean, self.labels, self.index, self.seed = recipe, model, clean, labels, index, seed
        self.judged, self.loss = judged, LOSSES[recipe.loss]
        self.out = Attacked.untouched(clean)
        self.best = torch.full_like(labels, -math.inf, dtype=torch.float64)

    def run(self) -> Attacked:
        active = torch.arange(len(self.clean), device=self.clean.device)
        if self.recipe.stop_on_success and self.recipe.random_start:  # without a random start the first step tests the clean images
            logits = self._logits(self.clean)
            warn_if_chance(self.model, logits, self.labels)
            self._freeze(active, self.clean, logits)
        for restart in range(self.recipe.restarts):
            active = active[~self.out.success[active]]
            if len(active):
                self._restart(active, restart)
        return self.out

    def _restart(self, active: Tensor, restart: int) -> None:
        recipe, clean = self.recipe, self.clean[active]
        x = recipe.start(clean, self.seed, self.index[active], restart)
        direction = torch.zeros_like(x)
        for step in range(recipe.steps):
            labels = self.labels[active]
            logits, gradient = input_gradient(self.model, x, lambda logits, labels=labels: self.loss(logits, labels))
            if restart == step == 0:
                warn_if_flat(gradient)
                warn_if_chance(self.model, logits, labels)
            if recipe.stop_on_success:
                going = ~self._freeze(active, x, logits)
                active, clean, x, gradient, direction = (kept[going] for kept in (active, clean, x, gradient, direction))
                if not len(active):
                    return
            direction = recipe.direction(gradient, direction)
            x = recipe.step(x, direction, clean)
            self.out.gradients[active] += 1
            self.out.restarts[active] = restart + 1
        self._finish(active, x)

    def _finish(self, active: Tensor, x: Tensor) -> None:
        """The end points of a restart: a success counts more than any loss, then the higher loss."""
        better = torch.ones_like(active, dtype=torch.bool)
        if self.judged:
            logits, labels = self._logits(x), self.labels[active]
            score, fooled = self.loss(logits, labels).double(), misclassified(self.model, x, logits, labels)
            better = fooled | (score > self.best[active])
            self.best[active[better]] = score[better]
            self.out.success[active] = fooled
        self.out.images[active[better]] = x[better]

    def _freeze(self, active: Tensor, x: Tensor, logits: Tensor) -> Tensor:
        """Store the iterates that fool the model; returns which they are (bool, as `active`)."""
        fooled = misclassified(self.model, x, logits, self.labels[active])
        self.out.images[active[fooled]], self.out.success[active[fooled]] = x[fooled], True
        return fooled

    def _logits(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return logits_of(self.model, x)
