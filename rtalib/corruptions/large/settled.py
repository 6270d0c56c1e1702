"""Bytes from float32 levels: a level so near a whole one that rounding could decide is computed again, as published, in float64."""

from collections.abc import Callable

import numpy as np

STRETCH = 10_000  # values at once: they stay in the cache, and OpenBLAS takes one thread for so few
AGAIN = 1024  # pixels that are computed again at once


def margin(terms: int) -> float:
    """Levels by which a float32 sum of so many terms, which reaches 255, can be off: each term rounds twice, by up to 2^-24 of the sum."""
    return 2 * 255 * 2**-24 * (terms + 1)


def cut(level: np.ndarray, out: np.ndarray, margin: float) -> np.ndarray:
    """Cut float32 levels from about 0 on to uint8 `out`; returns the positions, in a row, that need another look. Overwrites `level`."""
    np.copyto(out, np.minimum(level, 255), casting="unsafe")
    level -= np.rint(level)
    return np.flatnonzero(np.abs(level, out=level) < margin)


def again(out: np.ndarray, places: np.ndarray, exact: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace the bytes at `places` of a row by those of `exact(places)`, a part at a time."""
    for start in range(0, len(places), AGAIN):
        part = places[start : start + AGAIN]
        out[part] = exact(part)


def in_bands(
    shape: tuple[int, int], level_of: Callable[[slice], np.ndarray], exact: Callable[[np.ndarray], np.ndarray], terms: int
) -> np.ndarray:
    """uint8 (planes, pixels): `level_of` a slice of the pixels gives float32 (planes, n) levels, each a sum of so many terms."""
    out, unsure = np.empty(shape, np.uint8), []
    for start in range(0, shape[1], STRETCH):
        band = slice(start, min(start + STRETCH, shape[1]))
        plane, place = np.divmod(cut(level_of(band), out[:, band], margin(terms)), band.stop - start)
        unsure.append(plane * shape[1] + place + start)
    again(out.reshape(-1), np.concatenate(unsure), exact)
    return out


def in_order(terms: np.ndarray) -> np.ndarray:
    """float64 (n,) sums of terms (k,n), one after another; NumPy's own sum of a single column adds in pairs."""
    total = terms[0].copy()
    for term in terms[1:]:
        total += term
    return total


def equal_within(padded: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """bool: whether all pixels are equal in the window of so many rows and columns that begins at each pixel where it fits."""
    largest = smallest = padded
    for axis, size in ((0, rows), (1, columns)):
        reached = 1
        while reached < size:
            step = min(reached, size - reached)
            near, far = (_cut(axis, None, -step), _cut(axis, step, None))
            largest, smallest = np.maximum(largest[near], largest[far]), np.minimum(smallest[near], smallest[far])
            reached += step
    return largest == smallest


def _cut(axis: int, start: int | None, stop: int | None) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop),)
