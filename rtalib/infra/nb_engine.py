"""The papermill side of `rtalib.nb`: our kernel, a deadline for the whole notebook, and its output on the terminal as it comes."""

import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty
from typing import Any, BinaryIO, TextIO

import papermill
from jupyter_client import AsyncKernelClient, AsyncKernelManager
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.kernelspec import KernelSpec
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import strip_color
from traitlets import Type

from rtalib.infra.grid import fork_server
from rtalib.infra.store import is_locked, locked

GRACE = 5.0  # seconds between the interrupt and the kill
POLL = 0.5  # seconds


def execute(notebook: Path, output: Path, parameters: dict[str, Any], timeout: float | None) -> tuple[str, str]:
    """Run `notebook`, saving to `output` as it goes; returns (status, error) as in NotebookResult."""
    watchdog = _Watchdog(timeout)
    prefix = f"[{notebook.stem}] "
    with _Lines(sys.stdout, prefix) as stdout, _Lines(sys.stderr, prefix) as stderr, watchdog:
        try:
            status, error = _verdict(notebook, output, parameters, watchdog, stdout, stderr)
        except KeyboardInterrupt:
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # at its end it would print the tasks that are cut short
            raise
    if watchdog.fired:
        status, error = "timeout", f"stopped after {timeout:g} s\n{error}"
    if status != "ok":
        watchdog.signal(signal.SIGKILL)  # worker processes outlive a kernel that died
    return status, error


def _verdict(notebook: Path, output: Path, parameters: dict, watchdog: "_Watchdog", stdout: "_Lines", stderr: "_Lines") -> tuple[str, str]:
    try:
        papermill.execute_notebook(
            _literal(notebook),
            _literal(output),
            parameters,
            engine_name="rtalib",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            stdout_file=stdout,
            stderr_file=stderr,
            folder=os.getcwd(),
            watchdog=watchdog,
        )
    except papermill.PapermillExecutionError as error:
        return "failed", strip_color("\n".join(error.traceback)) or f"{error.ename}: {error.evalue}"
    except TimeoutError as error:  # the kernel lives but its messages got lost
        return "failed", f"{type(error).__name__}: {error}"
    except KernelDied as error:
        return "died", str(error)
    return "ok", ""


def _literal(path: Path) -> str:
    """Papermill fills in braces in paths; doubled ones stay as they are."""
    return str(path.absolute()).replace("{", "{{").replace("}", "}}")


class KernelDied(Exception):
    """The kernel's process is gone; the text holds its last words."""


def _tail(log: BinaryIO, size: int = 2000) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - size))
    return log.read().decode(errors="replace")


class _Engine(NBClientEngine):
    """Papermill's own engine with `_Client` instead of its client, and without paths of this machine in the executed notebook."""

    @classmethod
    def execute_notebook(cls, nb, *arguments, **options):
        for name in ("input_path", "output_path"):  # which in a C locale may be no text
            del nb.metadata.papermill[name]
        return super().execute_notebook(nb, *arguments, **options)

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, *, folder, watchdog, stdout_file, stderr_file, **unused):
        with _private_folder() as private, open(os.path.join(private, "kernel.log"), "w+b") as log:
            client = _Client(nb_man, kernel_name=kernel_name, stdout_file=stdout_file, stderr_file=stderr_file)
            client.private, client.watchdog = private, watchdog
            try:
                client.execute(cwd=folder, stdout=log)  # what it says to the notebook comes by message
            except RuntimeError as error:  # DeadKernelError, or the kernel ended before it answered
                raise KernelDied(f"{_tail(log)}{type(error).__name__}: {error}") from error
            finally:
                client.kernel.end()


papermill_engines.register("rtalib", _Engine)


