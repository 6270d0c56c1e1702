"""What a cell will cost, from rows; and what the grid makes of it."""

import time
from dataclasses import dataclass

import grid_cells
import pytest

from rtalib import grid, store
from rtalib.infra.grid import costs
from rtalib.infra.grid.progress import Progress


@dataclass(frozen=True)
class Cell:
    method: str
    seed: int
    size: int


def row(method: str, seed: int, size: int, seconds: float, cpu: float | None = None) -> dict:
    return {"method": method, "seed": seed, "size": size, "seconds": seconds, "cpu_seconds": seconds if cpu is None else cpu}


def test_the_mean_over_the_rows_that_agree_in_most_fields():
    rows = [row("a", 0, 1, 10.0), row("a", 1, 1, 20.0), row("a", 0, 2, 100.0), row("b", 0, 2, 7.0)]
    assert costs.estimate([Cell("a", 5, 1), Cell("a", 5, 2), Cell("b", 0, 2)], rows) == [15.0, 100.0, 7.0]
    assert costs.estimate([Cell("b", 0, 1)], rows) == [pytest.approx((10 + 20 + 7) / 3)]  # each agrees in one field


def test_unknown_without_rows_of_its_kind():
    assert costs.estimate([Cell("a", 0, 1)], []) == [None]
    assert costs.estimate([Cell("a", 0, 1)], [{"method": "a", "seconds": 3.0}, {"method": "a", "size": 1, "seed": 0}]) == [None]
    assert costs.estimate([], [row("a", 0, 1, 1.0)]) == []


def test_what_mostly_waited_counts_its_own_work():
    assert costs.seconds(row("a", 0, 1, 100.0, 10.0)) == 10.0
    assert costs.seconds(row("a", 0, 1, 20.0, 10.0)) == 20.0
    assert costs.seconds(row("a", 0, 1, 20.0, 40.0)) == 20.0


def test_a_thousand_cells_against_ten_thousand_rows():
    rows = [row(f"m{number % 100}", number % 5, number % 20, float(number)) for number in range(10_000)]
    cells = [Cell(f"m{number % 100}", number % 7, number % 20) for number in range(1000)]
    started = time.process_time()
    assert None not in costs.estimate(cells, rows)
    assert time.process_time() - started < 2


def test_the_unknown_start_first_in_their_order_and_then_the_longest():
    kinds = {"short": {"size": 1}, "new": {"other": 1}, "long": {"size": 2}, "newer": {"other": 2}, "as long": {"size": 2}}
    progress = Progress("t", 5, kinds, [{"size": 1, "seconds": 1.0}, {"size": 2, "seconds": 9.0}])
    assert sorted(kinds, key=progress.rank) == ["new", "newer", "long", "as long", "short"]


def test_a_run_starts_the_longest_first(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "outputs"))
    common = {"run": "demo", "table": "t", "executor": "serial"}
    grid.run(grid_cells.square, grid_cells.cells(tmp_path, 2), recipe="square", **common)
    for name, seconds in zip(store.read_plan("demo", "t"), (1.0, 5.0), strict=True):
        stored = store.read_row("demo", "t", name)
        store.write_row("demo", "t", name, stored | {"seconds": seconds, "cpu_seconds": seconds})
    grid.run(grid_cells.square, grid_cells.cells(tmp_path, 2), recipe="square", **common | {"version": 2})
    assert grid_cells.calls(tmp_path) == [0, 1, 1, 0]


def test_time_left_is_that_of_the_cells_left_and_no_less_than_the_longest(capsys):
    rows = [{"size": 1, "seconds": 10.0}, {"size": 2, "seconds": 60.0}]
    kinds = {"a": {"size": 1}, "b": {"size": 1}, "c": {"size": 1}, "d": {"size": 2}}
    progress = Progress("t", 5, kinds, rows)
    progress.start(workers=2)
    for name in "abc":
        progress.finished(name, None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[t] 1/5 cells were stored"
    assert [line.split("about ")[1] for line in lines[1:]] == ["1:00 left", "1:00 left", "1:00 left"]
    assert lines[1].startswith("[t] 2/5 cells, 0:00 elapsed")
