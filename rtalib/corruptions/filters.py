"""Pieces that several corruptions share: the truncating cast, Gaussian and line blurs, SciPy's zoom, gathers."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from rtalib.corruptions.large import gaussian, lines

CACHED = 16 * 1024  # float64 values that are worked on at once
SMALL = 64 * 64  # pixels of an image that is faster in a batch than alone
UNSURE = -1  # in place of a byte in a table or a sum: the fast way does not decide it, and the published way is taken


def alone(images: torch.Tensor) -> bool:
    """Whether images (N,C,H,W) are so large that a CPU is faster on each alone, by the ways in the folder `large`."""
    return images.device.type == "cpu" and images.shape[2] * images.shape[3] > SMALL


def truncate(unit: torch.Tensor) -> torch.Tensor:
    """uint8 of intensities on the 0-1 scale: clip, times 255, cut (not rounded), as all three benchmarks do. Overwrites `unit`."""
    return unit.clamp_(0, 1).mul_(255).to(torch.uint8)


def _compared(values: torch.Tensor, how: str, other: torch.Tensor | float) -> np.ndarray | torch.Tensor:
    """bool; NumPy compares four times as fast on a CPU, and finds the true places five times as fast."""
    if values.device.type != "cpu":
        return getattr(torch, {"less": "lt", "greater_equal": "ge", "equal": "eq"}[how])(values, other)
    return getattr(np, how)(values.numpy(), other.numpy() if isinstance(other, torch.Tensor) else other)


def mask(values: torch.Tensor, how: str, other: torch.Tensor | float) -> torch.Tensor:
    """uint8 255 where the values compare ("less", "greater_equal", "equal") so with the other, else 0."""
    return torch.as_tensor(_compared(values, how, other)).view(torch.uint8).neg()


def places(values: torch.Tensor, how: str, other: torch.Tensor | float) -> torch.Tensor:
    """int64 positions in a row of values that compare so with the other."""
    found = _compared(values, how, other)
    return found.nonzero()[:, 0] if isinstance(found, torch.Tensor) else torch.from_numpy(np.flatnonzero(found))


def of_two_bytes(table: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """What a table (2^16) of pairs of bytes holds at 256 first + second; the shape is that of `second`, the dtype that of the table."""
    return table.index_select(0, second.int().add_(first.int() << 8).view(-1)).view(second.shape)


def unit_floats(images: torch.Tensor) -> torch.Tensor:
    """float64 image on the 0-1 scale."""
    return images.double().div_(255.0)


def gaussian_weights(sigma: float, reach: float) -> np.ndarray:
    """Normalised float64 taps -r..r with r = int(reach * sigma + 0.5), SciPy's rule; [1.] for sigma 0."""
    radius = int(reach * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    taps = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    return taps / taps.sum()


def to_pixels(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N,3,H,W) -> (H, W, 3N), images innermost: shifts along rows and columns then move whole blocks."""
    n, channels, height, width = images.shape
    return images.permute(2, 3, 0, 1).contiguous().view(height, width, n * channels)


def from_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """(H, W, 3N) -> (N,3,H,W), contiguous."""
    height, width, planes = pixels.shape
    return pixels.view(height, width, planes // 3, 3).permute(2, 3, 0, 1).contiguous()


def gaussian_blur(pixels: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of float64 (H, W, M) along H and W, window 4 sigma, edge pixels repeated.

    The summation order is SciPy's correlate1d (centre first, then symmetric pairs from outermost to innermost, rows before columns),
    with separate multiplications and additions, so that the sums are equal to the last bit.
    """
    weights = gaussian_weights(sigma, 4.0)
    radius = len(weights) // 2
    if radius == 0:
        return pixels
    if pixels.device.type == "cpu":
        from scipy.ndimage import correlate1d

        rows = correlate1d(pixels.numpy(), weights, 0, mode="nearest")
        return torch.from_numpy(correlate1d(rows, weights, 1, mode="nearest"))
    for axis in (0, 1):
        side = pixels.shape[axis]
        index = torch.arange(-radius, side + radius, device=pixels.device).clamp_(0, side - 1)
        padded = pixels.index_select(axis, index)
        total = pixels * float(weights[radius])
        for offset in range(radius, 0, -1):
            pair = padded.narrow(axis, radius - offset, side) + padded.narrow(axis, radius + offset, side)
            total += pair.mul_(float(weights[radius + offset]))
        pixels = total
    return pixels


def smoothed(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """uint8 (N,3,H,W) after a Gaussian blur, cut."""
    if alone(images):
        return torch.from_numpy(gaussian.smoothed(images.flatten(0, 1).numpy(), gaussian_weights(sigma, 4.0))).view(images.shape)
    return from_pixels(truncate(gaussian_blur(unit_floats(to_pixels(images)), sigma)))


def separable(planes: torch.Tensor, down: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """down @ plane @ across^T for each plane of (..., H, W), as two plain matrix products; (..., H', W')."""
    rows = planes.reshape(-1, planes.shape[-1]) @ across.T
    columns = rows.view(*planes.shape[:-1], -1).transpose(-1, -2)
    return (columns.reshape(-1, planes.shape[-2]) @ down.T).view(*columns.shape[:-1], -1).transpose(-1, -2)


def reflect(position: torch.Tensor, side: int) -> torch.Tensor:
    """int64 indices 0..side-1 of whole-numbered float positions, mirrored with the edge repeated (d c b a | a b c d | d c b a)."""
    return _fold(position, 2 * side, 2 * side - 1)


def reflect_101(position: torch.Tensor, side: int) -> torch.Tensor:
    """int64 indices 0..side-1 of whole-numbered float positions, mirrored without repeating the edge (d c b | a b c d | c b a)."""
    return _fold(position, 2 * side - 2, 2 * side - 2)


def _fold(position: torch.Tensor, period: int, mirror: int) -> torch.Tensor:
    """Positions modulo `period`, then the smaller of p and mirror - p; floats, since integer remainders are slow on CPUs."""
    position = position.float()  # whole numbers, exact; the quotient below is half a step from any border
    inside = position - (position + 0.5).div_(period).floor_().mul_(period)
    return torch.minimum(inside, mirror - inside).long()


@lru_cache(maxsize=4)
def smoothing_matrix(side: int, sigma: float, device: torch.device) -> torch.Tensor:
    """float64 (side, side) matrix of the Gaussian with window 3 sigma and repeated reflection at the edges."""
    weights = torch.from_numpy(gaussian_weights(sigma, 3.0))
    radius = len(weights) // 2
    rows = torch.arange(side, dtype=torch.float64)[:, None]
    columns = reflect(rows + torch.arange(-radius, radius + 1), side)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    return matrix.scatter_add_(1, columns, weights.expand(side, -1)).to(device)


def resampling(sources: np.ndarray, weights: np.ndarray, side: int) -> Any:
    """SciPy's sparse (count, side) of sources and weights (count, taps): what resamples the rows of a matrix (side, M)."""
    from scipy.sparse import csr_array

    count, taps = sources.shape
    return csr_array((weights.ravel(), sources.ravel(), np.arange(0, count * taps + 1, taps)), shape=(count, side))


def resampled(planes: torch.Tensor, down: Any, across: Any) -> torch.Tensor:
    """float64 (W',H',M) of float64 planes (H,M,W) on the CPU: two products with `resampling`, whose transposition saves two of ours."""
    rows = torch.from_numpy(down @ planes.reshape(len(planes), -1).numpy()).view(-1, *planes.shape[1:])
    return torch.from_numpy(across @ rows.permute(2, 0, 1).reshape(planes.shape[2], -1).numpy()).view(-1, rows.shape[0], planes.shape[1])


@lru_cache(maxsize=16)
def zoom_taps(side: int, factor: float, centred: bool, trim: bool) -> tuple[np.ndarray, np.ndarray]:
    """SciPy's linear zoom of the central crop of ceil(side / factor) samples, one axis.

    Returns (lower, weight): output j is (1 - weight) * x[lower] + weight * x[lower + 1], with weight 0 where lower is the last sample.
    Sampling is corner-aligned. With `trim`, the result is cut to `side` samples, from its centre or from its start.
    """
    crop = math.ceil(side / factor)
    top = (side - crop) // 2
    size = round(crop * factor)
    position = np.arange(size) * ((crop - 1) / (size - 1))
    if trim:
        start = (size - side) // 2 if centred else 0
        position = position[start : start + side]
    lower = np.minimum(np.floor(position), crop - 1).astype(np.int64)
    weight = np.where(lower == crop - 1, 0.0, position - lower)
    return lower + top, weight


def zoomed(planes: torch.Tensor, factor: float, centred: bool, trim: bool) -> torch.Tensor:
    """SciPy's linear zoom of float64 (N,H,W), columns before rows, with separate multiplications and additions."""
    for axis in (2, 1):
        side = planes.shape[axis]
        lower, weight = (torch.from_numpy(part).to(planes.device) for part in zoom_taps(side, factor, centred, trim))
        upper, weight = (lower + 1).clamp_(max=side - 1), weight if axis == 2 else weight[:, None]
        planes = planes.index_select(axis, lower).mul_(1 - weight).add_(planes.index_select(axis, upper).mul_(weight))
    return planes


def motion_weights(radius: int, sigma: float) -> np.ndarray:
    """One-sided Gaussian taps 0..2r, normalised, float64."""
    taps = np.exp(-(np.arange(2.0 * radius + 1) ** 2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)
    return taps / taps.sum()


def motion_offsets(taps: int, angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(dx, dy), int64 (N, taps): where tap i of a line at `angle` degrees (N,) reads, ceil(i cos - 1/2) and ceil(i sin - 1/2)."""
    radians = torch.deg2rad(angle.double())
    sine, cosine = taps * radians.sin(), taps * radians.cos()
    length = torch.hypot(sine, cosine)[:, None]
    step = torch.arange(taps, device=angle.device)
    return tuple(torch.ceil(step * part[:, None] / length - 0.5).long() for part in (cosine, sine))


class Finish(NamedTuple):
    """How sums along a line become bytes: by `cut`, which cuts about scale * sum + addend."""

    scale: float
    addend: float
    cut: Callable[[torch.Tensor], torch.Tensor]


def line_bytes(planes: torch.Tensor, weights: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor, finish: Finish) -> torch.Tensor:
    """uint8 (N,C,H,W): `line_blur` of uint8 or float64 planes, finished."""
    if not alone(planes):
        return finish.cut(line_blur(planes, weights, dx, dy))
    arrays = (part.numpy() for part in (planes, weights, dx, dy))
    return torch.from_numpy(np.stack([lines.blurred_bytes(*of_one, *finish) for of_one in zip(*arrays, strict=True)]))


def line_blur(planes: torch.Tensor, weights: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    """sum_i weights[n, i] * planes[n, :, y + dy[n, i], x + dx[n, i]] in float64, coordinates clamped to the image.

    planes uint8 or float64 (N,C,H,W), weights float64 (N, taps). The taps are added one after another, without fused rounding.
    """
    n, channels, height, width = planes.shape
    device, taps = planes.device, weights.shape[1]
    left, right = (planes[..., edge].unsqueeze(3).expand(-1, -1, -1, taps - 1) for edge in (0, -1))
    padded = torch.cat([left, planes, right], dim=3).view(-1)
    # every run of `width` samples of the padded rows; a shift along x is then the choice of a run, a shift along y that of a row
    runs = padded.unfold(0, width, 1)
    stride = width + 2 * (taps - 1)
    plane = torch.arange(n * channels, device=device).view(n, channels, 1) * height
    rows = torch.arange(height, device=device)
    total = torch.zeros(planes.shape, dtype=torch.float64, device=device)
    for tap in range(taps):
        row = (rows + dy[:, tap, None]).clamp_(0, height - 1)[:, None, :]
        start = (plane + row) * stride + (taps - 1 + dx[:, tap].view(n, 1, 1))
        run = runs.index_select(0, start.view(-1)).view(planes.shape)
        total += run.double().mul_(weights[:, tap].view(n, 1, 1, 1))
    return total


def inside(dx: torch.Tensor, dy: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """1 up to the first tap whose shift leaves the image, 0 from there on: the package's port stops there and loses the rest."""
    return ((dx.abs() < width) & (dy.abs() < height)).long().cumprod(dim=1)


def _magick_byte(level: torch.Tensor) -> torch.Tensor:
    """ImageMagick's 16-bit quantum cut to a byte, floor(round(257 p) / 257) = floor(p + 1/514). Overwrites `level`."""
    return level.add_(1 / 514).clamp_(0, 255).to(torch.uint8)


MAGICK = Finish(1.0, 1 / 514, _magick_byte)
CUT = Finish(1.0, 0.0, lambda level: level.clamp_(0, 255).to(torch.uint8))
NEAREST = Finish(255.0, 0.5, lambda unit: unit.mul_(255).round_().to(torch.uint8))
