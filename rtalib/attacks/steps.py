"""The parts of every attack: a recipe and its run on a batch, losses, the input gradient, the L-infinity ball and its random start."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtalib import rng
from rtalib.attacks.checks import PER_IMAGE, Answers, attackable, checked, logits_of, warn_if_chance, warn_if_flat
from rtalib.attacks.folding import FastModel

EPS = 8 / 255
STEP = 2 / 255
JUDGED = 20  # calls by which a model that answers at random is judged


@dataclass
class AttackResult:
    """Adversarial images and, per image, whether it fools the model and how much it cost.

    images: (N,C,H,W), float in [0,1] from a recipe's `record`, uint8 from attacks.attack. success: bool (N,), whether these very images
    are misclassified, or classified as the target. restarts, gradients: int64 (N,), used until the image was found or given up; 0 for an
    image that was misclassified from the start, if the recipe stops on success. model: the name of the attacked model, if one was given.
    share: for a model that answers at random, float64 (N,), the share of JUDGED calls in which the image succeeds; success is then that
    it succeeds in most of them.
    """

    images: Tensor
    success: Tensor
    restarts: Tensor
    gradients: Tensor
    model: str = ""
    share: Tensor | None = None

    @property
    def success_rate(self) -> float:
        """The fraction of images that succeed; one minus it is the robust accuracy of an attack without targets."""
        return (self.success if self.share is None else self.share).double().mean().item()


class Attack:
    """A recipe: its settings are the fields of a frozen dataclass; `run` attacks one batch with them.

    eps and step_size are numbers, or hold one number per image (a tensor, an array or a list, kept as a tuple). targeted: `labels` are
    the classes that the images are to be taken for, not those that they have.
    """

    eps: float | tuple[float, ...]
    random_start: bool
    targeted: bool

    norm: ClassVar[str] = "linf"
    run: ClassVar[type["AttackRun"]]

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, *, index: Tensor | None = None, seed: int = 0) -> Tensor:
        """float (N,C,H,W) in [0,1] within eps of `images`; `index` int64 (N,) names each image's random stream (default 0..N-1)."""
        return self._attack(model, images, labels, index, seed, judged=False).images

    def record(self, model: nn.Module, images: Tensor, labels: Tensor, *, index: Tensor | None = None, seed: int = 0) -> AttackResult:
        """The same images with their success and cost."""
        return self._attack(model, images, labels, index, seed, judged=True)

    def _attack(self, model: nn.Module, images: Tensor, labels: Tensor, index: Tensor | None, seed: int, judged: bool) -> AttackResult:
        with attackable(model, seed):
            images, labels, index, answers = checked(self, model, images, labels, index)
            run = self.run(self, model, images, labels, index, seed, answers, judged)
            result = run.result()
            if judged and answers.random:
                rows = torch.arange(len(images), device=images.device)
                result.share = share_of(lambda: run.fooled(rows, result.images, run.logits(rows, result.images)))
                result.success = result.share > 0.5
            return result

    def at(self, rows: Tensor, like: Tensor) -> "Attack":
        """The recipe for some rows of a batch: numbers per image become (n,1,1,1) of the type of the images `like`."""
        values = {name: getattr(self, name) for name in PER_IMAGE if isinstance(getattr(self, name, None), tuple)}
        recipe = copy.copy(self) if values else self
        for name, value in values.items():
            object.__setattr__(recipe, name, torch.tensor(value, dtype=like.dtype, device=like.device)[rows].view(-1, 1, 1, 1))
        return recipe

    def part(self, rows: Tensor) -> "Attack":
        """The recipe for some of a set's images."""
        values = {name: getattr(self, name) for name in PER_IMAGE if isinstance(getattr(self, name, None), tuple)}
        return replace(self, **{name: tuple(value[row] for row in rows.tolist()) for name, value in values.items()}) if values else self

    def aim(self, score: Tensor) -> Tensor:
        """What to increase: a loss of the true class, or its negative for a class to be reached."""
        return -score if self.targeted else score

    def start(self, clean: Tensor, seed: int, index: Tensor, restart: int) -> Tensor:
        """The first iterate of a restart."""
        return ball(seed, index, restart, clean, self.eps) if self.random_start else clean


