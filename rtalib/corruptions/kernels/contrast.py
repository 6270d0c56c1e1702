"""Contrast: the mean of each channel in the order of its pixels, then one pass over the values."""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from rtalib.corruptions.kernels.common import truncate, unit

LANES = tl.constexpr(32)
UNROLL = tl.constexpr(16)
BLOCK = tl.constexpr(1024)


@triton.jit
def _mean(images, means, levels, planes, area):
    # One lane per channel of an image. Bound by the latency of `area` float64 additions in a row, whose order the bytes depend on; a table
    # of levels, so that everything else can be loaded ahead of the sum. The lines that the lanes read from stay in L1.
    plane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    length = tl.where(plane < planes, area, 0)
    source = images + plane.to(tl.int64) * area
    total = tl.zeros([LANES], tl.float64)
    for first in range(0, area, UNROLL):
        for step in tl.static_range(UNROLL):
            # byte 0 past the end adds 0, which changes nothing
            byte = tl.load(source + first + step, mask=first + step < length, other=0)
            total += tl.load(levels + byte.to(tl.int32))
    tl.store(means + plane, total / area.to(tl.float64), mask=plane < planes)


@triton.jit
def _contrast(images, out, means, factor, area):
    plane = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mean = tl.load(means + plane)
    offset = plane * area + pixel
    image = unit(tl.load(images + offset, mask=pixel < area, other=0).to(tl.float64))
    tl.store(out + offset, truncate((image - mean) * tl.load(factor) + mean), mask=pixel < area)


@lru_cache(maxsize=32)
def _tables(factor: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """float64: the 256 levels, and the factor."""
    return torch.arange(256, dtype=torch.float64).div_(255.0).to(device), torch.tensor(factor, dtype=torch.float64, device=device)


def contrast(images: torch.Tensor, factor: float, words: object) -> torch.Tensor:
    """See `rtalib.corruptions.digital.contrast`."""
    out, planes, area = torch.empty_like(images), 3 * len(images), images[0, 0].numel()
    levels, factor = _tables(factor, images.device)
    means = torch.empty(planes, dtype=torch.float64, device=images.device)
    _mean[(triton.cdiv(planes, LANES.value),)](images, means, levels, planes, area, num_warps=1, enable_fp_fusion=False)
    _contrast[planes, triton.cdiv(area, BLOCK.value)](images, out, means, factor, area, enable_fp_fusion=False)
    return out
