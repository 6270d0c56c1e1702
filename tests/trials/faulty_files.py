"""A layer between the code and its files: the k-th operation that changes the disk fails, or the process dies there."""

import builtins
import errno
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CALLS = ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir", "utime")


class Faults:
    """Counts operations on files below `folder` and lets number `at` fail once. how: what happens then; log: their names in order."""

    def __init__(self, folder: Path, at: int | None = None, how: Callable[[], None] | None = None) -> None:
        self.folder, self.at, self.how, self.log = str(folder), at, how, []
        self._thread = threading.get_ident()  # the heartbeat of a lock has its own time

    def happens(self, name: str, path: object) -> None:
        inside = isinstance(path, int) or os.fspath(path).startswith(self.folder)
        if inside and threading.get_ident() == self._thread:
            self.log.append(f"{name} {path if isinstance(path, int) else os.path.relpath(path, self.folder)}")
            if len(self.log) - 1 == self.at:
                self.how()


class Writer:
    """A file opened for writing; a write that fails has written half."""

    def __init__(self, file, path: object, faults: Faults) -> None:
        self._file, self._path, self._faults = file, path, faults

    def write(self, data):
        try:
            self._faults.happens("write", self._path)
        except OSError:
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            raise
        return self._file.write(data)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)

    def __getattr__(self, name):
        return getattr(self._file, name)


@contextmanager
def interposed(faults: Faults) -> Iterator[Faults]:
    real = {name: getattr(os, name) for name in CALLS}
    opened = builtins.open

    def watched(name: str):
        def call(path, *rest, **named):
            faults.happens(name, path)
            return real[name](path, *rest, **named)

        return call

    def watched_open(path, mode="r", *rest, **named):
        writes = any(letter in mode for letter in "wxa+") and not isinstance(path, int)
        if writes:
            faults.happens("open", path)
        file = opened(path, mode, *rest, **named)
        return Writer(file, path, faults) if writes else file

    for name in CALLS:
        setattr(os, name, watched(name))
    builtins.open = io.open = watched_open
    try:
        yield faults
    finally:
        for name in CALLS:
            setattr(os, name, real[name])
        builtins.open = io.open = opened


def fails(number: int) -> Callable[[], None]:
    def how() -> None:
        raise OSError(number, os.strerror(number))

    return how


HOWS = {
    "the disk has an error": fails(errno.EIO),
    "the disk is full": fails(errno.ENOSPC),
    "it is read-only": fails(errno.EROFS),
    "the process dies": lambda: os._exit(9),
}