class _Client(PapermillNotebookClient):
    """Starts `_Kernel` and tells the watchdog which processes to stop."""

    private: str
    watchdog: "_Watchdog"
    kernel: "_Kernel"

    def create_kernel_manager(self) -> AsyncKernelManager:
        prefix = os.path.join(self.private, "k")
        self.km = self.kernel = _Kernel(kernel_name="python3", transport="ipc", ip=prefix, connection_file=f"{prefix}.json")
        return self.km

    def start_new_kernel(self, **options: Any) -> None:
        super().start_new_kernel(**options)
        self.watchdog.group = self.km.provisioner.pgid


class _Channel(AsyncZMQSocketChannel):
    """Looks for a message anew every POLL seconds.

    When an output widget changes, nbclient sends on the socket that it waits on; if the kernel's answer arrives at that moment, the event
    is spent on the sending, and who waits is never woken.
    """

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = POLL if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return await super().get_msg(min(POLL, left))
            except Empty:
                if deadline is not None and time.monotonic() >= deadline:
                    raise


class _KernelClient(AsyncKernelClient):
    shell_channel_class = Type(_Channel)


class _Process:
    """A child of the fork server with the methods of subprocess.Popen that jupyter_client calls."""

    stdin = stdout = stderr = None

    def __init__(self, child: BaseProcess) -> None:
        with fork_server.starting(), fork_server.without_script():
            child.start()
        self.child, self.pid, self.kill, self.terminate = child, child.pid, child.kill, child.terminate

    def poll(self) -> int | None:
        return self.child.exitcode

    def wait(self) -> int | None:
        self.child.join()
        return self.child.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


class _Kernel(AsyncKernelManager):
    """A kernel of this very interpreter, whichever kernels are registered under its name."""

    client_factory = Type(_KernelClient)
    process: _Process | None = None

    async def _async_launch_kernel(self, kernel_cmd: list[str], *, cwd: str, stdout: BinaryIO, **unused: Any) -> None:
        said = fork_server.Copy(stdout.fileno())
        surroundings = fork_server.Surroundings(said, said, os.environ | {"JPY_PARENT_PID": "1"})  # 1: it need not watch its parent
        context = fork_server.context(fork_server.NOTEBOOKS)
        self.process = _Process(context.Process(target=fork_server.kernel, args=(surroundings, cwd, self.connection_file)))
        self.provisioner.process, self.provisioner.cwd = self.process, cwd
        self.provisioner.pid = self.provisioner.pgid = self.process.pid

    def end(self) -> None:
        """Kill it if it still runs, as after an interrupt."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(argv=[], display_name="Python 3", language="python")


@contextlib.contextmanager
def _private_folder() -> Iterator[str]:
    """A private folder, removed afterwards, whose path is short enough for sockets. Those of killed processes are removed first."""
    base = Path(fork_server.folder_of_sockets())
    for lock in base.glob("rtalib-*/lock"):
        with contextlib.suppress(FileNotFoundError):  # its owner has just removed it
            if lock.lstat().st_uid == os.getuid() and not is_locked(lock):
                shutil.rmtree(lock.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="rtalib-", dir=base, ignore_cleanup_errors=True) as folder, locked(Path(folder) / "lock"):
        yield folder


class _Watchdog:
    """Interrupts the kernel's process group after `timeout` seconds, then kills it every GRACE seconds until the block is left."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self.fired = False
        self.group: int | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        if self._over.wait(self.timeout):
            return
        self.fired = True
        self.signal(signal.SIGINT)
        while not self._over.wait(GRACE):
            self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send to the kernel and all it started; nothing happens when they are gone or not there yet."""
        if self.group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.group, number)


class _Lines:
    """A file that passes on whole lines behind a prefix; of a line that redraws itself with carriage returns, the last state."""

    def __init__(self, stream: TextIO, prefix: str) -> None:
        self.stream, self.prefix, self.rest = stream, prefix, ""

    def write(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            self.stream.write(f"{self.prefix}{line.rstrip(chr(13)).rpartition(chr(13))[2]}\n")

    def flush(self) -> None:
        self.stream.flush()

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *error: object) -> None:
        if self.rest:
            self.write("\n")
        self.flush()
