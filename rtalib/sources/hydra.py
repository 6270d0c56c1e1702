"""HYDRA (Sehwag et al. 2020): the robust objective itself learns which weights to keep.

Both functions are contexts around a training: inside, each convolution and linear layer computes with masked weights; afterwards the
network is an ordinary one again, its pruned weights exactly zero.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rtalib.errors import check_number

LAYERS = (nn.Conv2d, nn.Linear)


class _Straight(torch.autograd.Function):
    """1 for the `keep` largest entries, 0 elsewhere; the gradient passes through as if it were the identity."""

    @staticmethod
    def forward(context, importance: Tensor, keep: int) -> Tensor:
        mask = torch.zeros_like(importance).flatten()
        mask[importance.flatten().topk(keep).indices] = 1
        return mask.view_as(importance)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _Scored(nn.Module):
    """w times the mask of the largest |score|. Scores begin as w scaled to at most sqrt(6 / fan-in) (their section 4)."""

    def __init__(self, weight: Tensor, ratio: float):
        super().__init__()
        self.keep = kept(weight.numel(), ratio)
        weight = weight.detach()
        self.scores = nn.Parameter(math.sqrt(6 / weight[0].numel()) * weight / weight.abs().max().clamp_min(1e-12))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * _Straight.apply(self.scores.abs(), self.keep)


class _Surviving(nn.Module):
    """w with the weights that were zero at first kept at zero."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.register_buffer("mask", (weight != 0).to(weight.dtype))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def kept(count: int, ratio: float) -> int:
    """How many of `count` weights a keep ratio in (0,1] leaves: rounded up, so at least one."""
    return count - int((1 - ratio) * count)


@contextmanager
def scoring(model: nn.Module, ratio: float = 0.1) -> Iterator[nn.Module]:
    """Inside, importance scores are trained over frozen weights and biases; only the `ratio` most important weights of each layer work.

    BatchNorm is trained as well, as in the authors' code. ValueError unless 0 < ratio <= 1.
    """
    check_number("ratio", ratio, 0, 1, open_low=True, unit=" of the weights")
    frozen = [p for layer in _layers(model) for p in (layer.weight, layer.bias) if p is not None and p.requires_grad]
    try:
        with _parametrized(model, lambda weight: _Scored(weight, ratio)):
            for parameter in frozen:
                parameter.requires_grad_(False)
            yield model
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


@contextmanager
def surviving(model: nn.Module) -> Iterator[nn.Module]:
    """Inside, weights that are exactly zero at the start stay zero, whatever the optimizer does."""
    with _parametrized(model, _Surviving):
        yield model


@contextmanager
def _parametrized(model: nn.Module, make: Callable[[Tensor], nn.Module]) -> Iterator[None]:
    layers = _layers(model)
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", make(layer.weight))
    try:
        yield
    finally:
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def _layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, LAYERS)]
