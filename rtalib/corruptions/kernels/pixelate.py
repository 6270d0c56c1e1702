"""Pixelate: each output pixel computes the reduced pixel that it shows, in integers."""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from rtalib.corruptions.constants import Pixelate
from rtalib.corruptions.digital import box_weights, enlarged_from

BLOCK = tl.constexpr(1024)


@triton.jit
def _byte(total):
    """22-bit fixed point rounded to a level."""
    return tl.minimum((total + (1 << 21)) >> 22, 255)


@triton.jit
def _pixelate(images, out, tops, row_weights, lefts, column_weights, row_taps, column_taps, height, width):
    # memory bound: neighbours that show the same reduced pixel read the same few bytes
    area = height * width
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < area
    y, x = pixel // width, pixel % width
    corner = tl.load(tops + y, mask=mask, other=0) * width + tl.load(lefts + x)
    for channel in tl.static_range(3):
        start = (tl.program_id(0).to(tl.int64) * 3 + channel) * area
        total = tl.zeros([BLOCK], tl.int32)
        for row in range(row_taps):
            row_weight = tl.load(row_weights + row * height + y, mask=mask, other=0)
            across = tl.zeros([BLOCK], tl.int32)
            for column in range(column_taps):
                weight = tl.load(column_weights + column * width + x)
                # taps of weight 0 fill up the shorter lists and may lie outside the image
                used = (row_weight > 0) & (weight > 0)
                source = images + start + corner + row * width + column
                across += tl.load(source, mask=used, other=0).to(tl.int32) * weight
            total += _byte(across) * row_weight
        tl.store(out + start + pixel, _byte(total).to(tl.uint8), mask=mask)


@lru_cache(maxsize=64)
def _axis(side: int, constants: Pixelate, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the reduced pixel that each of `side` pixels shows: the first pixel (side,), the weights from there on (taps, side); int32."""
    small, host = int(side * constants.scale), torch.device("cpu")
    matrix = box_weights(side, small, host)
    used = matrix > 0
    first, taps = used.int().argmax(1), int(used.sum(1).max())
    position = first + torch.arange(taps)[:, None]
    weights = matrix.T.gather(0, position.clamp(max=side - 1)).where(position < side, 0)
    shown = enlarged_from(small, side, constants.nearest, host)
    return first[shown].int().to(device), weights[:, shown].int().to(device)


def pixelate(images: torch.Tensor, constants: Pixelate, words: object) -> torch.Tensor:
    """See `rtalib.corruptions.digital.pixelate`."""
    out, (height, width) = torch.empty_like(images), images.shape[2:]
    tops, down = _axis(height, constants, images.device)
    lefts, across = _axis(width, constants, images.device)
    grid = len(images), triton.cdiv(height * width, BLOCK.value)
    _pixelate[grid](images, out, tops, down, lefts, across, len(down), len(across), height, width, num_warps=8)
    return out
