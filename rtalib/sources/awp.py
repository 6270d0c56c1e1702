"""Adversarial weight perturbation (Wu, Xia and Wang 2020): robust training at the worst weights near the current ones."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rtalib.errors import check_number
from rtalib.sources.objectives import AdversarialObjective, WarmUp, logits_of


class AWP:
    """min_w max_v loss(f_{w+v}, x, x', y), |v_l| <= gamma |w_l| for each weight tensor l of more than one dimension.

    base finds x' at w. v is one normalized gradient step, v_l = gamma |w_l| g_l / |g_l|; the gradient at w + v then changes w.
    gamma: 0.01 for AT, 0.005 for TRADES. warm_up: epochs, counted by training.train, in which the base objective alone is minimized.
    """

    def __init__(self, base: AdversarialObjective | WarmUp, gamma: float = 0.01, warm_up: int = 0):
        check_number("gamma", gamma)
        check_number("warm_up", warm_up, integer=True)
        self.base, self.gamma, self.warm_up, self.active = base, gamma, warm_up, warm_up == 0

    def start_epoch(self, epoch: int) -> None:
        self.active = epoch >= self.warm_up
        if isinstance(self.base, WarmUp):
            self.base.start_epoch(epoch)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if not self.active:
            return self.base(model, x, y)
        found = self.base.craft(model, x, y)
        shifts = perturbation(model, lambda forward: self.base.loss(forward, x, found, y), self.gamma)
        weights = dict(model.named_parameters())
        # v is constant, so the gradient in w of the loss at w + v is the gradient there, and w needs no restoring.
        return self.base.loss(_with(model, {name: weights[name] + v for name, v in shifts.items()}), x, found, y)


def perturbation(model: nn.Module, loss: Callable[[Callable], Tensor], gamma: float) -> dict[str, Tensor]:
    """{name: v} for the weights with more than one dimension: gamma |w| times the direction in which `loss(forward)` rises fastest.

    The forward passes work on copies of the buffers, so BatchNorm's running statistics do not see them. Frozen weights stay as they are.
    """
    weights = {name: w for name, w in model.named_parameters() if w.ndim > 1 and w.requires_grad}
    if not weights:
        return {}
    with torch.enable_grad():
        value = loss(_with(model, {name: buffer.clone() for name, buffer in model.named_buffers()}))
    gradients = torch.autograd.grad(value, list(weights.values()), materialize_grads=True)  # an auxiliary head has none: v = 0
    return {
        name: gamma * w.detach().norm() * g / g.norm().clamp_min(1e-12) for (name, w), g in zip(weights.items(), gradients, strict=True)
    }


def _with(model: nn.Module, values: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """The model's float32 logits with some parameters or buffers replaced."""
    return logits_of(lambda x: functional_call(model, dict(values), (x,)))
