"""Depthwise convolution whose gradient is fast on a CPU.

oneDNN (3.13, AVX-512) has a kernel for the weight gradient of a depthwise convolution up to three taps wide; wider ones take a general
path, several times slower. But a wide kernel is several narrow ones on shifted images, and so is its gradient.
"""

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_weight

NARROW = 3  # taps


class _Depthwise(torch.autograd.Function):
    """Undilated, any odd kernel. The backward pass consists of differentiable operations, so that higher derivatives exist."""

    @staticmethod
    def forward(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: torch.Tensor) -> None:
        x, weight, ctx.stride = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, weight = (saved.to(gradient.dtype) for saved in ctx.saved_tensors)  # they differ under autocast
        channels, _, kernel, _ = weight.shape
        to_input = to_weight = None
        if ctx.needs_input_grad[0]:
            to_input = input_gradient(x, weight, gradient, ctx.stride)
        if ctx.needs_input_grad[1]:
            parts = []
            for left in range(0, kernel, NARROW):
                taps = min(NARROW, kernel - left)
                shift = kernel // 2 - left  # columns of zeros before the image; negative: columns cut off
                shifted = F.pad(x, (shift, taps - 1 - shift))
                parts.append(conv2d_weight(shifted, (channels, 1, kernel, taps), gradient, ctx.stride, (kernel // 2, 0), groups=channels))
            to_weight = torch.cat(parts, dim=-1)
        return to_input, to_weight, None


def input_gradient(x: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor, stride: int) -> torch.Tensor:
    """At stride 1 the convolution with the flipped kernel, which oneDNN has a faster kernel for."""
    channels, _, kernel, _ = weight.shape
    if stride == 1:
        return F.conv2d(gradient, weight.flip(2, 3), padding=kernel // 2, groups=channels)
    geometry = ([stride] * 2, [kernel // 2] * 2, [1, 1], False, [0, 0], channels)  # `conv2d_input` would lose the memory format of x
    return torch.ops.aten.convolution_backward(gradient, x, weight, None, *geometry, [True, False, False])[0]


def depthwise(x: torch.Tensor, weight: torch.Tensor, stride: int = 1, dilation: int = 1) -> torch.Tensor:
    """Depthwise convolution, zero padding that keeps the size: (N,C,H,W), kernels (C,1,k,k) with k odd -> (N,C,ceil(H/s),ceil(W/s))."""
    kernel = weight.shape[-1]
    if x.device.type == "cpu" and kernel > NARROW and dilation == 1:
        return _Depthwise.apply(x, weight, stride)
    return F.conv2d(x, weight, None, stride, dilation * (kernel // 2), dilation, len(weight))
