"""JPEG in two passes: 8 x 8 blocks through colour conversion, transform and quantisation to planes of bytes; then those planes to RGB."""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from rtalib.corruptions.draws import Words
from rtalib.corruptions.jpeg import CHROMA, LUMA, dct_matrix, fixed, quantisation_table

BLOCK = tl.constexpr(1024)
# a program transforms BLOCKS blocks of 8 x 8, laid out as a tile of ROWS rows; it is one warp, so that no exchange has to wait for others
BLOCKS, ROWS = tl.constexpr(8), tl.constexpr(64)

_MATRIX = dct_matrix(torch.device("cpu")).long().tolist()
# the distinct coefficients of the transform: of its even rows, and of its odd rows, which are a symmetric matrix
ONE, P, Q, R = (tl.constexpr(_MATRIX[row][column]) for row, column in ((0, 0), (2, 0), (2, 1), (6, 1)))
A, B, C, D = (tl.constexpr(value) for value in _MATRIX[1][:4])
E, F, G, H, K = (tl.constexpr(_MATRIX[row][column]) for row, column in ((3, 1), (3, 2), (3, 3), (5, 2), (7, 3)))

LUMA_RED, LUMA_GREEN, LUMA_BLUE = (tl.constexpr(fixed(share, 16)) for share in (0.299, 0.587, 0.114))
CB_RED, CB_GREEN, CR_GREEN, CR_BLUE = (tl.constexpr(-fixed(share, 16)) for share in (0.168735892, 0.331264108, 0.418687589, 0.081312411))
CB_BLUE = CR_RED = tl.constexpr(fixed(0.5, 16))
RED_CR, GREEN_CB, GREEN_CR, BLUE_CB = (tl.constexpr(fixed(share, 16)) for share in (1.402, 0.34414, 0.71414, 1.772))
HALF, CHROMA_HALF = tl.constexpr(1 << 15), tl.constexpr((128 << 16) + (1 << 15) - 1)


@triton.jit
def _split(tile):
    """The eight columns of a tile."""
    even, odd = tl.split(tl.reshape(tile, (ROWS, 2, 2, 2)))
    x04, x26 = tl.split(even)
    x15, x37 = tl.split(odd)
    x0, x4 = tl.split(x04)
    x1, x5 = tl.split(x15)
    x2, x6 = tl.split(x26)
    x3, x7 = tl.split(x37)
    return x0, x1, x2, x3, x4, x5, x6, x7


@triton.jit
def _join(x0, x1, x2, x3, x4, x5, x6, x7):
    even, odd = tl.join(tl.join(x0, x4), tl.join(x2, x6)), tl.join(tl.join(x1, x5), tl.join(x3, x7))
    return tl.reshape(tl.join(even, odd), (ROWS, 8))


@triton.jit
def _transpose(tile):
    """Each block of a tile transposed."""
    return tl.reshape(tl.permute(tl.reshape(tile, (BLOCKS, 8, 8)), (0, 2, 1)), (ROWS, 8))


@triton.jit
def _odd(a, b, c, d):
    e, f = a * A + b * B + c * C + d * D, a * B + b * E + c * F + d * G
    return e, f, a * C + b * F + c * H + d * B, a * D + b * G + c * B + d * K


@triton.jit
def _forward(tile, bits: tl.constexpr):
    """The transform of each row, shifted right by `bits` with rounding. Mirrored samples meet first: half the multiplications."""
    x0, x1, x2, x3, x4, x5, x6, x7 = _split(tile)
    y1, y3, y5, y7 = _odd(x0 - x7, x1 - x6, x2 - x5, x3 - x4)
    a, b, c, d = x0 + x7, x1 + x6, x2 + x5, x3 + x4
    y2, y6 = (a - d) * P + (b - c) * Q, (a - d) * Q + (b - c) * R
    outer, inner = (a + d) * ONE, (b + c) * ONE
    return (_join(outer + inner, y1, y2, y3, outer - inner, y5, y6, y7) + (1 << (bits - 1))) >> bits


