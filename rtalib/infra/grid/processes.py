"""Cells in processes of this machine: a slot per GPU (or core), and one worker per slot.

Each slot is a process pool of one worker, so that a dead worker takes down the one cell it had, and its slot gets a new worker.
"""

import ctypes
import multiprocessing
import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from queue import SimpleQueue

from rtalib.infra import store
from rtalib.infra.grid import fork_server
from rtalib.infra.grid.cell import GridError, Job, Outcome, compute, environment, failure
from rtalib.infra.provenance import cores

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


class Pool:
    """Workers that start when there is a cell for them. `size`: how many there can be."""

    def __init__(self, workers: int | None, gpus: float | None) -> None:
        places = slots(visible_gpus(), workers, gpus)
        self.size = len(places)
        threads = max(1, cores() // self.size)  # of all workers, so that a result does not depend on how many cells are left
        self._slots = [_Slot(place, threads) for place in places]

    def run(self, queue: deque[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Each job with its outcome, as they end; the caller may append to `queue` meanwhile. Closing this kills what is under way."""
        busy: dict[Future, tuple[_Slot, Job]] = {}
        idle, ended = list(self._slots), SimpleQueue()  # an interrupt in `wait` of futures can leave their locks taken, for ever
        try:
            while queue or busy:
                while queue and idle:
                    slot, job = idle.pop(0), queue.popleft()
                    future = slot.submit(job)
                    busy[future] = slot, job
                    future.add_done_callback(ended.put)
                future = ended.get()
                slot, job = busy.pop(future)
                idle.append(slot)
                yield job, slot.outcome(job, future)
        finally:
            for slot, _ in busy.values():
                slot.kill()

    def close(self) -> None:
        begun = [slot for slot in self._slots if slot.pool]
        for slot in begun:
            slot.pool.shutdown(wait=False)
        for slot in begun:
            slot.process.join()


class _Slot:
    """A place for one worker at a time, with its GPUs and threads."""

    def __init__(self, gpus: str, threads: int) -> None:
        self.gpus, self.threads = gpus, threads
        self.pool: ProcessPoolExecutor | None = None

    def submit(self, job: Job) -> Future:
        data = pickle.dumps((str(store.outputs()), job))
        if self.pool:
            with suppress(BrokenProcessPool):  # the worker died while it was idle
                return self.pool.submit(_attempt, data)
        self._start()
        return self.pool.submit(_attempt, data)

    def outcome(self, job: Job, future: Future) -> Outcome:
        try:
            outcome = future.result()
        except BrokenProcessPool:
            self.dismiss()  # which waits for the end of the worker
            code = self.process.exitcode
            if code >= 0 and self.started.exception():
                hint = 'a script that runs a grid needs `if __name__ == "__main__":` around its own work'
                raise GridError(f"a worker ended with status {code} before it could begin; see its output above, and: {hint}") from None
            how = f"killed by signal {-code}, out of memory?" if code < 0 else f"ended with status {code}"
            outcome = failure(job, "died", f"worker {how}")
        if outcome.verdict == "failed":  # the worker's memory, or its CUDA context, may be corrupt
            self.dismiss()
        return outcome

    def _start(self) -> None:
        """With a GPU the worker is spawned: its GPU is chosen before it imports anything."""
        context = multiprocessing.get_context("spawn") if self.gpus else fork_server.context()
        others = multiprocessing.active_children()
        with environment(CUDA_VISIBLE_DEVICES=self.gpus), fork_server.starting(), fork_server.without_piped_script():
            pool = ProcessPoolExecutor(1, context, _begin, (self.threads, fork_server.Surroundings()))
            self.started = pool.submit(int)  # starts the worker
            (self.process,) = (child for child in multiprocessing.active_children() if child not in others)
        self.pool = pool

    def kill(self) -> None:
        self.process.kill()
        self.dismiss()

    def dismiss(self) -> None:
        self.pool.shutdown()
        self.pool = None


def slots(devices: list[str], workers: int | None, gpus: float | None) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each slot, '' for none of the visible `devices`."""
    if gpus is None:
        share = -(-(workers or 1) // len(devices)) if devices else 0
        gpus = 1 / share if share else 0
    if not gpus:
        return [""] * (workers or cores())
    if gpus > len(devices):
        raise ValueError(f"gpus: {gpus:g} per cell asked, {len(devices)} visible here; 0 computes on the CPU")
    if gpus < 1:
        places = devices * int(1 / gpus + 1e-9)
    else:
        size = int(gpus)
        places = [",".join(devices[i : i + size]) for i in range(0, len(devices) - size + 1, size)]
    if workers and workers > len(places):
        raise ValueError(f"workers: {workers} asked, but {len(devices)} GPUs with {gpus:g} per cell have room for {len(places)}")
    return places[:workers]


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process sees, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def _begin(threads: int, surroundings: fork_server.Surroundings) -> None:
    """Begin a worker, which ends with its driver, even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the driver ends its workers
    surroundings.enter()
    _keep_memory()
    import torch

    torch.set_num_threads(threads)


def _keep_memory() -> None:
    """glibc gives memory of some MiB back at once, and the next batch waits for it to be zeroed: a tenth of a network's time on a CPU."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 512 << 20)


def _attempt(data: bytes) -> Outcome:
    try:
        os.environ["RTALIB_OUTPUTS"], job = pickle.loads(data)  # the driver's now, which may not be those at the worker's start
    except Exception:  # of the imports that it begins
        return Outcome("failed", f"the worker cannot import the cell's function\n{traceback.format_exc()}")
    return compute(job)
