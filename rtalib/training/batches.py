"""Batches from images that stay uint8 on the device: order, crop, flip and cutout as tensor operations over a whole batch.

Every draw depends on (seed, epoch, image index) alone, so a resumed run sees the same batches, on any device.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from rtalib import rng
from rtalib.augment.cutout import cut_squares
from rtalib.data.images import pixels
from rtalib.training.recipes import Recipe


@dataclass(frozen=True)
class Draws:
    """The draws of one epoch for N images; int64 (N,) each, `flip` bool (N,)."""

    order: torch.Tensor
    top: torch.Tensor
    left: torch.Tensor
    flip: torch.Tensor
    hole_y: torch.Tensor
    hole_x: torch.Tensor


def draw(n: int, size: tuple[int, int], recipe: Recipe, seed: int, epoch: int, device: torch.device) -> Draws:
    """Order, crop corners, flips and cutout centers of one epoch over `n` images of `size` (H,W)."""
    index = torch.arange(n, device=device)
    words = rng.words(seed, index, rng.stream("training", epoch), 8)
    key = ((words[:, 0] >> 1) << 32) | words[:, 1]  # 63 random bits: ties are practically impossible, and then the stable order decides
    top, left, hole_y, hole_x = (
        (words[:, 2 + i] * high) >> 32 for i, high in enumerate((2 * recipe.crop_padding + 1, 2 * recipe.crop_padding + 1, *size))
    )
    coin = rng.words(seed, index, rng.stream("training", 0), 8)[:, 6] + epoch if recipe.alternating_flip else words[:, 6]
    flip = (coin & 1).bool() & recipe.flip
    return Draws(torch.argsort(key, stable=True), top, left, flip, hole_y, hole_x)


def crop_flip(
    padded: torch.Tensor, index: torch.Tensor, top: torch.Tensor, left: torch.Tensor, flip: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """Images `index` (B,) cut out of `padded` (N,H+2p,W+2p,3) at their corners (B,), mirrored if bool `flip` (B,) -> uint8 (B,3,H,W),
    channels-last in memory."""
    height, width = size
    columns = torch.arange(width, device=padded.device)
    y = top[:, None] + torch.arange(height, device=padded.device)
    x = left[:, None] + torch.where(flip[:, None], columns.flip(0), columns)
    return padded[index[:, None, None], y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def interleaved(order: torch.Tensor, first: int) -> torch.Tensor:
    """Indices below `first` and the others in turn, each kind in its order; the others repeat, or end early, to be as many."""
    ours, others = order[order < first], order[order >= first]
    turn = torch.arange(first, device=order.device) % len(others)
    return torch.stack([ours, others[turn]], 1).flatten()


class Batches:
    """The training set on its device; iterate with `epoch(seed, epoch)`.

    images uint8 (N,3,H,W), labels (N,) or (N,K). A last partial batch is kept, except one of a single image, over which BatchNorm
    has no variance. The crop pads with black; cutout fills with the mean color of `images` (zero after normalization).
    n_labeled: see training.train. Raises ValueError if one of the two parts would be empty.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, recipe: Recipe, device: torch.device, n_labeled: int = 0):
        if not 0 <= n_labeled < len(labels):
            raise ValueError(f"n_labeled: expected less than the {len(labels)} images there are, got {n_labeled}")
        p = recipe.crop_padding
        self.recipe, self.device, self.size, self.n_labeled = recipe, device, tuple(images.shape[2:]), n_labeled
        self.labels = labels.to(device)
        images = images.to(device)
        self.padded = F.pad(images, (p, p, p, p)).permute(0, 2, 3, 1).contiguous()
        self.mean = torch.stack([c.double().mean() for c in images.unbind(1)]).float() / 255.0 if recipe.cutout else None

    def __len__(self) -> int:
        n, size = 2 * self.n_labeled or len(self.labels), self.recipe.batch_size
        return n // size + (n % size > 1)

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(float32 pixels (B,3,H,W), labels (B,) or (B,K)) in a new order."""
        draws = draw(len(self.labels), self.size, self.recipe, seed, epoch, self.device)
        order = interleaved(draws.order, self.n_labeled) if self.n_labeled else draws.order
        for index in order.split(self.recipe.batch_size)[: len(self)]:
            x = pixels(crop_flip(self.padded, index, draws.top[index], draws.left[index], draws.flip[index], self.size))
            if self.recipe.cutout:
                x = cut_squares(x, draws.hole_y[index], draws.hole_x[index], self.recipe.cutout, self.mean)
            yield x, self.labels[index]
