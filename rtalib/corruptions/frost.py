"""Frost: a random crop of an icy texture, added to the image. Which textures: see `frost_source`."""

import hashlib
import importlib.util
import io
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from .constants import Frost
from .draws import Words, below
from .frost_textures import SIZES, procedural_textures

# file name -> first 12 hexadecimal digits of its SHA-256
_PUBLISHED = {
    "frost1.png": "ff9f907860bd",
    "frost2.png": "fe211a89b336",
    "frost3.png": "2d0d50b4a9bb",
    "frost4.jpg": "3f8b91ca1a9f",
    "frost5.jpg": "5fc6a19df4a4",
}


def frost_source() -> str:
    """Which textures are used: 'procedural', or 'files: FOLDER' for the published photographs.

    The procedural textures, the same on every machine, are used unless the environment variable RTALIB_FROST is set: to a folder that holds
    frost1.png ... frost5.jpg, or to the word 'package' for the folder inside the installed `imagecorruptions` package. The photographs
    are not shipped with this library because nobody states who took them.
    """
    folder = _folder()
    return "procedural" if folder is None else f"files: {folder}"


def _folder() -> Path | None:
    wanted = os.environ.get("RTALIB_FROST", "")
    if not wanted:
        return None
    if wanted != "package":
        return Path(wanted)
    found = importlib.util.find_spec("imagecorruptions")
    if found is None or found.origin is None:
        raise FileNotFoundError("RTALIB_FROST=package: the package imagecorruptions is not installed")
    return Path(found.origin).parent / "frost"


def _read(path: Path, digest: str) -> np.ndarray:
    """uint8 (H,W,3) of a published file, after a check of its hash."""
    if not path.is_file():
        raise FileNotFoundError(f"RTALIB_FROST: no file {path}; expected {', '.join(_PUBLISHED)}, or 'package'")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if not found.startswith(digest):
        raise ValueError(f"RTALIB_FROST: {path} is not the published texture (SHA-256 {found[:12]}, expected {digest})")
    from PIL import Image

    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


@lru_cache(maxsize=4)
def _originals(folder: Path | None) -> tuple[torch.Tensor, ...]:
    """The five textures at full size, float64 (3,H,W)."""
    if folder is None:
        return procedural_textures()
    return tuple(torch.from_numpy(_read(folder / name, digest)).permute(2, 0, 1).double() for name, digest in _PUBLISHED.items())


def _linear_taps(side: int, count: int, scale: float) -> tuple[torch.Tensor, ...]:
    """(lower, upper, lower weight, upper weight) of `count` samples at (j + 1/2) / scale - 1/2; weights in 11-bit fixed point, int64."""
    position = torch.arange(count, dtype=torch.float64).add_(0.5).mul_(1.0 / scale).sub_(0.5).clamp_(0, side - 1).float()
    lower = position.floor().long()
    part = position - lower
    upper = (lower + 1).clamp_(max=side - 1)
    return lower, upper, ((1 - part) * 2048).round_().long(), (part * 2048).round_().long()


def _shrink(texture: torch.Tensor, scale: float, size: tuple[int, int]) -> torch.Tensor:
    """uint8 (3, *size), bilinear without antialiasing: OpenCV's integers, which drop four bits between the two directions."""
    texture = texture.long()
    left, right, near, far = _linear_taps(texture.shape[2], size[1], scale)
    rows = (texture[:, :, left] * near + texture[:, :, right] * far) >> 4
    top, bottom, near, far = _linear_taps(texture.shape[1], size[0], scale)
    above, below_ = rows[:, top] * near[:, None], rows[:, bottom] * far[:, None]
    return (((above >> 16) + (below_ >> 16) + 2) >> 2).clamp_(0, 255).to(torch.uint8)


def _resized(texture: torch.Tensor, scale: float, height: int, width: int) -> torch.Tensor:
    """uint8 (3,H',W'): resized by `scale`, or by what it takes to be larger than the image."""
    full_height, full_width = texture.shape[1:]
    if scale > 1:  # the package: first enlarged to the image where needed, then by the factor
        scale *= max(1.0, height / full_height, width / full_width)
        size = tuple(int(np.ceil(side * scale)) for side in (full_height, full_width))
        big = F.interpolate(texture[None], size=size, mode="bicubic", align_corners=False)[0]
        return big.round_().clamp_(0, 255).to(torch.uint8)
    scale = max(scale, (height + 1) / full_height, (width + 1) / full_width)
    if scale < 1:
        return _shrink(texture, scale, (round(full_height * scale), round(full_width * scale)))
    return _resized(texture, scale, height, width)


@lru_cache(maxsize=8)
def _bank(folder: Path | None, scale: float, height: int, width: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    textures = [_resized(texture, scale, height, width) for texture in _originals(folder)]
    areas = torch.tensor([texture[0].numel() for texture in textures])
    starts = torch.cat([areas.new_zeros(1), (3 * areas).cumsum(0)[:-1]])
    strides = torch.tensor([texture.shape[2] for texture in textures])
    pixels = torch.cat([texture.flatten() for texture in textures])
    return tuple(part.to(device) for part in (pixels, starts, areas, strides))


def texture_bank(scale: float, height: int, width: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """(pixels uint8, start, plane, stride): the resized textures laid end to end, and for each where it starts, its area and its width."""
    return _bank(_folder(), scale, height, width, device)


def draw_frost(words: Words, height: int, width: int, constants: Frost) -> tuple[torch.Tensor]:
    """(texture 0..4, row, column) of the crop, int64 (N,3); the last possible row and column are never drawn, as published."""
    drawn = words(3)
    _, _, areas, strides = texture_bank(constants.scale, height, width, drawn.device)
    texture = below(drawn[:, 0], len(SIZES))
    rows, columns = areas[texture] // strides[texture] - height, strides[texture] - width
    return (torch.stack([texture, below(drawn[:, 1], rows), below(drawn[:, 2], columns)], dim=1),)


def frost_crops(crop: torch.Tensor, scale: float, height: int, width: int) -> torch.Tensor:
    """uint8 (N,3,H,W) texture crops at `crop` (N,3): texture, row, column."""
    pixels, starts, areas, strides = texture_bank(scale, height, width, crop.device)
    texture, row, column = crop.unbind(1)
    rows = (row[:, None] + torch.arange(height, device=crop.device)) * strides[texture][:, None]
    corner = (starts[texture] + column)[:, None] + areas[texture][:, None] * torch.arange(3, device=crop.device)
    start = corner[:, :, None] + rows[:, None, :]
    return pixels.unfold(0, width, 1).index_select(0, start.view(-1)).view(*start.shape, width)


def frost(images: torch.Tensor, constants: Frost, crop: torch.Tensor) -> torch.Tensor:
    """clip(image weight * image + frost weight * texture) on the 0-255 scale, cut to bytes."""
    icy = frost_crops(crop, constants.scale, *images.shape[2:]).double().mul_(constants.frost)
    return images.double().mul_(constants.image).add_(icy).clamp_(0, 255).to(torch.uint8)
