"""One cell of a grid, computed in whatever process an executor has chosen: it writes its own row, or says why there is none."""

import errno
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rtalib.infra import store
from rtalib.infra.provenance import stamp

# Worth another try: the network, a time limit, a file system that is away for a moment. Not a full disk, a missing file or a permission.
TRANSIENT = (ConnectionError, TimeoutError, BlockingIOError, InterruptedError)
TRANSIENT_ERRNO = (errno.EIO, errno.ESTALE, errno.EBUSY, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH)
PAUSE = 1.0  # seconds before each further try, times the tries so far


class GridError(RuntimeError):
    """Some cells failed, or none can be computed; finished ones are stored."""


@dataclass(frozen=True)
class Job:
    """A cell to compute: by which function, where its row belongs, and what was tried before."""

    function: Callable[[Any], dict]
    cell: Any
    run: str
    table: str
    key: str
    wait: bool = False  # for another driver that computes the cell
    tries: int = 0

    @property
    def path(self) -> Path:
        return store.row_path(self.run, self.table, self.key)

    @property
    def lock(self) -> Path:
        return self.path.with_name(f".{self.key}.lock")


@dataclass(frozen=True)
class Outcome:
    """verdict: 'done', 'failed', 'transient' or 'died' (both may be tried again), or 'busy' (another driver computes it)."""

    verdict: str
    error: str = ""


def compute(job: Job) -> Outcome:
    """Compute and store one row."""
    if not job.wait and store.is_locked(job.lock):
        return Outcome("busy")
    with store.locked(job.lock):
        if store.has_row(job.run, job.table, job.key):
            return Outcome("done")
        time.sleep(PAUSE * job.tries)
        started, busy = time.time(), time.process_time()
        try:
            with store.track_dependencies() as entries:
                result = job.function(job.cell)
            spent = {"seconds": round(time.time() - started, 2), "cpu_seconds": round(time.process_time() - busy, 2)}
            facts = {"table": job.table, "key": job.key, **spent, "entries": entries, "stamp": stamp()}
            store.write_row(job.run, job.table, job.key, store.plain(job.cell) | result | facts)
        except Exception as error:
            outcome = failure(job, "transient" if transient(error) else "failed", _advice(error) + traceback.format_exc())
            if isinstance(error, (OSError, MemoryError)):  # the machine's, not ours: where it happened stands in the file
                return replace(outcome, error=f"{_advice(error)}{type(error).__name__}: {error}")
            return outcome
    return Outcome("done")


def failure(job: Job, verdict: str, error: str) -> Outcome:
    """The outcome of a cell without a row; the error is kept in a file beside the rows."""
    store.write_atomic(job.path.with_name(f"failed-{job.key}-{time.time_ns()}.txt"), error)
    return Outcome(verdict, error)


def transient(error: Exception) -> bool:
    """Whether the same cell may succeed when it is tried again."""
    return isinstance(error, TRANSIENT) or (isinstance(error, OSError) and error.errno in TRANSIENT_ERRNO)


def _advice(error: Exception) -> str:
    """A cell that runs out of memory has failed: it would do so again."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's
        return "out of memory, not tried again: fewer workers, or more GPUs per cell, leave more for each\n"
    return ""


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set these environment variables inside, and restore them afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
