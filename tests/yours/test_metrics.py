"""What a card measures, against published values and brute force."""

import numpy as np
import pytest
import torch

from rtalib.yours import metrics


@pytest.mark.parametrize("network", metrics.published("imagenet"), ids=lambda network: network.network)
def test_mce_of_published_networks_is_the_published_one(network):
    """RobustBench prints mCE in two decimals, from the same cells."""
    corruptions = {name: [value] * 5 for name, value in network.corruptions.items()}
    assert metrics.mce(corruptions, metrics.reference("imagenet")) == pytest.approx(network.mce, abs=0.02)
    assert np.mean(list(network.corruptions.values())) == pytest.approx(network.mean, abs=0.02)


def test_the_reference_has_100_and_relative_mce_ignores_the_clean_error():
    reference = metrics.reference("cifar10")
    own = {name: [value] * 5 for name, value in reference.corruptions.items()}
    assert reference.network == "Standard" and metrics.mce(own, reference) == pytest.approx(100)
    assert metrics.relative_mce(reference.clean, own, reference) == pytest.approx(100)
    lower = {name: [value - 10] for name, value in reference.corruptions.items()}
    assert metrics.relative_mce(reference.clean - 10, lower, reference) == pytest.approx(100)
    assert metrics.mce(lower, reference) > 100 and metrics.reference("shapes10") is None


# Newcombe, Statistics in Medicine 1998, table I, method 3.
@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0, 16.11), (1, 29, 0.61, 17.18)]
)
def test_intervals_are_wilson_s(right, count, low, high):
    assert metrics.interval(right, count) == pytest.approx((low, high), abs=0.006)


def test_calibration_error_by_hand():
    doubt = np.array([0.05, 0.05, 0.35, 0.35], dtype=np.float32)  # bins of a tenth: .95 twice, .65 twice
    right = np.array([True, True, True, False])
    assert metrics.ece(doubt, right, bins=10) == pytest.approx(100 * (0.05 * 2 + 0.15 * 2) / 4, abs=1e-4)
    rng = np.random.default_rng(0)
    doubt = rng.uniform(0, 1, 20_000)
    assert metrics.ece(doubt, rng.uniform(size=20_000) > doubt) < 2


def test_area_under_the_risk_coverage_curve_by_brute_force():
    rng = np.random.default_rng(0)
    doubt, right = rng.permutation(50) / 50, rng.uniform(size=50) < 0.7
    order = doubt.argsort()
    assert metrics.aurc(doubt, right) == pytest.approx(100 * np.mean([(~right[order[:k]]).mean() for k in range(1, 51)]))
    assert metrics.aurc(np.zeros(50), right) == pytest.approx(100 * (~right).mean())  # all tied: the error itself


def test_the_doubt_of_a_sure_network_is_not_lost_to_rounding():
    logits = torch.tensor([[40.0, 0.0, 0.0], [2.0, 1.0, 0.0]])
    assert metrics.uncertainty(logits)[0].item() == pytest.approx(2 * np.exp(-40.0), rel=1e-5)
    assert metrics.uncertainty(logits)[1].item() == pytest.approx(1 - logits[1].softmax(0)[0].item(), abs=1e-6)
