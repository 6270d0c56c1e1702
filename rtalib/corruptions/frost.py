"""Frost: a random crop of an icy texture, added to the image. Which textures: see constants.frost_source."""

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from rtalib import rng
from rtalib.corruptions.constants import TEXTURES, Frost, frost_folder, texture_bytes
from rtalib.corruptions.draws import Words, below
from rtalib.corruptions.filters import of_two_bytes, resampled, resampling

# ------------------------------------------------------------------------------------------------- procedural textures

# Five procedural ice textures in place of the benchmark's photographs, whose authorship is unknown.
#
# Sizes, mean colours, contrast and the equality of the second and the third are those of the photographs. Each texture is a mosaic of
# crystals (Voronoi cells); inside a cell thin needles run in the cell's direction with side branches at 60 degrees, over a cloudy base.

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
    """The five textures, uint8 (3,H,W); the third is the second, as in the benchmark."""
    first, second, fourth, fifth = (_texture(number).to(torch.uint8) for number in (0, 1, 3, 4))
    return first, second, second, fourth, fifth


# ---------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _originals(folder: Path | None) -> tuple[torch.Tensor, ...]:
    """The five textures at full size, uint8 (3,H,W)."""
    if folder is None:
        return procedural_textures()
    from rtalib.data import pictures

    found = [pictures.read(str(folder / name), texture_bytes(folder / name, digest)) for name, digest in TEXTURES.items()]
    return tuple(torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous() for picture in found)


class _Size(NamedTuple):
    """How a texture of full size is resized for an image: by `scale`, to (height, width)."""

    scale: float
    height: int
    width: int


def _size(full: tuple[int, int], scale: float, height: int, width: int) -> _Size:
    """Resized by `scale`, or by what it takes to be larger than the image."""
    needed = max(height / full[0], width / full[1])
    if scale <= 1:
        scale = max(scale, (height + 1) / full[0], (width + 1) / full[1])
        if scale <= 1:
            return _Size(scale, *(round(side * scale) for side in full))
    scale *= max(1.0, needed)  # the package: first enlarged to the image where needed, then by the factor
    return _Size(scale, *(math.ceil(side * scale) for side in full))


