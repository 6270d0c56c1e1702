"""The bench keeps what is finished, loses nothing when a benchmark crashes, and says of every goal what it is or why it is unmeasured."""

import csv
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import command
from benchmarks import page as bench_page
from benchmarks import runner as bench
from benchmarks.runner import Goal

ROOT = Path(__file__).parents[2]
TOY = """
import os
from benchmarks.timing import Unmeasured

def value(*, device, **row):
    return {"seconds": 0.5, "peer_seconds": 1.0, "rounds": 1, "clock": "cpu", "load": 0.5, "found": os.environ["OMP_NUM_THREADS"]} | row

def crash(*, device):
    print("no luck", flush=True)
    os._exit(7)

def nothing(*, device):
    raise Unmeasured("no data here")
"""


def goal(id: str, measure: str = "toy.value", part: str = "", **fields) -> Goal:
    return Goal(id=id, part=part, operation="an operation", size="tiny", goal=2.0, measure=measure, peer="a peer", **fields)


@pytest.fixture
def toys(monkeypatch, tmp_path) -> list[Goal]:
    """Goals of a folder of their own, and the folder for results."""
    (tmp_path / "benchmarks" / "goals").mkdir(parents=True)
    (tmp_path / "benchmarks" / "goals" / "toy.py").write_text(TOY)
    good = {"value": 3.0, "held": True, "same_precision": 1.5}
    found = [
        goal("C1", part="good", arguments=good, precision="bfloat16", threads=2),
        goal("C1", part="doubtful", arguments={"value": 3.0}),
        goal("C2", "toy.crash"),
        goal("C3", needs=("rtalib-no-such-peer",)),
        goal("C4", "toy.nothing"),
        goal("G1", device="cuda", arguments=good),
        goal("G2", device="cuda", unmeasured="no run yet"),
    ]
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "goals", lambda: found)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(bench, "hardware", lambda device: None if device == "cuda" else "any processor")
    return found


def keep(goal: Goal, **row) -> dict:
    """Store a row as if it had been measured."""
    base = {"value": 3.0, "seconds": 0.5, "rounds": 5, "clock": "cpu", "cores": 2, "threads": 1, "torch": "2", "git": "1234567890"}
    base |= {"dirty": False, "time": "2026-11-22T10:00:00", "cpu": "any processor", "gpu": None, "arguments": goal.arguments, "took": 1.0}
    bench.store.write_row(bench.RUN, goal.device, goal.name, base | row)
    return base | row


def test_every_goal_has_a_function_that_takes_its_arguments():
    known = bench.goals()
    assert {goal.id for goal in known} == {f"C{n}" for n in range(1, 17)} | {f"G{n}" for n in range(1, 11)}
    assert len({goal.name for goal in known}) == len(known)
    for one in known:
        assert one.device == {"C": "cpu", "G": "cuda"}[one.id[0]] and one.sense in bench.SENSES and one.goal > 0
        if not one.unmeasured:
            module, function = one.measure.split(".")
            measure = getattr(importlib.import_module(f"benchmarks.goals.{module}"), function)
            inspect.signature(measure).bind(**one.arguments, device=one.device)
            assert bool(one.peer) == (one.unit in ("x", "of airbench96's")), one.name


def test_goals_are_chosen_by_id_by_part_and_by_device():
    known = [goal("C1", part="a"), goal("C1", part="b"), goal("C2"), goal("G1", device="cuda")]
    names = lambda *wanted, device=None: [one.name for one in bench.choose(known, wanted, device)]  # noqa: E731
    assert names() == ["C1-a", "C1-b", "C2", "G1"] and names("c2", "C1") == ["C1-a", "C1-b", "C2"] and names("c1-B") == ["C1-b"]
    assert names(device="cuda") == ["G1"] and names("C2", device="cuda") == []
    with pytest.raises(ValueError, match="unknown goal 'C1-bb'. Did you mean 'C1-b'"):
        names("C1-bb")
    with pytest.raises(ValueError, match="unknown device 'gpu'.* Known: cpu, cuda"):
        names(device="gpu")


