"""What grid and store cost: a no-op cell for each executor, a stored one on a second call, the start of workers; a hit, a frame of rows.

    OMP_NUM_THREADS=1 python benchmarks/grid.py [--cells 1000] [--executors serial,processes,ray]

Wall time, for there is nothing else to measure: a cell claims its key, stamps and flushes its row, and a message or two go back and forth.
The rows are flushed to the disk that holds --folder, so its speed is in the figure; `flush_ms` says what one such write takes alone.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import results
from rtalib import grid, provenance, store

FIELDS = "executor cells workers start_s cell_ms hit_ms flush_ms load".split()
ROWS = 10_000  # folded to a frame


@dataclass(frozen=True)
class Cell:
    number: int


def nothing(cell: Cell) -> dict:
    return {"pid": os.getpid()}


def timed(executor: str, table: str, count: int) -> tuple[float, list[dict]]:
    """(seconds, rows) of a run of no-op cells."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        rows = grid.run(nothing, [Cell(number) for number in range(count)], recipe="nothing", run=executor, table=table, executor=executor)
    return time.perf_counter() - started, rows


def flush(count: int = 200) -> float:
    """Milliseconds of one atomic write of a row's size."""
    started = time.perf_counter()
    for number in range(count):
        store.write_atomic(store.outputs() / "flush" / f"{number}.json", "x" * 1000)
    return (time.perf_counter() - started) / count * 1e3


def measure(executor: str, count: int) -> dict:
    with grid.shared_workers():
        start, _ = timed(executor, "start", 2 * (os.cpu_count() or 1))  # every worker has computed something
        seconds, rows = timed(executor, "cells", count)
        hits, _ = timed(executor, "cells", count)
    row = {"executor": executor, "cells": count, "workers": len({row["pid"] for row in rows}), "start_s": start}
    return row | {"cell_ms": seconds / count * 1e3, "hit_ms": hits / count * 1e3, "flush_ms": flush(), "load": os.getloadavg()[0]}


def stored() -> dict[str, float]:
    """Milliseconds of a hit in the store once the entry was verified, and seconds to fold ROWS rows to a frame."""
    parameters = {"toy": 1}
    store.make("toy", 1, parameters, lambda folder: (folder / "data.npy").write_bytes(bytes(1_000_000)))
    started = time.perf_counter()
    for _ in range(1000):
        store.make("toy", 1, parameters, lambda folder: None)
    hit = time.perf_counter() - started
    row = {f"column {i}": i / 7 for i in range(30)} | {"stamp": provenance.stamp()}
    store.write_plan("many", "t", [f"{number:016x}" for number in range(ROWS)])
    store.write_row("many", "t", f"{0:016x}", row)
    text = store.row_path("many", "t", f"{0:016x}").read_text()
    for number in range(1, ROWS):
        store.row_path("many", "t", f"{number:016x}").write_text(text)
    started = time.perf_counter()
    assert len(store.frame("many")) == ROWS
    return {"store_hit_ms": hit, "frame_s": time.perf_counter() - started}  # of a thousand hits, so s are ms


def markdown(rows: list[dict]) -> str:
    lines = ["| executor | workers | start, s | a cell, ms | a stored cell, ms | one flush, ms |", "| --- |" + " ---: |" * 5]
    for row in rows:
        figures = (f"{row['start_s']:.1f}", f"{row['cell_ms']:.2f}", f"{row['hit_ms']:.3f}", f"{row['flush_ms']:.2f}")
        lines.append(f"| {row['executor']} | {row['workers']} | {' | '.join(figures)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--executors", default=",".join(grid.EXECUTORS), help="comma-separated; a local cluster is started for ray")
    parser.add_argument("--folder", type=Path, help="where the rows go for the time being (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/grid.csv"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        os.environ["RTALIB_OUTPUTS"] = folder
        rows = [measure(executor, arguments.cells) for executor in arguments.executors.split(",")]
        facts = stored()
    stamp = provenance.stamp()
    results.write(arguments.out, rows, FIELDS, facts | {key: stamp[key] for key in ("cpu", "cores", "git", "dirty", "time")})
    print(
        markdown(rows),
        f"\n\nA hit in the store {facts['store_hit_ms']:.3f} ms, {ROWS:,} rows to a frame {facts['frame_s']:.2f} s\n{arguments.out}",
    )


if __name__ == "__main__":
    main()
