"""Ten procedural corruptions unlike those that RTA trains on: what a gain is worth on them cannot be overlap with the training set.

The types are those of CIFAR-10-C-bar (Mintun, Kirillov and Xie, "On Interaction Between Augmentations and Corruptions in Natural Corruption
Robustness", NeurIPS 2021), which were chosen for their distance from CIFAR-10-C. Formulas and strengths are ours, so that levels do not
compare with published ones. Images are float64 (N,3,H,W) in [0,1] inside; the result for an image depends on (seed, type, severity, its
index) and the image alone.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from rtalib import rng
from rtalib.data.images import LabeledImages, concat
from rtalib.errors import check_images, check_index, check_name, check_number
from rtalib.infra import store
from rtalib.training.artefacts import load_images, save_images

Draw = Callable[[int], Tensor]  # count -> float64 (N, count), uniform in [0, 1)


def _normal(draw: Draw, count: int) -> Tensor:
    """float64 (N, count), standard normal (Box-Muller)."""
    radius, angle = (draw(2 * count)).chunk(2, dim=1)
    return torch.sqrt(-2 * torch.log1p(-radius)) * torch.cos(2 * math.pi * angle)


def _filtered(image: Tensor, draw: Draw, power: float) -> Tensor:
    """(N,1,H,W): Gaussian noise of mean 0 and deviation 1 whose amplitude goes with frequency to that power."""
    n, _, height, width = image.shape
    noise = torch.fft.rfft2(_normal(draw, height * width).view(n, 1, height, width))
    rows, columns = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.rfftfreq(width, dtype=torch.float64)
    frequency = torch.hypot(rows[:, None], columns[None]).to(image.device)
    frequency[0, 0] = 1 / max(height, width)
    found = torch.fft.irfft2(noise * frequency**power, s=(height, width))
    return (found - found.mean((2, 3), keepdim=True)) / found.std((2, 3), keepdim=True)


def _places(image: Tensor) -> tuple[Tensor, Tensor]:
    """y (H,1) and x (1,W) from -1 to 1."""
    height, width = image.shape[2:]
    y, x = (torch.linspace(-1, 1, size, dtype=torch.float64, device=image.device) for size in (height, width))
    return y[:, None], x[None]


def _warped(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The image read at y and x, each (N,H,W) or (H,W); beyond its edge it is mirrored."""
    grid = torch.stack(torch.broadcast_tensors(x, y), dim=-1)
    grid = grid.expand(len(image), *grid.shape[-3:])
    return F.grid_sample(image, grid, padding_mode="reflection", align_corners=True)


def _flares(image: Tensor, draw: Draw, count: int) -> Tensor:
    """(N,1,H,W) in [0,1]: `count` stars with four rays each, of random places and sizes."""
    y, x = _places(image)
    total = torch.zeros(len(image), *image.shape[2:], dtype=torch.float64, device=image.device)
    for star in draw(3 * count).view(len(image), count, 3).unbind(1):
        row, column, size = star.unbind(1)
        down, across = (y - (2 * row - 1)[:, None, None]).abs(), (x - (2 * column - 1)[:, None, None]).abs()
        reach = (0.08 + 0.22 * size)[:, None, None]
        rays = torch.exp(-(down + across) / reach - 12 * torch.minimum(down, across))
        total += torch.exp(-torch.hypot(down, across) / (0.5 * reach)) + rays
    return total.clamp(0, 1)[:, None]


def blue_noise(image: Tensor, strength: float, draw: Draw) -> Tensor:
    return image + strength * _filtered(image, draw, 1.0)


def brownish_noise(image: Tensor, strength: float, draw: Draw) -> Tensor:
    return image + strength * _filtered(image, draw, -1.5)


