"""Defocus, glass, motion and zoom blur. uint8 (N,3,H,W) in and out; float64 inside, in the order of the published code."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from rtalib.corruptions.constants import Defocus, Glass, Motion, Zoom
from rtalib.corruptions.draws import Words, in_parts, unit
from rtalib.corruptions.filters import (
    CUT,
    MAGICK,
    alone,
    from_pixels,
    inside,
    line_bytes,
    motion_offsets,
    motion_weights,
    reflect_101,
    resampled,
    resampling,
    smoothed,
    to_pixels,
    truncate,
    unit_floats,
    zoom_taps,
)
from rtalib.corruptions.large import defocus, zoom


def _fused(a: np.ndarray, factor: np.float32, addend: np.ndarray) -> np.ndarray:
    """float32 a * factor + addend with one rounding."""
    return (a.astype(np.float64) * np.float64(factor) + addend).astype(np.float32)


@lru_cache(maxsize=32)
def defocus_kernel(radius: float, alias: float) -> np.ndarray:
    """float32 disk of `radius` px, smoothed by a small Gaussian (3x3, or 5x5 above radius 8) and trimmed to its support.

    The smoothing mirrors at the border of the 17x17 grid (of 2r+1 above radius 8), so wide kernels sum to a little over 1: this is part of
    the benchmark. Rounding follows OpenCV's float32 filter, since a sum one bit below 1 darkens flat areas by one level.
    """
    half, window = (8, 1) if radius <= 8 else (int(radius), 2)
    grid = np.arange(-half, half + 1)
    kernel = ((grid[:, None] ** 2 + grid**2) <= radius**2).astype(np.float32)
    kernel /= kernel.sum()
    taps = np.exp(-(np.arange(-window, window + 1) ** 2) / (2 * alias * alias))
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (1, 0):
        padded = np.pad(kernel, [(window, window) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        shifted = [np.take(padded, range(i, i + len(grid)), axis) for i in range(2 * window + 1)]
        pairs = [shifted[window - offset] + shifted[window + offset] for offset in range(1, window + 1)]
        if axis == 1 and window == 1:
            kernel = _fused(shifted[1], taps[1], pairs[0] * taps[2])
            continue
        kernel = shifted[window] * taps[window]
        for pair, tap in zip(pairs, taps[window + 1 :], strict=True):
            kernel = _fused(pair, tap, kernel)
    reach = int(np.abs(np.argwhere(kernel) - half).max())
    return kernel[half - reach : half + reach + 1, half - reach : half + reach + 1]


@lru_cache(maxsize=16)
def _defocused_bytes(radius: float, alias: float) -> np.ndarray:
    """uint8 (256,): what a byte becomes in the middle of an even area."""
    kernel = defocus_kernel(radius, alias)
    return defocus.summed(defocus.flat_windows(len(kernel)), kernel)


def defocus_blur(images: torch.Tensor, constants: Defocus) -> torch.Tensor:
    """Correlation with the disk kernel, borders mirrored without repeating the edge.

    The kernel is its own mirror image both ways: the two or four samples that share a tap are added first, rows before columns.
    """
    height, width = images.shape[2:]
    kernel = defocus_kernel(*constants)
    if alone(images):
        planes = defocus.defocused(images.flatten(0, 1).numpy(), kernel, _defocused_bytes(*constants))
        return torch.from_numpy(planes).view(images.shape)
    reach = kernel.shape[0] // 2
    padded = unit_floats(to_pixels(images))
    for axis, side in ((0, height), (1, width)):
        position = torch.arange(-reach, side + reach, dtype=torch.float64, device=images.device)
        padded = padded.index_select(axis, reflect_101(position, side))
    total = padded.new_zeros(height, width, padded.shape[2])
    pair = torch.empty_like(total)
    for dy in range(reach + 1):
        rows = padded[reach : reach + height]
        if dy:
            rows = padded[reach - dy : reach - dy + height] + padded[reach + dy : reach + dy + height]
        for dx in np.flatnonzero(kernel[reach + dy, reach:]).tolist():
            left, right = rows[:, reach - dx : reach - dx + width], rows[:, reach + dx : reach + dx + width]
            tap = float(kernel[reach + dy, reach + dx])
            total += torch.add(left, right, out=pair).mul_(tap) if dx else torch.mul(left, tap, out=pair)
    return from_pixels(truncate(total))


def draw_glass(words: Words, height: int, width: int, constants: Glass) -> tuple[torch.Tensor]:
    """Offsets (dx, dy) in -reach .. reach-1 of each visited site, int8 (N, passes, sites, 2), in the order of the scan."""
    _, reach, passes = constants
    sites = (height - 2 * reach) * (width - 2 * reach)
    out = torch.empty(len(words.index), passes * sites, 2, dtype=torch.int8, device=words.index.device)
    for start, drawn in in_parts(words, passes * sites):
        # half a word for each of the two; 2 * reach is 2, 4, 6 or 8, so the chances are equal up to 1e-4 of themselves
        for axis, half in enumerate((drawn & 0xFFFF, drawn >> 16)):
            out[:, start : start + drawn.shape[1], axis] = half.int().mul_(2 * reach).bitwise_right_shift_(16).sub_(reach)
    return (out.view(-1, passes, sites, 2),)


def glass_sources(offsets: torch.Tensor, height: int, width: int, reach: int) -> torch.Tensor:
    """Flat index of the pixel that ends up at each pixel, int64 (N, H*W).

    A pass scans rows and columns from side - reach down to reach + 1 and copies pixel (y + dy, x + dx) onto (y, x); the published "swap"
    changes its target only. A source already visited in this pass (later in the image, inside the scanned window) hands on what it
    received: the copies form chains, which are followed all at once, link by link, until the last has ended.
    """
    own = np.arange(height * width, dtype=np.int32)
    window = np.s_[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1]
    rows, columns = height - 2 * reach, width - 2 * reach
    y, x = np.arange(rows, dtype=np.int16)[:, None], np.arange(columns, dtype=np.int16)
    found = []
    for moves in offsets.cpu().numpy():
        sources = own
        for move in moves[:, ::-1]:  # from the order of the scan, which is backwards, to that of the image
            dx, dy = move.reshape(rows, columns, 2).transpose(2, 0, 1)
            shift = dy * np.int32(width) + dx
            target, handed = own.copy(), np.zeros(own.shape, dtype=bool)
            target.reshape(height, width)[window] += shift
            handed.reshape(height, width)[window] = (shift > 0) & (y + dy < rows) & (x + dx >= 0) & (x + dx < columns)
            end, site = target.copy(), np.flatnonzero(handed)
            while len(site):
                link = end[site]
                end[site] = target[link]
                site = site[handed[link]]
            sources = sources[end]
        found.append(torch.from_numpy(sources))
    return torch.stack(found).to(offsets.device).long()


def glass_blur(images: torch.Tensor, constants: Glass, offsets: torch.Tensor) -> torch.Tensor:
    """Gaussian blur, local shuffle of pixels, Gaussian blur again; cut to bytes after both."""
    sigma, reach, _ = constants
    height, width = images.shape[2:]
    sources = glass_sources(offsets, height, width, reach)[:, None].expand(-1, 3, -1)
    shuffled = smoothed(images, sigma).flatten(2).gather(2, sources).view(images.shape)
    return smoothed(shuffled, sigma)


def draw_motion(words: Words, height: int, width: int, constants: Motion) -> tuple[torch.Tensor]:
    """One angle per image, uniform in -45 .. 45 degrees, float64 (N,)."""
    return (unit(words(1))[:, 0] * 90 - 45,)


def motion_blur(images: torch.Tensor, constants: Motion, angle: torch.Tensor) -> torch.Tensor:
    """One-sided Gaussian line blur along `angle`, by nearest samples."""
    taps = motion_weights(constants.radius, constants.sigma)
    if constants.magick:
        taps = taps[taps > 1e-19]  # the others cannot change a float64 sum
    dx, dy = motion_offsets(len(taps), angle)
    weights = torch.from_numpy(taps).to(images.device).expand(len(images), -1)
    if constants.magick:
        return line_bytes(images, weights, dx, dy, MAGICK)
    return line_bytes(images, weights * inside(dx, dy, *images.shape[2:]), dx, dy, CUT)


@lru_cache(maxsize=4)
def zoom_plan(height: int, width: int, constants: Zoom, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Lower row, upper row and upper weight of each output row, (K,H) over the factors, then the same of the columns, (K,W)."""
    plan: list[torch.Tensor] = []
    for side in (height, width):
        taps = [zoom_taps(side, factor, constants.centred, True) for factor in constants.factors]
        lower, weight = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*taps, strict=True))
        plan += [lower, (lower + 1).clamp_(max=side - 1), weight]
    return tuple(plan)


