"""Sets of other severities and budgets against RTA itself, hours, returns and the frontier."""

from dataclasses import replace

import pytest
import torch

from rtalib import scales
from rtalib.experiments.rta import severity_budget
from rtalib.experiments.rta import tables as rta
from rtalib.experiments.rta.severity_budget import BudgetTrial, at_severity, budget_trial, name_of, on_frontier, returns, with_returns

SETUP = scales.get("smoke").rta


@pytest.fixture(autouse=True)
def outputs(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path_factory.getbasetemp() / "severity-budget"))


@pytest.mark.parametrize(("severity", "copies"), [(4, 2), (1, 4)])
def test_a_set_of_another_severity_is_what_rta_makes_at_it(severity, copies):
    full, entry = rta.training_set(rta.OURS, 3, "shapes10", "disjoint", SETUP)
    found = at_severity(full, rta.drawn_operations(entry), 3, severity, copies)
    wanted, _ = rta.training_set(rta.OURS, 3, "shapes10", "disjoint", replace(SETUP, severity=severity, copies=copies))
    assert torch.equal(found.images, wanted.images) and torch.equal(found.labels, wanted.labels)
    assert not torch.equal(found.images, full.images[: len(found)])


def row(method: str, seed: int, score: float, hours: float) -> dict:
    severity = int(method.split()[1][0]) if method.startswith("severity") else 0
    facts = {"severity": severity, "copies": 1 if severity else 0, "device": "CPU", "scale": "demo", "dataset": "shapes10"}
    return {"method": method, "seed": seed, "model": "tiny", "score": score, "hours": hours, **facts}


ROWS = [
    *(row("originals", seed, 40.0 + seed, 0.5) for seed in (0, 1)),
    *(row("severity 3, 1 copy", seed, 46.0 + 3 * seed, 2.0) for seed in (0, 1)),
    *(row("severity 5, 1 copy", seed, 39.0, 4.0) for seed in (0, 1)),
]


def test_return_is_the_gain_over_the_same_seed_by_the_hours():
    found = {(r["method"], r["seed"]): r for r in with_returns(ROWS)}
    assert [found["severity 3, 1 copy", seed]["gain"] for seed in (0, 1)] == [6.0, 8.0]
    assert [found["severity 3, 1 copy", seed]["return"] for seed in (0, 1)] == [3.0, 4.0]
    assert "gain" not in found["originals", 0]
    assert "gain" not in with_returns(ROWS[2:])[0]
    table = returns(ROWS).set_index("method")
    assert table["return"]["severity 3, 1 copy"] == 3.5 and table["frontier"].tolist() == [True, True, False]


def test_frontier_against_every_pair():
    draw = torch.Generator().manual_seed(0)
    cost, score = (torch.randint(6, (30,), generator=draw).tolist() for _ in range(2))
    better = lambda i, j: cost[j] <= cost[i] and score[j] >= score[i] and (cost[j] < cost[i] or score[j] > score[i])  # noqa: E731
    assert on_frontier(cost, score) == [not any(better(i, j) for j in range(30)) for i in range(30)]


def test_table_1_s_networks_are_used_and_hours_are_those_of_the_store():
    common = (0, "tiny", "shapes10", "disjoint", "smoke", SETUP)
    trials = {budget: BudgetTrial(name_of(*budget), *budget, *common) for budget in ((0, 0), (SETUP.severity, SETUP.copies), (3, 1))}
    found = {budget: budget_trial(trial) for budget, trial in trials.items()}
    for budget, method in (((0, 0), rta.BASELINE), ((SETUP.severity, SETUP.copies), rta.OURS)):
        target = rta.target_trial(rta.TargetTrial(method, method, SETUP.recipe(), 0, "tiny", "shapes10", "disjoint", "smoke", SETUP))
        assert (found[budget]["network"], found[budget]["score"]) == (target["network"], target["score"])
    _, entry = rta.training_set(rta.OURS, 0, "shapes10", "disjoint", SETUP)
    assert found[3, 1]["making"] == pytest.approx(entry.card["seconds"] / SETUP.copies / 3600)
    assert [found[budget]["n_train"] for budget in trials] == [40, 200, 80]
    assert all(r["hours"] == pytest.approx(r["making"] + r["training"]) and r["training"] > 0 for r in found.values())


def test_names():
    names = [name_of(0, 0), name_of(0, 4), name_of(3, 1), name_of(1, 2)]
    assert names == ["originals", "originals, 4 times more", "severity 3, 1 copy", "severity 1, 2 copies"]
    found = severity_budget.budgets(SETUP, scales.get("demo").together)
    assert len(found) == len(set(found)) and found[:3] == [(0, 0), (0, 4), (2, 4)]
