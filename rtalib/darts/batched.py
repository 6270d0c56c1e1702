"""Several operations of one kind on the same input, computed together: M operations are M blocks of C channels of one tensor.

Everything is in channels-last order, so that blocks can be taken apart and copied without moving pixels. A convolution of dilation 2
is an undilated one on each of the four subgrids of every second pixel, which take the place of the batch: batch normalisation sums
over all of them alike, and the order of the pixels is restored only once the operations have been added up.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from rtalib.darts.depthwise import depthwise
from rtalib.darts.supernet import standardize

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
