"""PRIME (Modas et al., ECCV 2022) offline: chains of random filters, smooth deformations and smooth color curves, mixed as in AugMix.

Three families of maximum entropy (the paper's section 3): a filter in the plane, a diffeomorphism of Petrini et al. (2021), and a color
curve of 100 sine waves. The parameters are the published ones for CIFAR-10. Two departures: each image draws its own deformation, where the
published code has one for a batch; and values are rounded to gray levels after each operation, so that a color curve is a table.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rtalib import rng
from rtalib.augment.augmix import RANDOM_DEPTHS, dirichlet, midpoints, mixed
from rtalib.errors import check_images, check_index, check_number

KERNEL, FILTER_DEVIATION = 3, 4.0
WAVES, COLOR_VARIANCE = 100, 0.01
LEAST_CUT, MOST_CUT = 2, 100  # highest frequency of a deformation, uniform between these
IMAGES = 256  # worked on at once


def prime(images: Tensor, *, seed: int, index: Tensor, width: int = 3) -> Tensor:
    """PRIME of uint8 (N,3,H,W): (1 - m) image + m sum_k w_k chain_k(image), rounded; uint8 (N,3,H,W) on the same device.

    A chain has one, two or three operations out of `filtered`, `deformed` and `recolored`; w ~ Dirichlet(1, ..., 1), m ~ U(0, 1).
    index: int64 (N,), the identity of each image; a result depends on (seed, index) and the image alone. width: the number of chains.
    Raises TypeError or ValueError that name the argument.
    """
    images = check_images(images)
    index = check_index(index, len(images))
    check_number("width", width, 1, integer=True)
    parts = [_mixed(images[at : at + IMAGES], seed, index[at : at + IMAGES], width) for at in range(0, len(images), IMAGES)]
    return torch.cat(parts) if parts else images


def _mixed(images: Tensor, seed: int, index: Tensor, width: int) -> Tensor:
    count = width * RANDOM_DEPTHS
    operation = rng.integers(seed, index, rng.stream("prime", "operation"), count, len(OPERATIONS)).view(-1, RANDOM_DEPTHS)
    length = rng.integers(seed, index, rng.stream("prime", "depth"), width, RANDOM_DEPTHS).view(-1, 1) + 1
    operation = torch.where(torch.arange(RANDOM_DEPTHS) < length, operation, -1)
    chains = images.repeat_interleave(width, dim=0)
    who, place = index.repeat_interleave(width), torch.arange(width).repeat(len(index))
    for turn in range(RANDOM_DEPTHS):
        for number, function in enumerate(OPERATIONS):
            for chain in range(width):
                at = ((operation[:, turn] == number) & (place == chain)).nonzero().squeeze(1)
                if len(at):
                    stream = rng.stream("prime", turn, chain)
                    chains[at.to(images.device)] = function(chains[at.to(images.device)], seed, who[at], stream)
    weights = dirichlet(midpoints(seed, index, rng.stream("prime", "weights"), width), 1.0)
    return mixed(images, chains, rng.uniform(seed, index, rng.stream("prime", "share"), 1), weights)


def filtered(images: Tensor, seed: int, index: Tensor, stream: int) -> Tensor:
    """Each of uint8 (N,3,H,W) under its own 3 x 3 filter: the identity plus normal numbers of deviation 4; zeros beyond the border."""
    kernel = FILTER_DEVIATION * rng.normal(seed, index, stream, KERNEL**2).view(-1, 1, KERNEL, KERNEL)
    kernel[:, :, KERNEL // 2, KERNEL // 2] += 1
    planes = images.transpose(0, 1).double()  # the channels are the batch, an image a group with its own kernel
    return _gray_levels(F.conv2d(planes, kernel.to(images.device), padding=KERNEL // 2, groups=len(images)).transpose(0, 1))


def recolored(images: Tensor, seed: int, index: Tensor, stream: int) -> Tensor:
    """Each channel v in 0..1 of uint8 (N,3,H,W) becomes v + sum_k c_k sin(pi k v), c_k normal of variance 0.01, k = 1 to 100."""
    waves = torch.arange(1, WAVES + 1, dtype=torch.float64)
    values = torch.arange(256, dtype=torch.float64) / 255
    drawn = math.sqrt(COLOR_VARIANCE) * rng.normal(seed, index, stream, 3 * WAVES).view(-1, 3, WAVES)
    tables = _gray_levels(255 * (values + drawn @ torch.sin(math.pi * waves[:, None] * values))).to(images.device)
    return tables.gather(2, images.flatten(2).long()).view(images.shape)


def deformed(images: Tensor, seed: int, index: Tensor, stream: int) -> Tensor:
    """Each of uint8 (N,3,H,W) moved by its own smooth field; beyond the border the border's values.

    A field is sum_ij T^(1/2) c_ij / r sin(pi i x) sin(pi j y), r^2 = i^2 + j^2 up to cut^2, with x and y from 0 to 1 across the image,
    times the side. T lies between that of half a pixel and the largest without folds (Petrini et al. 2021, appendix).
    """
    height, width = images.shape[2:]
    cut, share = rng.uniform(seed, index, stream + 1, 2).view(-1, 2, 1, 1, 1).unbind(1)
    cut = (LEAST_CUT + cut * (MOST_CUT + 1 - LEAST_CUT)).floor()
    least, most = 1 / (math.pi * max(height, width) ** 2 * cut.log()), 4 / (math.pi**3 * cut**2 * cut.log())
    temperature = least + share * (torch.maximum(least, most) - least)
    waves = torch.arange(1, MOST_CUT + 1, dtype=torch.float64)
    radius = torch.hypot(waves[:, None], waves)
    drawn = rng.normal(seed, index, stream, 2 * MOST_CUT**2).view(-1, 2, MOST_CUT, MOST_CUT)
    strength = torch.where(radius <= cut + 0.5, temperature.sqrt() / radius, 0.0) * drawn
    across, down = (torch.sin(math.pi * torch.linspace(0, 1, n, dtype=torch.float64)[:, None] * waves) for n in (width, height))
    moved = (down @ strength.transpose(2, 3) @ across.T).to(images.device)
    x, y = (torch.linspace(-1, 1, n, dtype=torch.float64, device=images.device) for n in (width, height))
    # a shift by the whole side is 2 in the units of grid_sample
    at = torch.stack([x - 2 * moved[:, 0], y[:, None] - 2 * moved[:, 1]], dim=-1)
    return _gray_levels(F.grid_sample(images.double(), at, padding_mode="border", align_corners=True))


def _gray_levels(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


OPERATIONS = (filtered, deformed, recolored)
