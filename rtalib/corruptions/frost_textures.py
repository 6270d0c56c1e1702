"""Five procedural ice textures in place of the benchmark's photographs, whose authorship is unknown.

Sizes, mean levels, contrast and the equality of the second and the third are those of the photographs. Each texture is a mosaic of crystals
(Voronoi cells); inside a cell thin needles run in the cell's direction with side branches at 60 degrees, over a cloudy, bluish base.
"""

import math
from functools import lru_cache

import torch

from .. import rng

SIZES = ((600, 900), (315, 560), (315, 560), (350, 527), (495, 660))
_MEAN = (131.0, 207.0, 207.0, 152.0, 123.0)
_STD = (43.0, 23.0, 23.0, 31.0, 44.0)
_LATTICE = 64


def _noise(lattice: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Smooth value noise in 0..1 on a repeating lattice, at real positions."""
    top, left = y.floor(), x.floor()
    down, across = ((3 - 2 * t) * t * t for t in (y - top, x - left))
    rows, columns = top.long(), left.long()
    corner = lambda i, j: lattice[(rows + i) % _LATTICE, (columns + j) % _LATTICE]  # noqa: E731
    upper, lower = torch.lerp(corner(0, 0), corner(0, 1), across), torch.lerp(corner(1, 0), corner(1, 1), across)
    return torch.lerp(upper, lower, down)


def _needles(lattice: torch.Tensor, along: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """Bright ridges 2 to 6 px apart along one direction, broken up along their length."""
    fine = 1 - (2 * _noise(lattice, along / 45, across / 2.2) - 1).abs()
    coarse = 1 - (2 * _noise(lattice, along / 90 + 17.3, across / 6.1 + 5.7) - 1).abs()
    return fine**3 + 0.8 * coarse**3


def _texture(number: int) -> torch.Tensor:
    """float64 (3,H,W) of whole levels 0..255."""
    height, width = SIZES[number]
    drawn = rng.uniform(2018, torch.tensor([number]), rng.stream("frost texture"), _LATTICE**2 + 240)[0]
    lattice, cells = drawn[: _LATTICE**2].view(_LATTICE, _LATTICE), drawn[_LATTICE**2 :].view(80, 3)
    y = torch.arange(height, dtype=torch.float64)[:, None].expand(height, width)
    x = torch.arange(width, dtype=torch.float64).expand(height, width)
    # crystal borders wobble, so that cells do not look like polygons
    wy = y + 40 * _noise(lattice, y / 23, x / 23)
    wx = x + 40 * _noise(lattice, y / 23 + 31.4, x / 23 + 11.8)
    nearest, second = torch.full((2, height, width), math.inf, dtype=torch.float64)
    turn = torch.zeros(height, width, dtype=torch.float64)
    for cy, cx, angle in cells.tolist():
        distance = (wy - cy * (height + 40)) ** 2 + (wx - cx * (width + 40)) ** 2
        closer = distance < nearest
        second = torch.where(closer, nearest, torch.minimum(second, distance))
        nearest = torch.where(closer, distance, nearest)
        turn = torch.where(closer, angle * math.pi, turn)
    ice = torch.zeros(height, width, dtype=torch.float64)
    for branch, strength in ((0.0, 1.0), (math.pi / 3, 0.6), (-math.pi / 3, 0.6)):
        sine, cosine = (turn + branch).sin(), (turn + branch).cos()
        ice = torch.maximum(ice, strength * _needles(lattice, x * cosine + y * sine, y * cosine - x * sine))
    seam = torch.exp((nearest.sqrt() - second.sqrt()) / 2.5)
    cloud = sum(_noise(lattice, y * 2**k / 160 + 7 * k, x * 2**k / 160 + 3 * k) / 2**k for k in range(5))
    return _levelled(ice + 0.5 * seam + 1.1 * cloud, _MEAN[number], _STD[number])


def _levelled(field: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """The field as bluish levels with the given mean and deviation; a few steps make up for what clipping takes."""
    tint = torch.tensor([-14.0, 2.0, 12.0], dtype=torch.float64)[:, None, None] * (255 - mean) / 128
    field = (field - field.mean()) / field.std()
    low = torch.sigmoid(field)  # flattens the brightest ridges, as overexposed ice does
    field = 0.5 * field + 2 * (low - low.mean())
    gain, shift = std / float(field.std()), mean
    for _ in range(6):
        levels = (gain * field + shift + tint).clamp(0, 255)
        gain *= std / float(levels.mean(0).std())
        shift += mean - float(levels.mean())
    return (gain * field + shift + tint).clamp(0, 255).round()


@lru_cache(maxsize=1)
def procedural_textures() -> tuple[torch.Tensor, ...]:
    """The five textures, float64 (3,H,W); the third is the second, as in the benchmark."""
    first, second, fourth, fifth = (_texture(number) for number in (0, 1, 3, 4))
    return first, second, second, fourth, fifth
