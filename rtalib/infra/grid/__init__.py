"""Experiments as cells of a grid: run a function over frozen configurations, keep each finished row, never compute one twice.

The disk is the truth: a cell writes its own row (cell.py), so whatever dies, the next run computes exactly the missing ones. An executor
only schedules: it takes jobs from a queue and says what became of each; what is tried again, and how often, is decided here.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rtalib.errors import unknown
from rtalib.infra import store
from rtalib.infra.grid import processes as grid_processes
from rtalib.infra.grid import ray as grid_ray
from rtalib.infra.grid.cell import TRANSIENT, GridError, Job, Outcome, compute
from rtalib.infra.grid.progress import Progress

__all__ = ["EXECUTORS", "RETRIES", "TRANSIENT", "GridError", "Planned", "crew", "planning", "run", "status"]

EXECUTORS = ("serial", "processes", "ray")
RETRIES = 2
SHARED = 10.0  # seconds in which a row that a worker has written must be visible here
_crew: "dict[tuple, _Pool] | None" = None  # by what they were opened with; None outside `crew`
_plans: "list[Planned] | None" = None  # None outside `planning`


class _Pool(Protocol):
    """Where cells are computed. `size`: how many at a time."""

    size: int

    def run(self, queue: deque[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Each job with its outcome, until the queue, which may grow meanwhile, is empty."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Planned:
    """What a call of `run` would see to: the cells of a table by their keys."""

    run: str
    table: str
    cells: dict[str, Any]


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
    describe: Callable[[dict], str] | None = None,
) -> list[dict]:
    """Rows of all cells, in their order; cells whose row is stored are not computed again. The longest cells start first (see costs).

    function: importable, takes a frozen dataclass, returns a flat dict of results. Its row is the cell's own fields, these results, and
    the key, the seconds (by the clock, and of all cores together) and the provenance stamp.
    recipe: the name of what the function computes, part of the key. It stays when the function is renamed or moved, or all stored rows
    would be computed again. version: part of the key, too; bump it when the function's results change.
    inputs: what the cells read that their fields only name, as digests or keys (JSON types); part of every key.
    executor: 'serial' (in this process, with all that it sees), 'processes' (of this machine) or 'ray' (docs/ray-cluster.md).
    workers: cells at a time; default one per GPU, else one per CPU core; the CPU's cores are divided among them as threads.
    gpus: per cell, a whole number or a part of one, which several cells then share; default $RTALIB_GPUS, else 1 where there is a GPU and
    0, which hides them, where there is none. address: of a Ray cluster; default $RAY_ADDRESS, else a local one.
    ordered: start the cells in their order instead, where later ones need what earlier ones make.
    describe(row): what the line that is printed for a finished cell says of its result.
    A cell whose worker dies (killed, out of memory), or that raises one of TRANSIENT, is tried again up to `retries` times, after the
    others. What else it raises counts at once. The others finish, then GridError is raised; the error is kept beside the rows, and the
    next call computes the cell again.
    """
    gpus = _gpus() if gpus is None else gpus
    _check(executor, workers, gpus, retries)
    jobs = [Job(function, cell, run, table, store.key(recipe, version, [cell, inputs])) for cell in cells]
    if _plans is not None:
        _plans.append(Planned(run, table, {job.key: job.cell for job in jobs}))
        return [row for job in jobs if (row := store.read_row(run, table, job.key))]
    missing = [job for job in {job.key: job for job in jobs}.values() if store.read_row(run, table, job.key) is None]
    kinds = {job.key: store.plain(job.cell) | {"table": table} for job in missing}
    known = [row for name in store.tables(run) for row in store.rows(run, name)] if missing else []  # of the last plan of this table, too
    store.write_plan(run, table, [job.key for job in jobs])
    progress = Progress(table, len({job.key for job in jobs}), kinds, known)
    failures = _compute(missing, progress, describe, retries, ordered, (executor, workers, gpus, address)) if missing else {}
    if failures:
        first = next(iter(failures.values()))
        raise GridError(f"{len(failures)} of {len(jobs)} cells of {table} failed; the others are stored. The first error:\n{first}")
    return [store.read_row(run, table, job.key) for job in jobs]  # not those of the plan, which another run may have written since


@contextmanager
def crew() -> Iterator[None]:
    """Inside, or in a function decorated with `@grid.crew()`, all calls of `run` share their workers, or their connection to a cluster: a
    start costs seconds."""
    global _crew
    if _crew is not None:
        yield
        return
    _crew = {}
    try:
        yield
    finally:
        pools, _crew = _crew, None
        for pool in pools.values():
            pool.close()


@contextmanager
def planning() -> Iterator[list[Planned]]:
    """Inside, `run` computes and writes nothing: it notes its cells in the list, and returns the rows that are stored."""
    global _plans
    if _plans is not None:
        raise RuntimeError("planning: it is under way already")
    _plans = []
    try:
        yield _plans
    finally:
        _plans = None


def _check(executor: str, workers: int | None, gpus: float | None, retries: int) -> None:
    if executor not in EXECUTORS:
        raise unknown("executor", executor, EXECUTORS)
    if workers is not None and workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    if gpus is not None and (gpus < 0 or (gpus > 1 and gpus != int(gpus))):
        raise ValueError(f"gpus: expected a part of 1, or a whole number, of GPUs per cell, got {gpus}")
    if retries < 0:
        raise ValueError(f"retries: expected 0 or more, got {retries}")


def _gpus() -> float | None:
    """GPUs per cell as the environment has it, for tables whose callers cannot say."""
    text = os.environ.get("RTALIB_GPUS")
    try:
        return float(text) if text else None
    except ValueError:
        raise ValueError(f"RTALIB_GPUS: expected a number of GPUs per cell, such as 1 or 0.5, got {text!r}") from None


def _compute(
    jobs: list[Job], progress: Progress, describe: Callable[[dict], str] | None, retries: int, ordered: bool, where: tuple
) -> dict[str, str]:
    """Compute the rows of these jobs; returns the errors of those that failed, by key."""
    failures: dict[str, str] = {}
    spoilt = _failed(jobs[0].run, jobs[0].table)
    queue = deque(jobs if ordered else sorted(jobs, key=lambda job: progress.rank(job.key)))
    with _pool(*where) as pool, closing(pool.run(queue)) as outcomes:
        progress.start(pool.size)
        for job, outcome in outcomes:
            if outcome.verdict == "busy":
                queue.append(replace(job, wait=True))
                continue
            if outcome.verdict in ("transient", "died") and job.tries < retries:
                queue.append(replace(job, tries=job.tries + 1))
                spoilt.add(job.key)
                continue
            row = _row(job) if outcome.verdict == "done" else None
            if row is None:
                failures[job.key] = outcome.error
            elif job.key in spoilt:
                for old in job.path.parent.glob(f"failed-{job.key}-*.txt"):
                    old.unlink(missing_ok=True)
            progress.finished(job.key, row, describe(row) if row and describe else "")
    return failures


def _row(job: Job) -> dict:
    """The row that a worker says it has written, perhaps on another machine."""
    deadline = time.monotonic() + SHARED
    while (row := store.read_row(job.run, job.table, job.key)) is None:
        if time.monotonic() > deadline:
            raise GridError(
                f"a worker has finished the cell {job.key} of {job.table}, but its row is not in {job.path.parent}: the folder of results "
                f"(RTALIB_OUTPUTS, {store.outputs()}) has to be on a file system that all machines share, under the same path"
            )
        time.sleep(0.1)
        list(job.path.parent.glob("*"))  # a network file system looks again
    return row


def _failed(run: str, table: str) -> set[str]:
    """Keys of the cells that have left an error."""
    return {path.name.split("-")[1] for path in store.row_path(run, table, "any").parent.glob("failed-*.txt")}


class _Serial:
    """This process itself."""

    size = 1

    def run(self, queue: deque[Job]) -> Iterator[tuple[Job, Outcome]]:
        while queue:
            job = queue.popleft()
            yield job, compute(job)

    def close(self) -> None:
        pass


@contextmanager
def _pool(executor: str, workers: int | None, gpus: float | None, address: str | None) -> Iterator[_Pool]:
    """The crew's, or one for this call alone."""
    how = (executor, workers, gpus, address)
    if _crew is not None and how in _crew:
        yield _crew[how]
        return
    if executor == "serial":
        pool = _Serial()
    elif executor == "processes":
        pool = grid_processes.Pool(workers, gpus)
    else:
        pool = grid_ray.Pool(workers, gpus, address)
    if _crew is not None:
        _crew[how] = pool
        yield pool
        return
    with closing(pool):
        yield pool


def status(run: str, table: str) -> dict[str, int]:
    """Counts of the table's cells: done, running, failed, missing."""
    counts, failed = {"done": 0, "running": 0, "failed": 0, "missing": 0}, _failed(run, table)
    for name in store.read_plan(run, table):
        path = store.row_path(run, table, name)
        if path.exists():
            counts["done"] += 1
        elif store.is_locked(path.with_name(f".{name}.lock")):
            counts["running"] += 1
        else:
            counts["failed" if name in failed else "missing"] += 1
    return counts
