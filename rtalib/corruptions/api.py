"""corrupt(): validation, random streams, severities and chunks around the fifteen corruptions and the held-out types."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from rtalib import rng
from rtalib.corruptions import blur, digital, held_out, kernels, noise, weather
from rtalib.corruptions.constants import CONSTANTS
from rtalib.corruptions.draws import Words
from rtalib.corruptions.frost import draw_frost, frost
from rtalib.corruptions.held_out import HELD_OUT, HELD_OUT_CONSTANTS, spatter
from rtalib.corruptions.jpeg import jpeg_compression
from rtalib.errors import check_images, check_index, check_integers, check_name, check_number

MIN_SIDE = 16
KERNEL_PIXELS = 8 * 2**20  # pixels (of three values) per launch of a kernel; its scratch is below 80 bytes for each, mostly below 32


class Corruption(NamedTuple):
    """`apply(images, constants, *draws)` and, for random types, `draw(words, height, width, constants) -> draws`.

    pixels: how many plain torch computes at once, so that the work stays in a CPU core's cache and Python's part is small.
    parts: each value depends on its own words alone, so that a larger picture is computed in parts of that many pixels, too.
    """

    apply: Callable[..., torch.Tensor]
    draw: Callable[..., tuple[torch.Tensor, ...]] | None = None
    pixels: int = 64 * 1024
    parts: bool = False


TYPES = {
    "gaussian_noise": Corruption(noise.gaussian_noise, noise.draw_values, pixels=17_000, parts=True),
    "shot_noise": Corruption(noise.shot_noise, noise.draw_values, pixels=17_000, parts=True),
    "impulse_noise": Corruption(noise.impulse_noise, noise.draw_values, pixels=17_000, parts=True),
    "defocus_blur": Corruption(blur.defocus_blur, pixels=16 * 1024),
    "glass_blur": Corruption(blur.glass_blur, blur.draw_glass, pixels=32 * 1024),
    "motion_blur": Corruption(blur.motion_blur, blur.draw_motion),
    "zoom_blur": Corruption(blur.zoom_blur),
    "snow": Corruption(weather.snow, weather.draw_snow),
    "frost": Corruption(frost, draw_frost),
    "fog": Corruption(weather.fog, weather.draw_fog),
    "brightness": Corruption(weather.brightness, pixels=32 * 1024),
    "contrast": Corruption(digital.contrast, pixels=32 * 1024),
    "elastic_transform": Corruption(digital.elastic_transform, digital.draw_elastic, pixels=32 * 1024),
    "pixelate": Corruption(digital.pixelate),
    "jpeg_compression": Corruption(jpeg_compression),
    # held out
    "speckle_noise": Corruption(held_out.speckle_noise, noise.draw_values, pixels=17_000, parts=True),
    "gaussian_blur": Corruption(held_out.gaussian_blur, pixels=32 * 1024),
    "spatter": Corruption(spatter.spatter, spatter.draw_spatter, pixels=32 * 1024),
    "saturate": Corruption(held_out.saturate, pixels=32 * 1024),
}


def corrupt(
    images: torch.Tensor,
    name: str,
    severity: int | torch.Tensor,
    *,
    seed: int = 0,
    index: torch.Tensor | None = None,
    benchmark: str = "cifar10-c",
) -> torch.Tensor:
    """Corrupt a batch of images as the published benchmarks do.

    images: uint8 (N,3,H,W), or (N,1,H,W), which become RGB; any device with float64, sides from 16 px, square or not.
    name: one of CORRUPTIONS or HELD_OUT. severity: 1 to 5, or an integer tensor (N,) with one per image.
    index: integer tensor (N,), the identity of each image for the random numbers, default 0..N-1. The result for an image depends on
    (seed, name, severity, index[i]) and the image alone, never on the rest of the batch; to corrupt a part of a data set, give the indices
    of its images in the whole.
    benchmark: 'cifar10-c' (made for 32 px), 'tiny-imagenet-c' (64 px; not for HELD_OUT) or 'imagecorruptions' (ImageNet-C's constants; far
    harsher at 32 px). Pixel sizes are not scaled to the image. The stored files of Tiny-ImageNet-C and ImageNet-C went through JPEG of
    quality 85 once more; the result here did not.

    Returns uint8 (N,3,H,W) on the device of `images`. Raises TypeError or ValueError that name the argument.
    """
    images = check_images(images)
    check_name("corruption", name, TYPES)
    known = HELD_OUT_CONSTANTS if name in HELD_OUT else CONSTANTS
    check_name("benchmark", benchmark, known)
    n, _, height, width = images.shape
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"images: expected sides of at least {MIN_SIDE} px, got {height}x{width}")
    levels = _check_severity(severity, n)
    index = check_index(index, n, images.device)
    if isinstance(levels, int):
        return _corrupt_level(images, name, levels, seed, index, benchmark)
    out = torch.empty_like(images)
    for level in levels.unique().tolist():
        chosen = (levels == level).nonzero()[:, 0].to(images.device)
        out[chosen] = _corrupt_level(images[chosen], name, level, seed, index[chosen], benchmark)
    return out


def _plain(name: str, images: torch.Tensor, constants: object, words: Words) -> torch.Tensor:
    """The plain-torch path, the specification of the kernels."""
    kind = TYPES[name]
    if not kind.parts or images.shape[2] * images.shape[3] <= kind.pixels:
        return kind.apply(images, constants, *(kind.draw(words, *images.shape[2:], constants) if kind.draw else ()))
    out = torch.empty_like(images)
    total = out.numel()
    step = 12 * -(-total // (12 * -(-total // (3 * kind.pixels))))  # equal parts, of whole blocks of words
    for part, changed in zip(images.view(-1).split(step), out.view(-1).split(step), strict=True):
        changed.copy_(kind.apply(part[None], constants, words(len(part))).view(-1))
        words = words._replace(start=words.start + step)
    return out


def _corrupt_level(images: torch.Tensor, name: str, severity: int, seed: int, index: torch.Tensor, benchmark: str) -> torch.Tensor:
    """One severity for all images, a chunk at a time so that the working memory stays small."""
    constants = (HELD_OUT_CONSTANTS if name in HELD_OUT else CONSTANTS)[benchmark][name][severity - 1]
    stream = rng.stream(name, severity)
    corrupt_part, pixels = partial(_plain, name), TYPES[name].pixels
    if images.is_cuda and kernels.usable() and name not in HELD_OUT:
        corrupt_part, pixels = kernels.kernel(name), KERNEL_PIXELS
    step = max(1, pixels // (images.shape[2] * images.shape[3]))
    if 0 < len(images) <= step:
        return corrupt_part(images.contiguous(), constants, Words(seed, index, stream))
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    for start in range(0, len(images), step):
        part = images[start : start + step].contiguous()
        out[start : start + step] = corrupt_part(part, constants, Words(seed, index[start : start + step], stream))
    return out


def _check_severity(severity: int | torch.Tensor, n: int) -> int | torch.Tensor:
    """An int, or an int64 tensor (N,) on the CPU, with all values 1 to 5."""
    if not isinstance(severity, torch.Tensor | np.ndarray | list | tuple) or np.ndim(severity) == 0:
        severity = severity.item() if isinstance(severity, torch.Tensor | np.ndarray) else severity
        check_number("severity", severity, 1, 5, integer=True)
        return int(severity)
    levels = check_integers("severity", severity, n, hint="; or one integer 1 to 5 for all")
    if n and not (1 <= int(levels.min()) and int(levels.max()) <= 5):
        raise ValueError(f"severity: expected 1 to 5, got values from {int(levels.min())} to {int(levels.max())}")
    return levels
