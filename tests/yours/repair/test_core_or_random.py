"""Selectors against brute force, a trial on a small network, and the differences against a table made by hand."""

from itertools import combinations

import pytest
import torch

from rtalib.yours.repair import core_or_random
from rtalib.yours.repair.selectors import SELECTORS, Candidates

GENERATOR = torch.Generator().manual_seed(0)
FOUND = Candidates(
    torch.rand(9, 3, generator=GENERATOR),
    torch.randn(9, 4, generator=GENERATOR),
    torch.randint(4, (9,), generator=GENERATOR),
    torch.rand(5, 3, generator=GENERATOR),
)


def test_facility_location_is_near_the_best_set_and_its_first_pick_is_best():
    distance = torch.cdist(FOUND.features, FOUND.features)
    similarity = distance.max() - distance
    picks = SELECTORS["facility-location"](FOUND, 3, 0)
    assert int(picks[0]) == int(similarity.sum(0).argmax())
    best = max(float(similarity[:, list(chosen)].max(1).values.sum()) for chosen in combinations(range(9), 3))
    assert float(similarity[:, picks].max(1).values.sum()) >= (1 - 1 / 2.718281828) * best  # the greedy bound


def test_herding_margin_and_el2n_are_what_they_say():
    first = int(SELECTORS["herding"](FOUND, 1, 0)[0])
    mean = FOUND.features.mean(0)
    assert first == int((FOUND.features - mean).norm(dim=1).argmin())
    p = FOUND.logits.softmax(1).sort(1).values
    assert int(SELECTORS["margin"](FOUND, 1, 0)[0]) == int((p[:, -1] - p[:, -2]).argmin())
    right = FOUND.logits.softmax(1).gather(1, FOUND.labels[:, None])[:, 0]
    worst = int(SELECTORS["el2n"](FOUND, 1, 0)[0])
    assert right[worst] <= right.median()


@pytest.mark.parametrize("name", list(SELECTORS))
def test_every_rule_gives_as_many_different_rows_as_were_asked_for(name):
    for budget in (1, 4, 9):
        picks = SELECTORS[name](FOUND, budget, 0)
        assert picks.dtype == torch.int64 and len(picks.unique()) == budget


def test_a_trial_repairs_with_every_selector(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    lines = ("from rtalib import models", "def tiny():", "    return models.seeded(lambda: models.build('tiny'), 0)")
    (tmp_path / "mine.py").write_text("\n".join(lines))
    rows = core_or_random.run([f"{tmp_path}/mine.py:tiny"], "shapes10", (0, 1), ("fog",), tests=80, budgets=(4, 8), executor="serial")
    assert len(rows) == 2 and all(row["held"] == 40 and set(row["gains"]) == set(SELECTORS) for row in rows)
    table = core_or_random.differences(rows)
    assert table.loc[("random", "4"), "n"] == 1  # one pair; its two splits count once


def test_differences_average_splits_before_pairs():
    def row(corruption, core, other):
        return {"network": "a", "corruption": corruption, "gains": {"core": {"10": core}, "random": {"10": other}}}

    table = core_or_random.differences([row("fog", 3.0, 1.0), row("fog", 1.0, 1.0), row("snow", 2.0, 4.0)])
    found = table.loc[("random", "10")]
    assert found["difference"] == pytest.approx(-0.5) and found["n"] == 2  # the mean of +1 (fog) and -2 (snow)
    assert found["high"] - found["difference"] == pytest.approx(12.7062 * 2.12132 / 2**0.5, rel=1e-4)
