"""How a corruption asks for random numbers."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from rtalib import rng
from rtalib.corruptions import kernels

PART = 48_000  # words that a long row is drawn in at a time


class Words(NamedTuple):
    """The random words of a batch: `words(count)` gives int64 (N, count) of 32-bit words, a row per image, from number `start` on."""

    seed: int
    index: torch.Tensor
    stream: int
    start: int = 0

    def __call__(self, count: int) -> torch.Tensor:
        if self.index.is_cuda and kernels.usable():
            from rtalib.corruptions.kernels.common import words

            return words(self.seed, self.index, self.stream, self.start + count)[:, self.start :]
        return rng.words(self.seed, self.index, self.stream, count, self.start)


def unit(words: torch.Tensor) -> torch.Tensor:
    """float64 in [0, 1) from 32-bit words."""
    return words.double().div_(2.0**32)


def in_parts(words: Words, count: int) -> Iterator[tuple[int, torch.Tensor]]:
    """(first number, words int64 (N, part)) of `count` words a row, so that the words themselves take little memory."""
    for start in range(0, count, PART):
        yield start, words._replace(start=words.start + start)(min(PART, count - start))


def units(words: Words, count: int) -> torch.Tensor:
    """float64 (N, count) in [0, 1)."""
    if count <= PART:
        return unit(words(count))
    out = torch.empty(len(words.index), count, dtype=torch.float64, device=words.index.device)
    for start, drawn in in_parts(words, count):
        out[:, start : start + drawn.shape[1]].copy_(drawn).mul_(2.0**-32)
    return out


def below(words: torch.Tensor, high: int | torch.Tensor) -> torch.Tensor:
    """int64 in 0..high-1 from 32-bit words."""
    return (words * high) >> 32
