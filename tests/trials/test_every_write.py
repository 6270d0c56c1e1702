"""As databases are tested: every operation of a small run that changes the disk fails once, and the process dies at each of them.

Whatever happens, the next call completes the table, and its rows equal those of an undisturbed run.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from faulty_files import HOWS, Faults, interposed
from grid_cells import results

from rtalib import grid, store
from rtalib.infra.grid import cell as grid_cell
from rtalib.infra.store import entries as store_entries
from rtalib.infra.store import housekeeping


@dataclass(frozen=True)
class Trial:
    seed: int


def network(seed: int) -> store.Entry:
    """An artefact that takes three epochs, with a checkpoint after each."""

    def build(work: Path) -> None:
        checkpoint = work / "checkpoint.json"
        epochs = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
        for epoch in range(len(epochs), 3):
            epochs.append(seed + epoch)
            store.write_atomic(checkpoint, json.dumps(epochs))
        (work / "weights.bin").write_bytes(bytes(epochs) * 100)
        (work / "parts").mkdir(exist_ok=True)
        (work / "parts" / "history.json").write_text(json.dumps(epochs))

    return store.make("network", 1, {"seed": seed}, build)


def measure(trial: Trial) -> dict:
    source, own = network(0), network(trial.seed + 1)
    weights = (source.path / "weights.bin").read_bytes() + (own.path / "weights.bin").read_bytes()
    return {"score": sum(weights) / 7, "history": json.loads((own.path / "parts" / "history.json").read_text())}


def run() -> list[dict]:
    grid.run(measure, [Trial(0), Trial(1)], recipe="trial", run="demo", table="t", executor="serial")
    return results("demo", "t")


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)  # it is counted, and takes most of the time
    monkeypatch.setattr(grid_cell, "PAUSE", 0.0)
    monkeypatch.setattr(grid_cell, "stamp", dict)
    monkeypatch.setattr(store_entries, "stamp", dict)


def forget() -> None:
    """What a process knows of the store, as if another one began."""
    store_entries._verified.clear()
    store_entries._places.clear()


def disturbed(folder: Path, at: int, how: str) -> None:
    """In a child, so that it may die."""
    if pid := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in (0, 1, 9)
        return
    status = 2
    try:
        with interposed(Faults(folder, at, HOWS[how])):
            run()
        status = 0
    except (OSError, grid.GridError):
        status = 1
    finally:
        os._exit(status)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "how, step", [("the process dies", 17), ("the disk is full", 29), *(pytest.param(how, 1, marks=pytest.mark.trial) for how in HOWS)]
)
def test_rows_equal_those_of_an_undisturbed_run(how, step, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "calm"))
    with interposed(Faults(tmp_path / "calm")) as faults:
        calm = run()
    assert len(calm) == 2 and len(faults.log) > 100 and {line.split()[0] for line in faults.log} >= {"write", "fsync", "replace", "rename"}
    places = {os.path.dirname(line.split()[1]) for line in faults.log}
    assert places >= {"demo/plans", "demo/rows/t", "store/network"}, "operations of grid and store"
    for at in range(0, len(faults.log), step):
        folder = tmp_path / str(at)
        monkeypatch.setenv("RTALIB_OUTPUTS", str(folder))
        disturbed(folder, at, how)
        counts = grid.status("demo", "t")
        assert counts["done"] == len(results("demo", "t")), "what status counts can be read"
        forget()
        assert run() == calm, f"{how} at {faults.log[at]}"
        forget()
        assert run() == calm
        for path in folder.rglob(".*"):
            os.utime(path, (0, 0))  # what is temporary is garbage after an hour
        housekeeping.gc(delete=True, days=0)
        left = [path.name for path in folder.rglob(".*")]
        assert left == [], f"{how} at {faults.log[at]} leaves {left}"
        assert len(housekeeping.entries()) == 3 and grid.status("demo", "t")["done"] == 2
    capsys.readouterr()
