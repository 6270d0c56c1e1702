"""The tests behind a verdict: Student's paired one, Welch's, their power, and Holm's correction. Differences are in points."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL, POWER = 0.05, 0.8
QUANTILES = (np.arange(2000) + 0.5) / 2000  # power is a mean over these: SciPy's noncentral t is NaN for effects of 20 errors


class Difference(NamedTuple):
    """A mean difference with its standard error and degrees of freedom; NaN where one number says nothing about the spread."""

    mean: float
    error: float
    freedom: float

    @property
    def tested(self) -> bool:
        """Whether there is a spread to test against; equal numbers have none."""
        return self.error > 1e-9

    @property
    def half(self) -> float:
        """Half width of the 95 % interval."""
        return float(stats.t.ppf(1 - LEVEL / 2, self.freedom)) * self.error

    @property
    def bounds(self) -> tuple[float, float]:
        """Ends of the 95 % interval."""
        return self.mean - self.half, self.mean + self.half

    def p(self, null: float = 0.0) -> float:
        """Of a two-sided test against `null`; NaN without a spread."""
        return float(2 * stats.t.sf(abs(self.mean - null) / self.error, self.freedom)) if self.tested else math.nan

    def power(self, effect: float) -> float:
        """The chance of p < .05 if `effect` were the true difference and the measured spread the true one; NaN without a spread."""
        if not self.tested:
            return math.nan
        spread = np.sqrt(stats.chi2.ppf(QUANTILES, self.freedom) / self.freedom)  # of a sample, as a multiple of the true one
        bound, shift = stats.t.ppf(1 - LEVEL / 2, self.freedom) * spread, abs(effect) / self.error
        return float(np.mean(stats.norm.sf(bound - shift) + stats.norm.cdf(-bound - shift)))


def paired(differences: Sequence[float]) -> Difference:
    """Of matched pairs, by seed."""
    sample = np.asarray(differences, dtype=float)
    n = len(sample)
    mean = float(sample.mean()) if n else math.nan
    return Difference(mean, float(sample.std(ddof=1)) / n**0.5, n - 1) if n > 1 else Difference(mean, math.nan, math.nan)


def welch(better: Sequence[float], worse: Sequence[float]) -> Difference:
    """Of two independent samples with spreads of their own (Welch 1947)."""
    samples = [np.asarray(sample, dtype=float) for sample in (better, worse)]
    mean = float(samples[0].mean() - samples[1].mean()) if all(map(len, samples)) else math.nan
    if min(map(len, samples)) < 2:
        return Difference(mean, math.nan, math.nan)
    parts = [float(sample.var(ddof=1)) / len(sample) for sample in samples]
    if not sum(parts):
        return Difference(mean, 0.0, math.nan)
    freedom = sum(parts) ** 2 / sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, samples, strict=True))
    return Difference(mean, sum(parts) ** 0.5, freedom)


def holm(values: Sequence[float]) -> list[float]:
    """P values of one family corrected for their number (Holm 1979): at most 5 % of such families have a false verdict. NaN stays NaN."""
    values = np.asarray(values, dtype=float)
    order = [at for at in np.argsort(values, kind="stable") if not np.isnan(values[at])]
    corrected, most = [math.nan] * len(values), 0.0
    for rank, at in enumerate(order):
        most = max(most, min(1.0, float(values[at]) * (len(order) - rank)))
        corrected[at] = most
    return corrected


def sample_bound(better: float, worse: float, images: float) -> float:
    """Half width of a 95 % interval, in points, of what other test images would have given: an upper bound.

    better, worse: accuracies in percent of networks on the same `images` base images, taken as if their errors were independent; networks
    that err on the same images differ less.
    """
    variance = sum((accuracy / 100) * (1 - accuracy / 100) for accuracy in (better, worse))
    return float(stats.norm.ppf(1 - LEVEL / 2)) * 100 * (variance / images) ** 0.5 if images else math.nan


def interval(numbers: Iterable[float]) -> float:
    """Half width of the 95 % Student-t confidence interval of the mean; NaN for fewer than two numbers."""
    return paired(list(numbers)).half


def t_test(sample: Sequence[float], null: float = 0.0) -> tuple[float, float, float, float]:
    """Mean, low and high end of its 95 % Student interval, and p of a two-sided t-test against `null`.

    NaN for fewer than two numbers; p also if they are equal, because they say nothing about the spread.
    """
    found = paired(sample)
    return found.mean, *found.bounds, found.p(null)
