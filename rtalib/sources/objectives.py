"""Adversarial training: objectives for training.train, each a factory of objective(model, x, y) -> scalar loss.

x is float32 NCHW in [0,1]; y is int64 (N,) or soft float32 (N,K). Inner steps take the gradient of the input alone, so no parameter
receives a .grad from them. Random starts come from torch's global generator, which the training loop seeds. eps and step sizes are in
pixel units. Most objectives are an AdversarialObjective: how x' is found, and the loss that is minimized there. Two have files of their
own: feature_scattering.py and awp.py. HYDRA's pruning (hydra.py) changes the weights and works with any objective.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtalib.attacks.steps import EPS, STEP, project
from rtalib.data.images import soft_labels
from rtalib.errors import check_name, check_number
from rtalib.models.inference import evaluating

Forward = Callable[[Tensor], Tensor]  # images (N,3,H,W) -> float32 logits (N,K)
Loss = Callable[[Tensor, Tensor], Tensor]  # logits (N,K), labels (N,) or (N,K) -> scalar


@dataclass(frozen=True)
class AdversarialObjective:
    """min_w loss(f_w, x, x', y) over the weights w, at x' = craft(f_w, x, y).

    craft(model, x, y) -> x' (N,3,H,W), detached; loss(forward, x, x', y) -> scalar, the mean over the batch.
    """

    craft: Callable[[nn.Module, Tensor, Tensor], Tensor]
    loss: Callable[[Forward, Tensor, Tensor, Tensor], Tensor]

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found = self.craft(model, x, y)
        return self.loss(logits_of(model), x, found, y)


class WarmUp:
    """An AdversarialObjective whose attack grows: in epoch e (from 0) of the first `epochs`, x' is e / epochs of the way from x to the x'
    of `base`.

    A short adversarial training would otherwise not leave its first plateau. Epoch 0, without an attack, costs what standard training does.
    """

    def __init__(self, base: AdversarialObjective, epochs: int):
        self.base, self.loss, self.epochs, self.epoch = base, base.loss, epochs, 0

    __call__ = AdversarialObjective.__call__

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def craft(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if self.epoch >= self.epochs:
            return self.base.craft(model, x, y)
        return x + self.epoch / self.epochs * (self.base.craft(model, x, y) - x) if self.epoch else x


def logits_of(model: Callable[[Tensor], Tensor]) -> Forward:
    """The model's float32 logits, without those of the auxiliary head that some networks add in train mode."""

    def forward(x: Tensor) -> Tensor:
        logits = model(x)
        return (logits[0] if isinstance(logits, tuple) else logits).float()

    return forward


def climb(
    model: nn.Module, x: Tensor, start: Tensor, loss: Callable[[Tensor], Tensor], *, eps: float, step_size: float, steps: int
) -> Tensor:
    """From `start`, `steps` sign-gradient steps on the summed loss of the logits, inside the eps ball around x."""
    forward, adversarial = logits_of(model), start
    for _ in range(steps):
        adversarial = adversarial.detach().requires_grad_()
        with torch.enable_grad():
            value = loss(forward(adversarial))
        gradient = torch.autograd.grad(value, adversarial)[0]
        adversarial = project(adversarial.detach() + step_size * gradient.sign(), x, eps)
    return adversarial.detach()


def uniform_start(x: Tensor, eps: float) -> Tensor:
    """A uniform point of the eps ball around x, moved into [0,1]."""
    return project(x + torch.empty_like(x).uniform_(-eps, eps), x, eps)


def smoothed(y: Tensor, rho: float, classes: int) -> Tensor:
    """1 - rho on the label and rho / (K-1) on every other class, float32 (N,K), from hard or soft y (Pang et al. 2021)."""
    soft = soft_labels(y, classes)
    return soft * (1 - rho) + (1 - soft) * rho / (classes - 1)


