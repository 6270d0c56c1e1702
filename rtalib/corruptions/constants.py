"""The published constants of the 15 corruptions, for three benchmarks and severities 1 to 5.

Hendrycks and Dietterich, ICLR 2019 ("Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"), and the scripts and
packages released with it. CIFAR-10-C is made for 32 px, Tiny-ImageNet-C for 64 px, `imagecorruptions` carries ImageNet-C's constants.
Lengths are in pixels, standard deviations of intensities on the 0-1 scale. A field that names a rule marks where the code bases differ.
"""

from typing import NamedTuple

import numpy as np

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
BENCHMARKS = ("cifar10-c", "tiny-imagenet-c", "imagecorruptions")
SEVERITIES = (1, 2, 3, 4, 5)


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
    jitter: float | None


class Pixelate(NamedTuple):
    """`nearest`: enlarged by Pillow's NEAREST (the package), otherwise by BOX."""

    scale: float
    nearest: bool


def _zoom(ends: tuple[float, ...], steps: tuple[float, ...], centred: bool) -> tuple[Zoom, ...]:
    """Factors 1, 1 + step, ... below the end; NumPy's own range keeps the published rounding, which includes some ends."""
    pairs = zip(ends, steps, strict=True)
    return tuple(Zoom(tuple(np.arange(1, end, step).tolist()), centred) for end, step in pairs)


def _each(kind: type, rows: tuple[tuple[float, ...], ...], *rule: object) -> tuple[NamedTuple, ...]:
    return tuple(kind(*row, *rule) for row in rows)


_SMALL_ZOOM = _zoom((1.06, 1.11, 1.16, 1.21, 1.26), (0.01,) * 5, True)

_CIFAR = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "defocus_blur": _each(Defocus, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass_blur": _each(Glass, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))),
    "motion_blur": _each(Motion, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), True),
    "zoom_blur": _SMALL_ZOOM,
    "snow": _each(
        Snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        True,
    ),
    "frost": _each(Frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)), 0.2),
    "fog": _each(Fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)), False),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "elastic_transform": _each(Elastic, ((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96))),
    "pixelate": _each(Pixelate, ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)), False),
    "jpeg_compression": (80, 65, 58, 50, 40),
}

_TINY = {
    "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
    "shot_noise": (250, 100, 50, 30, 15),
    "impulse_noise": (0.01, 0.02, 0.05, 0.08, 0.14),
    "defocus_blur": _each(Defocus, ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1))),
    "glass_blur": _each(Glass, ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2))),
    "motion_blur": _each(Motion, ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)), True),
    "zoom_blur": _SMALL_ZOOM,
    "snow": tuple(snow._replace(keep=keep) for snow, keep in zip(_CIFAR["snow"], (0.8, 0.8, 0.7, 0.65, 0.6), strict=True)),
    "frost": _each(Frost, ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)), 0.3),
    "fog": _each(Fog, ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)), False),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "elastic_transform": _each(Elastic, ((0, 0, 5.12), (3.2, 19.2, 3.84), (6.4, 5.12, 3.84), (6.4, 1.92, 1.92), (10.24, 1.92, 1.28))),
    "pixelate": _each(Pixelate, ((0.9,), (0.8,), (0.7,), (0.6,), (0.5,)), False),
    "jpeg_compression": (65, 58, 50, 40, 25),
}

_PACKAGE = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "shot_noise": (60, 25, 12, 5, 3),
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
    "defocus_blur": _each(Defocus, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "glass_blur": _each(Glass, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    "motion_blur": _each(Motion, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), False),
    "zoom_blur": _zoom((1.11, 1.16, 1.21, 1.26, 1.31), (0.01, 0.01, 0.02, 0.02, 0.03), False),
    "snow": _each(
        Snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        False,
    ),
    "frost": _each(Frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)), 1.1),
    "fog": _each(Fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)), True),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "elastic_transform": _each(Elastic, ((12.5,), (16.25,), (21.25,), (25.0,), (30.0,)), 0.01, None),
    "pixelate": _each(Pixelate, ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)), True),
    "jpeg_compression": (25, 18, 15, 10, 7),
}

CONSTANTS = dict(zip(BENCHMARKS, (_CIFAR, _TINY, _PACKAGE), strict=True))
"""CONSTANTS[benchmark][name][severity - 1]."""
