"""What a week brings: workers and drivers that are killed, errors that pass and errors that do not, memory that is not enough, two drivers.

After each, every finished cell is intact, exactly the missing ones are computed, and the rows are those of an undisturbed run.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import grid_cells
import pytest
from grid_cells import calls, cells, eventually, results, tries

from rtalib import grid, store
from rtalib.infra.grid import cell as grid_cell

EXPECTED = [{"number": number, "square": number**2} for number in range(6)]
EXECUTORS = ["serial", pytest.param("processes", marks=pytest.mark.slow)]
PROCESSES = {"run": "demo", "table": "t", "executor": "processes", "workers": 2}
DRIVER = """
import sys, pathlib, grid_cells
from rtalib import grid
grid_cells.light_workers()
if __name__ == "__main__":
    cells = grid_cells.cells(pathlib.Path({folder!r}))
    grid.run(grid_cells.slow, cells, recipe="slow", run="demo", table="t", executor={executor!r}, workers=2)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(grid_cell, "PAUSE", 0.01)  # spawned workers keep their own
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def same_workers():
    with grid.shared_workers():
        yield


def errors(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted((folder / "outputs" / "demo" / "rows" / "t").glob("failed-*.txt"))]


def driver(folder: Path, executor: str) -> subprocess.Popen:
    code = DRIVER.format(folder=str(folder), executor=executor)
    return subprocess.Popen([sys.executable, "-c", code], cwd=Path(grid_cells.__file__).parent, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_worker_costs_one_try_of_one_cell(folder):
    grid.run(grid_cells.killed_once, cells(folder), recipe="killed_once", **PROCESSES)
    assert results("demo", "t") == EXPECTED
    assert sorted(calls(folder)) == list(range(6)) and errors(folder) == []


@pytest.mark.slow
def test_a_cell_that_always_kills_its_worker_fails_alone(folder):
    with pytest.raises(grid.GridError, match="1 of 6 cells of t failed(.|\n)*worker killed by signal 9, out of memory?"):
        grid.run(grid_cells.killed_always, cells(folder), recipe="killed_always", retries=1, **PROCESSES)
    assert results("demo", "t") == [row for row in EXPECTED if row["number"] != 1]
    assert sorted(calls(folder)) == [0, 2, 3, 4, 5] and tries(cells(folder)[1]) == 2
    assert len(errors(folder)) == 2 and grid.status("demo", "t") == {"done": 5, "running": 0, "failed": 1, "missing": 0}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_changed_digit_of_a_row_is_noticed_and_the_cell_computed_again(folder, executor):
    how = {"recipe": "square"} | PROCESSES | {"executor": executor}
    rows = grid.run(grid_cells.square, cells(folder), **how)
    path = store.row_path("demo", "t", rows[2]["key"])
    path.write_text(path.read_text().replace('"square": 4', '"square": 5'))
    with pytest.warns(UserWarning, match=f"{path.name}: its content has changed since it was written"):
        assert grid.status("demo", "t") == {"done": 5, "running": 0, "failed": 0, "missing": 1}
        assert len(store.frame("demo")) == 5
        grid.run(grid_cells.square, cells(folder), **how)
    assert results("demo", "t") == EXPECTED and calls(folder)[6:] == [2]
    (aside,) = path.parent.glob(".corrupt-*")
    assert '"square": 5' in aside.read_text()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_error_that_passes_is_tried_again_after_the_others(folder, executor):
    grid.run(grid_cells.offline_once, cells(folder), recipe="offline_once", **PROCESSES | {"executor": executor})
    assert results("demo", "t") == EXPECTED and errors(folder) == []
    assert sorted(calls(folder)) == list(range(6)) and (executor == "processes" or calls(folder)[-1] == 1)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(
    "function, times, message",
    [
        (grid_cells.offline_always, 2, "TimeoutError: the network is away"),
        (grid_cells.wrong, 1, "AssertionError: one is not two"),
        (grid_cells.too_large, 1, "out of memory, not tried again(.|\n)*MemoryError"),
    ],
)
def test_an_error_that_does_not_pass_fails_one_cell(folder, executor, function, times, message):
    with pytest.raises(grid.GridError, match=f"1 of 6 cells of t failed(.|\n)*{message}") as caught:
        grid.run(function, cells(folder), recipe="function", retries=1, **PROCESSES | {"executor": executor})
    assert ("Traceback" in str(caught.value)) == (function is grid_cells.wrong) and "Traceback" in errors(folder)[0]
    assert tries(cells(folder)[1]) == times == len(errors(folder))
    assert results("demo", "t") == [row for row in EXPECTED if row["number"] != 1]


@pytest.mark.parametrize(
    "error, again", [(OSError(5, "input/output"), True), (OSError(28, "no space"), False), (FileNotFoundError(), False)]
)
def test_what_is_worth_another_try(error, again):
    assert grid_cell.transient(error) is again


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_killed_driver_leaves_its_finished_cells_and_the_next_computes_the_others(folder, executor):
    process = driver(folder, executor)
    assert eventually(lambda: grid.status("demo", "t")["done"] >= 2)
    process.kill()
    process.wait()
    eventually(lambda: grid.status("demo", "t")["running"] == 0)
    done, before = grid.status("demo", "t")["done"], {path: path.read_bytes() for path in folder.rglob("[!.]*.json")}
    finished = calls(folder)
    assert 2 <= done < 6
    grid.run(grid_cells.slow, cells(folder), recipe="slow", **PROCESSES)
    assert results("demo", "t") == EXPECTED
    assert len(calls(folder)) - len(finished) == 6 - done
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.slow
@pytest.mark.parametrize(("count", "executor"), [(2, "processes"), *(pytest.param(n, "serial", marks=pytest.mark.trial) for n in (3, 10))])
def test_drivers_share_the_cells_of_a_table(folder, count, executor):
    drivers = [driver(folder, executor) for _ in range(count)]
    printed = [process.communicate(timeout=600)[0] for process in drivers]
    assert {process.returncode for process in drivers} == {0} and all("6/6 cells" in text for text in printed)
    assert results("demo", "t") == EXPECTED and sorted(calls(folder)) == list(range(6))


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_keeps_what_is_finished(folder):
    code = DRIVER.format(folder=str(folder), executor="processes")
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(grid_cells.__file__).parent, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert eventually(lambda: grid.status("demo", "t")["done"])
    os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=20)[1]
    assert err.count("Traceback") == 1 and err.rstrip().endswith("KeyboardInterrupt")
    assert 1 <= grid.status("demo", "t")["done"] < 6 and grid.status("demo", "t")["running"] == 0
