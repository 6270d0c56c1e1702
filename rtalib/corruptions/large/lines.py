"""Blur along a line of one larger picture, as bytes: float32 sums, a stretch of pixels at a time."""

from collections.abc import Callable

import numpy as np
import torch

from rtalib.corruptions.large.settled import STRETCH, again, cut, equal_within, in_order, margin


def blurred_bytes(
    planes: np.ndarray,
    weights: np.ndarray,
    dx: np.ndarray,
    dy: np.ndarray,
    scale: float,
    addend: float,
    finish: Callable[[torch.Tensor], torch.Tensor],
) -> np.ndarray:
    """uint8 (C,H,W): `finish` of the sums that `filters.line_blur` makes of uint8 or float64 planes; it cuts about scale * sum + addend.

    weights float64 and dx, dy int64, (taps,) each. In a flattened padded plane each tap is one shift of all pixels.
    """
    used = np.flatnonzero(weights)
    weights, dx, dy = weights[used], dx[used], dy[used]
    above, under, left, right = (max(0, int(shift.max())) for shift in (-dy, dy, -dx, dx))
    height, width = planes.shape[1:]
    stride = width + left + right
    shifts = (above + dy) * stride + left + dx
    out = np.empty(planes.shape, np.uint8)
    for plane, result in zip(planes, out, strict=True):
        padded = np.pad(plane, ((above, under), (left, right)), "edge")
        flat = padded.ravel()

        def exact(places: np.ndarray, flat: np.ndarray = flat) -> np.ndarray:
            return _finished(flat[places + shifts[:, None]], weights, finish)

        found, unsure = _swept(flat, (height - 1) * stride + width, weights * scale, shifts, addend)
        unsure = unsure[unsure % stride < width]
        if len(unsure) > found.size // 64:  # flat areas
            y, x = unsure // stride, unsure % stride
            even = equal_within(padded, above + 1 + under, left + 1 + right)[y, x]
            values, numbers = np.unique(plane[y[even], x[even]], return_inverse=True)
            found[unsure[even]] = _finished(np.broadcast_to(values, (len(weights), len(values))), weights, finish)[numbers]
            unsure = unsure[~even]
        again(found, unsure, exact)
        result[:] = np.lib.stride_tricks.as_strided(found, (height, width), (stride, 1))
    return out


def _swept(flat: np.ndarray, count: int, weights: np.ndarray, shifts: np.ndarray, addend: float) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (count,) of the sums of a flattened plane, and the places where they do not decide."""
    from scipy.linalg.blas import saxpy

    source, out, unsure = flat.astype(np.float32), np.empty(count, np.uint8), []
    taps = list(zip(shifts.tolist(), weights.tolist(), strict=True))
    for start in range(0, count, STRETCH):
        part = out[start : start + STRETCH]
        level = np.full(len(part), addend, np.float32)
        for shift, weight in taps:
            saxpy(source[start + shift :], level, len(part), weight)  # level += weight * source
        unsure.append(cut(level, part, margin(len(taps))) + start)
    return out, np.concatenate(unsure)


def _finished(samples: np.ndarray, weights: np.ndarray, finish: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """uint8 (n,) of samples (taps,n), added in float64 tap after tap."""
    return finish(torch.from_numpy(in_order(samples * weights[:, None]))).numpy()
