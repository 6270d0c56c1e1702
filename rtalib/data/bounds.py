"""What a file may ask for: checked by what it says of itself, before memory or disk is taken. Errors are one line that names the file."""

import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np

MAX_CLASSES = 100_000  # of labels without class names, unless there are more images than that
MAX_TEXT = 2**24  # bytes of a text or JSON; parsed JSON can take thirty times as much
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory() -> int:
    """Bytes that this process may hold at most: the machine's memory, or a lower limit of the shell or the container."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    limits += [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
    for file in _CGROUPS:
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):  # no such file, or 'max'
            continue
    return min(limits)


def check_memory(size: int, what: str) -> None:
    """ValueError if `size` bytes, which `what` takes, are more than this process may hold."""
    if size > (limit := memory()):
        raise ValueError(f"{what} takes {size / 1e9:,.1f} GB, and there are {limit / 1e9:,.1f} GB of memory")


def one_line(error: BaseException) -> str:
    """What a library says of a file, without line breaks; the kind of error if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def read_text(path: Path) -> str:
    """A UTF-8 file of at most MAX_TEXT bytes; ValueError that names it otherwise."""
    with open(path, "rb") as file:
        data = file.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise ValueError(f"{path}: expected at most {MAX_TEXT:,} bytes of text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {one_line(error)}") from error


def parse_json(text: str | bytes, where: str) -> Any:
    """ValueError that names `where` if the text is no JSON, is too long, or is nested so deep that Python does not follow."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"{where}: expected at most {MAX_TEXT:,} bytes of JSON, got {len(text):,}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON that can be read: {one_line(error)}") from error


def class_names(names: Any, where: str) -> tuple[str, ...]:
    """The names of a list of texts that can be the names of files; ValueError that names the file `where` for anything else."""
    if not isinstance(names, list):
        raise ValueError(f"{where}: expected class names as a list of texts, got {type(names).__name__}")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{where}: expected class names as a list of texts, got {type(name).__name__} in it")
        try:
            os.fsencode(name)
        except UnicodeEncodeError as error:
            raise ValueError(f"{where}: class name {name[:60]!r} is no Unicode text") from error
    return tuple(names)


def numbered_classes(labels: np.ndarray, where: str) -> tuple[str, ...]:
    """'0' to 'K-1' for files without class names: K columns of soft labels (N,K), or the largest of integers (N,) plus one."""
    count, limit = labels.shape[1] if labels.ndim == 2 else int(labels.max(initial=0)) + 1, max(MAX_CLASSES, len(labels))
    if count > limit:
        raise ValueError(f"{where}: expected at most {limit:,} classes where none are named, got {count:,}")
    return tuple(str(k) for k in range(count))


def in_range(labels: np.ndarray, classes: int, where: str) -> np.ndarray:
    """Integer labels (N,) as int64, if all lie in 0 to classes - 1; otherwise ValueError that names the file `where`."""
    if len(labels) and not (0 <= labels.min() and labels.max() < classes):
        raise ValueError(f"{where}: expected labels 0 to {classes - 1}, got values from {labels.min()} to {labels.max()}")
    return labels.astype(np.int64)
