"""Processes that start in milliseconds: children of a fork server, which has imported the slow packages before.

Importing torch, torchvision, pandas and seaborn takes seven seconds of a CPU, more than a notebook or a worker computes at scale smoke.
Kernels and workers come from one server, as many as a run has. Each then takes over its parent's environment, group and output, as if the
parent had started it itself. The server computes nothing, so it has neither threads nor a CUDA context that a fork could break.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.context import BaseContext
from multiprocessing.reduction import DupFd
from types import ModuleType

from rtalib.infra.grid.cell import environment

# Packages of others alone, since modules of ours may read the environment of the process that imports them.
NUMBERS = ("torch", "torchvision", "scipy.stats")
NOTEBOOKS = (*NUMBERS, "pandas", "seaborn", "matplotlib.backends.backend_agg", "ipykernel.kernelapp", "ipywidgets", "jinja2")
LONGEST_FOLDER = 70
_HIDING = threading.Lock()


def folder_of_sockets() -> str:
    """The folder of temporary files, or /tmp if its path is too long for sockets, which may have about 104 characters."""
    folder = tempfile.gettempdir()
    return folder if len(folder) < LONGEST_FOLDER else "/tmp"


def context(preload: tuple[str, ...] = NUMBERS) -> BaseContext:
    """The context of multiprocessing whose processes the server forks; the server is started with these modules if there is none yet."""
    multiprocessing.set_forkserver_preload(list(preload))
    usual, tempfile.tempdir = tempfile.tempdir, folder_of_sockets()
    try:
        util.get_temp_dir()  # made once, and kept
    finally:
        tempfile.tempdir = usual
    with environment(PYTHONPATH=os.pathsep.join(os.path.abspath(folder) for folder in sys.path)):  # the child finds what its parent finds
        forkserver._forkserver.ensure_running()  # as it is on the object, see `enter`
    return multiprocessing.get_context("forkserver")


@contextmanager
def starting() -> Iterator[None]:
    """Around the start of a child. The server first imports for seconds; an interrupt meanwhile ends it, with what it has not begun."""
    try:
        yield
    except BaseException:
        server = forkserver._forkserver
        if server._forkserver_pid is not None:  # of this process
            os.kill(server._forkserver_pid, signal.SIGKILL)
            server._stop()
        raise


@contextmanager
def without_script() -> Iterator[None]:
    """Around the start of a child that needs nothing of the caller's script, which would run in it again, or fail if it came by a pipe."""
    with _HIDING:
        script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = script


def without_piped_script() -> AbstractContextManager:
    """Around the start of a child whose parent's script may have come by a pipe, from which no child can read it again."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return without_script() if file and not os.path.exists(file) else nullcontext()


class Copy:
    """A file descriptor that is copied into the child when this object is pickled for it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self):
        return _received, (DupFd(self.number),)


def _received(copy):
    return copy


@dataclass(frozen=True)
class Surroundings:
    """What a child has from the server but should have from its parent, in which this object is made."""

    output: Copy = field(default_factory=lambda: Copy(1))
    errors: Copy = field(default_factory=lambda: Copy(2))
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    group: int = field(default_factory=os.getpgrp)

    def enter(self) -> None:
        """In the child: take them over, and end when the parent ends, even if that is killed."""
        threading.Thread(target=_end_with_parent, daemon=True).start()
        os.environ.clear()
        os.environ.update(self.environ)
        with suppress(PermissionError):  # a group of another session
            os.setpgid(0, self.group)
        os.dup2(self.output.detach(), 1)
        os.dup2(self.errors.detach(), 2)
        server = forkserver._forkserver
        if server._forkserver_alive_fd is not None and sys.version_info < (3, 14):
            server.ensure_running = resource_tracker.ensure_running  # the child's children come from its own server, too, not from another


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def kernel(surroundings: Surroundings, folder: str, connection_file: str) -> None:
    """In a child: be the Jupyter kernel of this connection file, working in `folder`, in a process group of its own.

    It computes with one thread unless OMP_NUM_THREADS says otherwise: on a busy machine, threads of small operations wait for each other.
    """
    surroundings.enter()
    os.setpgrp()
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in a child of a background job
    sys.argv[:] = ["ipykernel_launcher", "-f", connection_file]
    sys.modules.setdefault("rfc3987_syntax", None)  # as in nb.run
    try:
        import matplotlib
        import torch

        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(1)
        # ipykernel asks for inline figures by the environment, which matplotlib reads when it is imported: here that is over
        matplotlib.rcParams["backend"] = os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        runpy.run_module("ipykernel_launcher", run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing's children leave without
