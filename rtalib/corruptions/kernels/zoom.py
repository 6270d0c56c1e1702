"""Zoom blur: the image and its enlargements, added in float32 one factor after another."""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from rtalib.corruptions.blur import zoom_plan
from rtalib.corruptions.constants import Zoom
from rtalib.corruptions.kernels.common import truncate, unit

BLOCK = tl.constexpr(1024)


@triton.jit
def _unit(source, mask):
    """float32 intensities."""
    return unit(tl.load(source, mask=mask, other=0).to(tl.float32))


@triton.jit
def _between(source, near, far, share, mask):
    """float64 interpolation between two pixels of a column."""
    near = _unit(source + near, mask).to(tl.float64)
    return near + (_unit(source + far, mask).to(tl.float64) - near) * share


@triton.jit
def _enlarged(plane, near_row, far_row, down, near_column, far_column, across, mask):
    """float32 values of one enlargement."""
    near = _between(plane + near_column, near_row, far_row, down, mask)
    far = _between(plane + far_column, near_row, far_row, down, mask)
    return (near + (far - near) * across).to(tl.float32)


@triton.jit
def _zoom(images, out, rows, columns, downs, acrosses, factors, height, width):
    # bound by conversions: each value takes four bytes to float64 per factor; the bytes stay in L1
    area = height * width
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < area
    offset = tl.program_id(0).to(tl.int64) * 3 * area
    image, target = images + offset, out + offset + pixel
    y, x = pixel // width, pixel % width
    red = tl.zeros([BLOCK], tl.float32)
    green = tl.zeros([BLOCK], tl.float32)
    blue = tl.zeros([BLOCK], tl.float32)
    for factor in range(factors):
        near_row = tl.load(rows + 2 * factor * height + y, mask=mask, other=0)
        far_row = tl.load(rows + (2 * factor + 1) * height + y, mask=mask, other=0)
        down = tl.load(downs + factor * height + y, mask=mask, other=0)
        near_column = tl.load(columns + 2 * factor * width + x)
        far_column = tl.load(columns + (2 * factor + 1) * width + x)
        across = tl.load(acrosses + factor * width + x)
        red += _enlarged(image, near_row, far_row, down, near_column, far_column, across, mask)
        green += _enlarged(image + area, near_row, far_row, down, near_column, far_column, across, mask)
        blue += _enlarged(image + 2 * area, near_row, far_row, down, near_column, far_column, across, mask)
    count = (factors + 1).to(tl.float32)
    tl.store(target, truncate(tl.div_rn(_unit(image + pixel, mask) + red, count)), mask=mask)
    tl.store(target + area, truncate(tl.div_rn(_unit(image + area + pixel, mask) + green, count)), mask=mask)
    tl.store(target + 2 * area, truncate(tl.div_rn(_unit(image + 2 * area + pixel, mask) + blue, count)), mask=mask)


def _nearest_first(lower: torch.Tensor, upper: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(nearer and farther sample, int32 (K,2,side); share of the farther one, at most 1/2): torch.lerp counts from the nearer end."""
    small = weight < 0.5
    samples = torch.stack([torch.where(small, lower, upper), torch.where(small, upper, lower)], dim=1)
    return samples.int(), torch.where(small, weight, 1 - weight)


@lru_cache(maxsize=32)
def _tables(height: int, width: int, constants: Zoom, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Start of the nearer and of the farther row, the same of columns, int32 (K,2,side); shares of the farther row and column (K,side)."""
    plan = zoom_plan(height, width, constants, torch.device("cpu"))
    rows, down = _nearest_first(*plan[:3])
    columns, across = _nearest_first(*plan[3:])
    return tuple(part.to(device) for part in (rows * width, columns, down, across))


def zoom_blur(images: torch.Tensor, constants: Zoom, words: object) -> torch.Tensor:
    """See `rtalib.corruptions.blur.zoom_blur`; all values by its published order."""
    out, (height, width) = torch.empty_like(images), images.shape[2:]
    grid = len(images), triton.cdiv(height * width, BLOCK.value)
    tables = _tables(height, width, constants, images.device)
    _zoom[grid](images, out, *tables, len(constants.factors), height, width, num_warps=8, enable_fp_fusion=False)
    return out
