"""Elastic transform: an affine pass, the random fields, two matrix products that smooth them, and a pass that displaces the pixels."""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from rtalib.corruptions.constants import Elastic
from rtalib.corruptions.draws import Words
from rtalib.corruptions.filters import separable, smoothing_matrix
from rtalib.corruptions.kernels.common import four_words, in_order, truncate, unit

BLOCK = tl.constexpr(1024)


@triton.jit
def _signed(word):
    """float64 in -1..1 of a word."""
    return word.to(tl.float64) * (1 / 2147483648) - 1.0


@triton.jit
def _fields(fields, index, table, seed, stream, count):
    """dx and dy of all pixels before they are smoothed, from the words after the six of the affine step."""
    image = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1) * (BLOCK // 4) + tl.arange(0, BLOCK // 4)
    words = in_order(*four_words(seed, tl.load(index + image), stream, block.to(tl.int64)))
    value = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK) - 6
    tl.store(fields + image * count + value, _signed(words) * tl.load(table + 2), mask=(value >= 0) & (value < count))


@triton.jit
def _level(pointers):
    """float32 intensities: stored ones, or of bytes."""
    value = tl.load(pointers)
    if value.dtype == tl.uint8:
        return unit(value.to(tl.float32))
    else:
        return value


@triton.jit
def _fold(position, period, mirror):
    """See `rtalib.corruptions.filters._fold`. Never outside the image, not even for infinite positions of a degenerate affine map."""
    # half a step from any border, so the reciprocal finds the same period as a division
    inside = position - tl.floor((position + 0.5) * (1.0 / period)) * period
    return tl.maximum(tl.minimum(inside, mirror - inside), 0.0).to(tl.int32)


@triton.jit
def _bilinear(plane, top, bottom, left, right, down, across, width):
    """See `rtalib.corruptions.digital._bilinear`; in the precision of the weights."""
    up, aside = 1.0 - down, 1.0 - across
    total = _level(plane + top * width + left).to(down.dtype) * (up * aside)
    total += _level(plane + top * width + right).to(down.dtype) * (up * across)
    total += _level(plane + bottom * width + left).to(down.dtype) * (down * aside)
    return total + _level(plane + bottom * width + right).to(down.dtype) * (down * across)


@triton.jit
def _moved(point, word, jitter):
    """A coordinate of a control point after its move."""
    return (point.to(tl.float32) + (_signed(word) * jitter).to(tl.float32)).to(tl.float64)


@triton.jit
def _round(value):
    """To whole numbers, halves to even; float64 below 2^51, where this sum has no room for a fraction."""
    return (value + 6755399441055744.0) - 6755399441055744.0


@triton.jit
def _position(x, y, a, b, c):
    """a x + b y + c in OpenCV's steps of 1/32 px: (whole pixels float64, fraction float32)."""
    fixed = _round(a * x * 1024.0) + _round((b * y + c) * 1024.0)
    position = tl.floor((fixed + 16.0) * 0.03125) * 0.03125
    whole = tl.floor(position)
    return whole, (position - whole).to(tl.float32)


