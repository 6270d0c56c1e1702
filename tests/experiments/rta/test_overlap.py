"""Distance of a training set from a corruption, and what it gains there."""

import numpy as np
import pytest
import torch
from scipy import stats

from rtalib.corruptions import CORRUPTIONS
from rtalib.experiments.rta import overlap, tables
from rtalib.experiments.rta.unlike import UNLIKE

CORRUPTED = "10,000 Ori + 4 × 10,000 Ori with Corruptions"


def test_distance_is_what_the_nearest_move_leaves_of_the_corruption():
    moves = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 8.0]])
    assert overlap.relative_distance(torch.tensor([3.0, 0.0]), moves) == 0
    assert overlap.relative_distance(torch.tensor([0.0, -5.0]), moves) == 1
    assert overlap.relative_distance(torch.tensor([3.0, 4.0]), moves) == pytest.approx(4 / 5)


def test_slopes_are_least_squares_of_all_methods_and_types_of_a_seed():
    rng = np.random.default_rng(0)
    points = rng.random((2, 4, 3, 2))  # seeds, methods, types, (distance, gain)
    rows = [
        {"seed": s, "method": m, "distance": dict(enumerate(points[s, m, :, 0])), "gain": dict(enumerate(points[s, m, :, 1]))}
        for s in range(2)
        for m in range(4)
    ]
    for seed, slope in overlap.slopes(rows).items():
        assert slope == pytest.approx(stats.linregress(*points[seed].reshape(-1, 2).T).slope)


@pytest.mark.slow
def test_a_set_of_corruptions_is_near_them_and_a_set_of_squares_is_not(monkeypatch, tmp_path):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    cutout = "10,000 Ori + 4 × 10,000 Ori with Cutout"
    monkeypatch.setattr(overlap, "METHODS", (CORRUPTED, cutout))
    rows = {row["method"]: row for row in overlap.run(scale="smoke", seeds=[0], executor="serial")}
    near, far = ([rows[name]["distance"][kind] for kind in CORRUPTIONS] for name in (CORRUPTED, cutout))
    assert rows[cutout]["distance"].keys() == rows[cutout]["gain"].keys() == {*CORRUPTIONS, *UNLIKE}
    assert np.mean(near) < 0.9 * np.mean(far)  # a set at smoke has few images of each type, whose means are noisy
    assert all(0 <= value <= 1 for row in rows.values() for value in row["distance"].values())
    assert all(-100 <= value <= 100 for row in rows.values() for value in row["gain"].values())


def test_every_method_but_those_without_an_operation_of_one_image_is_compared():
    left = set(tables.TABLE1) - set(overlap.METHODS)
    assert {tables.TABLE1[method] for method in left} == {None, "original", "cutmix"}
