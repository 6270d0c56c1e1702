"""Experiments as cells of a grid: run a function over frozen configurations, keep each finished row, never compute one twice.

A cell writes its own row (cell.py), so the next run after a crash computes exactly the missing ones. An executor only schedules: it takes
jobs from a queue and returns the outcome of each; which are tried again, and how often, is decided here.
"""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from rtalib.errors import check_kind, check_name, check_number
from rtalib.infra import store
from rtalib.infra.grid import processes, ray
from rtalib.infra.grid.cell import TRANSIENT, GridError, Job, Outcome, compute
from rtalib.infra.grid.progress import HOUR, Costs, Progress

EXECUTORS = ("serial", "processes", "ray")
RETRIES = 2
LEAST = 0.01  # of a GPU per cell
SHARED = 10.0  # seconds in which a row that a worker has written must be visible here
_shared: dict[tuple, Any] | None = None  # pools by what they were opened with; None outside `shared_workers`
_plans: dict[str, dict[str, Any]] | None = None  # {table: {key: cell}}; None outside `planning`


def run(
    function: Callable[[Any], dict],
    cells: Sequence[Any],
    *,
    recipe: str,
    run: str,
    table: str,
    version: int = 1,
    inputs: Any = None,
    executor: str = "processes",
    workers: int | None = None,
    gpus: float | None = None,
    retries: int = RETRIES,
    address: str | None = None,
    ordered: bool = False,
    stop: bool = False,
    describe: Callable[[dict], str] | None = None,
) -> list[dict]:
    """Rows of all cells, in their order. A cell whose row is stored is not computed again. The longest cells start first (progress.py).

    function: importable, takes a frozen dataclass, returns a flat dict of results. The row holds the cell's fields, these results, the key,
    the seconds (by the clock, and of all cores together) and the provenance stamp.
    recipe: the name of what the function computes, part of the key. It stays when the function is renamed or moved, or all stored rows
    would be computed again. version: part of the key, too; increment it when the function's results change.
    inputs: what the cells read but their fields only name, as digests or keys (JSON types); part of every key.
    executor: 'serial' (in this process, with all that it sees), 'processes' (of this machine) or 'ray' (docs/ray-cluster.md).
    workers: cells at a time; default one per GPU, else one per CPU core; the CPU's cores are divided among them as threads.
    gpus: per cell, a whole number or a fraction of one, which several cells then share; default $RTALIB_GPUS, else 1 if there is a GPU
    and 0, which hides them, if there is none. address: of a Ray cluster; default $RAY_ADDRESS, else a local one.
    ordered: start the cells in their order instead, because later ones need what earlier ones make.
    stop: end at the first failure instead of computing the other cells, because they would fail likewise.
    describe(row): called after each cell that this call computes; its text is printed in the line about the cell.
    A cell whose worker dies (killed, out of memory), or that raises one of TRANSIENT, is tried again up to `retries` times, after the
    others. Any other error fails the cell. The others are computed, then GridError is raised; the error is kept beside the rows, and the
    next call computes the cell again.
    """
    gpus = _gpus() if gpus is None else gpus
    check_kind("function", function, Callable, "a function")
    check_kind("cells", cells, (list, tuple), "a list of cells")
    check_kind("address", address, (str, type(None)), "a text or None")
    check_kind("ordered", ordered, bool, "True or False")
    check_kind("stop", stop, bool, "True or False")
    check_kind("describe", describe, (Callable, type(None)), "a function or None")
    check_number("retries", retries, 0, integer=True)
    _check(executor, workers, gpus)
    store.plain(inputs, "inputs")
    store.key(recipe, version, None)  # for its errors, also without cells
    jobs = [Job(function, cell, run, table, store.key(recipe, version, [cell, inputs])) for cell in cells]
    if _plans is not None:
        _plans.setdefault(table, {}).update({job.key: job.cell for job in jobs})
        return [row for job in jobs if (row := store.read_row(run, table, job.key))]
    unique = {job.key: job for job in jobs}
    missing = [job for job in unique.values() if store.read_row(run, table, job.key) is None]
    # the rows of the table's last plan tell what cells cost, so they are read before the plan is replaced
    costs = Costs(row for name in store.tables(run) for row in store.rows(run, name)) if missing else Costs([])
    store.write_plan(run, table, [job.key for job in jobs])
    left = {job.key: store.plain(job.cell) | {"table": table} for job in missing}
    if not ordered:
        missing.sort(key=lambda job: -costs.of(left[job.key], float("inf")))
    progress, where = Progress(table, len(unique), left, costs), (executor, workers, gpus, address)
    failures = _compute(deque(missing), progress, describe, retries, stop, where) if missing else []
    if failures:
        count = f"{len(failures)} of {len(jobs)} cells of {table}"
        raise GridError(f"{count} failed; finished ones are stored. The first error:\n{failures[0]}")
    return [store.read_row(run, table, job.key) for job in jobs]  # not those of the plan, which another run may have replaced


