"""How a corruption asks for random numbers: `words(count)` gives int64 (N, count) of 32-bit words, a row per image of the batch."""

from collections.abc import Callable

import torch

Words = Callable[[int], torch.Tensor]


def unit(words: torch.Tensor) -> torch.Tensor:
    """float64 in [0, 1) from 32-bit words."""
    return words.double().div_(2.0**32)


def below(words: torch.Tensor, high: int | torch.Tensor) -> torch.Tensor:
    """int64 in 0..high-1 from 32-bit words."""
    return (words * high) >> 32
