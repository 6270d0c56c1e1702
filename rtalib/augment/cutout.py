"""Cutout (DeVries and Taylor 2017) of images at rest: one square an image."""

import torch
from torch import Tensor

from rtalib import rng
from rtalib.augment.bank import CIFAR_MEAN, _index
from rtalib.errors import check_images


def cutout(images: Tensor, *, seed: int, index: Tensor, size: int = 16, fill: tuple[int, int, int] = CIFAR_MEAN) -> Tensor:
    """Cutout (DeVries and Taylor 2017): one size x size square per image, its centre uniform over the pixels, clipped at the borders.

    The square becomes `fill` (grey levels per channel): the mean, which is zero after normalisation.
    """
    check_images(images)
    if size < 1:
        raise ValueError(f"size: expected at least 1 pixel, got {size}")
    if len(fill) != 3 or not all(0 <= value <= 255 for value in fill):
        raise ValueError(f"fill: expected three grey levels 0-255, got {fill}")
    index = _index(index, len(images)).to(images.device)
    inside = [_span(seed, index, axis, length, size) for axis, length in zip(("rows", "columns"), images.shape[2:], strict=True)]
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(hole, torch.tensor(fill, dtype=torch.uint8, device=images.device)[:, None, None], images)


def _span(seed: int, index: Tensor, axis: str, length: int, size: int) -> Tensor:
    """bool (N, length): the positions that the hole covers along one axis."""
    first = rng.integers(seed, index, rng.stream("cutout", axis), 1, length) - size // 2
    position = torch.arange(length, device=index.device)
    return (position >= first) & (position < first + size)