@contextmanager
def shared_workers() -> Iterator[None]:
    """Inside, or in a function decorated with `@grid.shared_workers()`, all calls of `run` share their workers, or their connection to a
    cluster, because a start takes seconds."""
    global _shared
    if _shared is not None:
        yield
        return
    _shared = {}
    try:
        yield
    finally:
        pools, _shared = _shared, None
        for pool in pools.values():
            pool.close()


@contextmanager
def planning() -> Iterator[dict[str, dict[str, Any]]]:
    """Inside, `run` computes and writes nothing: it enters its cells in {table: {key: cell}} and returns the rows that are stored."""
    global _plans
    if _plans is not None:
        raise RuntimeError("planning: already planning")
    _plans = {}
    try:
        yield _plans
    finally:
        _plans = None


def status(run: str, table: str) -> dict[str, int]:
    """Counts of the table's cells: done, running, failed, missing."""
    counts, failed = {"done": 0, "running": 0, "failed": 0, "missing": 0}, _failed(run, table)
    for name in store.read_plan(run, table):
        if store.read_row(run, table, name) is not None:
            counts["done"] += 1
        elif store.is_locked(store.row_path(run, table, name).with_name(f".{name}.lock")):
            counts["running"] += 1
        else:
            counts["failed" if name in failed else "missing"] += 1
    return counts


def _failed(run: str, table: str) -> set[str]:
    """Keys of the cells that have left an error."""
    return {path.name.split("-")[1] for path in store.row_path(run, table, "any").parent.glob("failed-*.txt")}


def _check(executor: str, workers: int | None, gpus: float | None) -> None:
    check_name("executor", executor, EXECUTORS)
    if workers is not None:
        check_number("workers", workers, 1, integer=True)
    if gpus is not None:
        check_number("gpus (or RTALIB_GPUS)", gpus, 0)
    if gpus is not None and not (gpus == 0 or LEAST <= gpus <= 1 or (1 < gpus < math.inf and gpus == int(gpus))):
        raise ValueError(
            f"gpus (or RTALIB_GPUS): expected 0, a fraction of 1 from {LEAST}, or a whole number, of GPUs per cell, got {gpus}"
        )
    if executor == "processes" and gpus:
        processes.slots(processes.visible_gpus(), workers, gpus)  # raises if there are not so many


def _gpus() -> float | None:
    """GPUs per cell by the environment, for tables whose callers have no such argument."""
    text = os.environ.get("RTALIB_GPUS")
    try:
        return float(text) if text else None
    except ValueError:
        raise ValueError(f"RTALIB_GPUS: expected a number of GPUs per cell, such as 1 or 0.5, got {text!r}") from None


def _pool(*how: Any) -> AbstractContextManager:
    """A pool, shared or for one call. It has `size` (cells at a time), `close()`, and `run(queue)`, which yields each job with its outcome
    until the queue is empty; the caller may append to the queue meanwhile."""
    if _shared is None:
        return closing(_open(*how))
    if how not in _shared:
        _shared[how] = _open(*how)
    return nullcontext(_shared[how])


def _open(executor: str, workers: int | None, gpus: float | None, address: str | None) -> Any:
    if executor == "serial":
        return _Serial()
    return processes.Pool(workers, gpus) if executor == "processes" else ray.Pool(workers, gpus, address)


class _Serial:
    """A pool of this process itself."""

    size = 1

    def run(self, queue: deque[Job]) -> Iterator[tuple[Job, Outcome]]:
        while queue:
            job = queue.popleft()
            yield job, compute(job)

    def close(self) -> None:
        pass


def _compute(
    queue: deque[Job], progress: Progress, describe: Callable[[dict], str] | None, retries: int, stop: bool, where: tuple
) -> list[str]:
    """Compute the rows of these jobs; returns the errors of those that failed."""
    failures, blemished = [], _failed(queue[0].run, queue[0].table)
    with _pool(*where) as pool, closing(pool.run(queue)) as outcomes:
        progress.workers = pool.size
        for job, outcome in outcomes:
            if outcome.verdict == "busy":
                queue.append(replace(job, wait=True))
                continue
            if outcome.verdict in ("transient", "died") and job.tries < retries:
                queue.append(replace(job, tries=job.tries + 1))
                blemished.add(job.key)
                continue
            row = _row(job) if outcome.verdict == "done" else None
            if row is None:
                failures.append(outcome.error)
            elif job.key in blemished:
                for old in job.path.parent.glob(f"failed-{job.key}-*.txt"):
                    old.unlink(missing_ok=True)
            progress.finished(job.key, row, describe(row) if row and describe else "")
            if failures and stop:
                break
    return failures


def _row(job: Job) -> dict:
    """The row that a worker has written, perhaps on another machine."""
    deadline = time.monotonic() + SHARED
    while (row := store.read_row(job.run, job.table, job.key)) is None:
        if time.monotonic() > deadline:
            raise GridError(
                f"a worker has finished the cell {job.key} of {job.table}, but its row is not in {job.path.parent}: the folder of results "
                f"(RTALIB_OUTPUTS, {store.outputs()}) has to be on a file system that all machines share, under the same path"
            )
        time.sleep(0.1)
        list(job.path.parent.glob("*"))  # makes a network file system look again
    return row
