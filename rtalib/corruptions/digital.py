"""Contrast, elastic transform and pixelate (JPEG has its own file). uint8 (N,3,H,W) in and out."""

import math
from functools import lru_cache

import numpy as np
import torch

from rtalib.corruptions.constants import Elastic, Pixelate
from rtalib.corruptions.draws import Words, units
from rtalib.corruptions.filters import (
    CACHED,
    alone,
    gaussian_weights,
    reflect,
    reflect_101,
    separable,
    smoothing_matrix,
    truncate,
    unit_floats,
)
from rtalib.corruptions.large import by_pillow
from rtalib.corruptions.large import elastic as large


def contrast(images: torch.Tensor, factor: float) -> torch.Tensor:
    """(x - m) factor + m with m the mean of each channel of the image."""
    planes = images.flatten(2).flatten(0, 1)
    # the running sum over pixels, one after another, rounds like NumPy's mean; in flat areas its last bit decides a level
    few = max(1, 32 * 1024 // planes.shape[1])
    total = torch.cat([unit_floats(part).cumsum(1)[:, -1] for part in planes.split(few)])
    mean = total.div_(planes.shape[1])[:, None]
    levels = unit_floats(torch.arange(256, device=images.device))
    table = truncate((levels - mean).mul_(factor).add_(mean))
    place = planes.int().add_(256 * torch.arange(len(planes), device=images.device, dtype=torch.int32)[:, None])
    return table.view(-1).index_select(0, place.view(-1)).view(images.shape)


def draw_elastic(words: Words, height: int, width: int, constants: Elastic) -> tuple[torch.Tensor, ...]:
    """(jitter (N,3,2) of the control points, (x, y), in -1..1; dx, dy: (N,H,W) in -1..1), float64."""
    area = height * width
    drawn = units(words, 6 + 2 * area).mul_(2).sub_(1)
    dx, dy = (part.view(-1, height, width) for part in drawn[:, 6:].split(area, dim=1))
    return drawn[:, :6].view(-1, 3, 2), dx, dy


def elastic_transform(images: torch.Tensor, constants: Elastic, jitter: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    """A small random affine map (not in the package), then a smooth random displacement; both bilinear, in float32 values."""
    height, width = images.shape[2:]
    image = images.float().div_(255)  # as in float64, cut to float32
    alpha, sigma = constants.alpha, (constants.sigma, constants.sigma)
    if constants.jitter is None:
        amplitude = 0.005 * height
        sigma = (constants.sigma * height, constants.sigma * width)
    else:
        amplitude = 1.0
        image = affine_warp(image, jitter * constants.jitter)
        if alpha == 0:
            return truncate(image)
    if alone(images):
        taps = [gaussian_weights(part, 3.0) for part in sigma]
        return torch.from_numpy(np.stack([large.elastic(*one, amplitude, alpha, taps) for one in zip(image, dx, dy, strict=True)]))
    down, across = (smoothing_matrix(side, s, images.device) for side, s in zip((height, width), sigma, strict=True))
    dx, dy = (
        separable(field if amplitude == 1 else field * amplitude, down, across).mul_(alpha).float().contiguous() for field in (dx, dy)
    )
    return truncate(displace(image, dx, dy))


def _control_points(height: int, width: int) -> torch.Tensor:
    """The three (x, y) points that the affine step moves, float64 (3,2): centre + s, (centre + s, centre - s), centre - s."""
    # the published code takes the centre as (rows, columns) and uses it as (x, y); this matters for non-square images alone
    first, second, reach = height // 2, width // 2, min(height, width) // 3
    points = [(first + reach, second + reach), (first + reach, second - reach), (first - reach, second - reach)]
    return torch.tensor(points, dtype=torch.float64)


def affine_warp(image: torch.Tensor, jitter: torch.Tensor) -> torch.Tensor:
    """float32 (N,3,H,W) warped by the affine map that moves the control points by `jitter` (N,3,2) px, mirrored at the borders.

    Sample positions are rounded to 1/32 px in fixed point, as OpenCV did when the benchmarks were made (OpenCV 5 no longer does).
    """
    height, width = image.shape[2:]
    start = _control_points(height, width).to(image.device)
    end = (start.float() + jitter.float()).double()
    # source = inverse(end) applied to the output pixel: solve [end 1] M^T = start for M (2,3)
    ones = torch.ones(len(end), 3, 1, dtype=torch.float64, device=image.device)
    matrix = _solve_affine(torch.cat([end, ones], dim=2), start)
    x = torch.arange(width, device=image.device)
    out, step = torch.empty_like(image), max(1, 2 * CACHED // (len(image) * width))
    for start in range(0, height, step):
        y = torch.arange(start, min(start + step, height), device=image.device)[:, None]
        position = []
        for axis in (0, 1):
            a, b, c = (matrix[:, k, axis].view(-1, 1, 1) for k in range(3))
            fixed = (a * x).mul_(1024).round_() + (b * y + c).mul_(1024).round_()
            position.append(fixed.add_(16).div_(32).floor_().div_(32))
        columns, rows = position
        top, left = rows.floor(), columns.floor()
        out[:, :, start : start + step] = _bilinear(image, top, left, (rows - top).float(), (columns - left).float(), reflect_101)
    return out


def _solve_affine(points: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """X (N,3,2) with points (N,3,3) @ X = target (3,2), by Cramer's rule, sums spelled out: the same arithmetic on every device."""
    a, b, c = points.unbind(1)
    cofactors = (torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b))
    first, second, third = (column[:, :, None] * corner for column, corner in zip(cofactors, target, strict=True))
    terms = a * cofactors[0]
    return (first + second + third) / (terms[:, 0] + terms[:, 1] + terms[:, 2]).view(-1, 1, 1)


def displace(image: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    """float32 image read at (y + dy, x + dx), bilinear in float64, reflected with the edge repeated; dx, dy float32 (N,H,W)."""
    n, _, height, width = image.shape
    out = torch.empty_like(image)
    step = max(1, 2 * CACHED // (n * width))
    for start in range(0, height, step):
        band = slice(start, min(start + step, height))
        y = torch.arange(band.start, band.stop, dtype=torch.float64, device=image.device)[:, None] + dy[:, band].double()
        x = torch.arange(width, dtype=torch.float64, device=image.device) + dx[:, band].double()
        top, left = y.floor(), x.floor()
        out[:, :, band] = _bilinear(image, top, left, y - top, x - left, reflect)
    return out


def _bilinear(image: torch.Tensor, top: torch.Tensor, left: torch.Tensor, down: torch.Tensor, across: torch.Tensor, fold) -> torch.Tensor:
    """Weighted sum of the four pixels around (top + down, left + across), all (N,H',W'); `fold` maps indices into the image."""
    height, width = image.shape[2:]
    rows = (fold(top, height).mul_(width), fold(top + 1, height).mul_(width))
    columns = (fold(left, width), fold(left + 1, width))
    planes, shape = image.flatten(2), (len(image), 1, top[0].numel())
    total = torch.zeros(len(image), 3, shape[2], dtype=down.dtype, device=image.device)
    for y, v in zip(rows, (1 - down, down), strict=True):
        for x, h in zip(columns, (1 - across, across), strict=True):
            place = (y + x).view(shape).expand_as(total)
            total += planes.gather(2, place) * (v * h).view(shape)
    return total.view(len(image), 3, *top.shape[1:])


@lru_cache(maxsize=4)
def box_weights(side: int, small: int, device: torch.device) -> torch.Tensor:
    """Pillow's BOX reduction of one axis, float64 (small, side) matrix of whole numbers (22-bit fixed point)."""
    scale = side / small
    matrix = torch.zeros(small, side, dtype=torch.float64)
    for j in range(small):
        centre = (j + 0.5) * scale
        first, last = max(int(centre - scale / 2 + 0.5), 0), min(int(centre + scale / 2 + 0.5), side)
        taps = [1.0 if -0.5 < (k - centre + 0.5) / scale <= 0.5 else 0.0 for k in range(first, last)]
        for k, tap in enumerate(taps, first):
            matrix[j, k] = math.floor(tap / sum(taps) * 2**22 + 0.5)
    return matrix.to(device)


def _fixed_byte(total: torch.Tensor) -> torch.Tensor:
    """Rounds 22-bit fixed point to whole levels 0..255, still float64."""
    return total.add_(2.0**21).mul_(2.0**-22).floor_().clamp_(0, 255)


@lru_cache(maxsize=4)
def enlarged_from(small: int, side: int, nearest: bool, device: torch.device) -> torch.Tensor:
    """Which reduced pixel each of `side` pixels shows, int64 (side,). BOX enlargement is a selection too.

    Pillow's NEAREST adds up its steps, so where a position falls on a border of pixels its rounding decides.
    """
    step = small / side
    positions = np.cumsum([step / 2] + [step] * (side - 1)) if nearest else (np.arange(side) + 0.5) * step
    return torch.from_numpy(np.minimum(positions.astype(np.int64), small - 1)).to(device)


def pixelate(images: torch.Tensor, constants: Pixelate) -> torch.Tensor:
    """Box reduction to int(side * scale), then each pixel repeated, as Pillow does it."""
    height, width = images.shape[2:]
    small = (int(height * constants.scale), int(width * constants.scale))
    rows, columns = (enlarged_from(less, side, constants.nearest, images.device) for less, side in zip(small, (height, width), strict=True))
    if alone(images):
        return torch.from_numpy(reduced_by_pillow(images, *small).numpy().take(columns.numpy(), 3).take(rows.numpy(), 2))
    return reduced(images, *small).index_select(3, columns).index_select(2, rows)


def reduced_by_pillow(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pillow's box reduction, uint8 (N,3,height,width)."""
    from PIL import Image

    return by_pillow.to_tensor([by_pillow.to_pillow(image).resize((width, height), Image.Resampling.BOX) for image in images])


def reduced(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The same in torch, for many small images and any device: Pillow's integers, held exactly in float64."""
    across, down = box_weights(images.shape[3], width, images.device), box_weights(images.shape[2], height, images.device)
    columns = _fixed_byte(images.double() @ across.T).transpose(2, 3)
    small = _fixed_byte(columns.reshape(-1, images.shape[2]) @ down.T).to(torch.uint8)
    return small.view(-1, 3, width, height).transpose(2, 3)
