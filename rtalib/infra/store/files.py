"""Files and folders that appear whole or not at all, their digests, and errors that say which disk is full."""

import contextlib
import errno
import hashlib
import os
import shutil
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_IN_WORDS = (os.strerror(errno.ENOSPC), " requested and ")  # of libraries that give no number; the second is NumPy's


class DiskFull(OSError):
    """No room: the text says on which disk, how much was to be written and how much is free."""


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write `path` whole or not at all; see `replacing`."""
    data = data.encode() if isinstance(data, str) else data
    with replacing(path, size=len(data)) as (temporary,):
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(*paths: Path, size: int = 0) -> Iterator[list[Path]]:
    """Temporary paths, for files or folders that take the names `paths` if the block succeeds and vanish if it fails.

    A reader, or a crash, sees the old content or the new, never a part. Of several paths, all but the first are missing while the names
    change: a crash leaves no mixture. A folder with content is not replaced: OSError. DiskFull if there is no room for `size` bytes.
    """
    temporary = [path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp") for path in paths]  # two machines may share process numbers
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    try:
        with naming_the_disk(paths[0], temporary, size):
            yield temporary
            for path in temporary:
                if path.is_file():
                    flush(path)
            for path in paths[1:]:
                path.unlink(missing_ok=True)
            for source, path in zip(temporary, paths, strict=True):
                os.replace(source, path)
    finally:
        for path in temporary:
            remove(path)


def flush(path: Path) -> None:
    """Wait until a file is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def set_aside(path: Path, reason: str) -> None:
    """Rename what cannot be trusted, with a warning; `python -m rtalib store gc` removes it."""
    if aside := move_aside(path):
        warnings.warn(f"{path}: {reason}; it is set aside as {aside.name} and computed again when needed", stacklevel=4)


def move_aside(path: Path) -> Path | None:
    """The new path of what is renamed; None if another process was faster."""
    aside = path.with_name(f".corrupt-{path.name}-{time.time_ns()}")
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, aside)
        return aside


def digest(path: Path, kind: str = "sha256") -> str:
    """SHA-256 of a file, or with 'md5' what published files are checked by, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 if there is none."""
    files = path.rglob("*") if path.is_dir() else [path] if path.exists() else []
    return sum(file.lstat().st_size for file in files if not file.is_dir())


@contextlib.contextmanager
def naming_the_disk(path: Path, written: Sequence[Path] = (), size: int = 0) -> Iterator[None]:
    """Turn the error of a full disk, a used-up quota or a file too large into DiskFull.

    path: what the block writes; written: the files and folders it fills; size: how many bytes it needs, if known.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFull) or not _is_full(error):
            raise
        size = max(size, sum(size_of(file) for file in written))
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        disk = next(place for place in (folder, *folder.parents) if os.path.ismount(place))
        number = getattr(error, "errno", None) or errno.ENOSPC
        room = f"{size:,} bytes needed, {shutil.disk_usage(folder).free:,} free on the disk at {disk}"
        raise DiskFull(number, f"{os.strerror(number)}: {room}", str(path)) from error


def _is_full(error: Exception) -> bool:
    if number := getattr(error, "errno", None):
        return number in _FULL
    return any(words in str(error) for words in _FULL_IN_WORDS)
