"""The published constants of the 15 corruptions, for three benchmarks and severities 1 to 5; their values are in constants.toml.

Hendrycks and Dietterich, ICLR 2019 ("Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"), and the scripts and
packages released with it. CIFAR-10-C is made for 32 px, Tiny-ImageNet-C for 64 px, `imagecorruptions` carries ImageNet-C's constants.
Lengths are in pixels, standard deviations of intensities on the 0-1 scale. A field that names a rule marks where the code bases differ.
"""

from collections.abc import Callable
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
