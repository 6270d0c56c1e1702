"""Which claim the next seed is for: tests that may be looked at after every seed, and the order in which hours are spent.

A claim's evidence is the e-value of a t-test whose effect, in standard deviations, has the prior N(0, PRIOR) and whose scale has the
right-Haar prior. Whatever the number of looks, and whenever one stops, it exceeds 1/a with a chance of at most a if there is no effect
(Perez-Ortiz, Lardy, de Heide and Grunwald, "E-statistics, group invariance and anytime-valid testing", Annals of Statistics 2024). A claim
of a table of m is decided at m / .05, so that a table has a false decision with a chance of at most 5 %.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rtalib.results.claims import Claim
from rtalib.results.statistics import LEVEL
from rtalib.results.values import lone, select, values

PRIOR = 9.0  # few seeds can only decide effects of several standard deviations
MOST = 20  # seeds that a claim may be expected to need

Pair = tuple[str, int]  # a method and a seed


def e_value(differences: Sequence[float], null: float = 0.0) -> float:
    """Evidence against a mean difference of `null`; 1 for fewer than two numbers, or for equal ones, which say nothing about the spread."""
    sample = np.asarray(differences, dtype=float) - null
    n = len(sample)
    if n < 2 or sample.std(ddof=1) < 1e-9:
        return 1.0
    return _evidence(float(sample.mean() / sample.std(ddof=1)), n)


def _evidence(effect: float, n: int) -> float:
    """The e-value of n numbers whose mean is `effect` standard deviations."""
    square, freedom = n * effect**2, n - 1
    gain = math.log1p(square / freedom) - math.log1p(square / (freedom * (1 + n * PRIOR)))
    return math.exp(min(700.0, 0.5 * (n * gain - math.log1p(n * PRIOR))))


class Standing(NamedTuple):
    """A claim so far. seeds: matched ones; needed: seeds at which its e-value would pass `threshold` if it went on as it has (math.inf if
    at more than MOST); with fewer than two seeds it needs two before anything can be said."""

    claim: Claim
    seeds: int
    evidence: float
    threshold: float
    needed: float

    @property
    def decided(self) -> bool:
        return self.evidence >= self.threshold


def standings(rows: Sequence[Mapping], claims: Sequence[Claim]) -> list[Standing]:
    """The claims that pairs of seeds can decide. Those against one deployed network are left out: its controls ("retrained") stand in."""
    claims = [claim for claim in claims if not lone(select(rows, claim.worse)) and claim.metric != "columns"]
    return [_standing(rows, claim, len(claims) / LEVEL) for claim in claims]


def _standing(rows: Sequence[Mapping], claim: Claim, threshold: float) -> Standing:
    sample = (values(rows, claim.better, claim.metric) - values(rows, claim.worse, claim.metric)).dropna() + claim.margin
    n, needed = len(sample), 2.0
    if n > 1:
        spread = float(sample.std(ddof=1))
        effect = float(sample.mean()) / spread if spread > 1e-9 else 0.0
        needed = next((m for m in range(n, MOST + 1) if _evidence(effect, m) >= threshold), math.inf)
    return Standing(claim, n, e_value(sample), threshold, needed)


def next_cells(
    rows: Sequence[Mapping],
    claims: Sequence[Claim],
    hours: Mapping[str, float],
    left: float = math.inf,
    possible: Callable[[Pair], bool] = lambda pair: True,
) -> list[Pair]:
    """The missing rows of the next seed of the open claim that is nearest to a decision, in hours; [] if none can be decided in `left`.

    hours: of one row of a method; of a method that is not named, the mean of the others. possible: whether a row can be had.
    """
    best: tuple[float, list[Pair]] = (left, [])
    usual = sum(hours.values()) / len(hours) if hours else 0.0
    for standing in standings(rows, claims):
        methods = (standing.claim.better, standing.claim.worse)
        have = {method: {row["seed"] for row in select(rows, method)} for method in methods}
        if standing.seeds < min(2, *map(len, have.values())):
            continue  # its column is not measured
        missing = [[(method, seed) for method in methods if seed not in have[method]] for seed in range(MOST)]
        missing = next((pairs for pairs in missing if pairs and all(map(possible, pairs))), [])
        whole = max(1.0, standing.needed - standing.seeds) * sum(hours.get(method, usual) for method in methods)
        if missing and not standing.decided and whole <= best[0] and standing.needed < math.inf:
            best = whole, missing
    return best[1]
