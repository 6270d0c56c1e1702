"""Mixed precision: autocast to bfloat16, without the convolutions whose gradient PyTorch gets wrong on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn


def unsafe(model: nn.Module) -> list[nn.Conv2d]:
    """The grouped and dilated convolutions, the depthwise ones of DARTS' cells among them.

    On CPUs with bf16, PyTorch 2.14 takes the gradient of their weights, channels last and from sides of 31 px on, from memory that was
    never written: it differs from run to run, up to NaN.
    """
    return [part for part in model.modules() if isinstance(part, nn.Conv2d) and part.groups > 1 and max(part.dilation) > 1]


@contextmanager
def autocast(device: str, precision: str, model: nn.Module) -> Iterator[None]:
    """A block in bf16 if `precision` says so; on a CPU the `unsafe` convolutions compute in float32 all the same."""
    kept = unsafe(model) if device == "cpu" and precision == "bf16" else ()
    for convolution in kept:
        convolution._conv_forward = partial(_in_float32, convolution)
    try:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        for convolution in kept:
            del convolution._conv_forward


def _in_float32(convolution: nn.Conv2d, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        return type(convolution)._conv_forward(convolution, x.float(), weight, bias)
