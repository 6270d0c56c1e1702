"""How every benchmark takes time: contestants in turn within a round, the median round counts.

The clock is the CPU time of the process, which other work on the machine disturbs least, and on a GPU the time between two events.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

Run = Callable[[], Any]
Who = TypeVar("Who", bound=Hashable)


class Unmeasured(Exception):
    """What a benchmark needs is not here; the text says what."""


@dataclass(frozen=True)
class Time:
    """One run: seconds of the clock that counts, wall seconds, peak MiB allocated on a GPU, and what the run returned."""

    seconds: float
    wall: float
    peak_mib: float
    result: Any


def clock(device: str) -> str:
    """The name of the clock that counts on a device."""
    return "cpu" if device == "cpu" else "wall"


def timed(run: Run, device: str) -> Time:
    if device == "cpu":
        wall, cpu = time.perf_counter(), time.process_time()
        result = run()
        return Time(time.process_time() - cpu, time.perf_counter() - wall, 0.0, result)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    wall = time.perf_counter()
    begin.record()
    result = run()
    end.record()
    torch.cuda.synchronize()
    wall = time.perf_counter() - wall
    return Time(begin.elapsed_time(end) / 1e3, wall, torch.cuda.max_memory_allocated() / 2**20, result)


def alternate(runs: Mapping[Who, Run], rounds: int, device: str, label: str = "") -> tuple[dict[Who, list[Time]], float]:
    """({who: a time per round}, mean load of the machine)."""
    times: dict[Who, list[Time]] = {who: [] for who in runs}
    load = [os.getloadavg()[0]]
    for number in range(rounds):
        for who, run in runs.items():
            times[who].append(timed(run, device))
        load.append(os.getloadavg()[0])
        print(f"{label}: round {number + 1} of {rounds}, load {load[-1]:.1f}", file=sys.stderr, flush=True)
    return times, statistics.mean(load)


def median(times: list[Time], field: str = "seconds") -> float:
    return statistics.median(getattr(one, field) for one in times)


def duel(ours: Run, peer: Run, same: Run | None = None, *, rounds: int, device: str, warm_up: bool = True, field: str = "seconds") -> dict:
    """The row of a race of two: `value`, how many times as fast we are (median of the rounds' own ratios, with the extremes).

    Our first run is `first_seconds`: compiling, capturing, choosing algorithms. same: the peer at our precision, for `same_precision`.
    field: 'wall' if other processes do the work.
    """
    runs = {"ours": ours, "peer": peer} | ({} if same is None else {"same": same})
    first = [timed(run, device).wall for run in runs.values()] if warm_up else []
    times, load = alternate(runs, rounds, device, "ours and peer")
    seconds = {who: [getattr(one, field) for one in found] for who, found in times.items()}
    ratios = {who: [b / a for a, b in zip(seconds["ours"], found, strict=True)] for who, found in seconds.items()}
    row = {"value": statistics.median(ratios["peer"]), "lowest": min(ratios["peer"]), "highest": max(ratios["peer"])}
    row |= {"seconds": statistics.median(seconds["ours"]), "peer_seconds": statistics.median(seconds["peer"])}
    row |= {"rounds": rounds, "load": load, "clock": "wall" if field == "wall" else clock(device)}
    if same is not None:
        row["same_precision"] = statistics.median(ratios["same"])
    if warm_up:
        row["first_seconds"] = first[0]
    return row | ({} if device == "cpu" else {"peak_mib": max(one.peak_mib for one in times["ours"])})


def solo(run: Run, rounds: int, device: str) -> dict:
    """The row of a goal in seconds: `value` is the median wall time after a first run."""
    first = timed(run, device)
    times, load = alternate({"ours": run}, rounds, device, "ours")
    walls = [one.wall for one in times["ours"]]
    row = {"value": median(times["ours"], "wall"), "lowest": min(walls), "highest": max(walls), "rounds": rounds, "load": load}
    row |= {"seconds": row["value"], "cpu_seconds": median(times["ours"]), "first_seconds": first.wall, "clock": "wall"}
    return row | ({} if device == "cpu" else {"peak_mib": max(one.peak_mib for one in times["ours"])})
