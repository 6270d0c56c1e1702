"""Cutout (DeVries and Taylor 2017): one square per image is erased."""

import torch
from torch import Tensor

from rtalib import rng
from rtalib.errors import check_images, check_index, check_number
from rtalib.models.base import CIFAR_MEAN

FILL = tuple(round(255 * mean) for mean in CIFAR_MEAN)  # gray levels


def cutout(images: Tensor, *, seed: int, index: Tensor, size: int = 16, fill: tuple[int, int, int] = FILL) -> Tensor:
    """uint8 (N,3,H,W) with one size x size square per image set to `fill`, its center uniform over the pixels, clipped at the borders.

    index: int64 (N,); the center depends on (seed, index) alone. fill: gray levels per channel, by default the mean of CIFAR-10, which is
    zero after normalization.
    """
    images = check_images(images)
    check_number("size", size, 1, integer=True)
    if len(fill) != 3 or not all(0 <= value <= 255 for value in fill):
        raise ValueError(f"fill: expected three gray levels 0-255, got {fill}")
    index = check_index(index, len(images), images.device)
    centers = (
        rng.integers(seed, index, rng.stream("cutout", axis), 1, side)
        for axis, side in zip(("rows", "columns"), images.shape[2:], strict=True)
    )
    return cut_squares(images, *(center[:, 0] for center in centers), size, torch.tensor(fill, dtype=torch.uint8, device=images.device))


def cut_squares(images: Tensor, y: Tensor, x: Tensor, size: int, fill: Tensor) -> Tensor:
    """(N,C,H,W) with size x size squares around the centers y, x, int64 (N,), set to `fill` (C,)."""
    rows, columns = (spans(center[:, None] - size // 2, size, side) for center, side in zip((y, x), images.shape[2:], strict=True))
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], fill[:, None, None], images)


def spans(first: Tensor, length: Tensor | int, side: int) -> Tensor:
    """bool (N,side): the positions first to first + length - 1, (N,1) each, along an axis of `side` pixels."""
    position = torch.arange(side, device=first.device)
    return (position >= first) & (position < first + length)
