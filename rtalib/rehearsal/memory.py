"""Peak and free memory of the device that a rehearsal runs on, in GiB."""

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from rtalib.attacks import memory as attacks_memory

T = TypeVar("T")
GIB = 2**30


def peak(work: Callable[[], T]) -> tuple[T, float]:
    """The result of `work`, and the most memory that was in use meanwhile."""
    forget()
    return work(), most()


def forget() -> None:
    """Let `most` begin anew. Where the system cannot forget a peak of the process (elsewhere than on Linux), it counts from its start."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: the peak of the resident size starts anew


def most() -> float:
    """The most that was in use since `forget`: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / GIB
    if sys.platform != "linux":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (GIB if sys.platform == "darwin" else 2**20)
    return _gibibytes("VmHWM")


def resting() -> float:
    """In use now."""
    gc.collect()
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated() / GIB
    return _gibibytes("VmRSS") if sys.platform == "linux" else most()


def free() -> float:
    """What may be taken."""
    return attacks_memory.free(torch.device("cuda" if torch.cuda.is_available() else "cpu")) / GIB


def _gibibytes(name: str) -> float:
    """Of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 2**20