@triton.jit
def _inverse(tile, bits: tl.constexpr):
    """The transposed transform of each row, shifted likewise."""
    x0, x1, x2, x3, x4, x5, x6, x7 = _split(tile)
    e, f, g, h = _odd(x1, x3, x5, x7)
    outer, inner = x2 * P + x6 * Q, x2 * Q + x6 * R
    plus, minus = (x0 + x4) * ONE, (x0 - x4) * ONE
    a, b, c, d = plus + outer, minus + inner, minus - inner, plus - outer
    return (_join(a + e, b + f, c + g, d + h, d - h, c - g, b - f, a - e) + (1 << (bits - 1))) >> bits


@triton.jit
def _through_blocks(levels, steps):
    """See `rtalib.corruptions.jpeg._through_blocks`. `steps` points to 64 quantisation steps, transposed, then to 2^32 / (8 step)."""
    coefficients = _forward(_transpose(_forward(levels - 128, 11)), 15)
    entry = steps + (tl.arange(0, ROWS) & 7)[:, None] * 8 + tl.arange(0, 8)[None, :]
    step, inverse = tl.load(entry), tl.load(entry + 64)
    # (|c| + 4 step) / (8 step), rounded down: exact, as the dividend is below 2^15 and the reciprocal is rounded up
    size = tl.umulhi((tl.abs(coefficients) + 4 * step).to(tl.uint32), inverse.to(tl.uint32)).to(tl.int32) * step
    columns = _inverse(tl.where(coefficients < 0, -size, size), 11)
    return tl.minimum(tl.maximum(_inverse(_transpose(columns), 18) + 128, 0), 255)


@triton.jit
def _mix(image, y, x, red, green, blue, half, height, width):
    """One plane of libjpeg's fixed-point YCbCr at (y, x), edges repeated."""
    place = image + tl.minimum(y, height - 1) * width + tl.minimum(x, width - 1)
    mixed = tl.load(place).to(tl.int32) * red + tl.load(place + height * width).to(tl.int32) * green
    return (mixed + tl.load(place + 2 * height * width).to(tl.int32) * blue + half) >> 16


