"""A run that is killed again and again ends with the rows of an undisturbed one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rtalib import store

RUNS = {
    "rta-table1": "from rtalib import rta; rta.run_table('table1', scale='smoke', executor='serial')",
    "cf-table2": "from rtalib import repair; repair.run_table('table2', scale='smoke', executor='serial')",
}
VARYING = ("seconds", "cpu_seconds", "stamp", "history")  # of rows; the history is compared without its seconds


def run(code: str, outputs: Path, seconds: float | None = None) -> int:
    """The exit status of a process that is killed after `seconds`, if it still runs."""
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "RTALIB_OUTPUTS": str(outputs)}, stdout=subprocess.DEVNULL)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def results(outputs: Path, table: str, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    monkeypatch.setenv("RTALIB_OUTPUTS", str(outputs))
    rows = store.rows("smoke", table)
    stripped = [{name: value for name, value in row.items() if name not in VARYING} for row in rows]
    histories = [[{k: v for k, v in epoch.items() if k != "seconds"} for epoch in row.get("history", [])] for row in rows]
    return [row | {"history": history} for row, history in zip(stripped, histories, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("table", RUNS)
def test_rows_equal_those_of_an_undisturbed_run(table, tmp_path, monkeypatch):
    assert run(RUNS[table], tmp_path / "calm") == 0
    ends = [run(RUNS[table], tmp_path / "killed", seconds) for seconds in (2.5, 3.0, 3.5, 4.5)]
    assert ends[0] == -signal.SIGKILL
    assert run(RUNS[table], tmp_path / "killed") == 0
    calm, killed = (results(tmp_path / name, table, monkeypatch) for name in ("calm", "killed"))
    assert len(calm) > 5 and killed == calm
