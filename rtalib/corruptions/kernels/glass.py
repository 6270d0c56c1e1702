"""Glass blur: one program per image blurs, shuffles and blurs again, its threads meeting at barriers."""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from rtalib.corruptions.constants import Glass
from rtalib.corruptions.draws import Words
from rtalib.corruptions.filters import gaussian_weights
from rtalib.corruptions.kernels.common import four_words, unit

BLOCK = tl.constexpr(1024)


@triton.jit
def _unit(pointers):
    """float64 intensities: stored ones, or of bytes."""
    value = tl.load(pointers)
    if value.dtype == tl.uint8:
        return unit(value.to(tl.float64))
    else:
        return value


@triton.jit
def _weighted(plane, place, stride, side, weights, radius):
    """Sum over one axis in SciPy's order: `place` on an axis of `side` pixels, `stride` apart in memory; edge pixels repeated."""
    total = _unit(plane + place * stride) * tl.load(weights)
    for step in range(radius):
        offset = radius - step
        before = _unit(plane + tl.maximum(place - offset, 0) * stride)
        total += (before + _unit(plane + tl.minimum(place + offset, side - 1) * stride)) * tl.load(weights + offset)
    return total


@triton.jit
def _pixels(start, height, width):
    """A block of pixels, their rows and their columns; beyond the end the last pixel again, so that nothing needs a mask."""
    pixel = tl.minimum(start + tl.arange(0, BLOCK), height * width - 1)
    y = pixel // width
    return pixel, y, pixel - y * width


@triton.jit
def _blur(source, target, sums, weights, radius, height, width):
    """Gaussian blur of the three planes of an image to bytes, see `rtalib.corruptions.filters.gaussian_blur`; `sums` holds a plane."""
    area = height * width
    for channel in range(3):
        for start in range(0, area, BLOCK):
            pixel, y, x = _pixels(start, height, width)
            tl.store(sums + pixel, _weighted(source + channel * area + x, y, width, height, weights, radius))
        tl.debug_barrier()
        for start in range(0, area, BLOCK):
            pixel, y, x = _pixels(start, height, width)
            total = _weighted(sums + y * width, x, 1, width, weights, radius)
            byte = (tl.minimum(tl.maximum(total, 0), 1) * 255).to(tl.int32).to(tl.uint8)
            tl.store(target + channel * area + pixel, byte)
        tl.debug_barrier()


@triton.jit
def _shift(words, reach):
    """dx + reach in the lower half of a byte and dy + reach in the upper, see `rtalib.corruptions.blur.draw_glass`."""
    words = words.to(tl.int64)
    dx = ((words & 0xFFFF) * (2 * reach)) >> 16
    dy = ((words >> 16) * (2 * reach)) >> 16
    return (dx | (dy << 4)).to(tl.int32)


@triton.jit
def _draw(shifts, identity, seed, stream, reach, quads):
    """The shifts of all sites in the order of the scan, four to an int32."""
    for start in range(0, quads, BLOCK // 4):
        quad = start + tl.arange(0, BLOCK // 4)
        a, b, c, d = four_words(seed, identity, stream, quad.to(tl.int64))
        packed = _shift(a, reach) | (_shift(b, reach) << 8) | (_shift(c, reach) << 16) | (_shift(d, reach) << 24)
        tl.store(shifts + quad, packed, mask=quad < quads)


@triton.jit
def _scanned(y, x, height, width, reach):
    return (y > reach) & (y <= height - reach) & (x > reach) & (x <= width - reach)


@triton.jit
def _sources(y, x, shifts, passes, height, width, reach):
    """Where the pixels come from, see `rtalib.corruptions.blur.glass_sources`: each lane follows its own chain of copies back in time."""
    columns = width - 2 * reach
    sites = (height - 2 * reach) * columns
    turn = tl.zeros_like(y) + (passes - 1)
    while tl.max(turn, axis=0) >= 0:
        moves = (turn >= 0) & _scanned(y, x, height, width, reach)
        site = (height - reach - y) * columns + (width - reach - x)
        number = turn * sites + site
        shift = tl.load(shifts + (number >> 2), mask=moves, other=0) >> (8 * (number & 3))
        dx = tl.where(moves, (shift & 15) - reach, 0)
        dy = tl.where(moves, ((shift >> 4) & 15) - reach, 0)
        y += dy
        x += dx
        # a source that comes later in the image was overwritten before, in the same pass
        overwritten = ((dy > 0) | ((dy == 0) & (dx > 0))) & _scanned(y, x, height, width, reach)
        turn -= tl.where(overwritten, 0, 1)
    return y * width + x


@triton.jit
def _glass(images, out, shuffled, sums, shifts, index, weights, radius, reach, passes, quads, seed, stream, height, width):
    """Bounded by float64 arithmetic and by the latency of the barriers and of the chains, whose scratch stays in the caches."""
    image = tl.program_id(0).to(tl.int64)
    area = height * width
    images += image * 3 * area
    out += image * 3 * area
    shuffled += image * 3 * area
    sums += image * area
    shifts += image * quads
    _draw(shifts, tl.load(index + image), seed, stream, reach, quads)
    _blur(images, out, sums, weights, radius, height, width)
    for start in range(0, area, BLOCK):
        pixel, y, x = _pixels(start, height, width)
        source = _sources(y, x, shifts, passes, height, width, reach)
        for channel in range(3):
            tl.store(shuffled + channel * area + pixel, tl.load(out + channel * area + source))
    tl.debug_barrier()
    _blur(shuffled, out, sums, weights, radius, height, width)


@lru_cache(maxsize=32)
def _weights(sigma: float, device: torch.device) -> torch.Tensor:
    """float64 taps from the centre outwards."""
    taps = gaussian_weights(sigma, 4.0)
    return torch.from_numpy(taps[len(taps) // 2 :].copy()).to(device)


def glass_blur(images: torch.Tensor, constants: Glass, words: Words) -> torch.Tensor:
    """See `rtalib.corruptions.blur.glass_blur`."""
    sigma, reach, passes = constants
    n, _, height, width = images.shape
    weights = _weights(sigma, images.device)
    out, shuffled = torch.empty_like(images), torch.empty_like(images)
    sums = torch.empty(n, height * width, dtype=torch.float64, device=images.device)
    quads = triton.cdiv(passes * (height - 2 * reach) * (width - 2 * reach), 4)
    shifts = torch.empty(n, quads, dtype=torch.int32, device=images.device)
    numbers = (len(weights) - 1, reach, passes, quads, words.seed, words.stream, height, width)
    _glass[n,](images, out, shuffled, sums, shifts, words.index, weights, *numbers, num_warps=8, enable_fp_fusion=False)
    return out
