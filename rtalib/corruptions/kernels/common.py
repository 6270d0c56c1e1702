"""Random words inside kernels: the same Philox counters as `rtalib.rng`."""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from rtalib.corruptions.constants import Motion, Snow
from rtalib.corruptions.filters import inside, motion_offsets, motion_weights


@triton.jit
def four_words(seed, image, stream, block):
    """uint32 words 4 block .. 4 block + 3 of the image with identity `image`; all arguments int64, scalars or blocks."""
    mask = 0xFFFFFFFF
    # adding zeros of the block's shape gives the four counters one shape
    zero = block * 0
    counter0 = (block & mask).to(tl.uint32)
    counter1 = ((image + zero) & mask).to(tl.uint32)
    counter2 = (((image + zero) >> 32) & mask).to(tl.uint32)
    counter3 = ((stream + zero) & mask).to(tl.uint32)
    low = ((seed + zero) & mask).to(tl.uint32)
    high = (((seed + zero) >> 32) & mask).to(tl.uint32)
    return tl.philox_impl(counter0, counter1, counter2, counter3, low, high)


@triton.jit
def in_order(a, b, c, d):
    """One block of 4 M from four of M: a0 b0 c0 d0 a1 ..."""
    return tl.interleave(tl.interleave(a, c), tl.interleave(b, d))


@triton.jit
def _words(out, index, seed, stream, blocks, total, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    image = tl.load(index + place // blocks, mask=place < total, other=0)
    found = in_order(*four_words(seed, image, stream, place % blocks)).to(tl.int64)
    value = tl.program_id(0).to(tl.int64) * 4 * BLOCK + tl.arange(0, 4 * BLOCK)
    tl.store(out + value, found, mask=value < 4 * total)


def words(seed: int, index: torch.Tensor, stream: int, count: int) -> torch.Tensor:
    """See `rtalib.rng.words`; one launch instead of a hundred."""
    blocks = -(-count // 4)
    out = torch.empty(len(index), 4 * blocks, dtype=torch.int64, device=index.device)
    total = len(index) * blocks
    _words[(triton.cdiv(total, 256),)](out, index.contiguous(), seed, stream, blocks, total, BLOCK=256)
    return out[:, :count]


# -------------------------------------------------------------------------------------------------------------- levels

# Bytes to intensities and back, inside kernels.

# 1/255 in two parts, the first a power of two: the sum of the two products rounds as the quotient for all 256 bytes, in float32 and in
# float64, at a fraction of a division's cost
HIGH = tl.constexpr(1 / 256)
LOW = tl.constexpr(1 / 65280)


@triton.jit
def unit(level):
    """Whole levels 0..255 in float32 or float64, divided by 255."""
    return level * HIGH + level * LOW


@triton.jit
def truncate(level):
    """See `rtalib.corruptions.filters.truncate`; float32 or float64."""
    return (tl.minimum(tl.maximum(level, 0.0), 1.0) * 255.0).to(tl.int32).to(tl.uint8)


# --------------------------------------------------------------------------------------------------------------- lines

# Blur along a line: the taps that motion blur and snow share.


@triton.jit
def reached(y, x, dx, dy, height, width):
    """Index in the plane of pixel (y + dy, x + dx), clamped to the plane. int32; dx and dy point to the shift of one tap."""
    row = tl.minimum(tl.maximum(y + tl.load(dy).to(tl.int32), 0), height - 1)
    column = tl.minimum(tl.maximum(x + tl.load(dx).to(tl.int32), 0), width - 1)
    return row * width + column


@triton.jit
def magick_level(level):
    """The level whose integer part is ImageMagick's byte, see `rtalib.corruptions.filters.MAGICK`."""
    return tl.minimum(tl.maximum(level + 1 / 514, 0), 255)


@lru_cache(maxsize=32)
def _weights(radius: int, sigma: float, least: float, device: torch.device) -> torch.Tensor:
    """float64 (taps,): those of `motion_weights` above `least`."""
    taps = torch.from_numpy(motion_weights(radius, sigma))
    return taps[taps > least].to(device)


def line(
    angle: torch.Tensor, constants: Motion | Snow, height: int, width: int, least: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dx, dy, weights) of each tap of each image, (N, taps), for planes of this size; the weights may have a row stride of 0."""
    weights = _weights(constants.radius, constants.sigma, least, angle.device)
    dx, dy = motion_offsets(len(weights), angle)
    if constants.magick:
        return dx, dy, weights.expand(len(angle), -1)
    return dx, dy, weights * inside(dx, dy, height, width)
