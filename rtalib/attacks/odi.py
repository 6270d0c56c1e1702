"""Output-diversified initialization (ODI; Tashiro et al., NeurIPS 2020): ODI-PGD, and ODI-BIM as RTA uses it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from rtalib import rng
from rtalib.attacks.checks import attackable, check_recipe, checked_images, logits_of
from rtalib.attacks.steps import EPS, STEP, Attack, AttackResult, AttackRun, margin, project
from rtalib.errors import check_kind, check_name, check_number


def cosine_sizes(eps: float | Tensor, steps: int) -> list[float | Tensor]:
    """Step sizes from eps towards eps/4: eps/4 + 3 eps/4 (1 + cos(pi j / steps)) / 2 for j = 0..steps-1."""
    return [eps / 4 + (eps - eps / 4) * (1 + math.cos(math.pi * j / steps)) / 2 for j in range(steps)]


class ODIRun(AttackRun):
    """One run of an ODIBIM recipe on one batch."""

    def result(self) -> AttackResult:
        recipe, x = self.recipe, self.clean
        active = torch.arange(len(self.clean), device=self.clean.device)
        for restart in range(recipe.blocks * recipe.restarts):
            going = ~self.out.success[active]
            active, x = active[going], x[going]
            if not len(active):
                break
            if not recipe.warm or restart == 0:
                x = recipe.at(active, self.clean).start(self.clean[active], self.seed, self.index[active], restart)
            elif restart % recipe.restarts == 0:
                x = self.out.images[active]
            active, x = self._restart(active, x, restart)
        return self.out

    def _restart(self, active: Tensor, x: Tensor, restart: int) -> tuple[Tensor, Tensor]:
        """All steps of one restart; returns the images still attacked and their last iterates."""
        recipe = self.recipe
        w = 2 * rng.uniform(self.seed, self.index[active], rng.stream("odi", restart), self.classes).to(x.dtype) - 1
        for step in range(recipe.odi_steps + recipe.steps):
            loss = self._loss(self.labels[active], w if step < recipe.odi_steps else None)
            logits, gradient = self.gradient(active, x, loss, first=restart == step == 0)
            going = self._keep(active, x, logits)
            active, x, w, gradient = active[going], x[going], w[going], gradient[going]
            if not len(active):
                return active, x
            here = recipe.at(active, x)
            x = project(x + here.sizes()[step] * gradient.sign(), self.clean[active], here.eps)
            self.out.gradients[active] += 1
            self.out.restarts[active] = restart + 1
        if recipe.keep == "best":
            self._keep(active, x, self.logits(active, x))
        return active, x

    def _loss(self, labels: Tensor, w: Tensor | None) -> Callable[[Tensor], Tensor]:
        """The margin, or the random direction w of an ODI step."""
        return lambda logits: self._margin(logits, labels) if w is None else w * self._scores(logits)

    def _margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.recipe.aim(margin(self._scores(logits), labels))

    def _scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(1) if self.recipe.space == "softmax" else logits

    def _keep(self, active: Tensor, x: Tensor, logits: Tensor) -> Tensor:
        """Store the evaluated iterates by the recipe's `keep`; bool (n,), which images are attacked further in this restart."""
        fooled = self.fooled(active, x, logits)
        if self.recipe.keep == "first":
            self.out.images[active], self.out.success[active] = x, fooled
            return ~fooled
        score = self._margin(logits, self.labels[active]).double()
        better = score > self.best[active]
        at = active[better]
        self.best[at], self.out.images[at], self.out.success[at] = score[better], x[better], fooled[better]
        return torch.ones_like(fooled)


