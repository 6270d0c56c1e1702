"""How a corruption asks for random numbers."""

from typing import NamedTuple

import torch

from rtalib import rng
from rtalib.corruptions import kernels


class Words(NamedTuple):
    """The random words of a batch: `words(count)` gives int64 (N, count) of 32-bit words, a row per image."""

    seed: int
    index: torch.Tensor
    stream: int

    def __call__(self, count: int) -> torch.Tensor:
        if self.index.is_cuda and kernels.usable():
            from rtalib.corruptions.kernels.common import words

            return words(self.seed, self.index, self.stream, count)
        return rng.words(self.seed, self.index, self.stream, count)


def unit(words: torch.Tensor) -> torch.Tensor:
    """float64 in [0, 1) from 32-bit words."""
    return words.double().div_(2.0**32)


def below(words: torch.Tensor, high: int | torch.Tensor) -> torch.Tensor:
    """int64 in 0..high-1 from 32-bit words."""
    return (words * high) >> 32
