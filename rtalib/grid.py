"""Experiments as cells of a grid: run a function over frozen configurations, keep each finished row, never compute one twice.

The disk is the truth: a cell writes its own row, so whatever dies, the next run computes exactly the missing ones.
"""

import concurrent.futures
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rtalib import store
from rtalib.errors import unknown
from rtalib.provenance import stamp

EXECUTORS = ("serial", "processes")
RETRIES = 2
_crew: dict[int | None, concurrent.futures.ProcessPoolExecutor] | None = None  # by number of workers; None outside `crew`


class GridError(RuntimeError):
    """Some cells failed; the others are stored."""


@dataclass(frozen=True)
class _Job:
    function: Callable[[Any], dict]
    cell: Any
    run: str
    table: str
    key: str


def run(
    function: Callable[[Any], dict],
    cells: Sequence[Any],
    *,
    run: str,
    table: str,
    version: int = 1,
    inputs: Any = None,
    executor: str = "processes",
    workers: int | None = None,
    describe: Callable[[dict], str] | None = None,
) -> list[dict]:
    """Rows of all cells, in their order; cells whose row is stored are not computed again.

    function: importable, takes a frozen dataclass, returns a flat dict of results. Its row is the cell's own fields, these results, and
    the key, the seconds (by the clock, and of all cores together) and the provenance stamp. `version` is part of the key: bump it when
    the function's results change.
    inputs: what the cells read that their fields only name, as digests or keys (JSON types); part of every key.
    workers: default one per visible GPU, else one per CPU core; the CPU's cores are divided among them as threads.
    describe(row): what the line that is printed for a finished cell says of its result.
    A cell that raises is retried on the next call, its traceback kept beside the rows; the others finish first, then GridError is raised.
    A worker that dies (killed, out of memory) is replaced and its cells are tried again, RETRIES times.
    """
    if executor not in EXECUTORS:
        raise unknown("executor", executor, EXECUTORS)
    recipe = f"{function.__module__}.{function.__qualname__}"
    jobs = [_Job(function, cell, run, table, store.key(recipe, version, [cell, inputs])) for cell in cells]
    store.write_plan(run, table, [job.key for job in jobs])
    missing = [job for job in jobs if store.read_row(run, table, job.key) is None]
    report = _progress(table, len(jobs), len(missing))
    next(report)
    failures: dict[str, str] = {}
    execute = _serial if executor == "serial" else _processes
    for job, error in execute(missing, workers):
        if error:
            failures[job.key] = error
        row = store.read_row(run, table, job.key)
        report.send(describe(row) if describe and row else "")
    report.close()
    if failures:
        first = next(iter(failures.values()))
        raise GridError(f"{len(failures)} of {len(jobs)} cells of {table} failed; the others are stored. The first error:\n{first}")
    return store.rows(run, table)


@contextmanager
def crew() -> Iterator[None]:
    """Inside, or in a function decorated with `@grid.crew()`, all calls of `run` share their workers: a start costs seconds."""
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
            pool.shutdown()


def _serial(jobs: list[_Job], workers: int | None) -> Iterator[tuple[_Job, str | None]]:
    for job in jobs:
        yield job, _compute(job)


def _processes(jobs: list[_Job], workers: int | None) -> Iterator[tuple[_Job, str | None]]:
    """Spawned workers: a CUDA context does not survive a fork."""
    left = list(jobs)
    for attempt in range(RETRIES + 1):
        if not left:
            return
        try:
            with _workers(len(left), workers) as pool:
                pending = {pool.submit(_compute, job): job for job in left}
                for future in concurrent.futures.as_completed(pending):
                    error = future.result()
                    left.remove(pending[future])
                    yield pending[future], error
        except BrokenProcessPool:
            if attempt == RETRIES:
                raise GridError(f"workers died {attempt + 1} times over {left[0].table}; out of memory?") from None


@contextmanager
def _workers(jobs: int, workers: int | None) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """The crew's workers, or some for these jobs alone."""
    if _crew is None:
        with _pool(jobs, workers) as pool:
            yield pool
        return
    if workers not in _crew:
        _crew[workers] = _pool(None, workers)
    try:
        yield _crew[workers]
    except BrokenProcessPool:
        _crew.pop(workers).shutdown()
        raise


def _pool(jobs: int | None, workers: int | None) -> concurrent.futures.ProcessPoolExecutor:
    import torch

    gpus = torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = workers or gpus or cores
    threads = max(1, cores // workers)  # of the full crew, so that a result does not depend on how many cells are left
    context = multiprocessing.get_context("spawn")
    slots = context.Queue()
    for slot in range(workers):
        slots.put(slot % gpus if gpus else None)
    return concurrent.futures.ProcessPoolExecutor(min(jobs or workers, workers), context, _start_worker, (slots, threads))


def _start_worker(slots: Any, threads: int) -> None:
    """Give the worker its GPU and its share of CPU threads before anything initialises CUDA; it ends with the driver."""
    threading.Thread(target=end_with_driver, daemon=True).start()
    gpu = slots.get()
    if gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[gpu] if visible else str(gpu)
    import torch

    torch.set_num_threads(threads)


def end_with_driver() -> None:
    """A pool's idle worker would wait for ever for work from a driver that was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _compute(job: _Job) -> str | None:
    """Compute and store one row; returns a traceback if the function raised."""
    path = store.row_path(job.run, job.table, job.key)
    with store.locked(path.with_name(f".{job.key}.lock")):
        if path.exists():
            return None
        started, busy = time.time(), time.process_time()
        try:
            result = job.function(job.cell)
        except Exception:
            error = traceback.format_exc()
            store.write_atomic(path.with_name(f"failed-{job.key}-{time.time_ns()}.txt"), error)
            return error
        spent = {"seconds": round(time.time() - started, 2), "cpu_seconds": round(time.process_time() - busy, 2)}
        facts = {"table": job.table, "key": job.key, **spent, "stamp": stamp()}
        store.write_row(job.run, job.table, job.key, store.plain(job.cell) | result | facts)
        for old in path.parent.glob(f"failed-{job.key}-*.txt"):
            old.unlink()
    return None


def _progress(table: str, total: int, missing: int) -> Generator[None, str, None]:
    """Prints a line per finished cell: how many, how long, how long yet, and the text that it is sent."""
    started, done = time.time(), 0
    if missing < total:
        print(f"[{table}] {total - missing}/{total} cells were stored", flush=True)
    while True:
        text = yield
        done += 1
        elapsed = time.time() - started
        left = elapsed / done * (missing - done)
        count = f"[{table}] {total - missing + done}/{total} cells, {_clock(elapsed)} elapsed, about {_clock(left)} left"
        print(f"{count}: {text}" if text else count, flush=True)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def status(run: str, table: str) -> dict[str, int]:
    """Counts of the table's cells: done, running, failed, missing."""
    counts = {"done": 0, "running": 0, "failed": 0, "missing": 0}
    for name in store.read_plan(run, table):
        path = store.row_path(run, table, name)
        if path.exists():
            counts["done"] += 1
        elif store.is_locked(path.with_name(f".{name}.lock")):
            counts["running"] += 1
        else:
            counts["failed" if any(path.parent.glob(f"failed-{name}-*.txt")) else "missing"] += 1
    return counts
