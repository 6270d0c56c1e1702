"""Differences of methods over matched seeds: the arithmetic by hand, and the identity of the parts."""

import numpy as np
import pytest
from scipy import stats

from rtalib import tables
from rtalib.experiments.repair import gain_parts
from rtalib.results.claims import CLAIMS
from rtalib.results.contrasts import contrast_rows, effects, gain, minus, with_contrasts

SEEDS = (0, 1, 2, 3)
NAMES = [method.name for method in gain_parts.METHODS]


def made(protocols: tuple[str, ...] = ("disjoint",)) -> list[dict]:
    draw = np.random.default_rng(5).uniform(20, 60, (2, len(NAMES), len(SEEDS), 3))
    return [
        {
            "method": name,
            "seed": seed,
            "protocol": protocol,
            "corruption": "gaussian_noise",
            **dict(zip(("fail", "gaussian_noise", "fog"), map(float, draw[p, i, k]), strict=True)),
        }
        for p, protocol in enumerate(protocols)
        for i, name in enumerate(NAMES)
        for k, seed in enumerate(SEEDS)
    ]


def value(rows: list[dict], method: str, seed: int, column: str = "fail") -> float:
    return next(row[column] for row in rows if row["method"] == method and row["seed"] == seed)


def test_methods_that_cancel_out_are_left_out():
    assert minus(gain("b", "r"), gain("a", "r")) == {"b": 1.0, "a": -1.0}
    assert minus(minus(gain("b", "r"), gain("a", "r")), gain("f", "r")) == {"b": 1.0, "a": -1.0, "f": -1.0, "r": 1.0}


def test_parts_are_those_of_the_formula_and_add_up_to_the_whole():
    rows = made()
    found = with_contrasts(rows, gain_parts.CONTRASTS)
    for name, alone, both in (("CF-DARTSE", "CF-DARTS", "CF-DARTSE"), ("Random cell", "Random cell", "Random cell + failures")):
        for seed in SEEDS:
            r, a, f, b = (value(rows, m, seed) for m in ("Org. DNN (retrained)", alone, "Org. DNN + failures", both))
            parts = [value(found, f"{name}: {part}", seed) for part in ("architecture", "failures as data", "interaction")]
            assert parts == pytest.approx([a - r, f - r, b - a - f + r])
            assert value(found, f"{name}: whole gain", seed) == pytest.approx(b - r) == pytest.approx(sum(parts))


def test_a_claim_on_contrasts_names_the_rows_that_they_are_made_of():
    rows = [row | {"key": f"{NAMES.index(row['method'])}-{row['seed']}"} for row in made()]
    claim = next(claim for claim in CLAIMS["ours-gain-parts"] if claim.better == "CF-DARTSE: failures as data")
    line = tables.verdicts(with_contrasts(rows, gain_parts.CONTRASTS), [claim]).iloc[0]
    used = {NAMES.index(name) for name in ("Org. DNN + failures", "Org. DNN (retrained)", "CF-DARTS")}
    assert sorted(line["rows"].split()) == sorted(f"{number}-{seed}" for number in used for seed in SEEDS)


def test_effects_are_a_paired_t_test():
    rows = made()
    line = effects(with_contrasts(rows, gain_parts.CONTRASTS), ["CF-DARTSE: architecture"], ["fail"]).iloc[0]
    first, second = ([value(rows, name, seed) for seed in SEEDS] for name in ("CF-DARTS", "Org. DNN (retrained)"))
    test = stats.ttest_rel(first, second)
    assert (line.effect, line.p, line.seeds) == (pytest.approx(np.subtract(first, second).mean()), pytest.approx(test.pvalue), 4)
    low, high = test.confidence_interval(0.95)
    assert (line.low, line.high) == (pytest.approx(low), pytest.approx(high))


def test_an_interaction_is_the_claim_of_one_difference_above_another():
    rows = with_contrasts(made(), gain_parts.CONTRASTS)
    claim = next(claim for claim in CLAIMS["ours-gain-parts"] if "interaction" in claim.text)
    tested = tables.verdicts(rows, [claim]).iloc[0]
    line = effects(rows, ["CF-DARTSE: interaction"], ["fail"]).iloc[0]
    assert (tested.difference, tested.p, tested.seeds) == (pytest.approx(line.effect), pytest.approx(line.p), 4)


def test_protocols_are_not_mixed_and_incomplete_seeds_are_left_out():
    rows = made(("disjoint", "paper"))
    found = contrast_rows(rows, {"x": gain("CF-DARTS", "Random cell")}, ["fail"])
    assert len(found) == 2 * len(SEEDS) and {row["protocol"] for row in found} == {"disjoint", "paper"}
    few = [row for row in rows if (row["method"], row["seed"]) != ("CF-DARTS", 2)]
    assert {row["seed"] for row in contrast_rows(few, {"x": gain("CF-DARTS", "Random cell")}, ["fail"])} == {0, 1, 3}
    with pytest.raises(ValueError, match="two"):
        contrast_rows([*rows, rows[0]], {"x": gain("CF-DARTS", "Random cell")})


def test_one_seed_has_an_effect_and_no_interval():
    rows = [row for row in made() if row["seed"] == 0]
    line = effects(with_contrasts(rows, gain_parts.PARTS), ["CF-DARTSE: architecture"], ["fail", "clean"])
    assert len(line) == 1 and np.isfinite(line.iloc[0].effect) and np.isnan(line.iloc[0][["low", "high", "p"]].astype(float)).all()
