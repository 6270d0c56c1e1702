"""The gate: its false alarms by simulation, its tests against exact ones, and its exit code."""

import itertools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import binom, multinomial

from rtalib import load_dataset
from rtalib.cli import main as cli
from rtalib.yours import gate

RUNS, CELLS = 10_000, 76


def counts(rng: np.random.Generator, looks: int, block: int, differ: np.ndarray, fall: float) -> np.ndarray:
    """(runs, looks, cells, 2): images lost and won so far, of cells in which a share `differ` differs and the accuracy falls by `fall`."""
    chances = np.stack([(differ + fall) / 2, (differ - fall) / 2, 1 - differ], -1)
    return rng.multinomial(block, chances, size=(RUNS // 10, looks, len(differ))).cumsum(1)[..., :2]


@pytest.mark.parametrize("fall", [0.0, 0.02])
def test_false_alarms_of_both_tests_are_at_most_five_percent(fall):
    """10,000 comparisons of networks whose accuracy falls by just as much as is allowed, in 76 cells; the anytime test looks four times."""
    differ, fixed, anytime = np.linspace(0.03, 0.3, CELLS), 0, 0
    for seed in range(10):
        found = counts(np.random.default_rng(seed), 4, 500, differ, fall)
        fixed += gate.holm(gate.fixed_p(*np.moveaxis(found[:, -1], -1, 0), 2000, fall)).any(-1).sum()
        largest = np.max([gate.log_capital(*np.moveaxis(found[:, look], -1, 0), 500 * (look + 1), fall) for look in range(4)], axis=0)
        anytime += gate.holm(gate.anytime_p(largest)).any(-1).sum()
    assert fixed / RUNS <= 0.05 and anytime / RUNS <= 0.05
    assert fixed > 0  # a test that never says anything would pass


def test_a_real_fall_is_found_by_both_and_by_the_anytime_test_with_fewer_images():
    found = counts(np.random.default_rng(0), 20, 100, np.full(CELLS, 0.15), 0.08)
    assert gate.holm(gate.fixed_p(*np.moveaxis(found[:, -1], -1, 0), 2000, 0.0)).any(-1).mean() > 0.999
    capital = np.array([gate.log_capital(*np.moveaxis(found[:, look], -1, 0), 100 * (look + 1), 0.0) for look in range(20)])
    stopped = gate.holm(gate.anytime_p(np.maximum.accumulate(capital, 0))).any(-1)
    assert stopped[-1].all() and np.mean(stopped.argmax(0) + 1) < 10  # of 20 blocks


def test_the_expected_capital_is_at_most_one_by_enumeration():
    """Over all outcomes of six images, at the edge of the hypothesis and inside it."""
    for fall, lost, won in [(0.0, 0.2, 0.2), (0.1, 0.3, 0.2), (0.1, 0.2, 0.3)]:
        outcomes = [(a, b) for a, b in itertools.product(range(7), repeat=2) if a + b <= 6]
        chances = [multinomial.pmf([a, b, 6 - a - b], 6, [lost, won, 1 - lost - won]) for a, b in outcomes]
        capital = [np.exp(gate.log_capital(np.array(a), np.array(b), 6, fall)) for a, b in outcomes]
        assert np.dot(chances, capital) <= 1 + 1e-9


def test_the_fixed_test_without_a_margin_is_mcnemar_s():
    """Exact McNemar: of the images that differ, each is lost or won with even chances. The normal form is near it and seldom below."""
    for lost, won in [(10, 2), (15, 5), (30, 12), (60, 40), (3, 8)]:
        exact = binom.sf(lost - 1, lost + won, 0.5)
        assert gate.fixed_p(lost, won, 2000, 0.0) == pytest.approx(exact, rel=0.35, abs=0.002)


def test_holm_by_hand():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert gate.holm(p).tolist() == [True, False, False, True]  # .005 <= .05/4, .01 <= .05/3, .03 > .05/2
    assert gate.holm(np.array([[0.5, 0.02], [0.02, 0.03]])).tolist() == [[False, True], [True, True]]


def test_intervals_cover_the_difference():
    rng, inside = np.random.default_rng(0), 0
    lost, won, _ = rng.multinomial(500, [0.08, 0.05, 0.87], size=4000).T
    low, high = gate.difference_interval(lost, won, 500)
    inside = np.mean((low <= -3) & (-3 <= high))
    assert 0.94 <= inside <= 0.965


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A linear network that knows the first 60 test images by heart, and one that gives the first class for every image."""
    folder, data = tmp_path_factory.mktemp("networks"), load_dataset("shapes10", "test", limit=60)
    (folder / "linear.py").write_text("from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))\n")
    wanted = torch.nn.functional.one_hot(data.labels, 10).double()
    weight = torch.linalg.lstsq(data.images.flatten(1).double() / 255, wanted, driver="gelsd").solution.T.float().contiguous()
    save_file({"1.weight": weight, "1.bias": torch.zeros(10)}, folder / "old.safetensors")
    save_file({"1.weight": torch.zeros(10, 3072), "1.bias": torch.eye(10)[0].contiguous()}, folder / "new.safetensors")
    return folder


def arguments(networks, weights: str, *more: str) -> list[str]:
    given = ["evaluate", f"{networks / 'linear.py'}:make", "--weights", str(networks / f"{weights}.safetensors"), "--dataset", "shapes10"]
    return [*given, "--limit", "60", "--corruptions", "fog", "--executor", "serial", *more]


def against(networks, weights: str) -> list[str]:
    return ["--against", f"{networks / 'linear.py'}:make", "--against-weights", str(networks / f"{weights}.safetensors")]


@pytest.mark.parametrize("early", [False, True])
def test_the_exit_code_and_the_files(networks, tmp_path, monkeypatch, capsys, early):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr("rtalib.yours.cells.BLOCK", 30)
    more = ["--gate", "1", *(["--early"] if early else [])]
    same = arguments(networks, "old", *against(networks, "old"), *more, "--out", str(tmp_path / "same"))
    assert cli.main(same) == 0 and "no cell of 6 is shown to be worse by more than 1 points" in capsys.readouterr().out
    assert len((tmp_path / "same" / "gate.csv").read_text().splitlines()) == 7
    worse = arguments(networks, "new", *against(networks, "old"), *more, "--out", str(tmp_path / "worse"))
    assert cli.main(worse) == 1
    printed = capsys.readouterr().out
    assert "clean 0: 100.0 -> 10.0 %" in printed and "of 6 cells are worse" in printed
    assert json.loads((tmp_path / "worse" / "card.json").read_text())["n"] == (30 if early else 60)
    better = arguments(networks, "old", *against(networks, "new"), *more, "--out", str(tmp_path / "same"))
    assert cli.main(better) == 0


def test_bad_arguments(networks, tmp_path, capsys):
    common = arguments(networks, "old", "--out", str(tmp_path))
    assert cli.main([*common, "--gate", "1"]) == 2 and "gate: needs --against" in capsys.readouterr().err
    other = [*common, *against(networks, "old")]
    assert cli.main([*other, "--gate", "-1"]) == 2 and "gate: expected 0 to 100 points, got -1" in capsys.readouterr().err
