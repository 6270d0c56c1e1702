"""Five procedural ice textures in place of the benchmark's photographs, whose authorship is unknown.

Sizes, mean colours, contrast and the equality of the second and the third are those of the photographs. Each texture is a mosaic of
crystals (Voronoi cells); inside a cell thin needles run in the cell's direction with side branches at 60 degrees, over a cloudy base.
"""

import math
from functools import lru_cache

import torch

from .. import rng

SIZES = ((600, 900), (315, 560), (315, 560), (350, 527), (495, 660))
_COLOUR = ((78, 149, 166), (201, 205, 215), (201, 205, 215), (138, 153, 165), (112, 122, 135))
_STD = (23.0, 22.0, 22.0, 29.0, 43.0)
_RELIEF = (0.25, 0.8, 0.8, 1.0, 0.9)  # weight of the needles against the clouds
_LATTICE = 64


def _noise(lattice: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Smooth value noise in 0..1 on a repeating lattice, at real positions."""
    top, left = y.floor(), x.floor()
    down, across = ((3 - 2 * t) * t * t for t in (y - top, x - left))
    rows = [(top.long() + k & _LATTICE - 1) * _LATTICE for k in (0, 1)]
    columns = [left.long() + k & _LATTICE - 1 for k in (0, 1)]
    upper, lower = (torch.lerp(lattice.take(row + columns[0]), lattice.take(row + columns[1]), across) for row in rows)
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
        distance = (wy - cy * (height + 40)).square_() + (wx - cx * (width + 40)).square_()
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
    return _levelled(_RELIEF[number] * (ice + 0.5 * seam) + 1.1 * cloud, _COLOUR[number], _STD[number])


def _levelled(field: torch.Tensor, colour: tuple[int, int, int], std: float) -> torch.Tensor:
    """The field as whole levels with the given mean per channel and deviation; a few steps make up for what clipping takes."""
    field = (field - field.mean()) / field.std()
    soft = torch.sigmoid(field)  # flattens the brightest ridges, as overexposed ice does
    field = 0.5 * field + 2 * (soft - soft.mean())
    target = torch.tensor(colour, dtype=torch.float64)[:, None, None]
    gain, shift = std / float(field.std()), target
    for _ in range(6):
        levels = (gain * field + shift).clamp(0, 255)
        gain *= std / float(levels.mean(0).std())
        shift = shift + target - levels.mean((1, 2), keepdim=True)
    return (gain * field + shift).clamp(0, 255).round()


@lru_cache(maxsize=1)
def procedural_textures() -> tuple[torch.Tensor, ...]:
    """The five textures, float64 (3,H,W); the third is the second, as in the benchmark."""
    first, second, fourth, fifth = (_texture(number) for number in (0, 1, 3, 4))
    return first, second, second, fourth, fifth
