"""Several operations of one kind on the same input, computed together: M operations are M blocks of C channels of one tensor.

Everything is in channels-last order, so that blocks can be taken apart and copied without moving pixels. A convolution of dilation 2
is an undilated one on each of the four subgrids of every second pixel, which take the place of the batch: batch normalization sums
over all of them alike, and the order of the pixels is restored only once the operations have been added up.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_weight

from rtalib.darts.supernet.plain import standardize

# ----------------------------------------------------------------------------------------------------------- depthwise

# Depthwise convolution whose gradient is fast on a CPU.
#
# oneDNN (3.13, AVX-512) has a kernel for the weight gradient of a depthwise convolution up to three taps wide; wider ones take a general
# path, several times slower. But a wide kernel is several narrow ones on shifted images, and so is its gradient.

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


# ---------------------------------------------------------------------------------------------------------------------

SEPARABLE, DILATED, HALVING = "sep_conv", "dil_conv", "skip_connect"  # how the names of a group's operations begin
CONVOLUTIONS = {
    SEPARABLE: ("first.depthwise", "first.pointwise", "second.depthwise", "second.pointwise"),
    DILATED: ("first.depthwise", "first.pointwise"),
    HALVING: ("even", "odd"),
}


def rows(x: torch.Tensor) -> torch.Tensor:
    """(N,C,H,W) as (N,H,W,C), a view: the order in memory of everything here."""
    return x.permute(0, 2, 3, 1)


def columns(x: torch.Tensor) -> torch.Tensor:
    """(N,H,W,C) as (N,C,H,W), a view."""
    return x.permute(0, 3, 1, 2)


def copies(x: torch.Tensor, count: int) -> torch.Tensor:
    """(N,C,H,W) -> (N,count*C,H,W)."""
    return columns(rows(x).unsqueeze(3).expand(-1, -1, -1, count, -1).flatten(3))


def subgrids(x: torch.Tensor, count: int) -> torch.Tensor:
    """(N,C,H,W) with even H and W -> (4N,count*C,H/2,W/2): pixels of even and odd rows and columns apart, `count` copies of each."""
    grid = rows(x).unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(2, 4, 0, 1, 3, 5)  # (2,2,N,H/2,W/2,C)
    return columns(grid.unsqueeze(5).expand(*grid.shape[:5], count, -1).flatten(5).flatten(0, 2))


def interleave(x: torch.Tensor) -> torch.Tensor:
    """Undoes `subgrids` once the copies are edges: (edges,4N,h,w,C) -> (edges,N,h,2,w,2,C), a view of (edges,N,2h,2w,C)."""
    return x.unflatten(1, (2, 2, -1)).movedim((1, 2), (3, 5))


def stacked(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Kernels (C,I,k,k) of M operations as one (M*C,I,K,K) of the largest size, smaller ones with zeros around them."""
    sizes, weights = [weight.shape[-1] for weight in weights], list(weights)
    largest = max(sizes)
    for size in set(sizes) - {largest}:
        smaller = [i for i in range(len(sizes)) if sizes[i] == size]
        padded = F.pad(torch.cat([weights[i] for i in smaller]), ((largest - size) // 2,) * 4)
        for i, weight in zip(smaller, padded.split(len(weights[0])), strict=True):
            weights[i] = weight
    return torch.cat(weights)


def separable(
    rectified: torch.Tensor,
    stride: int,
    count: int,
    depthwise1: torch.Tensor,
    pointwise1: torch.Tensor,
    depthwise2: torch.Tensor,
    pointwise2: torch.Tensor,
) -> torch.Tensor:
    """`count` times `SepConv.convolve`: (N,C,H,W) -> (N,count*C,H/stride,W/stride)."""
    x = F.conv2d(depthwise(copies(rectified, count), depthwise1, stride), pointwise1, groups=count)
    return F.conv2d(depthwise(F.relu(standardize(x)), depthwise2), pointwise2, groups=count)


def dilated(rectified: torch.Tensor, stride: int, count: int, kernels: torch.Tensor, pointwise: torch.Tensor) -> torch.Tensor:
    """`count` times `DilConv.convolve`: (N,C,H,W) -> (N,count*C,H/2,W/2) at stride 2, at stride 1 the subgrids of (N,count*C,H,W).

    With odd H or W the subgrids differ in size; then the convolution is computed as it is.
    """
    if stride == 2:  # a kernel of dilation 2 meets only pixels of even rows and columns
        x, dilation = rectified[..., ::2, ::2], 1
    elif rectified.shape[2] % 2 == 0 and rectified.shape[3] % 2 == 0:
        return F.conv2d(depthwise(subgrids(rectified, count), kernels), pointwise, groups=count)
    else:
        x, dilation = rectified, 2
    return F.conv2d(depthwise(copies(x, count), kernels, dilation=dilation), pointwise, groups=count)


def halving(rectified: torch.Tensor, stride: int, count: int, even: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
    """`count` times `FactorizedReduce.convolve`: (N,C,H,W) -> (N,count*C,H/2,W/2), odd sizes rounded up."""
    height, width = rectified.shape[-2:]
    if height % 2 or width % 2:
        rectified = F.pad(rectified, (0, width % 2, 0, height % 2))
    halves = F.conv2d(rectified[..., ::2, ::2], even), F.conv2d(rectified[..., 1::2, 1::2], odd)
    return columns(torch.cat([rows(half).unflatten(3, (count, -1)) for half in halves], dim=4).flatten(3))


OPERATE = {SEPARABLE: separable, DILATED: dilated, HALVING: halving}
