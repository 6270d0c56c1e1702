"""The goals of speed, measured one by one: `python -m benchmarks`. goals/goals.toml says what they are, goals/*.py measures them.

Each goal is measured in a process of its own, with its own number of threads; its row is written at once to outputs/bench/rows. Finished
rows of this hardware are kept. A goal that cannot be measured here has a row that says why.
"""

import importlib.metadata
import json
import operator
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rtalib.errors import unknown
from rtalib.infra import store

ROOT = Path(__file__).absolute().parent.parent
SENSES = {">=": operator.ge, "<=": operator.le}
DEVICES = ("cpu", "cuda")
RUN = "bench"


@dataclass(frozen=True)
class Goal:
    """One line of benchmarks/goals/goals.toml, which says what the fields are."""

    id: str
    operation: str
    size: str
    goal: float
    part: str = ""
    device: str = "cpu"
    peer: str = ""
    needs: tuple[str, ...] = ()
    sense: str = ">="
    unit: str = "x"
    quality: str = ""
    precision: str = "float32"
    peer_precision: str = "float32"
    threads: int = 1
    measure: str = ""
    arguments: dict = field(default_factory=dict)
    flop: float = 0.0
    traffic: float = 0.0
    unmeasured: str = ""

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self.id, self.part)))

    def verdict(self, row: dict) -> str:
        """'met', 'missed' or 'unmeasured'; a goal whose quality condition does not hold is missed."""
        if "value" not in row:
            return "unmeasured"
        return "met" if SENSES[self.sense](row["value"], self.goal) and row.get("held", True) else "missed"


def goals() -> list[Goal]:
    """All of them, in order."""
    tables = tomllib.loads((ROOT / "benchmarks" / "goals" / "goals.toml").read_text())["goal"]
    return [Goal(**{key: tuple(value) if key == "needs" else value for key, value in table.items()}) for table in tables]


def choose(known: Sequence[Goal], wanted: Sequence[str], device: str | None = None) -> list[Goal]:
    """Those named, by id ('C1') or by part ('C1-d64'), in any case; all if none is named. ValueError for unknown names."""
    if device not in (None, *DEVICES):
        raise unknown("device", device, DEVICES)
    chosen = set()
    for text in wanted:
        names = {goal.name for goal in known if text.lower() in (goal.id.lower(), goal.name.lower())}
        if not names:
            raise unknown("goal", text, dict.fromkeys(name for goal in known for name in (goal.id, goal.name)))
        chosen |= names
    return [goal for goal in known if (goal.name in chosen or not wanted) and device in (None, goal.device)]


def run(chosen: Sequence[Goal], *, again: bool = False) -> None:
    """Measure the goals and store a row of each; those finished on this hardware are skipped, unless `again`."""
    for number, goal in enumerate(chosen, 1):
        label = f"[{number}/{len(chosen)}] {goal.name}"
        row = None if again else finished(goal)
        if row is not None:
            print(f"{label}: kept, {summary(goal, row)}", flush=True)
            continue
        print(f"{label}: {goal.operation}, {goal.size}", flush=True)
        started = time.monotonic()
        reason = obstacle(goal)
        row = {"reason": reason} if reason else measured(goal)
        row |= {"name": goal.name, "arguments": goal.arguments, "took": time.monotonic() - started}
        if "value" in row or finished(goal) is None:  # a failure does not replace a result
            store.write_row(RUN, goal.device, goal.name, row)
        print(f"{label}: {summary(goal, row)} ({row['took']:.0f} s)", flush=True)


def stored(goal: Goal) -> dict | None:
    return store.read_row(RUN, goal.device, goal.name)


def finished(goal: Goal) -> dict | None:
    """The stored row, if it was measured with this goal's arguments on this hardware."""
    row = stored(goal)
    if row is None or "value" not in row or row["arguments"] != json.loads(json.dumps(goal.arguments)):
        return None
    return row if row["gpu" if goal.device == "cuda" else "cpu"] == hardware(goal.device) else None


def hardware(device: str) -> str | None:
    """The name of the CPU or the GPU; None if there is no GPU."""
    from rtalib.infra import provenance

    return provenance.stamp()["gpu" if device == "cuda" else "cpu"]


def obstacle(goal: Goal) -> str:
    """Why a goal cannot be measured here; empty if it can."""
    if goal.unmeasured:
        return goal.unmeasured
    if goal.device == "cuda" and hardware("cuda") is None:
        return "no GPU"
    missing = [name for name in goal.needs if version(name) is None]
    return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed" if missing else ""


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def measured(goal: Goal) -> dict:
    """Measure a goal in a process of its own: its row, or the reason why there is none. The log is in outputs/bench/logs."""
    log = store.outputs() / RUN / "logs" / f"{goal.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    pinned = {name: str(goal.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    pinned["OMP_WAIT_POLICY"] = "PASSIVE"  # a thread that waits for a preempted one would spin for its whole time slice
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if goal.device == "cpu" else {}
    environment = os.environ | pinned | hidden | {"RTALIB_OUTPUTS": str(store.outputs())}
    with tempfile.TemporaryDirectory() as folder, log.open("w") as stream:
        result = Path(folder) / "row.json"
        command = [sys.executable, "-m", "benchmarks.goals", json.dumps(asdict(goal)), str(result)]
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT).returncode
        if code == 0:
            return json.loads(result.read_text()) | {"versions": {name: version(name) for name in goal.needs}}
    lines = log.read_text(errors="replace").strip().splitlines()
    return {"reason": f"the benchmark failed (exit status {code}): {lines[-1] if lines else 'no message'}", "failed": True}


def summary(goal: Goal, row: dict) -> str:
    """One line: met: 54.5 x, goal >= 25 x."""
    if "value" not in row:
        return f"unmeasured: {row['reason']}"
    doubt = "" if row.get("held", True) else f"; the quality condition does not hold: {row['found']}"
    if row.get("load", 0) > row["cores"] + 1:
        doubt += f"; the machine was busy (load {row['load']:.1f} on {row['cores']} cores)"
    return f"{goal.verdict(row)}: {amount(row['value'], goal.unit)}, goal {goal.sense} {amount(goal.goal, goal.unit)}{doubt}"


def amount(value: float, unit: str) -> str:
    """54.5 x, 0.030 s, 25,000 images/s."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    text = f"{value:,.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"
