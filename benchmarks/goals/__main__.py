"""One goal, in a process of its own: python -m benchmarks.goals GOAL RESULT, as `python -m benchmarks` starts it."""

import importlib
import json
import sys
from pathlib import Path

import torch

from benchmarks import runner as bench
from benchmarks.goals.ceilings import roofline
from benchmarks.timing import Unmeasured
from rtalib import provenance


def measured(goal: bench.Goal) -> dict:
    """The row of a goal, or why there is none."""
    module, _, function = goal.measure.partition(".")
    torch.set_num_threads(goal.threads)
    try:
        row = getattr(importlib.import_module(f"benchmarks.goals.{module}"), function)(**goal.arguments, device=goal.device)
    except Unmeasured as error:
        return {"reason": str(error)}
    if "seconds" in row and (goal.flop or goal.traffic):
        row |= roofline(row["seconds"], goal.device, row["clock"], goal.flop, goal.traffic, goal.precision)
    stamp = provenance.stamp()
    return row | {key: stamp[key] for key in ("cpu", "gpu", "cores", "threads", "git", "dirty", "time")} | {"torch": torch.__version__}


def main(goal: str, result: str) -> None:
    """goal: its fields as JSON; result: the file to write the row to."""
    Path(result).write_text(json.dumps(measured(bench.Goal(**json.loads(goal)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