def test_a_run_with_a_crash_a_missing_peer_and_no_gpu(toys, tmp_path, capsys):
    keep(toys[1], held=False, found="another | set")
    assert command.main([]) == 1
    told = capsys.readouterr()
    assert "failed: C2;" in told.err and "page: " in told.out
    rows = {one.name: bench_page.row_of(one) for one in toys}
    verdicts = {one.name: one.verdict(rows[one.name]) for one in toys}
    assert verdicts == {"C1-good": "met", "C1-doubtful": "missed"} | dict.fromkeys(("C2", "C3", "C4", "G1", "G2"), "unmeasured")
    assert {name: row["reason"] for name, row in rows.items() if "reason" in row} == {
        "C2": "the benchmark failed (exit status 7): no luck",
        "C3": "rtalib-no-such-peer is not installed",
        "C4": "no data here",
        "G1": "no GPU",
        "G2": "no run yet",
    }
    assert rows["C1-good"]["threads"] == 2 and rows["C1-good"]["found"] == "2"  # in PyTorch, and in the environment
    tables = {device: list(csv.DictReader((tmp_path / "outputs" / "bench" / f"{device}.csv").open())) for device in bench.DEVICES}
    assert [row["name"] for row in tables["cpu"] + tables["cuda"]] == [one.name for one in toys]
    assert tables["cpu"][0]["verdict"] == "met" and tables["cpu"][3]["reason"] == "rtalib-no-such-peer is not installed"
    page = (tmp_path / "outputs" / "bench" / "BENCH.md").read_text()
    assert "On a CPU: 1 met, 1 missed, 3 unmeasured" in page and "On a GPU: 0 met, 0 missed, 2 unmeasured" in page
    lines = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if line.startswith("| ")}
    assert "3 x, 0.5 s beside 1 s; 1.5 x at the same precision" in lines["C1-good"] and "bfloat16 beside float32" in lines["C1-good"]
    assert "held: 2" in lines["C1-good"] and "did not hold: another / set" in lines["C1-doubtful"]
    assert len({line.count(" | ") for line in lines.values()}) == 1


def test_finished_rows_are_kept_and_others_measured(toys, monkeypatch, capsys):
    good, doubtful = toys[:2]
    keep(good)
    asked = []
    monkeypatch.setattr(bench, "measured", lambda one: asked.append(one.name) or {"reason": "the benchmark failed", "failed": True})
    bench.run([good, doubtful])
    assert asked == ["C1-doubtful"] and "C1-good: kept, met: 3 x, goal >= 2 x" in capsys.readouterr().out
    bench.run([good], again=True)
    assert asked[1:] == ["C1-good"] and bench.stored(good)["value"] == 3.0  # the failure did not take its place
    assert bench.stored(doubtful)["failed"]
    keep(good, arguments={"value": 9.0})  # of other sizes
    assert bench.finished(good) is None and bench_page.row_of(good)["reason"].startswith("not run yet")
    keep(good, cpu="another processor")
    assert bench.finished(good) is None and bench_page.row_of(good)["value"] == 3.0  # shown, since it says where it is from


def test_a_gpu_row_says_what_compiling_cost_and_when_it_pays(toys):
    gpu = toys[5]
    row = keep(gpu, gpu="a GPU", first_seconds=10.5, peer_seconds=1.0, lowest=1.9, highest=2.2, roofline_share=0.5, bound_by="bytes")
    cells = dict(zip(bench_page.HEAD, bench_page.cells(gpu, row), strict=True))
    assert cells["measured"] == "3 x [1.9, 2.2], 0.5 s beside 1 s; first call 10.5 s, regained after 20 calls (cpu time)"
    assert cells["of the roofline"] == "50% (bytes)" and cells["source"] == "2026-11-22, 1234567"


def test_listing_measures_nothing(toys, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measured", None)
    assert command.main(["--list", "C1", "C3"]) == 0
    told = capsys.readouterr().out
    assert "not run yet: python -m benchmarks C1-good" in told and "rtalib-no-such-peer is not installed" in told and "C4" not in told


def test_what_cannot_be_used_is_refused(toys, capsys):
    assert command.main(["C99"]) == 2 and "unknown goal 'C99'" in capsys.readouterr().err
    assert command.main(["--lst"]) == 2 and capsys.readouterr().err == "rtalib: No such option '--lst'. Did you mean '--list'?\n"


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: python -m benchmarks [OPTIONS] [ID]...")


def test_amounts():
    assert [bench.amount(value, "x") for value in (54.52, 1.049, 0.0304, 25000, 2)] == ["54.5 x", "1.05 x", "0.03 x", "25,000 x", "2 x"]


def test_a_goal_survives_json(toys):
    back = Goal(**json.loads(json.dumps(bench.asdict(toys[3]))))
    assert (back.name, list(back.needs)) == ("C3", ["rtalib-no-such-peer"])
