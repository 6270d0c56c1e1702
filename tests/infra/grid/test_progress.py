"""What cells cost, by the rows of others of their kind, and what the grid makes of it: an order, the time left, and the lines it prints."""

import itertools
import math
import sys
from dataclasses import dataclass

import pytest

from rtalib import grid, store
from rtalib.infra.grid import progress
from rtalib.infra.grid.progress import Costs, Progress, clock, seconds, shared_out


def row(method: str, took: float, cpu: float | None = None, **fields) -> dict:
    return {"table": "t", "method": method, "seconds": took, "cpu_seconds": took if cpu is None else cpu} | fields


def test_a_cell_costs_the_mean_of_its_kind():
    costs = Costs([row("a", 10.0, seed=0), row("a", 20.0, seed=1), row("b", 7.0), row("a", 90.0, model="large")])
    assert costs.of({"table": "t", "method": "a", "seed": 5}) == 15.0
    assert costs.of({"table": "t", "method": "a", "model": "large"}) == 90.0
    assert costs.of({"table": "t", "method": "b"}) == 7.0


def test_a_cell_of_another_kind_or_table_is_unknown():
    costs = Costs([row("a", 10.0), {"table": "t", "method": "c"}])  # the last has no time
    assert [costs.of({"table": table, "method": method}) for table, method in ("tb", "tc", "ua")] == [None, None, None]


def test_rows_learned_later_count():
    costs = Costs([row("a", 10.0)])
    costs.learn(row("a", 30.0))
    assert costs.of({"table": "t", "method": "a"}) == 20.0


def test_a_cell_that_costs_nothing_is_known():
    costs = Costs([row("a", 0.0)])
    assert costs.of({"table": "t", "method": "a"}, 7.0) == 0.0 and costs.of({"table": "t", "method": "b"}, 7.0) == 7.0


def test_what_mostly_waited_counts_its_own_work():
    assert seconds(row("a", 100.0, 10.0)) == 10.0
    assert seconds(row("a", 20.0, 10.0)) == 20.0
    assert seconds(row("a", 20.0, 40.0)) == 20.0


def test_cells_shared_out_evenly_bound_every_schedule_from_below():
    """The best schedule, by trying every assignment, takes no less, and at most the longest cell more (Graham 1966)."""
    costs, workers = (7.0, 6.0, 5.0, 5.0, 4.0, 3.0, 2.0), 3
    best = math.inf
    for given in itertools.product(range(workers), repeat=len(costs)):
        best = min(best, max(sum(cost for cost, worker in zip(costs, given, strict=True) if worker == k) for k in range(workers)))
    assert shared_out(costs, workers) <= best <= shared_out(costs, workers) + max(costs)
    assert shared_out(costs, 1) == sum(costs) and shared_out(costs, 64) == 7.0 and shared_out([], 2) == 0.0


def test_times_for_people():
    assert [clock(value) for value in (0.4, 65, 3600, 7265)] == ["0:00", "1:05", "1:00:00", "2:01:05"]


@dataclass(frozen=True)
class Cell:
    method: str
    folder: str


def note(cell: Cell) -> dict:
    with open(f"{cell.folder}/calls", "a") as handle:
        handle.write(cell.method)
    return {}


def test_the_unknown_start_first_in_their_order_and_then_the_longest(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "outputs"))
    common = {"recipe": "note", "run": "demo", "table": "t", "executor": "serial"}
    grid.run(note, [Cell(method, str(tmp_path)) for method in "abc"], **common)
    for name, took in zip(store.read_plan("demo", "t"), (1.0, 9.0, 5.0), strict=True):
        stored = store.read_row("demo", "t", name)
        store.write_row("demo", "t", name, stored | {"seconds": took, "cpu_seconds": took})
    cells = [Cell(method, str(tmp_path)) for method in "axbyc"]
    grid.run(note, cells, **common | {"version": 2})
    grid.run(note, cells, **common | {"version": 3, "ordered": True})
    assert (tmp_path / "calls").read_text() == "abc" + "xybca" + "axbyc"


def test_time_left_is_that_of_the_cells_left_and_no_less_than_the_longest(capsys):
    kinds = {name: {"table": "t", "method": "d" if name == "d" else "a"} for name in "abcd"}
    shown = Progress("t", 5, kinds, Costs([row("a", 10.0), row("d", 60.0)]), workers=2)
    for name in "abc":
        shown.finished(name, None, "done")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[t] 1/5 cells were stored"
    assert [line.split("about ")[1] for line in lines[1:]] == ["1:00 left: done"] * 3
    assert lines[1].startswith("[t] 2/5 cells, 0:00 elapsed")


@pytest.fixture
def now(monkeypatch):
    time = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def test_unknown_cells_take_as_long_as_those_before(now, capsys):
    shown = Progress("t", 3, {name: {"method": name} for name in "abc"}, Costs([]), workers=2)
    now[0] += 40
    shown.finished("a", None, "done")  # two workers, 40 seconds, one cell: 80 seconds each
    assert "0:40 elapsed, about 1:20 left" in capsys.readouterr().out


def test_a_file_gets_a_line_every_half_minute_one_for_a_described_cell_and_one_at_the_end(now, capsys):
    shown = Progress("t", 6, {name: {"method": "a"} for name in "abcdef"}, Costs([]))
    for name, text in zip("abcdef", ("", "", "described", "", "", ""), strict=True):
        now[0] += 16
        shown.finished(name, None, text)
    out = capsys.readouterr().out
    assert [line.split(" ")[1] for line in out.splitlines()] == ["2/6", "3/6", "5/6", "6/6"]
    assert "3/6 cells, 0:48 elapsed, about 0:48 left: described\n" in out and "\r" not in out


def test_a_terminal_gets_one_line_that_is_rewritten_and_keeps_the_described_ones(now, capsys, monkeypatch):
    shown = Progress("t", 3, {name: {"method": "a"} for name in "abc"}, Costs([]))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    for name, text in zip("abc", ("", "described", ""), strict=True):
        shown.finished(name, None, text)
    states = capsys.readouterr().out.split("\r")
    assert [state.split(" ")[1] for state in states[0].splitlines() + states[1].splitlines()] == ["1/3", "2/3", "3/3"]
    assert states[1].splitlines()[0].endswith(": described") and states[1].endswith("\n")
