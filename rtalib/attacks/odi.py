"""Output-diversified initialisation (ODI; Tashiro et al., NeurIPS 2020): ODI-PGD, and ODI-BIM as RTA uses it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from rtalib import rng
from rtalib.attacks.checks import attackable, check_numbers, checked, logits_of, warn_if_chance, warn_if_flat
from rtalib.attacks.steps import EPS, STEP, Attacked, ball, input_gradient, margin, misclassified, project
from rtalib.errors import unknown


def cosine_sizes(eps: float, steps: int) -> list[float]:
    """Step sizes from eps towards eps/4: eps/4 + 3 eps/4 (1 + cos(pi j / steps)) / 2 for j = 0..steps-1."""
    return [eps / 4 + (eps - eps / 4) * (1 + math.cos(math.pi * j / steps)) / 2 for j in range(steps)]


@dataclass(frozen=True)
class ODIBIM:
    """Output-diversified initialisation, then sign-gradient steps on the margin, over several restarts.

    A restart takes `odi_steps` steps of size eps along the sign of the gradient of w.s(x), where w ~ U(-1,1)^K is drawn per image and
    restart and s is the softmax or the logits (`space`), then `steps` steps on the margin of s: cosine sizes, or constant `step_size` where
    that is given.
    keep='first': the first misclassified iterate is the result, at once; an image that is misclassified from the start is returned
    unmodified, and one that is never fooled yields its last evaluated iterate. keep='best': restarts run to their end, the iterate of the
    largest margin is the result, and images fooled so far skip the next restarts.
    warm=True: a restart goes on from the last iterate, otherwise from the clean image. `blocks` repeats all restarts from the result so
    far. Only images still to be fooled are computed.
    """

    eps: float = EPS
    restarts: int = 14
    odi_steps: int = 2
    steps: int = 5
    step_size: float | None = None
    space: str = "softmax"
    keep: str = "first"
    warm: bool = True
    random_start: bool = False
    blocks: int = 1

    norm: ClassVar[str] = "linf"

    def __post_init__(self) -> None:
        check_numbers(self, ("restarts", "steps", "blocks"))
        if self.space not in ("softmax", "logits"):
            raise unknown("space", self.space, ("softmax", "logits"))
        if self.keep not in ("first", "best"):
            raise unknown("keep", self.keep, ("first", "best"))

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, *, index: Tensor | None = None, seed: int = 0) -> Tensor:
        """float (N,C,H,W) in [0,1] within eps of `images`; `index` int64 (N,) names each image's random stream (default 0..N-1)."""
        return self.record(model, images, labels, index=index, seed=seed).images

    def record(self, model: nn.Module, images: Tensor, labels: Tensor, *, index: Tensor | None = None, seed: int = 0) -> Attacked:
        """The same attack with its bookkeeping."""
        with attackable(model):
            classes, index = checked(model, images, labels, index)
            return _Search(self, model, images, labels, index, seed, classes).run()

    def sizes(self) -> list[float]:
        """The sizes of the margin steps of one restart."""
        return cosine_sizes(self.eps, self.steps) if self.step_size is None else [self.step_size] * self.steps


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


