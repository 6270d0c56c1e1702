"""JPEG compression without entropy coding: the integer arithmetic of libjpeg's default encoder and decoder, bit for bit.

Baseline tables (ITU-T T.81, annex K) scaled by quality, 4:2:0 chroma, "slow" integer DCT (Loeffler, Ligtenberg and Moschytz 1989, 13-bit
constants), triangle-filter chroma upsampling. DCT passes are whole-number matrix products in float64 (below 2^53, hence exact).
"""

from functools import lru_cache

import torch
from PIL import features

from rtalib.corruptions.filters import alone
from rtalib.corruptions.large import by_pillow

LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)


def fixed(value: float, bits: int) -> int:
    return int(value * (1 << bits) + 0.5)


@lru_cache(maxsize=32)
def quantisation_table(base: tuple[tuple[int, ...], ...], quality: int, device: torch.device) -> torch.Tensor:
    """Quantisation steps, float64 (8,8): the base table scaled by quality 1..100, limited to 1..255."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = (torch.tensor(base, dtype=torch.int64) * percent + 50) // 100
    return table.clamp_(1, 255).double().to(device)


@lru_cache(maxsize=4)
def dct_matrix(device: torch.device) -> torch.Tensor:
    """float64 (8,8) matrix of whole numbers: 2^13 sqrt(8) times the orthonormal DCT, from the rounded constants of the fast algorithm.

    The fast algorithm rounds nowhere inside a pass, so its matrix gives the same integers; its inverse is the transpose.
    """
    a, b, c = (fixed(value, 13) for value in (0.541196100, 0.765366865, 1.847759065))
    p, q, r, s = (fixed(value, 13) for value in (0.298631336, 2.053119869, 3.072711026, 1.501321110))
    u, v, w, x, z = (fixed(value, 13) for value in (0.899976223, 2.562915447, 1.961570560, 0.390180644, 1.175875602))
    one = 1 << 13
    # coefficients of the first four samples; the last four mirror them, with the sign turned in odd rows
    rows = (
        (one, one, one, one),
        (s - u - x + z, z, z - x, z - u),
        (a + b, a, -a, -a - b),
        (z, r - v - w + z, z - v, z - w),
        (one, -one, -one, one),
        (z - x, z - v, q - v - x + z, z),
        (a, a - c, c - a, -a),
        (z - u, z - w, z, p - u - w + z),
    )
    full = [row + tuple((-1) ** k * n for n in row[::-1]) for k, row in enumerate(rows)]
    return torch.tensor(full, dtype=torch.float64, device=device)


def _shift(product: torch.Tensor, bits: int) -> torch.Tensor:
    """Right shift with rounding of whole numbers in float64. Overwrites its input."""
    return product.add_(2.0 ** (bits - 1)).mul_(2.0**-bits).floor_()


def _through_blocks(plane: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Levels (N,H,W), sides divisible by 8 -> levels after DCT, quantisation and inverse DCT; int32 in and out."""
    n, height, width = plane.shape
    matrix = dct_matrix(plane.device)
    blocks = plane.double().sub_(128).view(n, height // 8, 8, width // 8, 8).transpose(2, 3).contiguous()
    # forward: rows, then columns; the result is 8 times the coefficients
    rows = _shift(blocks.view(-1, 8) @ matrix.T, 11).view(-1, 8, 8)
    coefficients = _shift(rows.transpose(1, 2).reshape(-1, 8) @ matrix.T, 15).view(-1, 8, 8)  # transposed blocks
    steps = table.T
    levels = coefficients.abs().add_(4 * steps).div_(8 * steps).floor_().copysign_(coefficients).mul_(steps)
    # inverse: columns, then rows
    columns = _shift(levels.view(-1, 8) @ matrix, 11).view(-1, 8, 8)
    samples = _shift(columns.transpose(1, 2).reshape(-1, 8) @ matrix, 18).add_(128).clamp_(0, 255)
    return samples.to(torch.int32).view(n, height // 8, width // 8, 8, 8).transpose(2, 3).reshape(n, height, width)


def _to_ycc(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """int32 planes Y, Cb, Cr (N,H,W) of uint8 RGB, in libjpeg's 16-bit fixed point."""
    red, green, blue = images.to(torch.int32).unbind(1)
    half, chroma_half = 1 << 15, (128 << 16) + (1 << 15) - 1
    luma = (fixed(0.299, 16) * red + fixed(0.587, 16) * green + fixed(0.114, 16) * blue + half) >> 16
    cb = (fixed(0.5, 16) * blue - fixed(0.168735892, 16) * red - fixed(0.331264108, 16) * green + chroma_half) >> 16
    cr = (fixed(0.5, 16) * red - fixed(0.418687589, 16) * green - fixed(0.081312411, 16) * blue + chroma_half) >> 16
    return luma, cb, cr


def _to_rgb(luma: torch.Tensor, cb: torch.Tensor, cr: torch.Tensor) -> torch.Tensor:
    """uint8 RGB (N,3,H,W) of int32 planes."""
    cb, cr, half = cb - 128, cr - 128, 1 << 15
    red = luma + ((fixed(1.402, 16) * cr + half) >> 16)
    green = luma + ((half - fixed(0.34414, 16) * cb - fixed(0.71414, 16) * cr) >> 16)
    blue = luma + ((fixed(1.772, 16) * cb + half) >> 16)
    return torch.stack([red, green, blue], dim=1).clamp_(0, 255).to(torch.uint8)


def _halve(plane: torch.Tensor) -> torch.Tensor:
    """2x2 means; the rounding bias alternates 1, 2 along columns."""
    bias = torch.arange(plane.shape[2] // 2, device=plane.device).remainder_(2).add_(1).int()
    rows = plane[:, ::2] + plane[:, 1::2]
    return (rows[:, :, ::2] + rows[:, :, 1::2] + bias) >> 2


def _double(plane: torch.Tensor) -> torch.Tensor:
    """Triangle-filter enlargement by 2 in both directions, 3:1 towards the nearer sample, edges repeated."""
    n, height, width = plane.shape
    padded = torch.cat([plane[:, :1], plane, plane[:, -1:]], dim=1)
    rows = torch.stack([padded[:, 1:-1] * 3 + padded[:, :-2], padded[:, 1:-1] * 3 + padded[:, 2:]], dim=2).view(n, 2 * height, width)
    padded = torch.cat([rows[:, :, :1], rows, rows[:, :, -1:]], dim=2)
    left = (padded[:, :, 1:-1] * 3 + padded[:, :, :-2] + 8) >> 4
    right = (padded[:, :, 1:-1] * 3 + padded[:, :, 2:] + 7) >> 4
    return torch.stack([left, right], dim=3).view(n, 2 * height, 2 * width)


def _repeat_edge(plane: torch.Tensor, axis: int, multiple: int) -> torch.Tensor:
    """The last row or column repeated until the side is divisible by `multiple`."""
    side = plane.shape[axis]
    if side % multiple == 0:
        return plane
    index = torch.arange(-(-side // multiple) * multiple, device=plane.device).clamp_(max=side - 1)
    return plane.index_select(axis, index)


def jpeg_compression(images: torch.Tensor, quality: int) -> torch.Tensor:
    """uint8 (N,3,H,W) encoded at `quality` (1 to 100) and decoded again: the bytes of Pillow's default JPEG writer and reader."""
    if alone(images) and features.check_feature("libjpeg_turbo"):  # other JPEG libraries round otherwise
        return by_pillow.to_tensor([by_pillow.through_jpeg(by_pillow.to_pillow(image), quality) for image in images])
    return jpeg_in_blocks(images, quality)


def jpeg_in_blocks(images: torch.Tensor, quality: int) -> torch.Tensor:
    """The same without entropy coding, for many small images and any device."""
    height, width = images.shape[2:]
    luma, *chroma = _to_ycc(_repeat_edge(images, 3, 16))
    luma = _through_blocks(_repeat_edge(luma, 1, 8), quantisation_table(LUMA, quality, images.device))
    # columns are filled up before the halving and rows after it, as the encoder does
    small = _repeat_edge(_halve(_repeat_edge(torch.cat(chroma), 1, 2)), 1, 8)
    small = _through_blocks(small, quantisation_table(CHROMA, quality, images.device))
    # only the samples that belong to the image take part in the enlargement
    cb, cr = _double(small[:, : (height + 1) // 2, : (width + 1) // 2]).chunk(2)
    crop = (slice(None), slice(height), slice(width))
    return _to_rgb(luma[crop], cb[crop], cr[crop])
