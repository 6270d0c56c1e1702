"""Cells for the tests of the grid: what they do is in their names, and every call of one is written down."""

import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rtalib import store
from rtalib.infra.grid import fork_server

VARYING = ("seconds", "cpu_seconds", "stamp", "entries", "key", "folder", "table")


@dataclass(frozen=True)
class Cell:
    number: int
    folder: str


def light_workers() -> None:
    """In a driver of its own: its fork server imports what these cells need, and is ready after half the seconds."""
    fork_server.context = partial(fork_server.context, ("torch",))


def cells(folder: Path, count: int = 6) -> list[Cell]:
    return [Cell(number, str(folder)) for number in range(count)]


def square(cell: Cell) -> dict:
    with open(Path(cell.folder) / "calls", "a") as handle:
        handle.write(f"{cell.number}\n")
    return {"square": cell.number**2}


def calls(folder: Path) -> list[int]:
    """Numbers of the cells in the order in which they were finished."""
    path = folder / "calls"
    return list(map(int, path.read_text().split())) if path.exists() else []


def first_time(cell: Cell) -> bool:
    mark = Path(cell.folder) / f"tried-{cell.number}-{time.time_ns()}"
    before = tries(cell)
    mark.touch()
    return before == 0


def tries(cell: Cell) -> int:
    return len(list(Path(cell.folder).glob(f"tried-{cell.number}-*")))


def killed_once(cell: Cell) -> dict:
    if cell.number == 1 and first_time(cell):
        os.kill(os.getpid(), signal.SIGKILL)
    return square(cell)


def killed_always(cell: Cell) -> dict:
    if cell.number == 1:
        first_time(cell)
        os.kill(os.getpid(), signal.SIGKILL)
    return square(cell)


def offline_once(cell: Cell) -> dict:
    if cell.number == 1 and first_time(cell):
        raise ConnectionResetError("the network was away")
    return square(cell)


def offline_always(cell: Cell) -> dict:
    if cell.number == 1:
        first_time(cell)
        raise TimeoutError("the network is away")
    return square(cell)


def wrong(cell: Cell) -> dict:
    if cell.number == 1:
        first_time(cell)
        raise AssertionError("one is not two")
    return square(cell)


def too_large(cell: Cell) -> dict:
    if cell.number == 1:
        first_time(cell)
        bytearray(2**60)
    return square(cell)


def slow(cell: Cell) -> dict:
    time.sleep(0.5)
    return square(cell)


def write_pid_and_wait(cell: Cell) -> dict:
    (Path(cell.folder) / f"pid-{os.getpid()}").touch()
    time.sleep(120)
    return {}


def waits_for_release(cell: Cell) -> dict:
    """Until the file 'go' is there."""
    (Path(cell.folder) / f"begun-{cell.number}-{os.environ.get('CUDA_VISIBLE_DEVICES')}").touch()
    while not (Path(cell.folder) / "go").exists():
        time.sleep(0.05)
    return square(cell)


def surroundings(cell: Cell) -> dict:
    import torch

    names = ("CUDA_VISIBLE_DEVICES", "RTALIB_OUTPUTS")
    return {name: os.environ.get(name) for name in names} | {"threads": torch.get_num_threads(), "worker": os.getpid()}


def eventually(condition, seconds: float = 300) -> bool:
    deadline = time.time() + seconds
    while time.time() < deadline:
        if condition():  # which may hold for a moment only
            return True
        time.sleep(0.02)
    return bool(condition())


def results(run: str, table: str) -> list[dict]:
    """The stored rows without what differs from run to run."""
    return [{name: value for name, value in row.items() if name not in VARYING} for row in store.rows(run, table)]