class _Search:
    """One run of an ODIBIM recipe on one batch: the iterates of the images that are still attacked, and the result so far."""

    def __init__(self, recipe: ODIBIM, model: nn.Module, clean: Tensor, labels: Tensor, index: Tensor, seed: int, classes: int) -> None:
        self.recipe, self.model, self.clean, self.labels, self.index, self.seed = recipe, model, clean, labels, index, seed
        self.classes = classes
        self.out = Attacked.untouched(clean)
        self.best = torch.full_like(labels, -math.inf, dtype=torch.float64)
        self.space = (lambda logits: logits.softmax(1)) if recipe.space == "softmax" else (lambda logits: logits)

    def run(self) -> Attacked:
        recipe, x = self.recipe, self.clean
        active = torch.arange(len(self.clean), device=self.clean.device)
        for restart in range(recipe.blocks * recipe.restarts):
            if restart and recipe.keep == "best":
                going = ~self.out.success[active]
                active, x = active[going], x[going]
            if not len(active):
                break
            if not recipe.warm or restart == 0:
                x = self._start(active, restart)
            elif restart % recipe.restarts == 0:
                x = self.out.images[active]
            active, x = self._restart(active, x, restart)
        return self.out

    def _start(self, active: Tensor, restart: int) -> Tensor:
        clean = self.clean[active]
        return ball(self.seed, self.index[active], restart, clean, self.recipe.eps) if self.recipe.random_start else clean

    def _restart(self, active: Tensor, x: Tensor, restart: int) -> tuple[Tensor, Tensor]:
        """All steps of one restart; returns the images still attacked and their last iterates."""
        recipe = self.recipe
        w = 2 * rng.uniform(self.seed, self.index[active], rng.stream("odi", restart), self.classes).to(x.dtype) - 1
        for step, size in enumerate([recipe.eps] * recipe.odi_steps + recipe.sizes()):
            labels = self.labels[active]
            diverse = step < recipe.odi_steps
            logits, gradient = input_gradient(self.model, x, self._loss(labels, w if diverse else None))
            if restart == step == 0:
                warn_if_flat(gradient)
                warn_if_chance(self.model, logits, labels)
            going = self._note(active, x, logits)
            active, x, w, gradient = active[going], x[going], w[going], gradient[going]
            if not len(active):
                return active, x
            x = project(x + size * gradient.sign(), self.clean[active], recipe.eps)
            self.out.gradients[active] += 1
            self.out.restarts[active] = restart + 1
        if recipe.keep == "best":
            with torch.no_grad():
                self._note(active, x, logits_of(self.model, x))
        return active, x

    def _loss(self, labels: Tensor, w: Tensor | None) -> Callable[[Tensor], Tensor]:
        if w is None:
            return lambda logits: margin(self.space(logits), labels)
        return lambda logits: w * self.space(logits)

    def _note(self, active: Tensor, x: Tensor, logits: Tensor) -> Tensor:
        """Record the evaluated iterates; returns which images (bool, as `active`) are still to be attacked in this restart."""
        labels = self.labels[active]
        fooled = misclassified(self.model, x, logits, labels)
        if self.recipe.keep == "first":
            self.out.images[active], self.out.success[active] = x, fooled
            return ~fooled
        score = margin(self.space(logits), labels).double()
        better = score > self.best[active]
        at = active[better]
        self.best[at], self.out.images[at], self.out.success[at] = score[better], x[better], fooled[better]
        return torch.ones_like(fooled)


ODI_BIM_PRESETS = {
    "author": ODIBIM(),
    "logits": ODIBIM(restarts=4, steps=20, step_size=STEP, space="logits", keep="best", warm=False),
}
LOW_LOGITS = 3.2


def has_low_logits(model: nn.Module, images: Tensor, *, batch_size: int = 500) -> bool:
    """Whether the largest logit over `images` (float in [0,1]) is below 3.2; preset 'author' attacks such a model on its logits."""
    with attackable(model), torch.no_grad():
        return all(logits_of(model, chunk).max().item() < LOW_LOGITS for chunk in images.split(batch_size))


def odi_bim_recipe(
    preset: str = "author", *, eps: float = EPS, low_logits: bool = False, restarts: int | None = None, steps: int | None = None
) -> ODIBIM:
    """The recipe behind a preset name, with overrides.

    'author': the contest entry of RTA's first author: 14 warm restarts of 2 ODI and 5 cosine steps on the softmax, frozen at the first
    success (98 gradients at most); for a model with low logits (see has_low_logits) on the logits, and twice over. 'logits': 4 cold
    restarts of 2 ODI and 20 steps of 2/255 on the logit margin, best iterate kept (88 gradients at most); stronger and scale-free.
    `restarts` and `steps` cap the budget.
    """
    if preset not in ODI_BIM_PRESETS:
        raise unknown("preset", preset, ODI_BIM_PRESETS)
    recipe = replace(ODI_BIM_PRESETS[preset], eps=eps)
    if preset == "author" and low_logits:
        recipe = replace(recipe, space="logits", blocks=2)
    given = {"restarts": restarts, "steps": steps}
    return replace(recipe, **{name: value for name, value in given.items() if value is not None})