@lru_cache(maxsize=16)
def _zoom_matrices(side: int, constants: Zoom, dtype: Any) -> tuple[Any, ...]:
    """What enlarges one axis, for each factor."""
    matrices = []
    for factor in constants.factors:
        lower, weight = zoom_taps(side, factor, constants.centred, True)
        sources = np.stack([lower, np.minimum(lower + 1, side - 1)], axis=1)
        matrices.append(resampling(sources, np.stack([1 - weight, weight], axis=1).astype(dtype), side))
    return tuple(matrices)


def zoom_blur(images: torch.Tensor, constants: Zoom) -> torch.Tensor:
    """Mean of the image and its enlargements: made in float64, summed in float32 one factor after another, as published."""
    planes, sides = images.cpu().flatten(0, 1), images.shape[2:]
    matrices = list(zip(*(_zoom_matrices(side, constants, np.float32 if alone(images) else float) for side in sides), strict=True))
    if alone(images):
        plan = tuple(part.numpy() for part in zoom_plan(*sides, constants, images.device))
        return torch.from_numpy(zoom.zoomed_mean(planes.numpy(), matrices, plan)).view(images.shape)
    pixels = unit_floats(planes).float()
    by_rows = pixels.transpose(0, 1).double()
    total = torch.zeros(sides[1], sides[0], len(planes), dtype=torch.float32)
    for down, across in matrices:
        total += resampled(by_rows, down, across).float()
    mean = truncate((pixels + total.permute(2, 1, 0)).div_(len(constants.factors) + 1))
    return mean.contiguous().view(images.shape).to(images.device)
