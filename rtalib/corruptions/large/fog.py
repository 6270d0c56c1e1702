"""Fog's plasma in bands of rows, for pictures that are much smaller than its square: memory follows the picture, not the square."""

from collections.abc import Callable, Iterator

import numpy as np

Draw = Callable[[int, int], np.ndarray]  # (first number, how many) -> float64 numbers in [0, 1)
LEAST = 2**16  # points of a band: with fewer, most of the work is the coarser rows around it, and the calls


class Plasma:
    """The height map of `weather.plasma` on a torus of `side` rows and columns, before it is scaled to 0..1, any rows at a time.

    Level k has 2^k rows and columns; each of its rows follows from the nearest ones of level k - 1.
    """

    def __init__(self, draw: Draw, side: int, decay: float, dtype: type, area: int) -> None:
        self.draw, self.side, self.dtype, self.wobbles = draw, side, dtype, [100.0]
        self.levels, self.whole = side.bit_length() - 1, {}
        for _ in range(self.levels):
            self.wobbles.append(self.wobbles[-1] / decay)
        self.band = max(LEAST, area // 3) // side
        base = (max(LEAST, area) // 2).bit_length() // 2 - 1  # the level that is kept whole
        self.whole[base] = self.rows(base, 0, 2**base)

    def bands(self) -> Iterator[np.ndarray]:
        """All rows, in order."""
        for first in range(0, self.side, self.band):
            yield self.rows(self.levels, first, min(first + self.band, self.side))

    def rows(self, level: int, first: int, end: int) -> np.ndarray:
        """Rows first .. end - 1 of a level, which go on around the torus."""
        if level in self.whole:
            return self.whole[level].take(range(first, end), 0, mode="wrap")
        if level == 0:
            return np.zeros((end - first, 1), self.dtype)
        low, high = (first - 1) // 2, end // 2 + 2
        return self.between(self.rows(level - 1, low, high), level - 1, low)[first - 2 * low - 1 : end - 2 * low - 1]

    def between(self, corner: np.ndarray, level: int, first: int) -> np.ndarray:
        """Rows of the next level, from the one below the first of `corner`, rows `first` and on of this, to the one above the last."""
        area, pairs = 4**level, corner[:-1] + corner[1:]
        centre = self.displaced(pairs + np.roll(pairs, -1, 1), level, first, area - 1)
        beside = corner[1:-1] + np.roll(corner[1:-1], -1, 1)
        fine = np.empty((2 * len(corner) - 3, 2 * corner.shape[1]), self.dtype)
        fine[::2, 1::2], fine[1::2, ::2] = centre, corner[1:-1]
        fine[1::2, 1::2] = self.displaced((centre[1:] + centre[:-1]) + beside, level, first + 1, 2 * area - 1)
        fine[::2, ::2] = self.displaced((centre + np.roll(centre, 1, 1)) + pairs, level, first, 3 * area - 1)
        return fine

    def displaced(self, corners: np.ndarray, level: int, first: int, used: int) -> np.ndarray:
        """A quarter of the sums of four neighbors plus noise; `used`: numbers that were drawn for what comes before."""
        side, wobble, row, parts = 2**level, self.wobbles[level], first, []
        while row < first + len(corners):
            at = row % side
            count = min(side - at, first + len(corners) - row)
            parts.append(self.draw(used + at * side, count * side))
            row += count
        draw = np.concatenate(parts).reshape(corners.shape)
        draw *= 2 * wobble
        draw -= wobble
        draw *= wobble
        draw += np.divide(corners, 4)
        return draw.astype(self.dtype, copy=False)


def plasma(draw: Draw, side: int, decay: float, dtype: type, height: int, width: int) -> np.ndarray:
    """The first rows and columns (height, width) of the height map, in 0..1."""
    shown, low, high, row = np.empty((height, width), dtype), np.inf, -np.inf, 0
    for band in Plasma(draw, side, decay, dtype, height * width).bands():
        low, high = min(low, band.min()), max(high, band.max())
        shown[row : row + len(band)] = band[: max(0, height - row), :width]
        row += len(band)
    shown -= low
    shown /= high - low
    return shown
