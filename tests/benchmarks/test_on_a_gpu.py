"""The one command for a lent GPU, as far as a CPU can show it: what it compares, what it keeps, and that it stops in time."""

import csv
import os
import time

import pytest
import torch
from recorded import Recorder

from benchmarks import on_a_gpu
from rtalib import store


def test_every_kernel_is_compared_and_a_difference_is_found(tmp_path, monkeypatch, capsys):
    assert on_a_gpu.check(tmp_path, "cpu", corruptions=["brightness"], count=2)
    with (tmp_path / "kernels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(on_a_gpu.SIDES) * len(on_a_gpu.BENCHMARKS) * 5 and {row["bytes_that_differ"] for row in rows} == {"0"}
    right, calls = on_a_gpu.corrupt, []

    def wrong(images, name, **options):
        calls.append(name)
        return right(images, name, **options) ^ (len(calls) == 2)

    monkeypatch.setattr(on_a_gpu, "corrupt", wrong)
    assert not on_a_gpu.check(tmp_path, "cpu", corruptions=["brightness"], count=2)
    assert "1 differ" in capsys.readouterr().out


def test_captured_steps_are_compared_and_a_difference_is_found(tmp_path, monkeypatch):
    def alphas(device):
        return {"alphas": torch.ones(2)}

    monkeypatch.setattr(on_a_gpu, "searched", alphas)
    recorder = Recorder(monkeypatch)
    monkeypatch.delenv("RTALIB_CAPTURE")
    assert on_a_gpu.check_captured(tmp_path, "cpu") and recorder.replays == 4
    assert (tmp_path / "captured.csv").read_text().splitlines() == ["run,again,captured", "trained,0.0,0.0", "alphas,0.0,0.0"]
    monkeypatch.setattr(on_a_gpu, "trained", lambda device: {"weight": torch.ones(2) + 1e-3 * int(os.environ.get("RTALIB_CAPTURE", 0))})
    assert not on_a_gpu.check_captured(tmp_path, "cpu")


@pytest.mark.slow
def test_a_step_runs_or_is_cut_short(tmp_path, monkeypatch):
    assert on_a_gpu.step(["benchmarks", "--list"], tmp_path, time.monotonic() + 60)
    assert not on_a_gpu.step(["benchmarks", "--list"], tmp_path, time.monotonic() - 1), "no time left"
    started = time.monotonic()
    assert not on_a_gpu.step(["rtalib", "tables", "rta-table1", "--scale", "cpu", "--executor", "serial"], tmp_path, started + 4)
    assert time.monotonic() - started < 600  # of hours
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    assert store.tables("cpu") == [] or all("seconds" in row for table in store.tables("cpu") for row in store.rows("cpu", table))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path, capsys):
    with pytest.raises(SystemExit):
        on_a_gpu.main(["--outputs", str(tmp_path / "new")])
    assert "no GPU is visible" in capsys.readouterr().err and not (tmp_path / "new").exists()
