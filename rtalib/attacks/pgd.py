"""Recipes of plain gradient steps: PGD and its one-line variants BIM and FGSM."""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from rtalib.attacks.checks import check_recipe, warn_if_chance
from rtalib.attacks.steps import EPS, LOSSES, STEP, Attack, AttackResult, AttackRun, project
from rtalib.errors import check_name


class PGDRun(AttackRun):
    """One run of a PGD recipe on one batch."""

    def result(self) -> AttackResult:
        recipe, active = self.recipe, torch.arange(len(self.clean), device=self.clean.device)
        if recipe.stop_on_success and recipe.random_start:  # without a random start the first step tests the clean images
            logits = self.logits(active, self.clean)
            if not recipe.targeted:
                warn_if_chance(self.model, logits, self.labels)
            self.freeze(active, self.clean, logits)
        for restart in range(recipe.restarts):
            active = active[~self.out.success[active]]
            if len(active):
                self._restart(active, restart)
        return self.out

    def _restart(self, active: Tensor, restart: int) -> None:
        clean = self.clean[active]
        recipe = self.recipe.at(active, clean)
        x = recipe.start(clean, self.seed, self.index[active], restart)
        direction = torch.zeros_like(x)
        for step in range(recipe.steps):
            score = partial(recipe.score, labels=self.labels[active])
            logits, gradient = self.gradient(active, x, score, first=restart == step == 0)
            if recipe.stop_on_success:
                going = ~self.freeze(active, x, logits)
                active, clean, x, gradient, direction = (kept[going] for kept in (active, clean, x, gradient, direction))
                if not len(active):
                    return
                recipe = self.recipe.at(active, clean)
            direction = recipe.direction(gradient, direction)
            x = recipe.step(x, direction, clean)
            self.out.gradients[active] += 1
            self.out.restarts[active] = restart + 1
        self._finish(active, x)

    def _finish(self, active: Tensor, x: Tensor) -> None:
        """The end points of a restart: a success counts more than any loss, then the higher loss."""
        recipe, better = self.recipe, torch.ones_like(active, dtype=torch.bool)
        if self.judged or recipe.stop_on_success or recipe.restarts > 1:  # else nobody asks, and a forward pass is saved
            logits = self.logits(active, x)
            score, fooled = recipe.score(logits, self.labels[active]).double(), self.fooled(active, x, logits)
            better = fooled | (score > self.best[active])
            self.best[active[better]] = score[better]
            self.out.success[active] = fooled
        self.out.images[active[better]] = x[better]


@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient descent (Madry et al. 2018): `steps` sign-gradient steps of `step_size` on `loss` from a uniform random start.

    A restart runs to its end, so that images get the full strength of the recipe. Images that it fools skip the next restarts; of an image
    that no restart fools, the highest final loss is kept. stop_on_success=True, for evaluation and for mining misclassified images: the
    first misclassified iterate is the result, an image misclassified from the start is returned unmodified, and only images still to be
    fooled are computed. loss: 'cross_entropy', 'margin' or 'dlr'. eps and step_size (None: eps) are in units of [0,1] pixels,
    one for all images or one for each. targeted: the labels are classes to be reached, so the loss is lowered and success is reaching them.
    """

    eps: float | tuple[float, ...] = EPS
    step_size: float | tuple[float, ...] | None = STEP
    steps: int = 10
    random_start: bool = True
    restarts: int = 1
    loss: str = "cross_entropy"
    stop_on_success: bool = False
    targeted: bool = False

    run: ClassVar[type[AttackRun]] = PGDRun

    def __post_init__(self) -> None:
        check_recipe(self, ("steps", "restarts"), largest=1.0 if self.norm == "linf" else math.inf)
        check_name("loss", self.loss, LOSSES)

    @property
    def size(self) -> float | Tensor:
        """Of a step."""
        return self.eps if self.step_size is None else self.step_size

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(N,): what the steps increase."""
        return self.aim(LOSSES[self.loss](logits, labels))

    def direction(self, gradient: Tensor, previous: Tensor) -> Tensor:
        """The direction of a step, given this gradient and the previous direction (zero at first)."""
        return gradient

    def step(self, x: Tensor, direction: Tensor, clean: Tensor) -> Tensor:
        """One step, projected."""
        return project(x + self.size * direction.sign(), clean, self.eps)


@dataclass(frozen=True)
class BIM(PGD):
    """I-FGSM (Kurakin et al. 2017): PGD without a random start."""

    random_start: bool = False


@dataclass(frozen=True)
class FGSM(BIM):
    """Fast gradient sign method (Goodfellow et al. 2015): one step of size eps along the sign of the gradient."""

    step_size: float | tuple[float, ...] | None = None
    steps: int = 1
