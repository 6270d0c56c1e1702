"""Peak and free memory of the device that a rehearsal runs on, in GiB."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

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
    return _kilobytes("/proc/self/status", "VmHWM") / 2**20


def resting() -> float:
    """In use now."""
    gc.collect()
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated() / GIB
    return _kilobytes("/proc/self/status", "VmRSS") / 2**20 if sys.platform == "linux" else most()


def free() -> float:
    """What may be taken."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / GIB
    if sys.platform == "linux":
        return _kilobytes("/proc/meminfo", "MemAvailable") / 2**20
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


def _kilobytes(file: str, name: str) -> int:
    return next(int(line.split()[1]) for line in Path(file).read_text().splitlines() if line.startswith(f"{name}:"))
