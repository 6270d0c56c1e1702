"""Where a number comes from: source version, libraries, hardware, time."""

import datetime
import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("torch", "torchvision", "triton", "numpy", "pillow", "pyarrow", "papermill", "matplotlib")


@functools.cache
def _fixed() -> dict:
    """The part of a stamp that cannot change while a process runs."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "rtalib": version("rtalib"),
        "git": _git("rev-parse", "HEAD"),
        # Notebooks do not count: JupyterLab saves outputs into them, and no result depends on that.
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no", "--", ":/rtalib", ":/pyproject.toml")),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES if version(name)},
        "cpu": _cpu(),
        "cores": cores(),
        "gpu": gpu,
    }


def stamp() -> dict:
    """JSON-able facts: git commit and dirty flag, versions, CPU, cores, GPU, threads, UTC time."""
    import torch

    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {**_fixed(), "threads": torch.get_num_threads(), "time": now}


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def version(name: str) -> str | None:
    """Of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Output of a git command in the source folder; None without git or a repository (an installed wheel)."""
    try:
        done = subprocess.run(("git", *arguments), cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