def _linear_taps(side: int, count: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(source samples, weights), int64 (2, count) each, at (j + 1/2) / scale - 1/2; weights in 11-bit fixed point, as OpenCV's."""
    position = torch.arange(count, dtype=torch.float64).add_(0.5).mul_(1.0 / scale).sub_(0.5).clamp_(0, side - 1).float()
    lower = position.floor().long()
    part = position - lower
    weights = torch.stack([1 - part, part]).mul_(2048).round_().long()
    return torch.stack([lower, (lower + 1).clamp_(max=side - 1)]), weights


def _cubic_taps(side: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(source samples int64, weights float64), (4, count) each, of `count` samples over `side`: cubic convolution with a = -0.75."""
    position = torch.arange(count, dtype=torch.float64).add_(0.5).mul_(side / count).sub_(0.5)
    lower = position.floor()
    part = position - lower
    a = -0.75
    inner = [((a + 2) * t - (a + 3)) * t * t + 1 for t in (part, 1 - part)]
    outer = [((a * t - 5 * a) * t + 8 * a) * t - 4 * a for t in (part + 1, 2 - part)]
    sources = lower.long() + torch.arange(-1, 3)[:, None]
    return sources.clamp_(0, side - 1), torch.stack([outer[0], *inner, outer[1]])


def _window(texture: torch.Tensor, size: _Size, row: int, column: int, height: int, width: int) -> torch.Tensor:
    """uint8 (3,height,width) of the resized texture from (row, column) on: what lies outside is not computed.

    Shrunk, bilinear without antialiasing by OpenCV's integers, which drop four bits between the two directions; enlarged, bicubic.
    """
    if size.scale == 1:
        return texture[:, row : row + height, column : column + width]
    pieces = [(texture.shape[1], size.height, row, height), (texture.shape[2], size.width, column, width)]
    if size.scale < 1:
        (rows, down), (columns, across) = (
            [part[:, start : start + long] for part in _linear_taps(side, count, size.scale)] for side, count, start, long in pieces
        )
        first = int(rows[0, 0])
        texture = texture[:, first : int(rows[1, -1]) + 1].int()
        narrow = sum(texture.index_select(2, at) * w.int() for at, w in zip(columns, across, strict=True)) >> 4
        above, under = (narrow.index_select(1, at - first).long() * w[:, None] >> 16 for at, w in zip(rows, down, strict=True))
        return ((above + under + 2) >> 2).clamp_(0, 255).to(torch.uint8)
    first, matrices = [], []
    for side, count, start, long in pieces:
        sources, weights = (part[:, start : start + long].T for part in _cubic_taps(side, count))
        first.append(slice(int(sources.min()), int(sources.max()) + 1))
        matrices.append(resampling((sources - first[-1].start).numpy(), weights.numpy(), first[-1].stop - first[-1].start))
    enlarged = resampled(texture[:, *first].transpose(0, 1).double(), *matrices)
    return enlarged.round_().clamp_(0, 255).to(torch.uint8).permute(2, 1, 0).contiguous()


@lru_cache(maxsize=16)
def _resized(folder: Path | None, number: int, size: _Size) -> torch.Tensor:
    """A whole texture, uint8 (3,H,W)."""
    return _window(_originals(folder)[number], size, 0, 0, size.height, size.width)


def _sizes(scale: float, height: int, width: int) -> tuple[list[_Size], bool]:
    """The sizes of the five textures for an image, and whether they are those for every smaller image, too."""
    full = [tuple(texture.shape[1:]) for texture in _originals(frost_folder())]
    sizes = [_size(shape, scale, height, width) for shape in full]
    return sizes, sizes == [_size(shape, scale, 1, 1) for shape in full]


@lru_cache(maxsize=4)
def _bank(folder: Path | None, sizes: tuple[_Size, ...], device: torch.device) -> tuple[torch.Tensor, ...]:
    areas = torch.tensor([size.height * size.width for size in sizes])
    starts = torch.cat([areas.new_zeros(1), (3 * areas).cumsum(0)[:-1]])
    strides = torch.tensor([size.width for size in sizes])
    pixels = torch.cat([_resized(folder, number, size).flatten() for number, size in enumerate(sizes)])
    return tuple(part.to(device) for part in (pixels, starts, areas, strides))


def texture_bank(scale: float, height: int, width: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """(pixels uint8, start, plane, stride): the resized textures laid end to end, and for each where it starts, its area and its width."""
    return _bank(frost_folder(), tuple(_sizes(scale, height, width)[0]), device)


def draw_frost(words: Words, height: int, width: int, constants: Frost) -> tuple[torch.Tensor]:
    """(texture 0..4, row, column) of the crop, int64 (N,3); the last possible row and column are never drawn, as published."""
    drawn = words(3)
    sizes, _ = _sizes(constants.scale, height, width)
    texture = below(drawn[:, 0], len(SIZES))
    room = torch.tensor([(size.height - height, size.width - width) for size in sizes], device=drawn.device)[texture]
    return (torch.stack([texture, below(drawn[:, 1], room[:, 0]), below(drawn[:, 2], room[:, 1])], dim=1),)


def frost_crops(crop: torch.Tensor, scale: float, height: int, width: int) -> torch.Tensor:
    """uint8 (N,3,H,W) texture crops at `crop` (N,3): texture, row, column."""
    sizes, common = _sizes(scale, height, width)
    if not common:  # a texture grows with the image: nothing but the window is computed, and nothing is kept
        textures = _originals(frost_folder())
        return torch.stack([_window(textures[t], sizes[t], row, column, height, width) for t, row, column in crop.tolist()]).to(crop.device)
    pixels, starts, areas, strides = texture_bank(scale, height, width, crop.device)
    texture, row, column = crop.unbind(1)
    rows = (row[:, None] + torch.arange(height, device=crop.device)) * strides[texture][:, None]
    corner = (starts[texture] + column)[:, None] + areas[texture][:, None] * torch.arange(3, device=crop.device)
    start = corner[:, :, None] + rows[:, None, :]
    return pixels.unfold(0, width, 1).index_select(0, start.view(-1)).view(*start.shape, width)


@lru_cache(maxsize=16)
def _frosted(constants: Frost, device: torch.device) -> torch.Tensor:
    """uint8 (2^16): an image's byte i under a texture's byte t, at 256 i + t."""
    level = torch.arange(256, dtype=torch.float64, device=device)
    return (level[:, None] * constants.image + level * constants.frost).clamp_(0, 255).to(torch.uint8).view(-1)


def frost(images: torch.Tensor, constants: Frost, crop: torch.Tensor) -> torch.Tensor:
    """clip(image weight * image + frost weight * texture) on the 0-255 scale, cut to bytes."""
    icy = frost_crops(crop, constants.scale, *images.shape[2:])
    return of_two_bytes(_frosted(constants, images.device), images, icy)
