"""Gaussian blur of larger pictures to bytes: float32 sums down and across, a stretch of pixels at a time."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rtalib.corruptions.large.settled import STRETCH, again, cut, equal_within, margin


def smoothed(planes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """uint8 (M,H,W) of uint8 planes, borders repeated, to the byte as `filters.gaussian_blur` does it in float64."""
    out, reach = np.empty_like(planes), len(weights) // 2
    flat_bytes = _summed(np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, len(weights), len(weights))), weights)
    for plane, result in zip(planes, out, strict=True):
        height, width = plane.shape
        padded = np.pad(plane, reach, "edge")
        found, unsure = _swept(padded, weights)
        y, x = divmod(unsure, padded.shape[1])
        inside = x < width
        y, x, unsure = y[inside], x[inside], unsure[inside]
        flat = equal_within(padded, len(weights), len(weights))[y, x]
        found[unsure[flat]] = flat_bytes[plane[y[flat], x[flat]]]
        windows, stride = sliding_window_view(padded, (len(weights), len(weights))), padded.shape[1]

        def exact(places: np.ndarray, windows: np.ndarray = windows, stride: int = stride) -> np.ndarray:
            return _summed(windows[places // stride, places % stride], weights)

        again(found, unsure[~flat], exact)
        result[:] = found.reshape(height, stride)[:, :width]
    return out


def _swept(padded: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 of all sites of a padded plane, in a row (the last few columns mean nothing), and the places that are not decided."""
    from scipy.linalg.blas import saxpy

    taps, stride = list(enumerate(weights.tolist())), padded.shape[1]
    source = np.zeros(padded.size + len(taps), np.float32)
    source[: padded.size] = padded.ravel()
    out, unsure = np.empty((padded.shape[0] - len(taps) + 1) * stride, np.uint8), []
    for start in range(0, len(out), STRETCH):
        part = out[start : start + STRETCH]
        rows, level = np.zeros(len(part) + len(taps) - 1, np.float32), np.zeros(len(part), np.float32)
        for tap, weight in taps:
            saxpy(source[start + tap * stride :], rows, len(rows), weight)  # rows += weight * source
        for tap, weight in taps:
            saxpy(rows[tap:], level, len(level), weight)
        unsure.append(cut(level, part, margin(2 * len(taps))) + start)
    return out, np.concatenate(unsure)


def _summed(windows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """uint8 (n,) of uint8 windows (n,k,k): down, then across; each time the centre, then pairs from the outermost to the innermost."""
    total, reach = np.moveaxis(windows, 0, -1) / 255.0, len(weights) // 2
    for _ in range(2):
        samples = total
        total = samples[reach] * weights[reach]
        for offset in range(reach, 0, -1):
            total += (samples[reach - offset] + samples[reach + offset]) * weights[reach + offset]
    return (np.clip(total, 0, 1) * 255).astype(np.uint8)
