"""What a table would compute, and how long, before anything starts."""

import pytest

from rtalib import grid, repair, store
from rtalib.cli import main as cli
from rtalib.cli import plan
from rtalib.infra.grid.progress import seconds


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    return tmp_path


def counts(lines: list[plan.Line]) -> dict[str, tuple[int, int]]:
    return {line.table: (line.cells, line.stored) for line in lines}


def test_a_plan_counts_cells_and_leaves_nothing_behind(outputs):
    lines = plan.collect(["table1"], scale="smoke", dataset="shapes10", seeds=(0, 1))
    assert counts(lines) == {"rta-sources": (3, 0), "rta-sets": (20, 0), "rta-table1": (20, 0), "cf-deployed": (1, 0), "cf-table1": (10, 0)}
    assert all(second is None for line in lines for second in line.seconds)
    assert not list(outputs.iterdir())


def test_what_is_stored_is_counted_and_times_what_is_not():
    repair.run_table("table7", scale="smoke", seeds=(0,), executor="serial")
    lines = plan.collect(["cf-table7"], scale="smoke", dataset="shapes10", seeds=(0, 1))
    assert counts(lines) == {"cf-deployed": (1, 1), "cf-table7": (4, 2)}
    measured = [seconds(row) for row in store.rows("smoke", "cf-table7")]
    assert all(min(measured) <= second <= max(measured) for second in lines[1].seconds)
    assert "2 cells" not in plan.text(lines) and "the longest cell" in plan.text(lines, plan.hardware("smoke", "shapes10"))


def test_tables_that_share_networks_plan_them_once():
    lines = plan.collect(["rta-table1", "rta-table2"], scale="smoke", dataset="shapes10", seeds=(0,))
    assert counts(lines)["rta-sources"] == (3, 0)
    assert counts(lines)["rta-sets"] == (10, 0)  # Table 2 is trained on one of them


def test_assumed_hours_fill_what_is_unknown():
    lines = plan.collect(["cf-table2"], scale="paper", dataset="shapes10", seeds=range(5), hours=2.0)
    cells = sum(line.cells for line in lines)
    assert {second for line in lines for second in line.seconds} == {7200.0}
    assert f"{2 * cells:.1f} h in all" in plan.text(lines)
    with pytest.raises(ValueError, match="hours"):
        plan.collect(["cf-table2"], scale="smoke", dataset="shapes10", hours=0)


@pytest.mark.parametrize("seeds", ["-1,", "0,4294967296", "99999999999999999999,", "-3", "0", "10001", "9" * 30, "1e3", "3.5", "a", "1,a"])
def test_seeds_are_checked_before_anything_runs(seeds):
    with pytest.raises(ValueError, match="^--seeds: expected"):
        plan.seeds(seeds)


@pytest.mark.parametrize("hours", ["nan", "inf", "-1", "0"])
def test_hours_are_finite(hours):
    with pytest.raises(ValueError, match="^hours: expected"):
        plan.collect(["rta-table1"], scale="smoke", dataset="shapes10", hours=float(hours))


@pytest.mark.parametrize("gpus", ["nan", "inf", "1e400", "-1", "1.5", "1e-9", "1", "0.5", "abc"])
def test_gpus_that_are_not_there_are_refused_before_anything_runs(gpus, monkeypatch):
    monkeypatch.setenv("RTALIB_GPUS", gpus)
    monkeypatch.setattr("rtalib.infra.grid.processes.visible_gpus", list)
    with pytest.raises(ValueError, match="gpus|RTALIB_GPUS"):
        plan.collect(["rta-table1"], scale="smoke", dataset="shapes10", executor="processes")


def test_command(capsys):
    assert cli.main(["plan", "cf-figure4", "--scale", "smoke", "--seeds", "5"]) == 0
    printed = capsys.readouterr().out
    assert "cf-figure4" in printed and " 40 " in printed and "unknown" in printed
    assert cli.main(["plan", "tabel2", "--scale", "smoke"]) == 2
    assert "table2" in capsys.readouterr().err
    assert cli.main(["plan", "table2", "--seeds", "two"]) == 2
    assert cli.main(["plan", "table2", "--seeds", "0"]) == 2
    assert "'0,'" in capsys.readouterr().err


def test_tables_without_notebooks(outputs, capsys):
    """The rows are those of the table's function, and the second time all of them are there."""
    assert cli.main(["tables", "cf-table7", "--scale", "smoke", "--seeds", "0,", "--executor", "serial"]) == 0
    assert "cf-table7: 2 rows" in capsys.readouterr().out
    assert counts(plan.collect(["cf-table7"], scale="smoke", dataset="shapes10", seeds=[0]))["cf-table7"] == (2, 2)
    assert cli.main(["tables", "cf-table7", "--scale", "smoke", "--executor", "procesess"]) == 2
    assert "processes" in capsys.readouterr().err
    assert cli.main(["tables", "tabel2"]) == 2


def test_a_table_that_fails_does_not_stop_the_others(outputs, capsys, monkeypatch):
    def fails(**arguments):
        if grid._plans is None:
            raise grid.GridError("1 of 1 cells failed")

    runners = {"broken": fails, "search-or-chance": lambda **arguments: [{}]}
    monkeypatch.setattr(plan, "runners", lambda: runners)
    assert cli.main(["tables", "broken", "search-or-chance", "--scale", "smoke"]) == 1
    printed = capsys.readouterr()
    assert "search-or-chance: 1 rows" in printed.out and "not complete: broken" in printed.err
