"""The two half-steps of a search: architecture by validation loss, weights by training loss (Liu et al., ICLR 2019, section 2.3).

Second-order gradients (equations 6 to 8) need no copy of the model. Equation 8's differences assume a smooth training loss. ReLUs and max
pooling give it kinks, which dominate over steps of 0.01: at initial weights, the differences miss the exact term by several times its size
(C=4, L=3 and C=8, L=5), and at C=16, L=8 with 64 images of 32x32, steps of 0.01 and 0.02 give terms whose cosine is 0.6. 'exact' has no
step; it keeps the graph of one gradient in memory instead.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch.func import functional_call

from rtalib.darts.batches import Batch
from rtalib.darts.darts_pt import Decisions
from rtalib.darts.settings import Settings
from rtalib.darts.supernet.plain import ARCHITECTURE, Supernet
from rtalib.training.captured import Captured

Loss = Callable[[Batch, dict[str, torch.Tensor] | None], torch.Tensor]  # at given weights or at its own; alphas enter by themselves
SCALE = 0.01  # footnote 2: epsilon = 0.01 / |v|


class Passes:
    """Forward and backward passes of a loss, each kind recorded on its own if RTALIB_CAPTURE=1 (training/captured.py)."""

    def __init__(self, loss: Loss, weights: dict[str, torch.Tensor], alphas: list[torch.Tensor]):
        self.loss, self.weights, self.alphas = loss, weights, alphas
        self.leaves = list(weights.values())
        self.gpus = sorted({leaf.device.index for leaf in self.leaves if leaf.is_cuda})
        kinds = [(by, own) for by in ("alphas", "weights", "both") for own in (True, False)]
        self.recorded = {kind: Captured(partial(self._differentiate, kind[0]), self.leaves[0].device) for kind in kinds}

    def __call__(self, by: str, batch: Batch, at: Sequence[torch.Tensor] = ()) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Loss and gradients by 'alphas', 'weights' or 'both', alphas first.

        With weights `at` instead of the own ones, the pass leaves the state of torch's global generators as it was.
        """
        with torch.random.fork_rng(self.gpus, enabled=bool(at)):
            loss, *gradients = self.recorded[by, not at](*batch, *at)
        return loss, gradients

    def _differentiate(self, by: str, images: torch.Tensor, labels: torch.Tensor, *at: torch.Tensor) -> list[torch.Tensor]:
        at = [weight.detach().requires_grad_() for weight in at]
        loss = self.loss((images, labels), dict(zip(self.weights, at, strict=True)) if at else None)
        by_weights = [] if by == "alphas" else at or self.leaves
        gradients = torch.autograd.grad(loss, [*([] if by == "weights" else self.alphas), *by_weights], materialize_grads=True)
        return [loss.detach(), *gradients]

    def inner(self, batch: Batch) -> list[torch.Tensor]:
        """Gradients by the own weights that can be differentiated again; the generators' state stays."""
        with torch.random.fork_rng(self.gpus):
            loss = self.loss(batch, self.weights)
        return list(torch.autograd.grad(loss, self.leaves, create_graph=True, materialize_grads=True))


