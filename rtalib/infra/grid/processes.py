"""Cells in spawned processes of this machine: a slot per GPU (or core), a worker per slot, a pipe per worker.

The driver knows which cell a dead worker had, so only that cell has to answer for it, and the slot gets a new worker.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from rtalib.infra import store
from rtalib.infra.grid.cell import GridError, Job, Outcome, compute, cores, environment, failure

UP = "up"  # a worker's first message
POLL = 1.0  # seconds after which a worker is looked after whose pipe a child of its own may keep open


class Pool:
    """Workers that start when there is a cell for them. `size`: how many there can be."""

    def __init__(self, workers: int | None, gpus: float | None) -> None:
        places = slots(visible_gpus(), workers, gpus)
        self.size = len(places)
        threads = max(1, cores() // self.size)  # of the full crew, so that a result does not depend on how many cells are left
        self._slots = [_Slot(place, threads) for place in places]

    def run(self, queue: deque[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Each job with its outcome, as they end; the caller may append to `queue` meanwhile. Closing this kills what is under way."""
        try:
            while queue or any(slot.job for slot in self._slots):
                for slot in self._slots:
                    if queue and slot.job is None:
                        slot.give(queue.popleft())
                busy = [slot for slot in self._slots if slot.job]
                wait([slot.pipe for slot in busy], POLL)
                for slot in busy:
                    if outcome := slot.outcome():
                        job, slot.job = slot.job, None
                        yield job, outcome
        finally:
            for slot in self._slots:
                if slot.job:
                    slot.kill()

    def close(self) -> None:
        for slot in self._slots:
            slot.dismiss()
        for slot in self._slots:
            slot.join()


class _Slot:
    """A place for one worker at a time, with its GPUs and threads."""

    def __init__(self, gpus: str, threads: int) -> None:
        self.gpus, self.threads = gpus, threads
        self.job: Job | None = None
        self.pipe: Connection | None = None
        self.process: multiprocessing.Process | None = None
        self.up = False

    def give(self, job: Job) -> None:
        data = pickle.dumps((str(store.outputs()), job))
        if self.process is None or self.pipe.closed or not self.process.is_alive():
            self._start()
        self.job = job
        with suppress(OSError):  # it died this very moment, as `outcome` will find
            self.pipe.send_bytes(data)

    def outcome(self) -> Outcome | None:
        """What became of the job; None while it is under way."""
        alive = self.process.is_alive()  # asked first: what a worker sent before it ended still counts
        try:
            if not self.pipe.poll():
                return None if alive else self._died()
            message = self.pipe.recv()
        except (EOFError, OSError):
            return self._died()
        if message == UP:
            self.up = True
            return None
        if message.verdict == "failed":  # its memory, or its CUDA context, may be spoilt
            self.dismiss()
            self.join()
        return message

    def _start(self) -> None:
        """Spawned, since a CUDA context does not survive a fork; the GPU is chosen before the worker imports anything."""
        self.join()
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process, self.up = context.Process(target=_work, args=(far, self.threads)), False
        with environment(CUDA_VISIBLE_DEVICES=self.gpus):
            self.process.start()
        far.close()

    def _died(self) -> Outcome:
        self.join()
        code = self.process.exitcode
        if code >= 0 and not self.up:
            hint = 'a script that runs a grid needs `if __name__ == "__main__":` around its own work'
            raise GridError(f"a worker ended with status {code} before it could begin; see its words above, and: {hint}")
        how = f"killed by signal {-code}, out of memory?" if code < 0 else f"ended with status {code}"
        return failure(self.job, "died", f"worker {how}")

    def kill(self) -> None:
        self.process.kill()
        self.join()
        self.job = None

    def dismiss(self) -> None:
        """An idle worker ends when its pipe does."""
        if self.pipe:
            self.pipe.close()

    def join(self) -> None:
        if self.process:
            self.process.join()
            self.pipe.close()


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


def _work(pipe: Connection, threads: int) -> None:
    """A worker's life: cells until the pipe ends, and not a moment longer than its driver's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the driver ends its workers
    threading.Thread(target=end_with_driver, daemon=True).start()
    pipe.send(UP)
    import torch

    torch.set_num_threads(threads)
    while True:
        try:
            data = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send(_attempt(data))


def _attempt(data: bytes) -> Outcome:
    try:
        os.environ["RTALIB_OUTPUTS"], job = pickle.loads(data)  # the driver's now, which may not be those at the worker's start
    except Exception:  # of the imports that it begins
        return Outcome("failed", f"the worker cannot import the cell's function\n{traceback.format_exc()}")
    return compute(job)


def end_with_driver() -> None:
    """A busy worker would finish its cell for a driver that was killed; an idle one of another pool would wait for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
