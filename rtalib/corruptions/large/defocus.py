"""Defocus blur of larger pictures: a Fourier transform, and the published sum of taps where its rounding could show."""

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from rtalib.corruptions.filters import places

MARGIN = 1e-7  # levels; the transform is off by less than 1e-10
AGAIN = 1024  # pixels that are summed again at once


def defocused(plane: np.ndarray, kernel: np.ndarray, flat_bytes: np.ndarray, disk: tuple[torch.Tensor, list[int]]) -> np.ndarray:
    """uint8 (H,W) correlated with the disk, to the byte as `blur.defocus_blur` does it in float64, tap after tap.

    A cut differs only where a level is all but whole. That is so wherever all pixels under the disk are equal: `flat_bytes` (256,) holds
    what becomes of their value. The few others are summed again.
    """
    reach, size, width = len(kernel) // 2, len(kernel), plane.shape[1]
    padded = np.pad(plane, reach, "reflect")
    level = _correlated(padded, disk, size)
    out = level.clamp(0, 255).to(torch.uint8).numpy()
    unsure = places(level.sub_(level.round()).abs_(), "less", MARGIN).numpy()
    flat = _equal_within(padded, size).ravel()[unsure]
    out.ravel()[unsure[flat]] = flat_bytes[plane.ravel()[unsure[flat]]]
    windows, unsure = sliding_window_view(padded, (size, size)), unsure[~flat]
    for start in range(0, len(unsure), AGAIN):
        part = unsure[start : start + AGAIN]
        out.ravel()[part] = summed(windows[part // width, part % width], kernel)
    return out


def flat_windows(size: int) -> np.ndarray:
    """uint8 (256, size, size), one for each byte."""
    return np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, size, size))


def spectrum(kernel: np.ndarray, height: int, width: int) -> tuple[torch.Tensor, list[int]]:
    """Of the disk, which is its own mirror image: the transform, complex128, and the sides it was padded to."""
    from scipy.fft import next_fast_len

    sides = [next_fast_len(side + len(kernel) - 1, real=True) for side in (height, width)]
    return torch.fft.rfft2(torch.from_numpy(kernel).double(), s=sides), sides


def _correlated(padded: np.ndarray, disk: tuple[torch.Tensor, list[int]], size: int) -> torch.Tensor:
    """Levels, float64 (H,W), of the padded plane under the disk."""
    transform, sides = disk
    product = torch.fft.rfft2(torch.from_numpy(padded).double(), s=sides).mul_(transform)
    return torch.fft.irfft2(product, s=sides)[size - 1 : padded.shape[0], size - 1 : padded.shape[1]].contiguous()


def _equal_within(padded: np.ndarray, size: int) -> np.ndarray:
    """bool (H,W): whether all pixels of the window of size x size are equal."""
    largest, smallest = padded, padded
    for axis in (0, 1):
        reached = 1
        while reached < size:
            step = min(reached, size - reached)
            near, far = (_cut(axis, None, -step), _cut(axis, step, None))
            largest, smallest = np.maximum(largest[near], largest[far]), np.minimum(smallest[near], smallest[far])
            reached += step
    return largest == smallest


def _cut(axis: int, start: int | None, stop: int | None) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop),)


def summed(windows: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """uint8 (n,) of uint8 windows (n,k,k): the two or four samples that share a tap first, rows before columns, then tap after tap."""
    reach = kernel.shape[0] // 2
    folded = windows / 255.0
    for axis in (1, 2):
        folded = np.moveaxis(folded, axis, 0)
        folded = np.concatenate([folded[reach : reach + 1], folded[reach - 1 :: -1] + folded[reach + 1 :]])
        folded = np.moveaxis(folded, 0, axis)
    taps = kernel[reach:, reach:]
    used = np.nonzero(taps)
    products = np.ascontiguousarray(folded[:, *used].T) * taps[used].astype(np.float64)[:, None]
    return (np.clip(np.add.reduce(products, axis=0), 0, 1) * 255).astype(np.uint8)
