"""Auto-PGD (Croce and Hein, ICML 2020): PGD whose step sizes follow the loss, untargeted or towards target classes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rtalib.attacks.checks import check_recipe, warn_if_chance
from rtalib.attacks.steps import EPS, LOSSES, Attack, AttackResult, AttackRun, project
from rtalib.errors import check_name, check_number

MOMENTUM = 0.75  # alpha of equation 2: the part of the plain step; the rest is the previous change
RISING = 0.75  # rho of condition 1: the step is halved if the loss rose in no more than this part of the steps since the last check


def checkpoints(steps: int) -> list[int]:
    """The steps after which step sizes are judged: after 22 % of them, then at intervals that shrink by 3 % down to 6 % (section 3.1)."""
    interval, least, shrink = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    found, at = [], interval
    while at <= steps:
        found.append(at)
        interval = max(interval - shrink, least)
        at += interval
    return found


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """(N,) how far the target is above the true class, over the spread of the largest four logits (equation 7); needs K >= 4."""
    top = logits.topk(4, dim=1).values
    own, other = (logits.gather(1, classes[:, None]).squeeze(1) for classes in (labels, targets))
    return (other - own) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


class APGDRun(AttackRun):
    """One run of an APGD recipe on one batch."""

    def result(self) -> AttackResult:
        recipe, active = self.recipe, torch.arange(len(self.clean), device=self.clean.device)
        logits = self.logits(active, self.clean)
        if not recipe.targeted:
            warn_if_chance(self.model, logits, self.labels)
        self.out.success = self.fooled(active, self.clean, logits)
        wrong = logits.scatter(1, self.labels[:, None], -math.inf).argsort(1, descending=True)  # the true class is last
        targets = min(recipe.targets, self.classes - 1)
        if targets and self.classes < 4:
            raise ValueError(f"targets: targeted DLR needs at least 4 classes, the model has {self.classes}")
        for restart in range(recipe.restarts * max(1, targets)):
            active = active[~self.out.success[active]]
            if len(active):
                self._restart(active, restart, wrong[:, restart % targets] if targets else None)
        return self.out

    def _loss(self, active: Tensor, targets: Tensor | None) -> Callable[[Tensor], Tensor]:
        labels = self.labels[active]
        if targets is None:
            return lambda logits: self.recipe.aim(LOSSES[self.recipe.loss](logits, labels))
        return lambda logits: targeted_dlr(logits, labels, targets[active])

    def _restart(self, active: Tensor, restart: int, targets: Tensor | None) -> None:
        """Algorithm 1. The state of each image that still stands: its iterate and the one before, the best one, losses and step size."""
        recipe, check, since = self.recipe, set(checkpoints(self.recipe.steps)), 0
        here = recipe.at(active, self.clean)
        x = here.start(self.clean[active], self.seed, self.index[active], restart)
        zeros = torch.zeros(len(active), dtype=torch.float64, device=x.device)
        size = torch.zeros(len(active), 1, 1, 1, dtype=x.dtype, device=x.device) + 2 * here.eps
        before, best, best_gradient, gradient = x, x, torch.zeros_like(x), torch.zeros_like(x)
        loss, top, checked, rises, halved = zeros - math.inf, zeros - math.inf, zeros - math.inf, zeros, zeros == 0
        for step in range(recipe.steps + 1):
            here = recipe.at(active, x)
            if step:
                plain = project(x + size * gradient.sign(), self.clean[active], here.eps)
                part = MOMENTUM if step > 1 else 1.0
                x, before = project(x + part * (plain - x) + (1 - part) * (x - before), self.clean[active], here.eps), x
            logits, gradient = self.gradient(active, x, self._loss(active, targets), first=restart == step == 0)
            new = self._loss(active, targets)(logits).double()
            going = ~self.freeze(active, x, logits)
            kept = (active, x, before, best, best_gradient, gradient, new, loss, top, checked, rises, halved, size)
            active, x, before, best, best_gradient, gradient, new, loss, top, checked, rises, halved, size = (one[going] for one in kept)
            if not len(active):
                return
            self.out.gradients[active] += 1
            self.out.restarts[active] = restart + 1
            since, rises, loss = since + 1, rises + (new > loss), new
            better = (new > top)[:, None, None, None]
            best, best_gradient, top = torch.where(better, x, best), torch.where(better, gradient, best_gradient), top.maximum(new)
            if step == 0:
                since, rises, checked = 0, torch.zeros_like(rises), top
            elif step in check:
                halved = (rises <= RISING * since) | (~halved & (checked >= top))  # conditions 1 and 2
                again = halved[:, None, None, None]
                size, x, gradient = (
                    torch.where(again, size / 2, size),
                    torch.where(again, best, x),
                    torch.where(again, best_gradient, gradient),
                )
                since, rises, checked = 0, torch.zeros_like(rises), top
        higher = top > self.best[active]
        self.best[active[higher]], self.out.images[active[higher]] = top[higher], best[higher]


@dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD in the L-infinity ball: steps of 2 eps with momentum, halved, from the best point, where the loss stops rising.

    loss: 'cross_entropy' (APGD-CE), 'margin' or 'dlr'. targets > 0 (APGD-T): instead of a loss, targeted DLR towards the so many most
    probable wrong classes, a restart each, as AutoAttack runs it with 9. The first misclassified iterate is the result, and only images
    still to be fooled are computed; of one that is never fooled it is the iterate of the highest loss.
    """

    eps: float = EPS
    steps: int = 100
    restarts: int = 1
    loss: str = "cross_entropy"
    targets: int = 0
    random_start: bool = True
    targeted: bool = False

    run: ClassVar[type[AttackRun]] = APGDRun

    def __post_init__(self) -> None:
        check_recipe(self, ("steps", "restarts"))
        check_number("targets", self.targets, 0, integer=True)
        check_name("loss", self.loss, LOSSES)
        if self.targets and self.targeted:
            raise ValueError("targets: expected 0 with targeted=True, where the labels are the targets")


@dataclass(frozen=True)
class APGDT(APGD):
    """APGD-T: targeted DLR towards the 9 most probable wrong classes."""

    targets: int = 9
