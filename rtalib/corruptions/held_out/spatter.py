"""Spatter, the benchmark's fourth validation type: drops of water (levels 1 to 3) or mud on the lens (Hendrycks and Dietterich's scripts).

The water's steps are defined by OpenCV's functions: Canny's edge detector, a distance transform with a 5x5 mask, equalized histograms,
3x3 filters. They are written here in NumPy, to the same bytes; OpenCV is no dependency.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from rtalib.corruptions.draws import Words, in_parts
from rtalib.corruptions.weather import normal_quantiles

WATER, MUD = (175 / 255, 238 / 255, 238 / 255), (63 / 255, 42 / 255, 20 / 255)  # pale turquoise, brown
LOW, HIGH = 50, 150  # Canny's thresholds of |dx| + |dy|
TAN_22 = 13573  # tan(22.5 degrees) in 15 bits
FARTHEST = 20.0  # where distances are cut
STEPS = {(0, 1): 1.0, (1, 1): 1.4, (1, 2): 2.1969}  # lengths of the mask's moves, and of all that mirror them
SHARPEN = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
SOLID = 0.8  # of blurred mud


class Spatter(NamedTuple):
    """The liquid is blurred normal noise where it exceeds the threshold. amount: strength of water, sigma of mud's edge."""

    mean: float
    std: float
    sigma: float
    threshold: float
    amount: float
    mud: bool


def draw_spatter(words: Words, height: int, width: int, constants: Spatter) -> tuple[torch.Tensor]:
    """float64 (N,H,W) of N(mean, std), from the upper halves of the words."""
    quantiles, device = normal_quantiles(words.index.device), words.index.device
    layer = torch.empty(len(words.index), height * width, dtype=torch.float64, device=device)
    for start, drawn in in_parts(words, height * width):
        numbers = quantiles.index_select(0, (drawn >> 16).view(-1)).view(drawn.shape)
        layer[:, start : start + drawn.shape[1]] = numbers.mul_(constants.std).add_(constants.mean)
    return (layer.view(-1, height, width),)


def spatter(images: torch.Tensor, constants: Spatter, layer: torch.Tensor) -> torch.Tensor:
    """The liquid laid over each image, computed on the CPU."""
    lay = _mud if constants.mud else _water
    pairs = zip(images.permute(0, 2, 3, 1).cpu().numpy(), layer.cpu().numpy(), strict=True)
    out = np.stack([lay(image, _liquid(noise, constants), constants) for image, noise in pairs])
    return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous().to(images.device)


def _blurred(plane: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(plane, sigma, mode="nearest", truncate=4.0)


def _unit(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / np.float32(255)


def _liquid(noise: np.ndarray, constants: Spatter) -> np.ndarray:
    liquid = _blurred(noise, constants.sigma)
    liquid[liquid < constants.threshold] = 0
    return liquid


def _mud(image: np.ndarray, liquid: np.ndarray, constants: Spatter) -> np.ndarray:
    mud = _blurred((liquid > constants.threshold).astype(np.float32), constants.amount)
    mud[mud < SOLID] = 0
    seen = _unit(image) * (1 - mud)[..., None]
    return (np.clip(seen + np.array(MUD) * mud[..., None], 0, 1) * 255).astype(np.uint8)


def _water(image: np.ndarray, liquid: np.ndarray, constants: Spatter) -> np.ndarray:
    depth = (liquid * 255).astype(np.uint8)
    away = box(distances(edges(depth))).astype(np.uint8)
    relief = np.clip(ndimage.correlate(equalized(away).astype(np.int32), np.array(SHARPEN), mode="mirror"), 0, 255)
    light = depth * np.rint(box(relief)).astype(np.float32)
    if light.max() > 0:  # else no drop has fallen on the image; the published script divides by zero
        light /= light.max()
    light *= np.float32(constants.amount)
    return (np.clip(_unit(image) + light[..., None] * np.array(WATER, np.float32), 0, 1) * np.float32(255)).astype(np.uint8)


def edges(plane: np.ndarray) -> np.ndarray:
    """bool (H,W): Canny's edges of a uint8 plane, as OpenCV finds them with 3x3 Sobel filters and |dx| + |dy|."""
    across, down = (ndimage.sobel(plane.astype(np.int32), axis, mode="nearest") for axis in (1, 0))
    strength, height, width = np.abs(across) + np.abs(down), *plane.shape
    padded = np.pad(strength, 1)

    def neighbor(dy: int, dx: int) -> np.ndarray:
        return padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    steep, flat = np.abs(down) << 15, np.abs(across) * TAN_22  # at most 2^27: gradients are at most 1,020
    steepest = flat + (np.abs(across) << 16)  # the tangent of 67.5 degrees is that of 22.5 plus 2
    opposite = (across ^ down) < 0
    beside = (strength > neighbor(0, -1)) & (strength >= neighbor(0, 1))
    above = (strength > neighbor(-1, 0)) & (strength >= neighbor(1, 0))
    falling = (strength > neighbor(-1, -1)) & (strength > neighbor(1, 1))
    rising = (strength > neighbor(-1, 1)) & (strength > neighbor(1, -1))
    ridge = np.where(steep < flat, beside, np.where(steep > steepest, above, np.where(opposite, rising, falling)))
    parts, count = ndimage.label(ridge & (strength > LOW), np.ones((3, 3)))
    strong = np.zeros(count + 1, dtype=bool)
    strong[parts[strength > HIGH]] = True
    strong[0] = False
    return strong[parts]


def distances(zero: np.ndarray) -> np.ndarray:
    """float32 (H,W): length of the shortest way to a point of `zero` by the moves of STEPS within the plane, FARTHEST at most."""
    away = np.where(zero, np.float32(0), np.float32(FARTHEST))
    moves = {(sy * y, sx * x): d for (a, b), d in STEPS.items() for y, x in ((a, b), (b, a)) for sy in (1, -1) for sx in (1, -1)}
    before = None
    while before is None or (before != away).any():
        before = away.copy()
        for (dy, dx), length in moves.items():
            to, of = ([slice(max(0, s * d), min(0, s * d) or None) for d in (dy, dx)] for s in (1, -1))
            np.minimum(away[tuple(to)], away[tuple(of)] + np.float32(length), out=away[tuple(to)])
    return away


def box(plane: np.ndarray) -> np.ndarray:
    """float32 (H,W): means of 3x3 points, mirrored at the border without repeating the edge."""
    high = np.pad(plane.astype(np.float64), 1, mode="reflect")
    rows = high[:-2] + high[1:-1] + high[2:]
    return ((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) * (1 / 9)).astype(np.float32)


def equalized(plane: np.ndarray) -> np.ndarray:
    """uint8 plane whose levels follow the cumulative histogram, the lowest one black; a plane of one level stays."""
    count = np.bincount(plane.ravel(), minlength=256)
    lowest = int(np.flatnonzero(count)[0])
    if count[lowest] == plane.size:
        return plane
    scale = np.float32(255) / np.float32(plane.size - count[lowest])
    reached = np.cumsum(count) - count[lowest]
    return np.clip(np.rint(reached.astype(np.float32) * scale), 0, 255).astype(np.uint8)[plane]
