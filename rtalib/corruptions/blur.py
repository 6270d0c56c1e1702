"""Defocus, glass, motion and zoom blur. uint8 (N,3,H,W) in and out; float64 inside, in the order of the published code."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from rtalib.corruptions.constants import Defocus, Glass, Motion, Zoom
from rtalib.corruptions.draws import Words, unit
from rtalib.corruptions.filters import (
    from_pixels,
    gaussian_blur,
    inside,
    line_blur,
    magick_byte,
    motion_offsets,
    motion_weights,
    reflect_101,
    to_pixels,
    truncate,
    unit_floats,
    zoom_taps,
)


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


def defocus_blur(images: torch.Tensor, constants: Defocus) -> torch.Tensor:
    """Correlation with the disk kernel, borders mirrored without repeating the edge.

    The kernel is its own mirror image both ways: the two or four samples that share a tap are added first, rows before columns.
    """
    height, width = images.shape[2:]
    kernel = defocus_kernel(*constants)
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
    """Offsets (dx, dy) in -reach .. reach-1 of each visited site, int64 (N, passes, sites, 2), in the order of the scan."""
    _, reach, passes = constants
    sites = (height - 2 * reach) * (width - 2 * reach)
    drawn = words(passes * sites).view(-1, passes, sites)
    # half a word for each of the two; 2 * reach is 2, 4, 6 or 8, so the chances are equal up to 1e-4 of themselves
    halves = torch.stack([drawn & 0xFFFF, drawn >> 16], dim=-1)
    return (halves.mul_(2 * reach).bitwise_right_shift_(16).sub_(reach),)


def glass_sources(offsets: torch.Tensor, height: int, width: int, reach: int) -> torch.Tensor:
    """Flat index of the pixel that ends up at each pixel, int64 (N, H*W).

    A pass scans rows and columns from side - reach down to reach + 1 and copies pixel (y + dy, x + dx) onto (y, x); the published "swap"
    changes its target only. A source already visited in this pass (later in the image, inside the scanned window) hands on what it
    received, so the copies form chains, resolved by pointer doubling. Nodes: pixel p after the pass is p, pixel p before it is H*W + p.
    """
    n, passes = offsets.shape[:2]
    device, area = offsets.device, height * width
    before = torch.arange(area, device=device) + area
    sites = before.view(height, width)[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] - area
    visited = torch.zeros(area, dtype=torch.bool, device=device)
    visited[sites.flatten()] = True
    sources = (before - area).expand(n, -1)
    for number in range(passes):
        # from the order of the scan, which is backwards, to that of the image
        dx, dy = offsets[:, number].flip(1).unbind(-1)
        target = torch.add(dx, dy, alpha=width).view(n, *sites.shape).add_(sites)
        link = before.repeat(n, 2)
        inner = link[:, :area].view(n, height, width)[:, reach + 1 : height - reach + 1, reach + 1 : width - reach + 1]
        # with reach 1 every source precedes its target in the image, so there are no chains
        if reach == 1:
            inner.copy_(target).add_(area)
        else:
            inner.copy_(torch.where((target > sites) & visited[target], target, target + area))
            link = _followed(link)
        sources = sources.gather(1, link[:, :area] - area)
    return sources


def _followed(link: torch.Tensor) -> torch.Tensor:
    """The end of each chain of links, by pointer doubling."""
    for _ in range(link.shape[1].bit_length()):
        onward = link.gather(1, link)
        if torch.equal(onward, link):
            break
        link = onward
    return link


def glass_blur(images: torch.Tensor, constants: Glass, offsets: torch.Tensor) -> torch.Tensor:
    """Gaussian blur, local shuffle of pixels, Gaussian blur again; cut to bytes after both."""
    sigma, reach, _ = constants
    height, width = images.shape[2:]
    sources = glass_sources(offsets, height, width, reach)
    blurred = truncate(gaussian_blur(unit_floats(to_pixels(images)), sigma)).view(height * width, -1)
    shuffled = blurred.gather(0, sources.T.repeat_interleave(3, dim=1)).view(height, width, -1)
    return from_pixels(truncate(gaussian_blur(unit_floats(shuffled), sigma)))


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
        return magick_byte(line_blur(images, weights, dx, dy))
    return line_blur(images, weights * inside(dx, dy, *images.shape[2:]), dx, dy).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=32)
def zoom_plan(height: int, width: int, constants: Zoom, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Lower row, upper row and upper weight of each output row, (K,H) over the factors, then the same of the columns, (K,W)."""
    plan: list[torch.Tensor] = []
    for side in (height, width):
        taps = [zoom_taps(side, factor, constants.centred, True) for factor in constants.factors]
        lower, weight = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*taps, strict=True))
        plan += [lower, (lower + 1).clamp_(max=side - 1), weight]
    return tuple(plan)