@triton.jit
def _halved(image, y, x, component, height, width):
    """Chroma of half the size: 2 x 2 means. Rows are filled up after the halving, columns before it."""
    # component is 0 for Cb and 1 for Cr
    red, green = component * (CR_RED - CB_RED) + CB_RED, component * (CR_GREEN - CB_GREEN) + CB_GREEN
    blue = component * (CR_BLUE - CB_BLUE) + CB_BLUE
    row = 2 * tl.minimum(y, (height - 1) // 2)
    total = 1 + (x & 1)
    for corner in tl.static_range(4):
        total += _mix(image, row + corner // 2, 2 * x + corner % 2, red, green, blue, CHROMA_HALF, height, width)
    return total >> 2


@triton.jit
def _encode(images, planes, steps, height, width, luma_programs):
    """Planes Y, Cb and Cr after the loss; the last two of half the size. Bounded by integer arithmetic."""
    image, program = tl.program_id(0).to(tl.int64), tl.program_id(1)
    half_height, half_width = (height + 1) // 2, (width + 1) // 2
    images += image * 3 * height * width
    planes += image * (height * width + 2 * half_height * half_width)
    chroma = program >= luma_programs
    if chroma:
        program -= luma_programs
        planes += height * width
        steps += 128
    rows, columns = tl.where(chroma, half_height, height), tl.where(chroma, half_width, width)
    across = (columns + 7) // 8
    count = across * ((rows + 7) // 8)
    line = tl.arange(0, ROWS)[:, None]
    block = program * BLOCKS + line // 8
    component = block // count
    y = block % count // across * 8 + line % 8
    x = block % across * 8 + tl.arange(0, 8)[None, :]
    if chroma:
        levels = _halved(images, y, x, component, height, width)
    else:
        levels = _mix(images, y, x, LUMA_RED, LUMA_GREEN, LUMA_BLUE, HALF, height, width)
    levels = _through_blocks(levels, steps)
    mask = (component <= chroma.to(tl.int32)) & (y < rows) & (x < columns)
    tl.store(planes + (component * rows + y) * columns + x, levels.to(tl.uint8), mask=mask)


@triton.jit
def _doubled(plane, y, x, mask, height, width):
    """Triangle filter: 3:1 towards the nearer of two rows, then of two columns of a plane of half the size; edges repeated."""
    high, wide = (height + 1) // 2, (width + 1) // 2
    row, column = y // 2, x // 2
    far_row = tl.minimum(tl.maximum(row - 1 + 2 * (y & 1), 0), high - 1)
    far_column = tl.minimum(tl.maximum(column - 1 + 2 * (x & 1), 0), wide - 1)
    near = 3 * tl.load(plane + row * wide + column, mask=mask, other=0).to(tl.int32)
    near += tl.load(plane + far_row * wide + column, mask=mask, other=0).to(tl.int32)
    far = 3 * tl.load(plane + row * wide + far_column, mask=mask, other=0).to(tl.int32)
    far += tl.load(plane + far_row * wide + far_column, mask=mask, other=0).to(tl.int32)
    return (3 * near + far + 8 - (x & 1)) >> 4


@triton.jit
def _decode(planes, out, height, width):
    image, area = tl.program_id(0).to(tl.int64), height * width
    half_area = ((height + 1) // 2) * ((width + 1) // 2)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask, y, x = pixel < area, pixel // width, pixel % width
    planes += image * (area + 2 * half_area)
    out += image * 3 * area + pixel
    luma = tl.load(planes + pixel, mask=mask, other=0).to(tl.int32)
    cb = _doubled(planes + area, y, x, mask, height, width) - 128
    cr = _doubled(planes + area + half_area, y, x, mask, height, width) - 128
    red, blue = luma + ((cr * RED_CR + HALF) >> 16), luma + ((cb * BLUE_CB + HALF) >> 16)
    green = luma + ((HALF - cb * GREEN_CB - cr * GREEN_CR) >> 16)
    tl.store(out, tl.minimum(tl.maximum(red, 0), 255).to(tl.uint8), mask=mask)
    tl.store(out + area, tl.minimum(tl.maximum(green, 0), 255).to(tl.uint8), mask=mask)
    tl.store(out + 2 * area, tl.minimum(tl.maximum(blue, 0), 255).to(tl.uint8), mask=mask)


@lru_cache(maxsize=32)
def _steps(quality: int, device: torch.device) -> torch.Tensor:
    """int32 (2,2,8,8): for luma and for chroma, the transposed quantisation steps and their reciprocals."""
    steps = torch.stack([quantisation_table(base, quality, torch.device("cpu")).long().T for base in (LUMA, CHROMA)])
    return torch.stack([steps, -(-(2**32) // (8 * steps))], dim=1).int().to(device)


def jpeg_compression(images: torch.Tensor, quality: int, words: Words) -> torch.Tensor:
    """See `rtalib.corruptions.jpeg.jpeg_compression`."""
    n, _, height, width = images.shape
    half_height, half_width = (height + 1) // 2, (width + 1) // 2
    planes = torch.empty(n, height * width + 2 * half_height * half_width, dtype=torch.uint8, device=images.device)
    luma, chroma = (triton.cdiv(h, 8) * triton.cdiv(w, 8) for h, w in ((height, width), (half_height, half_width)))
    luma, chroma = triton.cdiv(luma, BLOCKS.value), triton.cdiv(2 * chroma, BLOCKS.value)
    _encode[n, luma + chroma](images, planes, _steps(quality, images.device), height, width, luma, num_warps=1)
    out = torch.empty_like(images)
    _decode[n, triton.cdiv(height * width, BLOCK.value)](planes, out, height, width)
    return out