class AttackRun:
    """One run of a recipe on one batch: the result so far, and each image's best score. Subclasses define `result`.

    active: int64 (n,), the positions of the images that are still attacked; x: their iterates (n,C,H,W). judged: whether the caller asks
    which images fool the model.
    """

    def __init__(
        self, recipe: Attack, model: nn.Module, clean: Tensor, labels: Tensor, index: Tensor, seed: int, answers: Answers, judged: bool
    ):
        self.recipe, self.model, self.clean, self.labels, self.index, self.seed = recipe, model, clean, labels, index, seed
        self.answers, self.classes, self.judged = answers, answers.classes, judged
        zeros = torch.zeros_like(labels)
        self.out = AttackResult(clean.clone(), zeros.bool(), zeros, zeros.clone())
        self.best = torch.full_like(labels, -math.inf, dtype=torch.float64)

    def ask(self, active: Tensor, x: Tensor) -> Tensor:
        """Logits (n,K) of the iterates x; a model that mixes the images of a batch sees them among the others, as in the whole batch."""
        if not self.answers.mixed or len(active) == len(self.clean):
            return logits_of(self.model, x)
        return logits_of(self.model, self.clean.index_copy(0, active, x))[active]

    def gradient(self, active: Tensor, x: Tensor, loss: Callable[[Tensor], Tensor], *, first: bool) -> tuple[Tensor, Tensor]:
        """(logits, gradient) at x; the first ones are checked for known mistakes."""
        logits, gradient = input_gradient(lambda z: self.ask(active, z), x, loss)
        if first:
            warn_if_flat(gradient)
            if not self.recipe.targeted:
                warn_if_chance(self.model, logits, self.labels[active])
        return logits, gradient

    def logits(self, active: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.ask(active, x)

    def fooled(self, active: Tensor, x: Tensor, logits: Tensor) -> Tensor:
        """bool (n,): whether the model misclassifies x, or takes it for the target; the exact model behind one in bfloat16 confirms it."""
        labels, targeted = self.labels[active], self.recipe.targeted
        fooled = (logits.argmax(1) == labels) == targeted
        if isinstance(self.model, FastModel) and self.model.precision != "float32" and fooled.any():
            at = fooled.nonzero().squeeze(1)
            fooled[at] = (self.model.predicted(x[at]) == labels[at]) == targeted
        return fooled

    def freeze(self, active: Tensor, x: Tensor, logits: Tensor) -> Tensor:
        """Store the iterates that fool the model; bool (n,), which they are."""
        fooled = self.fooled(active, x, logits)
        self.out.images[active[fooled]], self.out.success[active[fooled]] = x[fooled], True
        return fooled


def share_of(judge: Callable[[], Tensor], calls: int = JUDGED) -> Tensor:
    """float64 (N,): the share of calls of `judge`, bool (N,), that are true."""
    return torch.stack([judge() for _ in range(calls)]).double().mean(0)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) -log p_y."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(scores: Tensor, labels: Tensor) -> Tensor:
    """(N,) best wrong score minus the true one (Carlini and Wagner 2017); positive means misclassified."""
    own = scores.gather(1, labels[:, None]).squeeze(1)
    return scores.scatter(1, labels[:, None], -math.inf).amax(1) - own


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) margin over the gap between the largest and the third largest logit (Croce and Hein 2020); needs K >= 3."""
    if logits.shape[1] < 3:
        raise ValueError(f"loss 'dlr' needs at least 3 classes, the model has {logits.shape[1]}")
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + 1e-12)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}


def input_gradient(model: Callable[[Tensor], Tensor], x: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """(logits, gradient of the summed loss with respect to x), both without graph; `model` gives finite logits (N,K)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        total = loss(logits).sum()
    gradient = torch.autograd.grad(total, x, allow_unused=True)[0] if total.requires_grad else None
    if gradient is None:
        raise ValueError("model: its logits carry no gradient to the input (detached or under no_grad)")
    if not total.isfinite():
        raise ValueError(f"loss: it is {total.item()} on logits up to {logits.abs().max().item():g}, so no gradient can be followed")
    if not gradient.isfinite().all():
        bad = int((~gradient.isfinite()).flatten(1).any(1).sum())
        raise ValueError(f"model: the gradient of its loss is NaN or infinite for {bad} of {len(x)} images, so it cannot be followed")
    return logits.detach(), gradient


def project(x: Tensor, clean: Tensor, eps: float | Tensor) -> Tensor:
    """The nearest point of [clean - eps, clean + eps] and [0,1], per pixel."""
    return torch.clamp(x, clean - eps, clean + eps).clamp_(0, 1)


def ball(seed: int, index: Tensor, restart: int, clean: Tensor, eps: float | Tensor) -> Tensor:
    """A uniform point of the L-infinity ball around each clean image, from the image's own random stream."""
    noise = rng.uniform(seed, index, rng.stream("attack start", restart), clean[0].numel())
    return project(clean + eps * (2 * noise - 1).to(clean.dtype).view_as(clean), clean, eps)
