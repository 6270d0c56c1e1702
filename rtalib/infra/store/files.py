"""Files that are written whole or not at all, their digests, and errors that say which disk is full."""

import contextlib
import errno
import hashlib
import os
import shutil
import time
import uuid
import warnings
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(OSError):
    """No room: its text says on which disk, how much was to be written and how much is free."""


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write `path` so that a reader, or a crash, sees the old content or the new, never a part. DiskFull where there is no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")  # processes of two machines may have one number
    try:
        with open(temporary, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if is_full(error):
            raise disk_full(error, path, len(data)) from error
        raise


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk is full, a quota used up or a file too large; some libraries say it in words alone."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return os.strerror(errno.ENOSPC) in str(error)


def disk_full(error: BaseException, path: Path, size: int) -> DiskFull:
    """The error to raise in the place of `error`, which came when `size` bytes were to be written to `path`, or had been."""
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    disk = next(place for place in (folder, *folder.parents) if os.path.ismount(place))
    number = getattr(error, "errno", None) or errno.ENOSPC
    room = f"{size:,} bytes needed, {shutil.disk_usage(folder).free:,} free on the disk at {disk}"
    return DiskFull(number, f"{os.strerror(number)}: {room}", str(path))


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(file.lstat().st_size for file in ([path] if not path.is_dir() else path.rglob("*")) if not file.is_dir())


def set_aside(path: Path, reason: str) -> None:
    """Move what cannot be trusted out of the way, with a warning; `python -m rtalib store gc` removes it."""
    aside = path.with_name(f".corrupt-{path.name}-{time.time_ns()}")
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        os.replace(path, aside)
        warnings.warn(f"{path}: {reason}; it is set aside as {aside.name}, and computed again when it is needed", stacklevel=4)
