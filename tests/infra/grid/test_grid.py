"""The grid: rows, resuming, failures, and workers and drivers that are killed."""

import os
import subprocess
import sys
from pathlib import Path

import grid_cells
import psutil
import pytest
from grid_cells import Cell, eventually, killed_once, square

from rtalib import grid, store

HELPERS = Path(grid_cells.__file__).parent


def odd_fails(cell: Cell) -> dict:
    if cell.number % 2 and not (Path(cell.folder) / "mended").exists():
        raise RuntimeError(f"number {cell.number} is odd")
    return square(cell)


@pytest.fixture
def cells(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "outputs"))
    return grid_cells.cells(tmp_path, 4)


def calls(cells) -> list[int]:
    return grid_cells.calls(Path(cells[0].folder))


def which_worker(cell: Cell) -> dict:
    return {"worker": os.getpid()}


@pytest.mark.slow
def test_shared_workers_serve_all_calls_and_one_that_is_killed_is_replaced(cells):
    with grid.shared_workers():
        one, two = (
            {row["worker"] for row in grid.run(which_worker, cells, recipe="w", run="demo", table=table, workers=1)} for table in "ab"
        )
        assert one == two and len(one) == 1
        assert len(grid.run(killed_once, cells, recipe="killed_once", run="demo", table="c", workers=1)) == 4
        three = {row["worker"] for row in grid.run(which_worker, cells, recipe="w", run="demo", table="d", workers=1)}
    assert len(three) == 1 and three != one and not any(psutil.pid_exists(pid) for pid in one | three)


@pytest.mark.parametrize("executor", ["serial", pytest.param("processes", marks=pytest.mark.slow)])
def test_rows_in_order_and_never_twice(cells, executor, capsys):
    rows = grid.run(square, cells, recipe="square", run="demo", table="squares", executor=executor)
    assert [(row["number"], row["square"], row["table"]) for row in rows] == [(n, n * n, "squares") for n in range(4)]
    assert "4/4 cells" in capsys.readouterr().out
    assert grid.run(square, cells, recipe="square", run="demo", table="squares", executor=executor) == rows
    assert len(calls(cells)) == 4
    assert grid.status("demo", "squares") == {"done": 4, "running": 0, "failed": 0, "missing": 0}


def test_another_run_of_the_table_meanwhile_takes_no_rows_away(cells):
    def others(row: dict) -> str:  # their plan is the table's plan from now on
        store.write_plan("demo", "t", ["of other seeds"])
        return ""

    rows = grid.run(square, cells, recipe="square", run="demo", table="t", executor="serial", describe=others)
    assert [row["square"] for row in rows] == [0, 1, 4, 9]


def test_a_finished_cell_is_described_and_a_failed_one_is_not(cells, capsys):
    common = {"run": "demo", "table": "t", "executor": "serial"}
    with pytest.raises(grid.GridError):
        grid.run(odd_fails, cells[:2], recipe="odd_fails", describe=lambda row: f"{row['number']} gives {row['square']}", **common)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(" left: 0 gives 0") and lines[1].endswith(" left")


def test_new_version_computes_again(cells):
    grid.run(square, cells[:1], recipe="square", run="demo", table="t", executor="serial")
    grid.run(square, cells[:1], recipe="square", run="demo", table="t", executor="serial", version=2)
    assert len(calls(cells)) == 2


def test_other_inputs_compute_again_and_the_same_do_not(cells):
    for digest in ("aa", "bb", "aa"):
        grid.run(square, cells[:1], recipe="square", run="demo", table="t", executor="serial", inputs={"train": digest})
    assert len(calls(cells)) == 2


def test_failure_is_not_a_result(cells):
    with pytest.raises(grid.GridError, match=r"2 of 4 cells of t failed(.|\n)*number 1 is odd"):
        grid.run(odd_fails, cells, recipe="odd_fails", run="demo", table="t", executor="serial")
    assert grid.status("demo", "t") == {"done": 2, "running": 0, "failed": 2, "missing": 0}
    (Path(cells[0].folder) / "mended").touch()
    assert len(grid.run(odd_fails, cells, recipe="odd_fails", run="demo", table="t", executor="serial")) == 4
    assert calls(cells) == [0, 2, 1, 3]
    assert grid.status("demo", "t")["failed"] == 0


def test_stop_ends_at_the_first_failure_and_keeps_what_is_finished(cells):
    with pytest.raises(grid.GridError, match="1 of 4 cells of t failed; finished ones are stored(.|\n)*number 1 is odd"):
        grid.run(odd_fails, cells, recipe="odd_fails", run="demo", table="t", executor="serial", ordered=True, stop=True)
    assert calls(cells) == [0] and grid.status("demo", "t") == {"done": 1, "running": 0, "failed": 1, "missing": 2}


@pytest.mark.slow
def test_killed_worker_is_replaced(cells):
    rows = grid.run(killed_once, cells, recipe="killed_once", run="demo", table="t", executor="processes", workers=2)
    assert [row["square"] for row in rows] == [0, 1, 4, 9]
    assert sorted(calls(cells)) == [0, 1, 2, 3]


@pytest.mark.slow
def test_killed_driver_resumes_with_the_missing_cells(cells):
    code = f"""
import pathlib, grid_cells
from rtalib import grid
cells = grid_cells.cells(pathlib.Path({cells[0].folder!r}), 4)
grid.run(grid_cells.slow, cells, recipe="slow", run="demo", table="t", executor="serial")
"""
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=HELPERS, stdout=subprocess.DEVNULL)
    marks = Path(cells[0].folder) / "outputs" / "demo" / "rows" / "t"
    assert eventually(lambda: len(list(marks.glob("[!.]*.json"))) >= 2)
    driver.kill()
    driver.wait()
    done = grid.status("demo", "t")["done"]
    assert 2 <= done < 4
    started = len(calls(cells))
    rows = grid.run(grid_cells.slow, cells, recipe="slow", run="demo", table="t", executor="serial")
    assert [row["square"] for row in rows] == [0, 1, 4, 9]
    assert len(calls(cells)) == started + 4 - done


@pytest.mark.slow
@pytest.mark.parametrize("piped", [False, True])
def test_workers_end_with_their_driver(cells, piped):
    code = f"""
import pathlib, grid_cells
from rtalib import grid
grid_cells.light_workers()
if __name__ == "__main__":
    cells = grid_cells.cells(pathlib.Path({cells[0].folder!r}), 2)
    grid.run(grid_cells.write_pid_and_wait, cells, recipe="wait", run="demo", table="t", executor="processes", workers=2)
"""
    where = {"cwd": HELPERS, "stdout": subprocess.DEVNULL}
    driver = subprocess.Popen([sys.executable, *(["-"] if piped else ["-c", code])], stdin=subprocess.PIPE, text=True, **where)
    with driver.stdin as script:
        script.write(code if piped else "")
    folder = Path(cells[0].folder)
    assert eventually(lambda: len(list(folder.glob("pid-*"))) == 2)
    driver.kill()
    driver.wait()
    workers = [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]
    assert eventually(lambda: not any(psutil.pid_exists(pid) for pid in workers))


def test_unknown_executor_suggests(cells):
    with pytest.raises(ValueError, match="Did you mean 'serial'"):
        grid.run(square, cells, recipe="square", run="demo", table="t", executor="seriel")


def test_rows_carry_provenance(cells):
    row = grid.run(square, cells[:1], recipe="square", run="demo", table="t", executor="serial")[0]
    assert {"git", "python", "packages", "cpu", "cores", "time"} <= row["stamp"].keys()
    assert store.read_row("demo", "t", row["key"]) == row
