"""Triton kernels: of the corruptions, one file per algorithm, and of k-center greedy (kcenter.py, with its specification beside it).

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

FILES = {
    "gaussian_noise": "noise",
    "shot_noise": "noise",
    "impulse_noise": "noise",
    "defocus_blur": "defocus",
    "glass_blur": "glass",
    "motion_blur": "motion",
    "zoom_blur": "zoom",
    "snow": "snow",
    "frost": "frost",
    "fog": "fog",
    "brightness": "brightness",
    "contrast": "contrast",
    "elastic_transform": "elastic",
    "pixelate": "pixelate",
    "jpeg_compression": "jpeg",
}


def kernel(name: str) -> Callable[..., torch.Tensor]:
    """The kernel of a corruption. Imports Triton."""
    return getattr(importlib.import_module(f"{__name__}.{FILES[name]}"), name)


@lru_cache(maxsize=1)
def usable() -> bool:
    """Whether Triton is installed; says so once where it is not, since the plain path on a GPU is much slower."""
    if importlib.util.find_spec("triton"):
        return True
    warnings.warn("Triton is not installed: work on the GPU runs through plain torch", RuntimeWarning, stacklevel=3)
    return False
