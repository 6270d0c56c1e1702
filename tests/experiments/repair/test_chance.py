"""Searched cells beside random ones: rivals of the same size, medians, and the rows at scale smoke."""

from itertools import islice

import pytest

from rtalib import darts, scales
from rtalib.experiments.repair import chance
from rtalib.experiments.repair.figures import chance_dots
from rtalib.experiments.repair.images import Study
from rtalib.results.claims import CLAIMS
from rtalib.results.tables import verdicts

SETUP = scales.get("smoke").repair
STUDY = Study("shapes10", "smoke", SETUP)


def row(seed: int, number: int, clean: float) -> dict:
    return {"method": chance.DRAWN if number else "DARTS", "seed": seed, "number": number, "clean": clean, "key": f"{seed}-{number}"}


ROWS = [row(seed, number, clean) for seed in (0, 1, 2) for number, clean in enumerate((80.0 + seed, 70.0, 90.0, 71.0))]


def test_rivals_have_the_size_of_what_was_found_and_differ_by_seed():
    found = darts.random_genotype(3)
    target = chance.parameters(STUDY, found)
    first = list(islice(chance.rivals(STUDY, found, 0), 4))
    assert all(abs(chance.parameters(STUDY, rival) / target - 1) <= 0.1 for rival in first)
    assert first == list(islice(chance.rivals(STUDY, found, 0), 4)) and len(set(first)) == 4
    assert not set(first) & set(islice(chance.rivals(STUDY, found, 1), 4))


def test_the_rivals_of_a_collapsed_cell_are_the_smallest_drawn():
    pools = (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * 4
    found = darts.Genotype(pools, (2, 3, 4, 5), pools, (2, 3, 4, 5))
    drawn = [darts.random_genotype(1_000_000 + draw) for draw in range(chance.DRAWS)]
    assert next(chance.rivals(STUDY, found, 0)) == min(drawn, key=lambda rival: chance.parameters(STUDY, rival))


def test_the_searched_cell_is_compared_with_the_median_of_its_own_seed():
    compared = chance.with_medians(ROWS)
    assert [r["clean"] for r in compared if r["method"] == chance.MEDIAN] == [71.0, 71.0, 71.0]
    claim = [claim for claim in CLAIMS["ours-search-or-chance"] if claim.better == "DARTS"]
    line = verdicts(compared, claim).iloc[0]
    assert line["difference"] == pytest.approx(10.0) and line["verdict"] == "reproduced"
    assert sorted(line["rows"].split()) == sorted(row["key"] for row in ROWS), "each cell and all of its rivals"


def test_rows_and_figure_at_scale_smoke(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    rows = chance.run("smoke", executor="serial")
    assert [(r["method"], r["number"]) for r in rows] == [("DARTS", 0), (chance.DRAWN, 1)]
    assert abs(rows[1]["params"] / rows[0]["params"] - 1) <= chance.TOLERANCE
    assert all(0 <= r["clean"] <= 100 and r["n_eval"] == SETUP.chance_tests for r in rows)
    axes = chance_dots(rows + [r | {"seed": 1} for r in rows]).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1"]
