"""What is published of the 15 corruptions: constants for three benchmarks and severities 1 to 5, whose values are in constants.toml, and
the textures of frost, which lie where $RTALIB_FROST says.

Hendrycks and Dietterich, ICLR 2019 ("Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"), and the scripts and
packages released with it. CIFAR-10-C is made for 32 px, Tiny-ImageNet-C for 64 px, `imagecorruptions` carries ImageNet-C's constants.
Lengths are in pixels, standard deviations of intensities on the 0-1 scale. A field that names a rule marks where the code bases differ.
"""

import hashlib
import importlib.util
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rtalib.infra.data_files import read_toml


class Defocus(NamedTuple):
    radius: float
    alias: float


class Glass(NamedTuple):
    sigma: float
    reach: int
    passes: int


class Motion(NamedTuple):
    """`magick`: ImageMagick's 8-bit rounding; otherwise the package's port, which truncates and stops at a shift past the image."""

    radius: int
    sigma: float
    magick: bool


class Zoom(NamedTuple):
    factors: tuple[float, ...]
    centred: bool


class Snow(NamedTuple):
    """`magick`: flakes are trimmed to the centre and blurred in 8 bits by ImageMagick's rule; otherwise blurred in float, then cropped."""

    mean: float
    std: float
    zoom: float
    threshold: float
    radius: int
    sigma: float
    keep: float
    magick: bool


class Frost(NamedTuple):
    """`scale`: the texture is resized by this factor; below 1 bilinear without antialiasing, above 1 bicubic."""

    image: float
    frost: float
    scale: float


class Fog(NamedTuple):
    """`single`: the plasma is stored in single precision (the package), otherwise in double."""

    weight: float
    decay: float
    single: bool


class Elastic(NamedTuple):
    """`jitter`: of the affine control points, in px; None where no affine step exists, and sigma is then relative to the side."""

    alpha: float
    sigma: float
    jitter: float | None = None


class Pixelate(NamedTuple):
    """`nearest`: enlarged by Pillow's NEAREST (the package), otherwise by BOX."""

    scale: float
    nearest: bool


def _zoom(end: float, step: float, centred: bool) -> Zoom:
    """Factors 1, 1 + step, ... below the end; NumPy's own range keeps the published rounding, which includes some ends."""
    return Zoom(tuple(np.arange(1, end, step).tolist()), centred)


# What takes the values of a row; the constants of other types are plain numbers.
KINDS: dict[str, Callable] = {
    "defocus_blur": Defocus,
    "glass_blur": Glass,
    "motion_blur": Motion,
    "zoom_blur": _zoom,
    "snow": Snow,
    "frost": Frost,
    "fog": Fog,
    "elastic_transform": Elastic,
    "pixelate": Pixelate,
}
CONSTANTS = {
    benchmark: {name: tuple(KINDS[name](*row) if name in KINDS else row for row in rows) for name, rows in types.items()}
    for benchmark, types in read_toml(__package__, "constants.toml").items()
}
"""CONSTANTS[benchmark][name][severity - 1]."""
BENCHMARKS = tuple(CONSTANTS)
CORRUPTIONS = tuple(CONSTANTS["cifar10-c"])
SEVERITIES = (1, 2, 3, 4, 5)
MADE_FOR = {"cifar10-c": 48, "tiny-imagenet-c": 112}  # up to which side; beyond it, ImageNet-C's constants


def benchmark_for(side: float) -> str:
    """The benchmark whose constants suit images of `side` pixels: cifar10-c to 48, tiny-imagenet-c to 112, else imagecorruptions."""
    return next((name for name, most in MADE_FOR.items() if side <= most), "imagecorruptions")


# -------------------------------------------------------------------------------------------------- textures of frost

# file name -> first 12 hexadecimal digits of its SHA-256
TEXTURES = {
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
    folder = frost_folder()
    if folder is not None:
        _check(folder)
    return "procedural" if folder is None else f"files: {folder}"


def frost_folder() -> Path | None:
    """Where the photographs are, if they are to be used."""
    wanted = os.environ.get("RTALIB_FROST", "")
    if not wanted:
        return None
    if wanted != "package":
        return Path(wanted)
    found = importlib.util.find_spec("imagecorruptions")
    if found is None or found.origin is None:
        raise FileNotFoundError("RTALIB_FROST=package: the package imagecorruptions is not installed")
    return Path(found.origin).parent / "frost"


@lru_cache(maxsize=4)
def _check(folder: Path) -> None:
    """Before anything is computed, or named after textures that are not there."""
    for name, digest in TEXTURES.items():
        texture_bytes(folder / name, digest)


def texture_bytes(path: Path, digest: str) -> bytes:
    """The content of a published file, after a check of its hash."""
    if not path.is_file():
        raise FileNotFoundError(f"RTALIB_FROST: no file {path}; expected {', '.join(TEXTURES)}, or 'package'")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if not found.startswith(digest):
        raise ValueError(f"RTALIB_FROST: {path} is not the published texture (SHA-256 {found[:12]}, expected {digest})")
    return data
