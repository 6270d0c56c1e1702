"""Defocus blur: correlation with the disk kernel, one tap of a quadrant after another."""

from functools import lru_cache

import numpy as np
import torch
import triton
import triton.language as tl

from rtalib.corruptions.blur import defocus_kernel
from rtalib.corruptions.constants import Defocus
from rtalib.corruptions.kernels.common import HIGH, LOW, truncate

BLOCK = tl.constexpr(1024)


@triton.jit
def _samples(source, up, down, left, right, dy, dx, mask):
    """Sum of the one, two or four samples that share a tap, rows before columns. `unit` written out: calls cost most in the interpreter."""
    level = tl.load(source + up + left, mask=mask, other=0).to(tl.float64)
    total = level * HIGH + level * LOW
    if dy > 0:
        level = tl.load(source + down + left, mask=mask, other=0).to(tl.float64)
        total += level * HIGH + level * LOW
    if dx > 0:
        level = tl.load(source + up + right, mask=mask, other=0).to(tl.float64)
        beside = level * HIGH + level * LOW
        if dy > 0:
            level = tl.load(source + down + right, mask=mask, other=0).to(tl.float64)
            beside += level * HIGH + level * LOW
        total += beside
    return total


@triton.jit
def _defocus(images, out, offsets, weights, taps, height, width):
    # bound by float64 and byte-to-float arithmetic, even with the nine taps of the smallest kernels
    area = height * width
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < area
    start = tl.program_id(0).to(tl.int64) * 3 * area
    image, target = images + start, out + start + pixel
    y, x = pixel // width, pixel % width
    red = tl.zeros([BLOCK], tl.float64)
    green = tl.zeros([BLOCK], tl.float64)
    blue = tl.zeros([BLOCK], tl.float64)
    for tap in range(taps):
        dy, dx = tl.load(offsets + 2 * tap), tl.load(offsets + 2 * tap + 1)
        weight = tl.load(weights + tap)
        # mirrored without repeating the edge; a tap reaches less than one side beyond it
        up, down = tl.abs(y - dy) * width, tl.minimum(y + dy, 2 * height - 2 - y - dy) * width
        left, right = tl.abs(x - dx), tl.minimum(x + dx, 2 * width - 2 - x - dx)
        red += _samples(image, up, down, left, right, dy, dx, mask) * weight
        green += _samples(image + area, up, down, left, right, dy, dx, mask) * weight
        blue += _samples(image + 2 * area, up, down, left, right, dy, dx, mask) * weight
    tl.store(target, truncate(red), mask=mask)
    tl.store(target + area, truncate(green), mask=mask)
    tl.store(target + 2 * area, truncate(blue), mask=mask)


@lru_cache(maxsize=32)
def _taps(constants: Defocus, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The nonzero taps of the lower right quadrant, row after row: (row, column) from the centre, int32 (taps, 2), and weights, float64."""
    kernel = defocus_kernel(*constants)
    quadrant = kernel[len(kernel) // 2 :, len(kernel) // 2 :]
    offsets = torch.from_numpy(np.argwhere(quadrant)).int().contiguous()
    return offsets.to(device), torch.from_numpy(quadrant[quadrant != 0]).double().to(device)


def defocus_blur(images: torch.Tensor, constants: Defocus, words: object) -> torch.Tensor:
    """See `rtalib.corruptions.blur.defocus_blur`."""
    out, (height, width) = torch.empty_like(images), images.shape[2:]
    offsets, weights = _taps(constants, images.device)
    grid = len(images), triton.cdiv(height * width, BLOCK.value)
    _defocus[grid](images, out, offsets, weights, len(weights), height, width, num_warps=8, enable_fp_fusion=False)
    return out
