"""The batches of a search: drawn with replacement, cropped, flipped, perhaps cut; each depends on seed, epoch and place alone."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from rtalib import rng
from rtalib.augment.cutout import cut_squares
from rtalib.darts.operations import Normalize
from rtalib.data.images import LabeledImages, pixels
from rtalib.training.batches import crop_flip

PADDING = 4  # pixels before the crop
Batch = tuple[torch.Tensor, torch.Tensor]


def draw_batches(
    data: LabeledImages, size: int, steps: int, *, seed: int, epoch: int, stream: str, cutout: int = 0, cut: float = 0.0
) -> Iterator[Batch]:
    """`steps` batches of `size` images, randomly cropped after padding by 4 and flipped: float32 (B,3,H,W) in [0,1], labels (B,).

    With probability `cut`, a square of `cutout` pixels is set to the mean color. Batch i depends on (seed, epoch, i, stream) alone, so a
    resumed search sees the same batches. All numbers are drawn at once, on the device of the images: no batch waits for the device.
    """
    position = (epoch << 32) + torch.arange(steps * size, device=data.images.device)
    for words in rng.words(seed, position, rng.stream("darts-search", stream), 8 if cutout else 4).split(size):
        pick = (words[:, 0] * len(data)) >> 32
        images = cropped(data.images[pick], words[:, 1:4])
        if cutout and cut > 0:
            images = cut_out(images, words[:, 4:7], cutout, cut)
        yield images, data.labels[pick]


def cropped(images: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """uint8 (B,3,H,W) -> float32 in [0,1], cropped after padding and flipped by the uniform 32-bit `words` (B,3)."""
    top, left, flip = ((word * n) >> 32 for word, n in zip(words.unbind(dim=1), (2 * PADDING + 1, 2 * PADDING + 1, 2), strict=True))
    padded = F.pad(images, (PADDING,) * 4).permute(0, 2, 3, 1)
    every = torch.arange(len(images), device=images.device)
    return pixels(crop_flip(padded, every, top, left, flip.bool(), tuple(images.shape[-2:])))


def cut_out(images: torch.Tensor, words: torch.Tensor, side: int, probability: float) -> torch.Tensor:
    """Cutout (DeVries & Taylor 2017) on each of `images` (B,3,H,W) with `probability`, by the uniform 32-bit `words` (B,3)."""
    y, x = ((word * length) >> 32 for word, length in zip(words[:, :2].unbind(dim=1), images.shape[-2:], strict=True))
    chosen = words[:, 2].double() / 2.0**32 < probability
    mean = Normalize().mean.flatten().to(images.device, non_blocking=True)  # zero after normalization
    return torch.where(chosen[:, None, None, None], cut_squares(images, y, x, side, mean), images)
