"""The benchmark's four validation types, meant for choosing settings: no mean over the fifteen includes them.

Speckle noise, Gaussian blur and saturation, with the arithmetic of Hendrycks and Dietterich's scripts, in plain torch on every device;
spatter has its own file.
"""

import math
from functools import lru_cache

import torch

from rtalib.corruptions.filters import smoothed, truncate, unit_floats
from rtalib.corruptions.held_out.spatter import Spatter
from rtalib.corruptions.noise import _alias, _counts, sample_rows
from rtalib.corruptions.weather import _hsv_to_rgb

HELD_OUT = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
# speckle noise: standard deviation relative to the value; Gaussian blur: sigma in px; saturation: factor and addend
HELD_OUT_CONSTANTS = {
    "cifar10-c": {
        "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
        "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
        "spatter": (
            Spatter(0.62, 0.1, 0.7, 0.7, 0.5, mud=False),
            Spatter(0.65, 0.1, 0.8, 0.7, 0.5, mud=False),
            Spatter(0.65, 0.3, 1, 0.69, 0.5, mud=False),
            Spatter(0.65, 0.1, 0.7, 0.69, 0.6, mud=True),
            Spatter(0.65, 0.1, 0.5, 0.68, 0.6, mud=True),
        ),
        "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    },
    "imagecorruptions": {
        "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),
        "gaussian_blur": (1, 2, 3, 4, 6),
        "spatter": (
            Spatter(0.65, 0.3, 4, 0.69, 0.6, mud=False),
            Spatter(0.65, 0.3, 3, 0.68, 0.6, mud=False),
            Spatter(0.65, 0.3, 2, 0.68, 0.5, mud=False),
            Spatter(0.65, 0.3, 1, 0.65, 1.5, mud=True),
            Spatter(0.67, 0.4, 1, 0.65, 1.5, mud=True),
        ),
        "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    },
}


@lru_cache(maxsize=32)
def speckle_table(std: float, device: torch.device) -> torch.Tensor:
    """For each byte v the law of trunc(255 clip(v / 255 (1 + std z))), z ~ N(0,1): 256 alias tables end to end."""
    table = _alias(_counts([1.0] * 256), 256)  # black stays black
    for value in range(1, 256):
        cumulative = [0.5 * math.erfc((1 - (level + 1) / value) / (std * math.sqrt(2))) for level in range(256)]
        table += _alias(_counts(cumulative), 256)
    return torch.tensor(table, device=device)


def speckle_noise(images: torch.Tensor, std: float, words: torch.Tensor) -> torch.Tensor:
    """trunc(255 clip(v + v std z)), independent z ~ N(0,1) per value; exact up to the resolution of a word, as the other noises."""
    return sample_rows(speckle_table(std, images.device), words, images.flatten(1)).view(images.shape)


def gaussian_blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur over 4 sigma, edge pixels repeated."""
    return smoothed(images, sigma)


def saturate(images: torch.Tensor, constants: tuple[float, float]) -> torch.Tensor:
    """HSV saturation times a factor plus an addend. Grey has hue 0, so that the addend turns it reddish."""
    factor, addend = constants
    hue, saturation, value = _rgb_to_hsv(unit_floats(images))
    return truncate(_hsv_to_rgb(hue, saturation.mul_(factor).add_(addend).clamp_(0, 1), value))


def _rgb_to_hsv(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """float64 RGB (N,3,H,W) -> planes (N,H,W) of hue, saturation and value in 0..1; the textbook's steps, one by one."""
    red, green, blue = image.unbind(1)
    value = image.amax(1)
    spread = value - image.amin(1)
    grey = spread == 0
    hue = torch.where(red == value, (green - blue) / spread, 0.0)
    hue = torch.where(green == value, (blue - red) / spread + 2.0, hue)
    hue = torch.where(blue == value, (red - green) / spread + 4.0, hue).div_(6.0)
    hue = torch.where(hue < 0, hue + 1.0, hue).masked_fill_(grey, 0.0)
    return hue, (spread / value).masked_fill_(grey, 0.0), value
