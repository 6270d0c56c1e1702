"""Triton kernels: of the corruptions, one file per algorithm.

A corruption's kernel is a function `(images, constants, words) -> images`, equal byte for byte to the plain-torch function of the same
name in `rtalib.corruptions`, which is its specification; the random words are drawn inside, so that nothing but images crosses the memory
bus. `corrupt` and `k_center_greedy` take kernels on a CUDA device; in tests they run in Triton's interpreter (TRITON_INTERPRET=1).
"""

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from functools import lru_cache

import torch


def kernel(name: str) -> Callable[..., torch.Tensor]:
    """The kernel of a corruption, in the file that the first word of its name says; the three noises share one. Imports Triton."""
    file = "noise" if name.endswith("_noise") else name.partition("_")[0]
    return getattr(importlib.import_module(f"{__name__}.{file}"), name)


@lru_cache(maxsize=1)
def usable() -> bool:
    """Whether Triton is installed; says so once where it is not, since the plain path on a GPU is much slower."""
    if importlib.util.find_spec("triton"):
        return True
    warnings.warn("Triton is not installed: work on the GPU runs through plain torch", RuntimeWarning, stacklevel=3)
    return False