def checkerboard_cutout(image: Tensor, strength: float, draw: Draw) -> Tensor:
    """A share `strength` of the dark squares of a checkerboard with 8 squares a side becomes grey."""
    height, width = image.shape[2:]
    rows, columns = (torch.arange(size, device=image.device) * 8 // size for size in (height, width))
    dark = (rows[:, None] + columns[None]) % 2 == 0
    drawn = draw(64).view(len(image), 8, 8)[:, rows][:, :, columns] < strength
    return torch.where((dark & drawn)[:, None], 0.5, image)


def sparkles(image: Tensor, strength: float, draw: Draw) -> Tensor:
    return image + strength * _flares(image, draw, 5)


def inverse_sparkles(image: Tensor, strength: float, draw: Draw) -> Tensor:
    return image * (1 - strength * _flares(image, draw, 5))


def lines(image: Tensor, strength: float, draw: Draw) -> Tensor:
    """Six straight lines of random places, directions and colors are blended in."""
    y, x = _places(image)
    for line in draw(6 * 5).view(len(image), 6, 5).unbind(1):
        angle, offset = math.pi * line[:, 0, None, None], line[:, 1, None, None] * 2 - 1
        near = torch.exp(-(((x * torch.cos(angle) + y * torch.sin(angle) - offset) / 0.06) ** 2))[:, None]
        image = image + strength * near * (line[:, 2:, None, None] - image)
    return image


def pinch_and_twirl(image: Tensor, strength: float, draw: Draw) -> Tensor:
    """Turned by up to 90 degrees times strength and drawn together around the middle, to either side by chance."""
    y, x = _places(image)
    radius = torch.hypot(y, x).clamp(max=1)
    turn = (torch.sign(draw(1) - 0.5) * strength * math.pi / 2).view(-1, 1, 1) * (1 - radius) ** 2
    pull = radius ** (0.5 * strength)
    return _warped(image, pull * (y * torch.cos(turn) + x * torch.sin(turn)), pull * (x * torch.cos(turn) - y * torch.sin(turn)))


def ripple(image: Tensor, strength: float, draw: Draw) -> Tensor:
    y, x = _places(image)
    phase = (2 * math.pi * draw(2))[:, :, None, None]
    return _warped(image, y + strength * torch.sin(9 * x + phase[:, 0]), x + strength * torch.sin(9 * y + phase[:, 1]))


def circular_motion_blur(image: Tensor, strength: float, draw: Draw) -> Tensor:
    """The mean of 11 copies turned about the middle, from -strength to strength radians."""
    y, x = _places(image)
    angles = torch.linspace(-strength, strength, 11).tolist()
    turned = [(y * math.cos(a) + x * math.sin(a), x * math.cos(a) - y * math.sin(a)) for a in angles]
    return sum(_warped(image, *at) for at in turned) / len(turned)


def chromatic_aberration(image: Tensor, strength: float, draw: Draw) -> Tensor:
    """Red is enlarged by the strength, blue made smaller by it."""
    y, x = _places(image)
    scaled = [_warped(image[:, k : k + 1], y * factor, x * factor) for k, factor in enumerate((1 - strength, 1.0, 1 + strength))]
    return torch.cat(scaled, dim=1)


TYPES: dict[str, tuple[Callable[[Tensor, float, Draw], Tensor], tuple[float, ...]]] = {
    "blue_noise": (blue_noise, (0.05, 0.09, 0.13, 0.18, 0.24)),
    "brownish_noise": (brownish_noise, (0.06, 0.1, 0.15, 0.2, 0.26)),
    "checkerboard_cutout": (checkerboard_cutout, (0.2, 0.35, 0.5, 0.7, 0.95)),
    "sparkles": (sparkles, (0.4, 0.6, 0.8, 1.0, 1.3)),
    "inverse_sparkles": (inverse_sparkles, (0.4, 0.55, 0.7, 0.85, 1.0)),
    "lines": (lines, (0.3, 0.45, 0.6, 0.8, 1.0)),
    "pinch_and_twirl": (pinch_and_twirl, (0.3, 0.5, 0.75, 1.0, 1.4)),
    "ripple": (ripple, (0.03, 0.05, 0.075, 0.1, 0.14)),
    "circular_motion_blur": (circular_motion_blur, (0.1, 0.16, 0.23, 0.32, 0.45)),
    "chromatic_aberration": (chromatic_aberration, (0.05, 0.09, 0.13, 0.18, 0.25)),
}
UNLIKE = tuple(TYPES)


def corrupt_unlike(images: Tensor, name: str, severity: int, *, seed: int = 0, index: Tensor | None = None) -> Tensor:
    """uint8 (N,3,H,W): images after one of UNLIKE at severity 1 to 5. index: int64 (N,), each image's random stream, default 0..N-1.

    Raises TypeError or ValueError that name the argument.
    """
    images = check_images(images)
    check_name("corruption", name, TYPES)
    check_number("severity", severity, 1, 5, integer=True)
    index = check_index(index, len(images), images.device)
    function, strengths = TYPES[name]
    stream = rng.stream("unlike", name, severity)
    made = function(images.double() / 255, strengths[severity - 1], lambda count: rng.uniform(seed, index, stream, count))
    return made.clamp_(0, 1).mul_(255).round_().to(torch.uint8)


def unlike_suite(test: LabeledImages, severities: Sequence[int], seed: int) -> dict[str, LabeledImages]:
    """{type: images at all of these severities}, made once; scored beside the proxy suite, not part of its mean."""

    def build(folder: Path) -> None:
        for name in UNLIKE:
            (folder / name).mkdir(exist_ok=True)
            made = (corrupt_unlike(test.images, name, level, seed=seed) for level in severities)
            save_images(folder / name, concat([test.with_images(images) for images in made], name))

    entry = store.make("unlike-suite", 1, {"data": test.digest, "severities": severities}, build, label="unlike")
    return {name: load_images(entry.path / name) for name in UNLIKE}