@lru_cache(maxsize=32)
def _zoom_operator(height: int, width: int, constants: Zoom, device: torch.device) -> tuple[torch.Tensor, ...]:
    """The whole blur as one sparse matrix to grey levels: (source pixels, start of each output pixel's list, weights float32)."""
    area = height * width
    top, bottom, down, left, right, across = zoom_plan(height, width, constants, torch.device("cpu"))
    sources, weights = [torch.arange(area)], [torch.ones(area, dtype=torch.float64)]
    for row, v in ((top, 1 - down), (bottom, down)):
        for column, h in ((left, 1 - across), (right, across)):
            sources.append((row[:, :, None] * width + column[:, None, :]).flatten())
            weights.append((v[:, :, None] * h[:, None, :]).flatten())
    source = torch.cat(sources)
    entries = torch.stack([torch.arange(area).repeat(len(source) // area), source])
    scale = 255 / (len(constants.factors) + 1)
    matrix = torch.sparse_coo_tensor(entries, torch.cat(weights) * scale, (area, area), check_invariants=True).coalesce()
    used = matrix.values() > 0
    rows, columns = matrix.indices()[:, used]
    starts = torch.searchsorted(rows, torch.arange(area))
    return tuple(part.to(device) for part in (columns, starts, matrix.values()[used].float()))


def zoom_blur(images: torch.Tensor, constants: Zoom) -> torch.Tensor:
    """Mean of the image and its enlargements, as published: summed in float32, one factor after another.

    The sum is taken at once with a sparse matrix. Rounding can change the byte only where the level is all but whole; those few values are
    summed again the published way. Rounding errors in levels, in units of 255 / 2^24: K sums of at most k / (K + 1) each and a few more in
    the published order, one per term and a few more in the matrix product, which has at most two rows and two columns per factor.
    """
    height, width = images.shape[2:]
    pixels = unit_floats(to_pixels(images)).float().view(height * width, -1)
    sources, starts, weights = _zoom_operator(height, width, constants, images.device)
    level = F.embedding_bag(sources, pixels, starts, mode="sum", per_sample_weights=weights)
    out = level.floor().clamp_(0, 255).to(torch.uint8)
    terms = int(starts.diff().max())
    margin = (len(constants.factors) / 2 + terms + 8) * 255 / 2**24
    unsure = (level - level.round()).abs_() < margin
    out[unsure] = _zoom_in_order(pixels, *unsure.nonzero(as_tuple=True), zoom_plan(height, width, constants, images.device))
    return from_pixels(out.view(height, width, -1))


def _between(near: torch.Tensor, far: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(1 - weight) near + weight far, counted from the nearer end; torch.lerp is fused on some processors and not on others."""
    return torch.where(weight < 0.5, near + (far - near) * weight, far - (far - near) * (1 - weight))


def _zoom_in_order(pixels: torch.Tensor, site: torch.Tensor, plane: torch.Tensor, plan: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """uint8 zoom blur at chosen (site, plane) of float32 pixels (H*W, M), with every float32 rounding of the published sum."""
    top, bottom, down, left, right, across = plan
    width, planes = left.shape[1], pixels.shape[1]
    y, x = site // width, site % width
    top, bottom, down = (part[:, y] for part in (top, bottom, down))
    left, right, across = (part[:, x] for part in (left, right, across))
    upper_left, upper_right, lower_left, lower_right = (
        pixels.take((row * width + column) * planes + plane).double() for row in (top, bottom) for column in (left, right)
    )
    near, far = _between(upper_left, lower_left, down), _between(upper_right, lower_right, down)
    total = torch.zeros(len(site), dtype=torch.float32, device=pixels.device)
    for enlarged in _between(near, far, across).float():
        total += enlarged
    return truncate((pixels[site, plane] + total).div_(len(top) + 1))
