"""Batches from images that stay uint8 on the device: order, crop, flip and cutout as tensor operations over a whole batch.

Every draw depends on (seed, epoch, image index) alone, so a resumed run sees the same batches, on any device.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from rtalib import rng
from rtalib.data.images import pixels
from rtalib.training.recipes import Recipe


@dataclass(frozen=True)
class Draws:
    """What one epoch does to N images; int64 (N,) each, `flip` bool (N,)."""

    order: torch.Tensor
    top: torch.Tensor
    left: torch.Tensor
    flip: torch.Tensor
    hole_y: torch.Tensor
    hole_x: torch.Tensor


def draw(n: int, size: tuple[int, int], recipe: Recipe, seed: int, epoch: int, device: torch.device) -> Draws:
    """Order, crop corners, flips and cutout centres of one epoch over `n` images of `size` (H,W)."""
    index = torch.arange(n, device=device)
    words = rng.words(seed, index, rng.stream("training", epoch), 8)
    key = ((words[:, 0] >> 1) << 32) | words[:, 1]  # 63 random bits: ties are practically impossible, and then the stable order decides
    top, left, hole_y, hole_x = (
        (words[:, 2 + i] * high) >> 32 for i, high in enumerate((2 * recipe.crop_padding + 1, 2 * recipe.crop_padding + 1, *size))
    )
    flip = (words[:, 6] & 1).bool() & recipe.flip
    return Draws(torch.argsort(key, stable=True), top, left, flip, hole_y, hole_x)


def crop_flip(padded: torch.Tensor, index: torch.Tensor, draws: Draws, size: tuple[int, int]) -> torch.Tensor:
    """Images `index` (B,) cut out of `padded` (N,H+2p,W+2p,3) -> uint8 (B,3,H,W), channels-last in memory."""
    height, width = size
    columns = torch.arange(width, device=padded.device)
    y = draws.top[index, None] + torch.arange(height, device=padded.device)
    x = draws.left[index, None] + torch.where(draws.flip[index, None], columns.flip(0), columns)
    return padded[index[:, None, None], y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def cutout(x: torch.Tensor, hole_y: torch.Tensor, hole_x: torch.Tensor, side: int, fill: torch.Tensor) -> torch.Tensor:
    """Squares [centre - side//2, centre + side//2), clipped at the borders, set to `fill` (3,) (DeVries & Taylor 2017); x (B,3,H,W)."""
    dy = torch.arange(x.shape[2], device=x.device) - hole_y[:, None]
    dx = torch.arange(x.shape[3], device=x.device) - hole_x[:, None]
    half = side // 2
    inside_y, inside_x = (dy >= -half) & (dy < half), (dx >= -half) & (dx < half)
    return torch.where((inside_y[:, :, None] & inside_x[:, None, :])[:, None], fill[:, None, None], x)


def interleaved(order: torch.Tensor, first: int) -> torch.Tensor:
    """Indices below `first` and the others in turn, each kind in its order; the others repeat, or end early, to be as many."""
    ours, others = order[order < first], order[order >= first]
    turn = torch.arange(first, device=order.device) % len(others)
    return torch.stack([ours, others[turn]], 1).flatten()


class Batches:
    """The training set on its device; iterate with `epoch(seed, epoch)`.

    images uint8 (N,3,H,W), labels (N,) or (N,K). A last partial batch is kept, except one of a single image, over which BatchNorm
    has no variance. The crop pads with black; cutout fills with the mean colour of `images` (zero after normalisation).
    halves: where above 0, the first `halves` images make up one half of each batch and the others the other; an epoch passes once over the
    first. Raises ValueError where one of the two parts would be empty.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, recipe: Recipe, device: torch.device, halves: int = 0):
        if not 0 <= halves < len(labels):
            raise ValueError(f"halves: expected less than the {len(labels)} images there are, got {halves}")
        p = recipe.crop_padding
        self.recipe, self.device, self.size, self.halves = recipe, device, tuple(images.shape[2:]), halves
        self.labels = labels.to(device)
        images = images.to(device)
        self.padded = F.pad(images, (p, p, p, p)).permute(0, 2, 3, 1).contiguous()
        self.mean = torch.stack([c.double().mean() for c in images.unbind(1)]).float() / 255.0 if recipe.cutout else None

    def __len__(self) -> int:
        n, size = 2 * self.halves or len(self.labels), self.recipe.batch_size
        return n // size + (n % size > 1)

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(float32 pixels (B,3,H,W), labels (B,) or (B,K)) in a new order."""
        draws = draw(len(self.labels), self.size, self.recipe, seed, epoch, self.device)
        order = interleaved(draws.order, self.halves) if self.halves else draws.order
        for index in order.split(self.recipe.batch_size)[: len(self)]:
            x = pixels(crop_flip(self.padded, index, draws, self.size))
            if self.recipe.cutout:
                x = cutout(x, draws.hole_y[index], draws.hole_x[index], self.recipe.cutout, self.mean)
            yield x, self.labels[index]
