"""Cells on a Ray cluster, or on one that is started here for the time being (pip install rtalib[ray]).

Ray only schedules: a cell writes its own row and its task returns a few words, so nothing is lost with a node or with the driver.
"""

import os
import site
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from rtalib.infra import store
from rtalib.infra.grid.cell import GridError, Job, Outcome, failure
from rtalib.infra.provenance import cores

CONNECT, ANSWER = 5, 60  # seconds for a connection, and for the answer of a cluster, whose command takes 20 to start on a busy machine
OBJECTS = 100 * 2**20  # bytes of a local cluster's object store, which holds a few words per cell


class Pool:
    """A connection to a cluster. `size`: how many cells it has room for at a time."""

    def __init__(self, workers: int | None, gpus: float | None, address: str | None) -> None:
        self._ray = _imported()
        self._owner = not self._ray.is_initialized()
        if self._owner:
            _connect(self._ray, address or os.environ.get("RAY_ADDRESS") or "local")
        try:
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._gpus, self._cpus, self.size = demand(nodes, workers, gpus)
        except BaseException:
            self.close()
            raise
        self._limit = workers or sys.maxsize  # without one, all go to the cluster at once, which may grow

    def run(self, queue: deque[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Each job with its outcome, as they end; the caller may append to `queue` meanwhile. Closing this cancels what is under way."""
        task = self._ray.remote(_task()).options(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0)
        threads, pending = max(1, int(self._cpus)), {}
        try:
            while queue or pending:
                while queue and len(pending) < self._limit:
                    job = queue.popleft()
                    pending[task.remote(self._ray.cloudpickle.dumps(job), threads, import_path(), self._environment())] = job
                for reference in self._ray.wait(list(pending), num_returns=1)[0]:
                    job = pending.pop(reference)
                    yield job, self._outcome(job, reference)
        finally:
            for reference in pending:
                self._ray.cancel(reference, force=True)

    def _outcome(self, job: Job, reference: object) -> Outcome:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:  # outside the cell: its function cannot be imported there, say
            return failure(job, "failed", str(error))
        except errors.RayError as error:  # the worker or its node is gone
            return failure(job, "died", f"worker lost, out of memory? {type(error).__name__}: {error}")

    def _environment(self) -> dict[str, str]:
        """What a worker on any machine has to know. It goes with the job: a runtime environment of Ray's takes many seconds to set up."""
        known = {"RTALIB_OUTPUTS": str(store.outputs())}
        if data := os.environ.get("RTALIB_DATA"):
            known["RTALIB_DATA"] = os.path.abspath(data)
        if capture := os.environ.get("RTALIB_CAPTURE"):
            known["RTALIB_CAPTURE"] = capture
        return known if self._gpus else known | {"CUDA_VISIBLE_DEVICES": ""}  # Ray hides none from a task that asks for none

    def close(self) -> None:
        if self._owner:
            self._ray.shutdown()


def _task() -> Callable[[bytes, int, list[str], dict[str, str]], Outcome]:
    """Made within a function, so that it travels as code: its worker may not find any module of ours before it has the path."""

    def task(job: bytes, threads: int, path: list[str], values: dict[str, str]) -> Outcome:
        import pickle
        import sys

        sys.path += [folder for folder in path if folder not in sys.path]
        import torch

        from rtalib.infra.grid.cell import compute, environment

        torch.set_num_threads(threads)
        with environment(**values):  # for this cell alone: Ray assumes that the GPUs of a worker's last task are still set
            return compute(pickle.loads(job))

    return task


def demand(nodes: Sequence[Mapping[str, float]], workers: int | None, gpus: float | None) -> tuple[float, float, int]:
    """(GPUs and CPUs of a cell, cells at a time) on nodes with these resources; GridError if no cell would ever start."""
    devices = [node.get("GPU", 0.0) for node in nodes]
    gpus = (1.0 if any(devices) else 0.0) if gpus is None else gpus
    places = [int(count / gpus + 1e-9) if gpus else int(node.get("CPU", 0)) for node, count in zip(nodes, devices, strict=True)]
    if not any(places):
        sizes = sorted(((node.get("CPU", 0), node.get("GPU", 0)) for node in nodes), reverse=True)  # in Ray's own order they vary
        there = ", ".join(f"{cpus:g} CPUs and {count:g} GPUs" for cpus, count in sizes) or "no node"
        asked = f"{gpus:g} GPUs on one node" if gpus else "a CPU"
        raise GridError(f"gpus: a cell asks for {asked}, but the cluster has {there} (a node each): it would wait for ever")
    size = min(workers or sum(places), sum(places))
    used = [(node.get("CPU", 0.0), count) for node, count in zip(nodes, places, strict=True) if count]
    if gpus:
        share = min(cpus / count for cpus, count in used)
    else:
        share = min(sum(cpus for cpus, _ in used) / size, max(cpus for cpus, _ in used))
    return gpus, float(int(share)) if share >= 1 else int(share * 1e4) / 1e4, size


def import_path() -> list[str]:
    """The driver's folders of modules that are not part of its Python."""
    installed = {os.path.realpath(folder) for folder in (sys.prefix, sys.base_prefix, *site.getsitepackages())}
    folders = [os.path.abspath(folder) for folder in sys.path if not folder.endswith(".zip")]
    return [folder for folder in folders if not any(os.path.realpath(folder).startswith(known) for known in installed)]


# ---------------------------------------------------------------------------------------------------------- connecting


def _imported():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ImportError("executor 'ray' needs Ray: pip install 'rtalib[ray]'") from None
    return ray


def _connect(ray, address: str) -> None:
    how = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        ray.init(address="local", num_cpus=cores(), object_store_memory=OBJECTS, include_dashboard=False, **how)
        return
    check_address(address)
    try:
        ray.init(address=address, **how)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _unreachable(address, str(error)) from None


def check_address(address: str) -> None:
    """Raise GridError, within a minute or so, unless a Ray cluster answers at `address`: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT).close()
        except OSError as error:
            raise _unreachable(address, str(error)) from None
    elif address != "auto":
        raise GridError(f"address (or RAY_ADDRESS): expected host:port, ray://host:port, 'auto' or 'local', got {address!r}")
    if address.startswith("ray://"):
        return
    asked = ["--address", address] if address != "auto" else []
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", *asked]
    try:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=ANSWER)
    except subprocess.TimeoutExpired:
        raise _unreachable(address, f"no answer in {ANSWER} seconds") from None
    if done.returncode:
        raise _unreachable(address, "its health check fails")


def _unreachable(address: str, reason: str) -> GridError:
    return GridError(
        f"address: no Ray cluster answers at {address!r} ({reason}). Check `ray status --address {address}` on its head node, "
        "the firewall between here and there, and whether RAY_ADDRESS is what you mean"
    )
