"""A gate for a new version of a network: is any cell of its card worse than the old one's by more than so many points?

Both networks see the same images, so what counts are the images on which they differ. Each cell is tested against the hypothesis that the
accuracy has fallen by at most `points`; Holm's correction (1979) holds the chance of any false alarm among all cells at 5 %. Two tests:

* fixed: all images are seen. Tango's score test of a paired difference (Statistics in Medicine 1998), with a correction for continuity.
* anytime: images come in blocks, and the gate may stop after any of them. A test by betting (Waudby-Smith and Ramdas, JRSS B 2024): the
  capital of a bettor against the hypothesis, a mixture over stakes, is expected not to grow under it, so that one over its largest value
  so far is a p value whenever one stops (Ville's inequality). It needs more images for the same certainty.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

from rtalib.errors import check_kind, check_number
from rtalib.yours import cells as card_cells
from rtalib.yours.card import Card, CardRequest, evaluate
from rtalib.yours.metrics import Z

LEVEL = 0.05
STAKES = 16  # fractions of the largest stake that cannot lose everything, evenly spread


@dataclass(frozen=True)
class Cell:
    """One cell of two cards. low, high: 95 % interval of the difference in points; p: before correction; worse: what the gate says."""

    what: str
    level: str
    n: int
    old: float
    new: float
    difference: float
    low: float
    high: float
    p: float
    worse: bool


def difference_interval(lost: np.ndarray, won: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of (won - lost) / count in points (Agresti and Min, Statistics in Medicine 2005: half an image added to each count)."""
    lost, won, count = lost + 0.5, won + 0.5, count + 2
    middle = (won - lost) / count
    half = Z * np.sqrt(won + lost - (won - lost) ** 2 / count) / count
    return 100 * (middle - half), 100 * (middle + half)


def fixed_p(lost: np.ndarray, won: np.ndarray, count: np.ndarray | int, fall: float) -> np.ndarray:
    """p values of the hypothesis that accuracy fell by at most `fall` (a share), from images that the new network alone lost or won."""
    lost, won = np.asarray(lost, float), np.asarray(won, float)
    # The share of won images under the hypothesis: the larger root of 2 n q^2 + b q + c = 0 (Tango's equation for the restricted estimate).
    b = -lost - won + (2 * count - lost + won) * fall
    c = -won * fall * (1 - fall)
    share = (np.sqrt(np.maximum(b**2 - 8 * count * c, 0)) - b) / (4 * count)
    spread = np.sqrt(np.maximum(count * (2 * share + fall - fall**2), 1e-12))
    return norm.sf((lost - won - count * fall - 1) / spread)


def log_capital(lost: np.ndarray, won: np.ndarray, count: np.ndarray | int, fall: float) -> np.ndarray:
    """Log of the capital of a bettor against 'accuracy fell by at most `fall`', who began with 1; their order does not matter."""
    stakes = np.arange(1, STAKES + 1) / (STAKES + 1) / (1 + fall)
    lost, won, count = (np.asarray(counts, float)[..., None] for counts in (lost, won, count))
    same = count - lost - won
    grown = lost * np.log1p(stakes * (1 - fall)) + same * np.log1p(-stakes * fall) + won * np.log1p(-stakes * (1 + fall))
    return logsumexp(grown, axis=-1) - np.log(STAKES)


def anytime_p(largest: np.ndarray) -> np.ndarray:
    """p values at any time of stopping, from the largest log capital so far."""
    return np.exp(-np.maximum(largest, 0))


def holm(p: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """bool, which hypotheses are rejected with the chance of any false rejection at most `level` (Holm 1979); over the last axis."""
    order = np.argsort(p, axis=-1)
    ranked = np.take_along_axis(p, order, -1) <= level / np.arange(p.shape[-1], 0, -1)
    found = np.zeros(p.shape, bool)
    np.put_along_axis(found, order, np.logical_and.accumulate(ranked, axis=-1), -1)
    return found


def differing(old: Card, new: Card) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images that the new network alone gets wrong, those that it alone gets right, and all, for every cell."""
    if old.data.digest != new.data.digest or old.levels != new.levels:
        raise ValueError("against: the two cards are of other images, corruptions or attacks")
    before, after = ([right for what in card.levels for right in card.found[what]["right"]] for card in (old, new))
    pairs = list(zip(before, after, strict=True))
    return np.array([(a & ~b).sum() for a, b in pairs]), np.array([(b & ~a).sum() for a, b in pairs]), np.array([len(a) for a in before])


def compare(old: Card, new: Card, points: float, p: np.ndarray | None = None) -> list[Cell]:
    """All cells of two cards of the same images; p: of each cell before correction, by default of the fixed test."""
    check_number("gate", points, 0, 100, unit=" points")
    lost, won, counts = differing(old, new)
    p = fixed_p(lost, won, counts, points / 100) if p is None else p
    columns = (*difference_interval(lost, won, counts), p, holm(p))
    found = []
    for was, now, *one in zip(old.cells, new.cells, *(column.tolist() for column in columns), strict=True):
        gain = now["accuracy"] - was["accuracy"]
        found.append(Cell(was["what"], was["level"], was["n"], was["accuracy"], now["accuracy"], gain, *one))
    return found


def gate(old: CardRequest, new: CardRequest, points: float, *, early: bool = False, **grid_options: Any) -> tuple[Card, list[Cell]]:
    """The new card and the verdict on each cell.

    early: the anytime test is asked after every block of images, and the gate ends as soon as a cell is worse; else the fixed test sees
    all images. grid_options: executor, workers.
    """
    check_kind("old", old, CardRequest, "a CardRequest")
    check_kind("new", new, CardRequest, "a CardRequest")
    check_kind("early", early, bool, "True or False")
    check_number("gate", points, 0, 100, unit=" points")
    if not early:
        before, after = (evaluate(request, **grid_options) for request in (old, new))
        return after, compare(before, after, points)
    limit, largest = new.limit or len(card_cells.images(new.dataset, new.side)), np.zeros(1)
    for seen in [*range(card_cells.BLOCK, limit, card_cells.BLOCK), limit]:
        before, after = (evaluate(replace(request, limit=seen), **grid_options) for request in (old, new))
        largest = np.maximum(largest, log_capital(*differing(before, after), points / 100))
        found = compare(before, after, points, anytime_p(largest))
        if any(cell.worse for cell in found):
            break
    return after, found


def text(found: Sequence[Cell], points: float) -> str:
    """What the gate says, in lines: the worst cells, and how many are worse by more than `points`."""
    worse = [cell for cell in found if cell.worse]
    lines = [
        f"{cell.what} {cell.level}: {cell.old:.1f} -> {cell.new:.1f} % ({cell.difference:+.1f} [{cell.low:+.1f}, {cell.high:+.1f}] points)"
        for cell in sorted(found, key=lambda cell: cell.difference)[:5]
    ]
    verdict = f"{len(worse)} of {len(found)} cells are" if worse else f"no cell of {len(found)} is shown to be"
    return "\n".join([*lines, f"gate: {verdict} worse by more than {points:g} points (Holm, 5 %, {found[0].n:,} images)"])
