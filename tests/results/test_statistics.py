"""Tests, power and correction against SciPy, simulation, and the worked cases of their authors."""

import math

import numpy as np
import pytest
from scipy import stats

from rtalib.results.statistics import Difference, holm, paired, sample_bound, welch

BETTER, WORSE = [31.0, 30.2, 32.4, 31.9, 30.8], [28.1, 29.9, 28.8, 30.5, 27.0, 29.3]


def test_welch_is_scipy_s():
    found, expected = welch(BETTER, WORSE), stats.ttest_ind(BETTER, WORSE, equal_var=False)
    assert (found.p(), *found.bounds) == pytest.approx((expected.pvalue, *expected.confidence_interval(0.95)))


def test_paired_is_scipy_s_and_moves_with_its_null():
    gaps = [1.0, 2.5, -0.3, 1.9]
    found, expected = paired(gaps), stats.ttest_1samp(gaps, -0.5)
    assert found.p(-0.5) == pytest.approx(expected.pvalue) and found.mean == pytest.approx(np.mean(gaps))
    assert found.bounds == pytest.approx(tuple(stats.ttest_1samp(gaps, 0).confidence_interval(0.95)))


@pytest.mark.parametrize("found", [paired([3.0]), paired([]), welch([1.0], WORSE), welch(BETTER, [1.0])])
def test_one_number_has_no_spread(found):
    assert math.isnan(found.p()) and math.isnan(found.power(5)) and math.isnan(found.bounds[0])


def test_equal_numbers_are_no_test():
    assert math.isnan(paired([5.0, 5.0, 5.0]).p()) and math.isnan(welch([1.0, 1.0], [0.0, 0.0]).p())


@pytest.mark.parametrize("n, effect", [(3, 2.0), (5, 1.0), (10, 1.6)])
def test_power_is_the_share_of_simulated_experiments_that_find_the_effect(n, effect):
    """Of normal differences with spread 1.34, the audit's for the night runs; at n = 10 and 1.6 points it gives .93."""
    drawn = np.random.default_rng(0).normal(effect, 1.34, (20_000, n))
    share = float((stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean())
    assert Difference(effect, 1.34 / n**0.5, n - 1).power(effect) == pytest.approx(share, abs=0.02)


def test_power_is_that_of_the_noncentral_t():
    for freedom, shift in ((2, 0.5), (4, 3.0), (9, 2.0)):
        critical, law = stats.t.ppf(0.975, freedom), stats.nct(freedom, shift)
        assert Difference(0, 1.0, freedom).power(shift) == pytest.approx(law.sf(critical) + law.cdf(-critical), abs=1e-3)


def test_power_of_a_huge_effect_is_one_and_of_none_is_the_level():
    assert Difference(0, 0.01, 2).power(60) == pytest.approx(1) and Difference(0, 1.0, 4).power(0) == pytest.approx(0.05, abs=1e-3)
    assert 0.99 < Difference(0, 1.0, 2).power(24) <= 1


def test_holm_by_hand():
    """Four p values times 4, 3, 2 and 1, made monotone; one that was not tested is passed over."""
    assert holm([0.01, 0.04, math.nan, 0.03, 0.005])[:2] == pytest.approx([0.03, 0.06])
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert math.isnan(holm([0.5, math.nan])[1]) and holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_keeps_the_chance_of_any_false_verdict():
    p = np.random.default_rng(1).uniform(size=(4000, 6))
    assert np.mean([min(holm(row)) < 0.05 for row in p]) == pytest.approx(0.05, abs=0.01)


def test_bound_of_other_images_holds_for_independent_networks():
    """95 % of test sets of 400 images move the difference of two independent networks by less."""
    right = np.random.default_rng(2).uniform(size=(3000, 2, 400)) < np.array([0.55, 0.5])[:, None]
    moved = 100 * (right[:, 0].mean(1) - right[:, 1].mean(1)) - 5
    assert np.mean(np.abs(moved) < sample_bound(55, 50, 400)) == pytest.approx(0.95, abs=0.015)
