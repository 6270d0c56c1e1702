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


def counts(found: plan.Plan) -> dict[str, tuple[int, int]]:
    return {line.table: (line.cells, line.stored) for line in found.lines}


def test_a_plan_counts_cells_and_leaves_nothing_behind(outputs):
    found = plan.collect(["table1"], scale="smoke", dataset="shapes10", seeds=(0, 1))
    assert counts(found) == {"rta-sources": (3, 0), "rta-sets": (24, 0), "rta-table1": (24, 0), "cf-deployed": (1, 0), "cf-table1": (10, 0)}
    assert all(line.seconds > 0 and line.guess for line in found.lines)
    assert not list(outputs.iterdir())


def test_what_is_stored_is_counted_and_times_what_is_not():
    repair.run_table("table7", scale="smoke", seeds=(0,), executor="serial")
    found = plan.collect(["cf-table7"], scale="smoke", dataset="shapes10", seeds=(0, 1))
    assert counts(found) == {"cf-deployed": (1, 1), "cf-table7": (4, 2)}
    measured = [seconds(row) for row in store.rows("smoke", "cf-table7")]
    assert len(found.steps) == 2 and all(min(measured) <= step.seconds <= max(measured) for step in found.steps)
    assert "~" not in plan.text(found) and "the longest piece" in plan.text(found)


def test_tables_that_share_networks_plan_them_once():
    found = plan.collect(["rta-table1", "rta-table2"], scale="smoke", dataset="shapes10", seeds=(0,))
    assert counts(found)["rta-sources"] == (3, 0)
    assert counts(found)["rta-sets"] == (12, 0)  # Table 2 is trained on one of them


def test_assumed_hours_fill_what_is_unknown():
    found = plan.collect(["cf-table2"], scale="paper", dataset="shapes10", seeds=range(5), hours=2.0)
    assert {step.seconds for step in found.steps} == {7200.0} and len(found.steps) == sum(line.cells for line in found.lines)
    assert f"{2 * len(found.steps):.0f} h in all" in plan.text(found)
    for name in ("hours", "longest"):
        with pytest.raises(ValueError, match=name):
            plan.collect(["cf-table2"], scale="smoke", dataset="shapes10", **{name: 0})


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
    assert "cf-figure4" in printed and " 40 " in printed and " ~ " in printed and "unknown" not in printed
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


def test_all_names_every_table_once():
    assert plan.named(["cf-table2", "all"]) == ["cf-table2", *(name for name in plan.runners() if name != "cf-table2")]


@pytest.mark.slow
def test_a_rehearsal_leaves_nothing_to_guess(outputs, capsys):
    """A few steps of every kind, once: the second time all of them are found."""
    arguments = ["plan", "cf-table7", "--scale", "smoke", "--seeds", "0,", "--rehearse", "--longest", "60"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "~" not in printed and "[rehearsal]" in printed and "as measured on a core of" in printed
    rows = store.rows("rehearsal-smoke", "rehearsal")
    assert {row["kind"]["what"] for row in rows} == {"training", "search", "prediction", "corruption", "selection"}
    assert all(row["unit_seconds"] > 0 and row["needed"] >= row["memory"] > 0.05 and not row["note"] for row in rows)
    assert all(row["checkpoint"] > 0.01 for row in rows if row["kind"]["what"] in ("training", "search"))
    assert cli.main(arguments) == 0
    assert f"[rehearsal] {len(rows)}/{len(rows)} cells were stored" in capsys.readouterr().out


def test_a_table_that_fails_does_not_stop_the_others(outputs, capsys, monkeypatch):
    def fails(**arguments):
        if grid._plans is None:
            raise grid.GridError("1 of 1 cells failed")

    runners = {"broken": fails, "search-or-chance": lambda **arguments: [{}]}
    monkeypatch.setattr(plan, "runners", lambda: runners)
    assert cli.main(["tables", "broken", "search-or-chance", "--scale", "smoke"]) == 1
    printed = capsys.readouterr()
    assert "search-or-chance: 1 rows" in printed.out and printed.err.splitlines()[-1].endswith("Not complete: broken (1 of 1 cells failed)")