class Steps:
    """Supernet and optimizers of one search; saved and loaded like one optimizer. decisions: DARTS-PT's so far, or None."""

    def __init__(self, supernet: Supernet, settings: Settings):
        self.supernet, self.settings, self.decisions = supernet, settings, Decisions(supernet.space) if settings.projection else None
        parameters = dict(supernet.named_parameters())
        self.weights = {name: parameter for name, parameter in parameters.items() if not name.startswith(ARCHITECTURE)}
        self.alphas = supernet.arch_parameters()
        self.sgd = torch.optim.SGD(self.weights.values(), settings.lr, settings.momentum, weight_decay=settings.weight_decay, foreach=True)
        self.adam = torch.optim.Adam(self.alphas, settings.arch_lr, betas=(0.5, 0.999), weight_decay=settings.arch_weight_decay)
        self.passes = Passes(self.loss, self.weights, self.alphas)

    def loss(self, batch: Batch, weights: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        """Mean cross-entropy, with the given weights instead of the supernet's if there are any."""
        images, labels = batch
        mixing = () if self.decisions is None else (self.decisions.apply(self.supernet.mixing()),)
        logits = functional_call(self.supernet, weights, (images, *mixing)) if weights else self.supernet(images, *mixing)
        return F.cross_entropy(logits, labels)

    def step(self, train_batch: Batch, val_batch: Batch | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Architecture, then weights, or the reverse; (training loss, validation loss). Without val_batch: weights alone, and 0."""
        loss = self._weight_step(train_batch) if self.settings.weights_first else None
        val_loss = torch.zeros((), device=train_batch[0].device) if val_batch is None else self._architecture_step(train_batch, val_batch)
        return self._weight_step(train_batch) if loss is None else loss, val_loss

    def _weight_step(self, batch: Batch) -> torch.Tensor:
        loss, gradients = self.passes("weights", batch)
        weights = list(self.weights.values())
        _set_gradients(weights, gradients)
        torch.nn.utils.clip_grad_norm_(weights, self.settings.grad_clip)
        self.sgd.step()
        self.sgd.zero_grad()
        return loss

    def _architecture_step(self, train_batch: Batch, val_batch: Batch) -> torch.Tensor:
        """Differentiates by the architecture alone. Returns the loss, which with order 2 is that after the virtual step."""
        if self.settings.order == 1:
            loss, gradients = self.passes("alphas", val_batch)
        else:
            gradients, loss = self._unrolled(train_batch, val_batch)
        _set_gradients(self.alphas, gradients)
        self.adam.step()
        self.adam.zero_grad()
        return loss

    def _unrolled(self, train_batch: Batch, val_batch: Batch) -> tuple[list[torch.Tensor], torch.Tensor]:
        momenta = [self.sgd.state[weight].get("momentum_buffer") for weight in self.weights.values()]
        own = {name: self.sgd.param_groups[0][name] for name in ("lr", "momentum", "weight_decay")}
        own |= {"momenta": None if momenta[0] is None else momenta, "term": self.settings.term}
        return unrolled_gradient(self.passes, train_batch, val_batch, **own)

    def start_epoch(self, epoch: int) -> float:
        """Learning rate (cosine from lr to lr_min, then the projection's) and drop path of the epoch; returns the learning rate."""
        settings = self.settings
        if epoch < settings.epochs:
            lr = settings.lr_min + (settings.lr - settings.lr_min) * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
        else:
            lr = settings.lr / 10 if settings.projection.lr is None else settings.projection.lr
            if epoch == settings.epochs:
                self.sgd.state.clear()  # a new optimizer
        self.sgd.param_groups[0]["lr"] = lr
        self.supernet.drop_path_prob = settings.drop_path * self.ramp(epoch)
        self.passes.recorded.clear()  # frees their memory now: `passes` is in a circle of references
        self.passes = Passes(self.loss, self.weights, self.alphas)  # a recording holds the drop path and the decisions
        return lr

    def ramp(self, epoch: int) -> float:
        """How strong drop path and cutout are: 0 in the first epoch, 1 in the last and after it."""
        return min(1.0, epoch / max(1, self.settings.epochs - 1))

    def state_dict(self) -> dict:
        decisions = {} if self.decisions is None else {"decisions": self.decisions.state_dict()}
        return {"sgd": self.sgd.state_dict(), "adam": self.adam.state_dict(), **decisions}

    def load_state_dict(self, state: dict) -> None:
        self.sgd.load_state_dict(state["sgd"])
        self.adam.load_state_dict(state["adam"])
        if self.decisions is not None:
            self.decisions.load_state_dict(state["decisions"])


def _set_gradients(parameters: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


@torch.no_grad()
def virtual_step(
    weights: list[torch.Tensor],
    gradients: list[torch.Tensor],
    momenta: list[torch.Tensor] | None,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> list[torch.Tensor]:
    """The weights w' after one SGD step, new leaves: w - lr * (momentum * m + gradient + weight_decay * w).

    momenta: the optimizer's buffers m, None before its first step. Gradients are not clipped.
    """
    step = torch._foreach_add(gradients, weights, alpha=weight_decay)
    if momenta is not None:
        torch._foreach_add_(step, momenta, alpha=momentum)
    return [stepped.requires_grad_() for stepped in torch._foreach_add(weights, step, alpha=-lr)]


def unrolled_gradient(
    passes: Passes,
    train_batch: Batch,
    val_batch: Batch,
    *,
    lr: float,
    momentum: float = 0.0,
    momenta: list[torch.Tensor] | None = None,
    weight_decay: float = 0.0,
    term: str = "differences",
    scale: float = SCALE,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Gradient by the architecture of the validation loss after one virtual weight step w' (see `virtual_step`).

    dL_val(w', a)/da - lr * d/da (dL_train(w, a)/dw . v) with v = dL_val(w', a)/dw'. The second term is, by `term`,
    'differences': (dL_train(w+, a)/da - dL_train(w-, a)/da) / (2 eps) with w+- = w +- eps v and eps = scale / |v|, equation 8: four
        forward and backward passes in all. Dividing by 2 and then multiplying by eps would scale the term by eps squared.
    'exact': by differentiating twice; two forward passes, whose first keeps the graph of its gradient.

    All passes start from the current state of torch's global generators and restore it: with other random numbers (noise, drop path) for
    w+ than for w-, the difference would be one of draws. Weights and alphas are not changed.
    Returns the gradients in the order of the alphas (zero for one that no loss depends on) and the validation loss.
    """
    leaves, alphas = passes.leaves, passes.alphas
    inner = passes.inner(train_batch) if term == "exact" else passes("weights", train_batch, leaves)[1]
    stepped = virtual_step(leaves, [gradient.detach() for gradient in inner], momenta, lr, momentum, weight_decay)
    value, outer = passes("both", val_batch, stepped)
    outer, direction = outer[: len(alphas)], outer[len(alphas) :]
    if term == "exact":
        second = torch.autograd.grad(inner, alphas, direction, materialize_grads=True)
    else:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(direction)))
        epsilon = scale / norm.clamp_min(1e-30)  # if v is zero, so is the term
        shift = [epsilon * part for part in direction]
        plus = [part.clone() for part in passes("alphas", train_batch, torch._foreach_add([leaf.detach() for leaf in leaves], shift))[1]]
        minus = passes("alphas", train_batch, torch._foreach_sub([leaf.detach() for leaf in leaves], shift))[1]
        second = [(p - m) / (2 * epsilon) for p, m in zip(plus, minus, strict=True)]
    return [first - lr * part for first, part in zip(outer, second, strict=True)], value
