"""A run that is killed again and again ends with the rows of an undisturbed one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rtalib import models, shapes10, store
from rtalib.training import artefacts
from rtalib.training.recipes import RECIPES

RUNS = {
    "rta-table1": "from rtalib import rta; rta.run_table('table1', scale='smoke', executor='serial')",
    "cf-table2": "from rtalib import repair; repair.run_table('table2', scale='smoke', executor='serial')",
}
VARYING = ("seconds", "cpu_seconds", "stamp", "history")  # of rows; the history is compared without its seconds


def killed_when(happened: Callable[[], object], code: str, outputs: Path) -> None:
    """Run the code in a process that is killed as soon as `happened` is true."""
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "RTALIB_OUTPUTS": str(outputs)}, stdout=subprocess.DEVNULL)
    while not happened():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def results(outputs: Path, table: str, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    monkeypatch.setenv("RTALIB_OUTPUTS", str(outputs))
    rows = store.rows("smoke", table)
    stripped = [{name: value for name, value in row.items() if name not in VARYING} for row in rows]
    histories = [[{k: v for k, v in epoch.items() if k != "seconds"} for epoch in row.get("history", [])] for row in rows]
    return [row | {"history": history} for row, history in zip(stripped, histories, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("table", RUNS)
def test_rows_equal_those_of_an_undisturbed_run(table, tmp_path, smoke_outputs, monkeypatch):
    run, outputs = RUNS[table], tmp_path / "killed"
    exec(run)  # the calm one, which the notebook of the table may have begun or ended
    calm = results(smoke_outputs, table, monkeypatch)
    for pattern in ("store/*/.*.work-*", f"smoke/rows/{table}/*.json"):  # amid the first piece of work, and as soon as a row is there
        killed_when(lambda pattern=pattern: any(outputs.glob(pattern)), run, outputs)
    monkeypatch.setenv("RTALIB_OUTPUTS", str(outputs))
    assert len(list(outputs.glob(f"smoke/rows/{table}/*.json"))) < len(calm)
    exec(run)
    assert len(calm) > 5 and results(outputs, table, monkeypatch) == calm


@pytest.mark.parametrize("damage", ["truncated", "empty"])
def test_a_training_with_a_damaged_checkpoint_starts_again_and_ends_the_same(damage, tmp_path, monkeypatch):
    data, epochs = shapes10.make("train", 40), []

    def fit(outputs: str, stop: int = 0):
        def record(model):
            epochs.append(1)
            if len(epochs) == stop:
                raise KeyboardInterrupt
            return {}

        monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / outputs))
        recipe, parameters = RECIPES["fast"].scaled(3), {"model": "tiny", "data": data.digest}
        options = {"parameters": parameters, "seed": 0, "label": "tiny", "record": record}
        return artefacts.trained_network(lambda: models.build("tiny"), lambda: data, recipe, **options)[0]

    calm = fit("calm")
    epochs.clear()
    with pytest.raises(KeyboardInterrupt):
        fit("hit", stop=2)
    (checkpoint,) = (tmp_path / "hit" / "store" / "network").glob(".*.work-*/checkpoint.pt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000] if damage == "truncated" else b"")
    epochs.clear()
    with pytest.warns(UserWarning, match="training starts again"):
        again = fit("hit")
    assert len(epochs) == 3
    assert all(torch.equal(a, b) for a, b in zip(calm.state_dict().values(), again.state_dict().values(), strict=True))
    assert [path.name for path in (tmp_path / "hit" / "store" / "network").glob(".*")] == []