@dataclass(frozen=True)
class ODIBIM(Attack):
    """Output-diversified initialization, then sign-gradient steps on the margin, over several restarts.

    A restart takes `odi_steps` steps of size eps along the sign of the gradient of w.s(x), where w ~ U(-1,1)^K is drawn per image and
    restart and s is the softmax or the logits (`space`). Then it takes `steps` steps on the margin of s, of constant `step_size`, or of
    cosine sizes if that is None.
    keep='first': the first misclassified iterate is the result, at once; an image that is misclassified from the start is returned
    unmodified, and one that is never fooled yields its last evaluated iterate. keep='best': restarts run to their end, the iterate of the
    largest margin is the result, and images fooled so far skip the next restarts.
    warm=True: a restart continues from the last iterate, otherwise it begins at the clean image. `blocks` repeats all restarts from the
    result so far. Only images still to be fooled are computed. targeted: the labels are classes to be reached; steps lower the margin.
    """

    eps: float | tuple[float, ...] = EPS
    restarts: int = 14
    odi_steps: int = 2
    steps: int = 5
    step_size: float | tuple[float, ...] | None = None
    space: str = "softmax"
    keep: str = "first"
    warm: bool = True
    random_start: bool = False
    blocks: int = 1
    targeted: bool = False

    run: ClassVar[type[AttackRun]] = ODIRun

    def __post_init__(self) -> None:
        check_recipe(self, ("restarts", "steps", "blocks"))
        check_number("odi_steps", self.odi_steps, 0, integer=True)
        check_name("space", self.space, ("softmax", "logits"))
        check_name("keep", self.keep, ("first", "best"))

    def sizes(self) -> list[float]:
        """The sizes of the steps of one restart: eps for those of ODI, then those on the margin."""
        margin_steps = cosine_sizes(self.eps, self.steps) if self.step_size is None else [self.step_size] * self.steps
        return [self.eps] * self.odi_steps + margin_steps


@dataclass(frozen=True)
class ODIPGD(ODIBIM):
    """ODI-PGD as its authors run it: 20 restarts of 2 ODI steps and 20 steps of 2/255 on the logit margin, each from a random start."""

    restarts: int = 20
    steps: int = 20
    step_size: float | None = STEP
    space: str = "logits"
    keep: str = "best"
    warm: bool = False
    random_start: bool = True


ODI_BIM_PRESETS = {
    "author": ODIBIM(),
    "logits": ODIBIM(restarts=4, steps=20, step_size=STEP, space="logits", keep="best", warm=False),
}
LOW_LOGITS = 3.2


def has_low_logits(model: nn.Module, images: Tensor, *, batch_size: int = 500) -> bool:
    """Whether the largest logit over `images` (float in [0,1]) is below 3.2; preset 'author' attacks such a model on its logits."""
    images = checked_images(images)
    check_number("batch_size", batch_size, 1, integer=True)
    with attackable(model), torch.no_grad():
        return all(logits_of(model, chunk).max().item() < LOW_LOGITS for chunk in images.split(batch_size))


def odi_bim_recipe(
    preset: str = "author",
    *,
    eps: float | tuple[float, ...] = EPS,
    low_logits: bool = False,
    restarts: int | None = None,
    steps: int | None = None,
    targeted: bool = False,
) -> ODIBIM:
    """The recipe of a preset, with overrides.

    'author': the contest entry of RTA's first author: 14 warm restarts of 2 ODI and 5 cosine steps on the softmax, frozen at the first
    success (98 gradients at most); for a model with low logits (see has_low_logits) on the logits, and twice over. 'logits': 4 cold
    restarts of 2 ODI and 20 steps of 2/255 on the logit margin, best iterate kept (88 gradients at most); stronger and scale-free.
    `restarts` and `steps` cap the budget.
    """
    check_name("preset", preset, ODI_BIM_PRESETS)
    check_kind("low_logits", low_logits, bool, "True or False")
    recipe = replace(ODI_BIM_PRESETS[preset], eps=eps, targeted=targeted)
    if preset == "author" and low_logits:
        recipe = replace(recipe, space="logits", blocks=2)
    given = {"restarts": restarts, "steps": steps}
    return replace(recipe, **{name: value for name, value in given.items() if value is not None})
