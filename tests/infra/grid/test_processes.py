"""Slots: which worker sees which GPU. No test here needs one."""

import multiprocessing
from collections import deque
from multiprocessing import forkserver

import grid_cells
import pytest

from rtalib import grid
from rtalib.infra.grid import processes as grid_processes
from rtalib.infra.grid.cell import Job
from rtalib.infra.grid.processes import slots


@pytest.mark.parametrize(
    "devices, workers, gpus, expected",
    [
        ("", 3, None, ["", "", ""]),
        ("01", None, None, ["0", "1"]),
        ("01", 1, None, ["0"]),
        ("01", 3, None, ["0", "1", "0"]),
        ("01", None, 0.5, ["0", "1", "0", "1"]),
        ("0", None, 1 / 3, ["0"] * 3),
        ("01234", None, 2, ["0,1", "2,3"]),
        ("01", 2, 0, ["", ""]),
    ],
)
def test_slots(devices, workers, gpus, expected):
    assert slots(list(devices), workers, gpus) == expected


@pytest.mark.parametrize("workers, gpus, message", [(None, 3, "gpus: 3 per cell asked, 2 visible"), (3, 1, "workers: 3 asked, but 2 GPUs")])
def test_more_than_there_is(workers, gpus, message):
    with pytest.raises(ValueError, match=message):
        slots(["0", "1"], workers, gpus)


@pytest.mark.parametrize("argument, value", [("gpus", -1), ("gpus", 1.5), ("workers", 0), ("retries", -1)])
def test_bad_arguments_are_named(tmp_path, argument, value):
    with pytest.raises(ValueError, match=rf"^{argument}( \(or RTALIB_GPUS\))?: .*{value}"):
        grid.run(
            grid_cells.square, grid_cells.cells(tmp_path), recipe="square", run="demo", table="t", executor="serial", **{argument: value}
        )


@pytest.mark.slow
def test_the_environment_says_how_many_gpus_a_cell_has(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("RTALIB_GPUS", "2")
    monkeypatch.setattr(grid_processes, "visible_gpus", lambda: ["0", "1", "2", "3"])
    rows = grid.run(grid_cells.surroundings, grid_cells.cells(tmp_path, 2), recipe="surroundings", run="demo", table="t")
    assert {row["CUDA_VISIBLE_DEVICES"] for row in rows} <= {"0,1", "2,3"}
    monkeypatch.setenv("RTALIB_GPUS", "half")
    with pytest.raises(ValueError, match="^RTALIB_GPUS: .*'half'"):
        grid.run(grid_cells.surroundings, grid_cells.cells(tmp_path, 2), recipe="surroundings", run="demo", table="t")


@pytest.mark.slow
def test_every_worker_has_its_own_gpu_and_its_share_of_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(grid_processes, "visible_gpus", lambda: ["3", "GPU-7"])
    rows = grid.run(grid_cells.surroundings, grid_cells.cells(tmp_path), recipe="surroundings", run="demo", table="t")
    by_worker = {row["worker"]: row["CUDA_VISIBLE_DEVICES"] for row in rows}
    assert set(by_worker.values()) <= {"3", "GPU-7"} and len(set(by_worker.values())) == len(by_worker)
    assert {row["threads"] for row in rows} == {max(1, grid_processes.cores() // 2)}


def test_an_interrupt_while_a_worker_starts_leaves_nothing_behind(monkeypatch):
    """The fork server imports for seconds before it answers, so this is when most commands are ended."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(grid_processes.fork_server, "context", lambda: multiprocessing.get_context("spawn"))
    monkeypatch.setattr(grid_processes.fork_server.forkserver, "_forkserver", forkserver.ForkServer())
    monkeypatch.setattr(grid_processes.ProcessPoolExecutor, "submit", interrupted)
    pool = grid_processes.Pool(1, 0)
    with pytest.raises(KeyboardInterrupt):
        list(pool.run(deque([Job(len, (), "demo", "t", "a")])))
    pool.close()