@triton.jit
def _affine(images, out, index, table, seed, stream, height, width):
    """See `rtalib.corruptions.digital.affine_warp`; to float32 intensities or, as `out` has them, to bytes."""
    image = tl.program_id(0).to(tl.int64)
    identity, jitter = tl.load(index + image), tl.load(table)
    word0, word1, word2, word3 = four_words(seed, identity, stream, identity * 0)
    word4, word5, word6, word7 = four_words(seed, identity, stream, identity * 0 + 1)
    reach = tl.minimum(height, width) // 3
    high0, low0, high1, low1 = height // 2 + reach, height // 2 - reach, width // 2 + reach, width // 2 - reach
    ax, ay = _moved(high0, word0, jitter), _moved(high1, word1, jitter)
    bx, by = _moved(high0, word2, jitter), _moved(low1, word3, jitter)
    cx, cy = _moved(low0, word4, jitter), _moved(low1, word5, jitter)
    # Cramer's rule as in `rtalib.corruptions.digital._solve_affine`: the columns of cofactors, then their products with the points
    a0, a1, a2 = by - cy, cx - bx, bx * cy - by * cx
    b0, b1, b2 = cy - ay, ax - cx, cx * ay - cy * ax
    c0, c1, c2 = ay - by, bx - ax, ax * by - ay * bx
    det = ax * a0 + ay * a1 + a2
    high0, low0, high1, low1 = high0.to(tl.float64), low0.to(tl.float64), high1.to(tl.float64), low1.to(tl.float64)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    y, x = (pixel // width).to(tl.float64), (pixel % width).to(tl.float64)
    along, slant = (a0 * high0 + b0 * high0 + c0 * low0) / det, (a1 * high0 + b1 * high0 + c1 * low0) / det
    left, across = _position(x, y, along, slant, (a2 * high0 + b2 * high0 + c2 * low0) / det)
    along, slant = (a0 * high1 + b0 * low1 + c0 * low1) / det, (a1 * high1 + b1 * low1 + c1 * low1) / det
    top, down = _position(x, y, along, slant, (a2 * high1 + b2 * low1 + c2 * low1) / det)
    last0, last1, area = (2 * height - 2).to(tl.float64), (2 * width - 2).to(tl.float64), height * width
    top, bottom = _fold(top, last0, last0), _fold(top + 1.0, last0, last0)
    left, right = _fold(left, last1, last1), _fold(left + 1.0, last1, last1)
    for channel in tl.static_range(3):
        plane = (image * 3 + channel) * area
        level = _bilinear(images + plane, top, bottom, left, right, down, across, width)
        if out.dtype.element_ty == tl.uint8:
            level = truncate(level)
        tl.store(out + plane + pixel, level, mask=pixel < area)


@triton.jit
def _shift(field, alpha, place, mask):
    """float64 with the precision of float32."""
    return (tl.load(field + place, mask=mask, other=0) * alpha).to(tl.float32).to(tl.float64)


@triton.jit
def _displace(source, out, fields, table, height, width):
    """See `rtalib.corruptions.digital.displace`. The fields are stored column after column.

    Bounded, like the affine pass, by float64 arithmetic and by gathers, which the L1 cache serves.
    """
    image, area = tl.program_id(0).to(tl.int64), height * width
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask, row, column = pixel < area, pixel // width, pixel % width
    alpha, place = tl.load(table + 1), image * 2 * area + column * height + row
    x = column.to(tl.float64) + _shift(fields, alpha, place, mask)
    y = row.to(tl.float64) + _shift(fields, alpha, place + area, mask)
    left, top = tl.floor(x), tl.floor(y)
    across, down = x - left, y - top
    round0, round1 = (2 * height).to(tl.float64), (2 * width).to(tl.float64)
    top, bottom = _fold(top, round0, round0 - 1.0), _fold(top + 1.0, round0, round0 - 1.0)
    left, right = _fold(left, round1, round1 - 1.0), _fold(left + 1.0, round1, round1 - 1.0)
    for channel in tl.static_range(3):
        plane = (image * 3 + channel) * area
        level = _bilinear(source + plane, top, bottom, left, right, down, across, width)
        tl.store(out + plane + pixel, truncate(level.to(tl.float32)), mask=mask)


@lru_cache(maxsize=32)
def _table(jitter: float | None, alpha: float, amplitude: float, device: torch.device) -> torch.Tensor:
    return torch.tensor([jitter or 0.0, alpha, amplitude], dtype=torch.float64, device=device)


def _smooth_fields(images: torch.Tensor, sigma: tuple[float, float], table: torch.Tensor, words: Words) -> torch.Tensor:
    """float64 (N,2,W,H). The last bit of these sums is the library's; after rounding to float32 it matters once in many millions."""
    n, _, height, width = images.shape
    fields = torch.empty(n, 2, height, width, dtype=torch.float64, device=images.device)
    grid = n, triton.cdiv(6 + 2 * height * width, BLOCK.value)
    _fields[grid](fields, words.index, table, words.seed, words.stream, 2 * height * width, enable_fp_fusion=False)
    down, across = (smoothing_matrix(side, s, images.device) for side, s in zip((height, width), sigma, strict=True))
    return separable(fields, down, across).transpose(2, 3).contiguous()


def elastic_transform(images: torch.Tensor, constants: Elastic, words: Words) -> torch.Tensor:
    """See `rtalib.corruptions.digital.elastic_transform`."""
    n, _, height, width = images.shape
    alpha, sigma, jitter = constants
    grid, relative = (n, triton.cdiv(height * width, BLOCK.value)), jitter is None
    table = _table(jitter, alpha, 0.005 * height if relative else 1.0, images.device)
    source = images
    if not relative:
        source = torch.empty_like(images, dtype=torch.float32 if alpha else torch.uint8)
        _affine[grid](images, source, words.index, table, words.seed, words.stream, height, width, num_warps=8, enable_fp_fusion=False)
        if not alpha:
            return source
    fields = _smooth_fields(images, (sigma * height, sigma * width) if relative else (sigma, sigma), table, words)
    out = torch.empty_like(images)
    _displace[grid](source, out, fields, table, height, width, num_warps=8, enable_fp_fusion=False)
    return out
