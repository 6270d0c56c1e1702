"""The measured goals of speed as a page (BENCH.md) and as tidy tables (cpu.csv, cuda.csv) in outputs/bench."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks import runner as bench
from benchmarks.runner import Goal, amount
from rtalib.infra import store

TITLES = {"cpu": "On a CPU", "cuda": "On a GPU"}
HEAD = (
    "goal",
    "operation",
    "peer",
    "wanted",
    "measured",
    "precision",
    "of the roofline",
    "quality condition",
    "verdict",
    "threads",
    "source",
)
INTRODUCTION = (
    "Ours beside peers and rooflines, a line per goal; `python -m benchmarks` measures them. x: times as fast as the peer, the median of",
    "the rounds' own ratios [lowest, highest]. Of the roofline: the least time that the operations or bytes need at the speed of a matrix",
    "product, a dense convolution or a copy in the same run, over our time.",
)
FACTS = (  # columns of the tables, in order, as far as rows have them
    "verdict reason value lowest highest seconds peer_seconds cpu_seconds same_precision first_seconds peak_mib extra_mib held found clock "
    "rounds load bound_seconds bound_by roofline_share cpu gpu cores threads torch versions git dirty time took"
).split()


def write() -> Path:
    """Write the page and the tables of everything that is stored; returns the path of the page."""
    pairs = [(goal, row_of(goal)) for goal in bench.goals()]
    folder = store.outputs() / bench.RUN
    for device in bench.DEVICES:
        store.write_atomic(folder / f"{device}.csv", table([pair for pair in pairs if pair[0].device == device]))
    store.write_atomic(folder / "BENCH.md", page(pairs))
    return folder / "BENCH.md"


def row_of(goal: Goal) -> dict:
    """The stored row of a goal, whatever hardware it is from, or the reason why there is none."""
    row = bench.stored(goal)
    if row is not None and row["arguments"] == goal.arguments and ("value" in row or row.get("failed")):
        return row
    reason = bench.obstacle(goal)
    if not reason:
        reason = row["reason"] if row is not None and "reason" in row else f"not run yet: python -m benchmarks {goal.name}"
    return {"reason": reason}


def table(pairs: Sequence[tuple[Goal, dict]]) -> str:
    """A CSV with a line per goal: its own fields, then what was found."""
    own = ("name", "device", "operation", "size", "peer", "sense", "goal", "unit", "precision", "peer_precision", "quality")
    text = io.StringIO()
    writer = csv.DictWriter(text, [*own, *FACTS], restval="", lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for goal, row in pairs:
        versions = " ".join(f"{name}=={number}" for name, number in row.get("versions", {}).items())
        writer.writerow(row | {name: getattr(goal, name) for name in own} | {"verdict": goal.verdict(row), "versions": versions})
    return text.getvalue()


def page(pairs: Sequence[tuple[Goal, dict]]) -> str:
    lines = ["# Benchmarks", "", *INTRODUCTION]
    for device, title in TITLES.items():
        found = [pair for pair in pairs if pair[0].device == device]
        if not found:
            continue
        counts = Counter(goal.verdict(row) for goal, row in found)
        lines += ["", f"## {title}: " + ", ".join(f"{counts[name]} {name}" for name in ("met", "missed", "unmeasured")), ""]
        lines += [_line(HEAD), _line(["---"] * len(HEAD))]
        lines += [_line(cells(goal, row)) for goal, row in found]
        lines += _machines(found, "gpu" if device == "cuda" else "cpu")
    return "\n".join([*lines, ""])


def cells(goal: Goal, row: dict) -> list[str]:
    """A goal's cells, as HEAD names them."""
    versions = ", ".join(f"{name} {number}" for name, number in row.get("versions", {}).items())
    peer = f"{goal.peer or 'none'}{f' ({versions})' if versions and goal.peer else ''}"
    start = [goal.name, f"{goal.operation}; {goal.size}", peer, f"{goal.sense} {amount(goal.goal, goal.unit)}"]
    if "value" not in row:
        return [*start, f"unmeasured: {row['reason']}", "", "", goal.quality, "unmeasured", "", ""]
    share = f"{row['roofline_share']:.0%} ({row['bound_by']})" if "roofline_share" in row else ""
    held = {True: "held: ", False: "did not hold: ", None: ""}[row.get("held")] + row.get("found", "")
    source = f"{row['time'][:10]}, {row['git'][:7] if row['git'] else '?'}{' and changes' if row['dirty'] else ''}"
    source += f", load {row['load']:.1f}" if "load" in row else ""
    quality = "; ".join(filter(None, (goal.quality, held)))
    return [*start, _value(goal, row), _precision(goal), share, quality, goal.verdict(row), str(row["threads"]), source]


def _value(goal: Goal, row: dict) -> str:
    text = amount(row["value"], goal.unit)
    if row.get("lowest") is not None and row["rounds"] > 1:
        text += f" [{amount(row['lowest'], '').strip()}, {amount(row['highest'], '').strip()}]"
    if "peer_seconds" in row:
        text += f", {amount(row['seconds'], 's')} beside {amount(row['peer_seconds'], 's')}"
    if "same_precision" in row:
        text += f"; {amount(row['same_precision'], 'x')} at the same precision"
    if goal.device == "cuda" and "first_seconds" in row:
        text += f"; first call {amount(row['first_seconds'], 's')}"
        saved = row.get("peer_seconds", 0) - row["seconds"] if "seconds" in row else 0
        if saved > 0 and row["first_seconds"] > row["seconds"]:
            text += f", regained after {(row['first_seconds'] - row['seconds']) / saved:,.0f} calls"
    cpu = f", {amount(row['cpu_seconds'], 's')} of CPU" if "cpu_seconds" in row else ""
    return f"{text} ({row['clock']} time{cpu})"


def _precision(goal: Goal) -> str:
    same = not goal.peer or goal.precision == goal.peer_precision
    return goal.precision if same else f"{goal.precision} beside {goal.peer_precision}"


def _machines(found: Sequence[tuple[Goal, dict]], field: str) -> list[str]:
    """A line per machine that rows are from."""
    names: dict[str, list[str]] = {}
    for goal, row in found:
        if "value" in row:
            names.setdefault(f"{row[field]}, {row['cores']} CPU cores, torch {row['torch']}", []).append(goal.name)
    return [line for machine, of in names.items() for line in ("", f"{', '.join(of)}: {machine}.")]


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(text.replace('|', '/') for text in texts)} |"
