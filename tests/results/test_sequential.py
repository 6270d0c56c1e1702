"""Evidence that may be looked at after every seed: its error over many looks, its formula, and where it sends the next seed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

from rtalib.results import sequential
from rtalib.results.claims import CLAIMS, Claim
from rtalib.results.sequential import e_value, next_cells, standings

RECORD = Path(__file__).parents[2] / "outputs" / "record" / "night-cifar10" / "rows" / "cf-table2"
A_B, A_C = (Claim(f"x.{at}", "cf", "table2", "x", "a", worse, "clean") for at, worse in enumerate("bc"))


def rows_of(method: str, values: list[float], **facts) -> list[dict]:
    return [{"method": method, "seed": seed, "clean": value, **facts} for seed, value in enumerate(values)]


@pytest.mark.parametrize("sample", [[1.0, 2.0, 1.5], [0.3, -0.2, 0.4, 1.1, 0.2], [5.0, 5.1, 4.9, 5.2]])
def test_the_formula_is_the_ratio_of_the_likelihoods_of_t(sample):
    """Given the effect size, t is noncentral; the prior is integrated out numerically."""
    n, t = len(sample), stats.ttest_1samp(sample, 0).statistic
    prior = stats.norm(0, sequential.PRIOR**0.5)
    weighed = integrate.quad(lambda size: stats.nct.pdf(t, n - 1, size * n**0.5) * prior.pdf(size), -25, 25, limit=400, points=[t / n**0.5])
    assert e_value(sample) == pytest.approx(weighed[0] / stats.t.pdf(t, n - 1), rel=0.01)


def test_looking_after_every_seed_is_allowed():
    """Of 1,000 claims without effect, looked at after each of 40 seeds, at most 5 % ever reach 20; repeated t-tests err far more often."""
    drawn = np.random.default_rng(0).normal(size=(1000, 40))
    looks = range(2, 41)
    reached = np.mean([max(e_value(sample[:n]) for n in looks) >= 20 for sample in drawn])
    repeated = np.mean(np.min([stats.ttest_1samp(drawn[:, :n], 0, axis=1).pvalue for n in looks], axis=0) < 0.05)
    assert reached <= 0.05 < 0.2 < repeated


def test_one_number_or_equal_ones_are_no_evidence():
    assert e_value([7.0]) == e_value([]) == e_value([2.0, 2.0, 2.0]) == 1.0
    assert e_value([2.0, 2.4, 1.8], null=2.0) < 1 < e_value([2.0, 2.4, 1.8])


def test_seeds_go_to_the_open_claim_that_is_nearest():
    near = rows_of("a", [10.0, 11.0, 10.5]) + rows_of("b", [1.0, 2.1, 1.4]) + rows_of("c", [10.1, 10.8, 10.9])
    assert next_cells(near, [A_B, A_C], {"a": 1.0, "b": 1.0, "c": 1.0}) == [("a", 3), ("b", 3)]
    assert next_cells(near, [A_B, A_C], {"a": 1.0, "b": 1.0}, left=0.5) == [], "no decision fits into half an hour"
    unmeasured = Claim("x.2", "cf", "table2", "x", "a", "b", "fail")
    assert next_cells(near, [unmeasured], {}) == [], "no seed measures a column that the rows do not have"
    assert next_cells(near, [A_C], {}) == [], "a difference of nothing is not decided by more seeds"


def test_a_seed_that_one_method_has_is_completed():
    rows = rows_of("a", [10.0, 11.0, 10.5, 10.4]) + rows_of("b", [1.0, 9.0, 4.0])
    assert next_cells(rows, [A_B], {}) == [("b", 3)]
    assert next_cells([], [A_B], {}) == [("a", 0), ("b", 0)]
    assert next_cells(rows, [A_B], {}, possible=lambda pair: pair[1] < 3) == []


def test_what_is_decided_gets_no_seed_and_copies_of_a_network_are_no_pairs():
    sure = rows_of("a", [50.0, 50.2, 49.9, 50.1, 50.3, 50.0]) + rows_of("b", [10.0, 10.1, 10.3, 9.9, 10.0, 10.2])
    (found,) = standings(sure, [A_B])
    assert found.decided and found.threshold == 20 and found.needed == 6 and next_cells(sure, [A_B], {}) == []
    assert standings(rows_of("a", [1.0, 2.0]) + rows_of("b", [0.0, 0.0], kind="deployed"), [A_B]) == []


def replay(rows, claims, hours, *, equal):
    """(hours spent, claims decided) step by step, as if the stored rows came one after the other, from two seeds of each method on.

    equal: all methods get the next seed in turn, as a table does; otherwise the seeds go where `next_cells` says. Ends when the rows do.
    """
    stored = {(str(row["method"]), row["seed"]): row for row in rows}
    known = {pair: row for pair, row in stored.items() if pair[1] < 2}
    in_turn = iter(sorted(set(stored) - set(known), key=lambda pair: pair[1]))
    spent, steps = 0.0, []
    while True:
        steps.append((spent, sum(standing.decided for standing in standings(list(known.values()), claims))))
        chosen = (
            [pair for pair in [next(in_turn, None)] if pair]
            if equal
            else next_cells(list(known.values()), claims, hours, possible=stored.__contains__)
        )
        if not chosen:
            return steps
        known |= {pair: stored[pair] for pair in chosen}
        spent += sum(hours.get(method, 0.0) for method, _ in chosen)


def test_on_the_stored_rows_it_decides_as_much_in_less_time_than_equal_seeds():
    rows = [json.loads(path.read_text()) for path in RECORD.glob("*.json")]
    costs = {row["method"]: row["cpu_seconds"] / 3600 for row in rows if row["kind"] != "deployed"}
    equal, chosen = (replay(rows, CLAIMS["cf-table2"], costs, equal=way) for way in (True, False))
    first = [next(spent for spent, decided in steps if decided) for steps in (equal, chosen)]
    assert equal[-1][1] == chosen[-1][1] == 1 and chosen[-1][0] < equal[-1][0]
    assert first[1] < 0.4 * first[0] and not math.isinf(first[0])
