"""The command that spends hours on claims: which rows it computes, when it stops, what it refuses."""

import pytest

from rtalib.cli import decide
from rtalib.cli.main import main
from rtalib.results import sequential


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Rows that the table was asked for, made up: every claim's better method is far ahead."""
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    rows: dict[tuple[str, int], dict] = {}

    def run_table(*, scale, dataset, seeds, only, executor):
        assert {seed for _, seed in only} == set(seeds)
        for method, seed in sorted(only - rows.keys()):
            value = {"CF-DARTSE": 60.0, "CF-DARTS": 40.0}.get(method, 20.0) + 0.1 * (seed % 3) + 0.05 * len(method) * (seed % 2)
            rows[method, seed] = {"method": method, "seed": seed, "fail": value, "clean": value, "protocol": "disjoint", "seconds": 36.0}
        return list(rows.values())

    monkeypatch.setattr(decide, "runners", lambda: {"cf-table2": run_table})
    return rows


def test_it_spends_seeds_until_no_claim_is_worth_more(asked, capsys):
    assert main(["decide", "cf-table2", "--hours", "1", "--scale", "smoke"]) == 0
    printed = capsys.readouterr().out
    assert len(asked) > 10 and max(seed for _, seed in asked) < sequential.MOST
    assert printed.startswith("next: ") and "decided" in printed and "evidence" in printed


def test_no_hours_no_rows(asked, capsys):
    assert main(["decide", "cf-table2", "--hours", "0", "--scale", "smoke"]) == 0
    assert not asked


def test_other_tables_are_refused(asked, capsys):
    assert main(["decide", "cf-table9", "--hours", "1", "--scale", "smoke"]) == 2
    assert "Did you mean 'cf-table2'" in capsys.readouterr().err


def test_a_table_can_be_asked_for_some_rows_alone(monkeypatch, tmp_path):
    from rtalib import grid, repair, rta

    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    with grid.planning() as planned:
        repair.run_table("table2", scale="smoke", seeds=[0, 1], only={("CF-DARTS", 1), ("AugMix", 0)})
        rta.run_table("table1", scale="smoke", seeds=[0, 3], only={(rta.OURS, 3)})
    assert {(cell.method, cell.seed) for cell in planned["cf-table2"].values()} == {("CF-DARTS", 1), ("AugMix", 0)}
    assert [(cell.method, cell.seed) for cell in planned["rta-sets"].values()] == [(rta.OURS, 3)]


def test_the_real_tables_can_be_decided():
    assert {"cf-table2", "rta-table1"} <= decide.runners().keys() and "cf-table7" not in decide.runners()