def pgd_at(
    eps: float = EPS, step_size: float = STEP, steps: int = 10, *, label_smoothing: float = 0.0, crafting: str = "train"
) -> AdversarialObjective:
    """PGD adversarial training (Madry et al. 2018, eq. 2.1): CE(f(x'), y) at the end point of PGD from a uniform random start.

    crafting: batch-norm mode of the inner steps: 'train' as Madry et al., 'eval' as the code of Pang et al. label_smoothing: rho of
    `smoothed`, for the outer loss only.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing: expected 0 <= rho < 1, got {label_smoothing}")

    def outer(logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, smoothed(y, label_smoothing, logits.shape[1]) if label_smoothing else y)

    return _min_max(_cross_entropy, outer, eps, step_size, steps, crafting)


def fast_at(eps: float = EPS, alpha: float = 10 / 255) -> AdversarialObjective:
    """Fast adversarial training (Wong et al. 2020, algorithm 3): one step of `alpha` from a uniform random start, in train mode."""
    return pgd_at(eps, alpha, 1)


def at_he(eps: float = EPS, step_size: float = STEP, steps: int = 10, *, scale: float = 10.0, margin: float = 0.2) -> AdversarialObjective:
    """PGD-AT with hypersphere embedding (Pang et al., NeurIPS 2020), for a network with a cosine head of that scale s.

    Minimized: CE of the logits s cos_j, for the label s (cos_y - margin); the inner steps climb it with margin 0.
    """
    check_number("margin", margin)

    def outer(logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits - scale * margin * soft_labels(y, logits.shape[1]), y)

    return _min_max(_cross_entropy, outer, eps, step_size, steps)


def mmc(eps: float = EPS, step_size: float = STEP, steps: int = 10) -> AdversarialObjective:
    """PGD-AT on the max-Mahalanobis center loss |z - mu_y|^2 / 2 (Pang et al., ICLR 2020), for a network with a center head.

    The inner steps climb the same loss: cross-entropy on squared distances of this size underflows.
    """

    def inner(logits: Tensor, y: Tensor) -> Tensor:
        return -0.5 * (soft_labels(y, logits.shape[1]) * logits).sum()

    return _min_max(inner, lambda logits, y: inner(logits, y) / len(y), eps, step_size, steps)


def trades(beta: float = 6.0, eps: float = EPS, step_size: float = 0.007, steps: int = 10) -> AdversarialObjective:
    """TRADES (Zhang et al. 2019): CE(f(x), y) + beta KL(p(x) || p(x')), with x' maximizing that KL.

    x' starts at x + 0.001 N(0,1) and is sought in eval mode. The paper's eps is 0.031; here it is 8/255 as everywhere.
    """
    _check(eps, steps)
    check_number("beta", beta)

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        start = project(x + 0.001 * torch.randn_like(x), x, eps)
        with evaluating(model):
            with torch.no_grad():
                target = logits_of(model)(x).log_softmax(1)
            return climb(model, x, start, lambda logits: _kl(target, logits), eps=eps, step_size=step_size, steps=steps)

    def loss(forward: Forward, x: Tensor, found: Tensor, y: Tensor) -> Tensor:
        clean, adversarial = forward(x), forward(found)
        return F.cross_entropy(clean, y) + beta * _kl(clean.log_softmax(1), adversarial) / len(x)

    return AdversarialObjective(craft, loss)


class FreeAT:
    """Free adversarial training (Shafahi et al. 2019, algorithm 1): CE(f(x + delta), y), each batch `replays` times in a row.

    One backward pass serves both players: delta.grad moves delta by a sign step of `eps`, clipped to the eps ball, before
    the next call. delta is carried over from batch to batch; each epoch starts at zero, so that a resumed run equals an uninterrupted one.
    """

    def __init__(self, eps: float = EPS, replays: int = 8):
        _check(eps, replays, "replays")
        self.eps, self.replays, self.delta = eps, replays, None

    def start_epoch(self, epoch: int) -> None:
        self.delta = None

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        self.delta = self._carried(x).requires_grad_()
        return F.cross_entropy(logits_of(model)((x + self.delta[: len(x)]).clamp(0, 1)), y)

    def _carried(self, x: Tensor) -> Tensor:
        if self.delta is None or len(self.delta) < len(x):
            return torch.zeros_like(x)
        delta = self.delta.detach()
        if self.delta.grad is not None:
            delta = (delta + self.eps * self.delta.grad.sign()).clamp(-self.eps, self.eps)
        return delta


def _min_max(inner: Loss, outer: Loss, eps: float, step_size: float, steps: int, crafting: str = "train") -> AdversarialObjective:
    """min_w outer(f(x'), y), a mean, with x' maximizing inner(f(x'), y), a sum, from a uniform random start."""
    _check(eps, steps)
    check_name("crafting", crafting, ("train", "eval"))

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        start = uniform_start(x, eps)
        with evaluating(model) if crafting == "eval" else nullcontext():
            return climb(model, x, start, lambda logits: inner(logits, y), eps=eps, step_size=step_size, steps=steps)

    return AdversarialObjective(craft, lambda forward, x, found, y: outer(forward(found), y))


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="sum")


def _kl(log_p: Tensor, logits: Tensor) -> Tensor:
    """KL(p || softmax(logits)), summed over the batch; on logarithms, because p log p has no finite gradient where p underflows."""
    return F.kl_div(logits.log_softmax(1), log_p, reduction="sum", log_target=True)


def _check(eps: float, steps: int, name: str = "steps") -> None:
    check_number("eps", eps, 0, 1, open_low=True, unit=" in units of [0,1] pixels (8/255, not 8)")
    check_number(name, steps, 1, integer=True)
