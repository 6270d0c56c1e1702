"""What a search draws at random: batches, passes over a set, noise and dropped paths; each depends on seed and epoch alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from rtalib import rng
from rtalib.augment.cutout import cut_squares
from rtalib.darts.operations import Normalize
from rtalib.data.images import LabeledImages
from rtalib.training import batches

CROP_PADDING = 4
Batch = tuple[torch.Tensor, torch.Tensor]


def draw_batches(
    data: LabeledImages, size: int, steps: int, *, seed: int, epoch: int, stream: str, cutout: int = 0, cut: float = 0.0
) -> Iterator[Batch]:
    """`steps` batches of `size` images drawn with replacement, randomly cropped after padding by 4 and flipped: float32 (B,3,H,W) in
    [0,1], labels (B,).

    With probability `cut`, a square of `cutout` pixels is set to the mean colour. Batch i depends on (seed, epoch, i, stream) alone, so a
    search that resumes sees what it would have seen. All numbers are drawn at once, where the images are: no batch waits for the device.
    """
    position = (epoch << 32) + torch.arange(steps * size, device=data.images.device)
    for words in rng.words(seed, position, rng.stream("darts-search", stream), 8 if cutout else 4).split(size):
        pick = (words[:, 0] * len(data)) >> 32
        images = crop_flip(data.images[pick], words[:, 1:4])
        if cutout and cut > 0:
            images = cut_out(images, words[:, 4:7], cutout, cut)
        yield images, data.labels[pick]


def draw_pass(data: LabeledImages, size: int, *, seed: int, epoch: int, stream: str, limit: int | None = None) -> Iterator[Batch]:
    """Batches of `size` that make up one pass over `data` in random order, cropped and flipped; the last may be smaller.

    limit: the pass ends after so many images.
    """
    position = (epoch << 32) + torch.arange(len(data), device=data.images.device)
    words = rng.words(seed, position, rng.stream("darts-search", stream), 5)
    order = torch.argsort((words[:, 0] << 31) | (words[:, 4] >> 1), stable=True)[:limit]
    for pick in order.split(size):
        yield crop_flip(data.images[pick], words[pick, 1:4]), data.labels[pick]


def crop_flip(images: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """uint8 (B,3,H,W) -> float32 in [0,1], cropped after padding by 4 and flipped by the uniform 32-bit `words` (B,3)."""
    device, (height, width) = images.device, images.shape[-2:]
    corners = 2 * CROP_PADDING + 1
    top, left, flip = ((word * choices) >> 32 for word, choices in zip(words.unbind(dim=1), (corners, corners, 2), strict=True))
    images = F.pad(images, (CROP_PADDING,) * 4)
    rows = top[:, None] + torch.arange(height, device=device)
    columns = left[:, None] + torch.arange(width, device=device)
    columns = torch.where(flip[:, None].bool(), columns.flip(1), columns)
    batch = torch.arange(len(images), device=device)[:, None, None]
    cropped = images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]  # (B,H,W,3)
    return batches.pixels(cropped.permute(0, 3, 1, 2))


def cut_out(images: torch.Tensor, words: torch.Tensor, side: int, probability: float) -> torch.Tensor:
    """Cutout (DeVries & Taylor 2017) on each of `images` (B,3,H,W) with `probability`, by the uniform 32-bit `words` (B,3)."""
    y, x = ((word * length) >> 32 for word, length in zip(words[:, :2].unbind(dim=1), images.shape[-2:], strict=True))
    chosen = words[:, 2].double() / 2.0**32 < probability
    mean = Normalize().mean.flatten().to(images.device, non_blocking=True)  # zero after normalisation
    return torch.where(chosen[:, None, None, None], cut_squares(images, y, x, side, mean), images)


@contextmanager
def seeded_epoch(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators (noise, drop path, random masks) follow (seed, epoch) inside and are as before outside."""
    value = int(rng.words(seed, torch.tensor([epoch]), rng.stream("darts-search", "global"), 1))
    devices = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(value)
        for index in devices:
            torch.cuda.default_generators[index].manual_seed(value)
        yield
