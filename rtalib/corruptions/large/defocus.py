"""Defocus blur of larger pictures: a Fourier transform, and the published sum of taps where its rounding could show."""

from functools import lru_cache

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from rtalib.corruptions.large.settled import again, cut, equal_within, in_order

MARGIN = 4e-4  # levels; the transform is off by 1e-4 at most, on noise and on checkerboards
SIDE = 250  # pixels of a plane that are transformed at once, in the cache: about so many each way


def defocused(planes: np.ndarray, kernel: np.ndarray, flat_bytes: np.ndarray) -> np.ndarray:
    """uint8 (M,H,W) correlated with the disk, to the byte as `blur.defocus_blur` does it in float64, tap after tap.

    `flat_bytes` (256,): what becomes of a pixel's value where all pixels under the disk are equal.
    """
    size, out = len(kernel), np.empty_like(planes)
    rows, columns = (-(-side // -(-side // SIDE)) for side in planes.shape[1:])
    disk, sides = spectrum(kernel.tobytes(), size, rows, columns)
    for plane, result in zip(planes, out, strict=True):
        padded = np.pad(plane, size // 2, "reflect")
        for top in range(0, plane.shape[0], rows):
            for left in range(0, plane.shape[1], columns):
                part = np.s_[top : top + rows, left : left + columns]
                under = padded[top : top + rows + size - 1, left : left + columns + size - 1]
                result[part] = _part(plane[part], under, kernel, flat_bytes, disk, sides)
    return out


def _part(pixels: np.ndarray, padded: np.ndarray, kernel: np.ndarray, even: np.ndarray, disk: torch.Tensor, sides: list[int]) -> np.ndarray:
    """uint8 levels of the pixels; `padded` also holds their neighbors under the disk."""
    size, width = len(kernel), pixels.shape[1]
    out = np.empty(pixels.size, np.uint8)
    unsure = cut(levels(padded, size, disk, sides).ravel(), out, MARGIN)
    if len(unsure) > out.size // 256:  # even areas
        flat = equal_within(padded, size, size).ravel()[unsure]
        out[unsure[flat]] = even[pixels.ravel()[unsure[flat]]]
        unsure = unsure[~flat]
    again(out, unsure, lambda places: summed(sliding_window_view(padded, (size, size))[places // width, places % width], kernel))
    return out.reshape(pixels.shape)


def levels(padded: np.ndarray, size: int, disk: torch.Tensor, sides: list[int]) -> np.ndarray:
    """float32 levels under the disk of `size` px, at each place where it fits into the padded plane."""
    shifted = torch.from_numpy(padded.astype(np.float32)).sub_(128)  # about zero, which halves the error
    product = torch.fft.irfft2(torch.fft.rfft2(shifted, s=sides).mul_(disk), s=sides)
    return product[size - 1 : padded.shape[0], size - 1 : padded.shape[1]].add(128 * float(disk[0, 0].real)).contiguous().numpy()


def flat_windows(size: int) -> np.ndarray:
    """uint8 (256, size, size), one for each byte."""
    return np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, size, size))


@lru_cache(maxsize=16)
def spectrum(kernel: bytes, size: int, height: int, width: int) -> tuple[torch.Tensor, list[int]]:
    """Of a disk of `size` px, its own mirror image, float32: the transform, complex64, and the sides it was padded to."""
    from scipy.fft import next_fast_len

    sides = [next_fast_len(side + size - 1, real=True) for side in (height, width)]
    return torch.fft.rfft2(torch.frombuffer(bytearray(kernel), dtype=torch.float32).view(size, size), s=sides), sides


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
    return (np.clip(in_order(products), 0, 1) * 255).astype(np.uint8)
