"""Locks in a folder that several machines may share and where flock may not work.

A lock on `path` is a folder of that name with one empty file, whose name says who holds it: host, process, its start, a token. The folder
is prepared aside and renamed into place, which fails if another lock is there (POSIX rename): a lock appears whole or not at all, even
after a power cut. A thread of the holder touches the file every BEAT seconds.

A lock of this host is free once its process is dead. A lock of another host or container is free once the waiter has seen its file
untouched for STALE seconds of its own monotonic clock, so clocks may jump or differ. A waiter takes a lock over by renaming the file to
its own name: of several waiters one succeeds. Names hold a token, so only the holder that was judged can be replaced. A holder that was
suspended and lost its lock learns it from `Lock.confirm`, to be called before a result is published.

Why not filelock's SoftFileLease: since 4.2 it takes a dead holder's lock only by swapping two names (RENAME_EXCHANGE), which NFS, SMB and
most network file systems refuse, so a waiter there waits for ever; nor does it take an empty lock file, as a power cut leaves.
"""

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from rtalib.infra.store.files import naming_the_disk

BEAT = 5.0  # seconds between two touches
STALE = 180.0  # seconds without one; network file systems may show a touch a minute late
POLL = (0.005, 0.5)  # seconds between two attempts: the first pause, which grows by half each time, and the longest


class LockLost(RuntimeError):
    """Another process took the lock over, because this one gave no sign of life for STALE seconds."""


class LockHeld(RuntimeError):
    """Another process holds the lock, and the caller did not want to wait."""


class Lock:
    """A lock that this process holds; a forked child does not hold it. Made by `locked`."""

    def __init__(self, path: Path):
        self.token = uuid.uuid4().hex[:12]
        self.folder, self._pid, self._released = str(path), os.getpid(), threading.Event()
        self.file = os.path.join(path, f"{host()}_{self._pid}_{_started(self._pid)}_{self.token}")

    def is_held(self) -> bool:
        """Whether this process still holds the lock. The question is a sign of life, too."""
        if os.getpid() == self._pid:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self.file)
                return True
        return False

    def confirm(self) -> None:
        """Raise LockLost unless the lock is still held; after that, there are STALE seconds to publish a result."""
        if not self.is_held():
            raise LockLost(f"{self.folder}: another process has taken over, because this one gave no sign of life for {STALE:g} s")

    def acquire(self, wait: bool) -> None:
        pause, seen, since = POLL[0], None, 0.0
        while True:
            if (holder := _holder(self.folder)) is None:
                if self._create():
                    return
                continue
            if holder != seen:
                seen, since = holder, time.monotonic()
            name, touched = holder
            if _is_stale(name, time.monotonic() - since if wait else time.time() - touched) and self._take(name):
                return
            if not wait:
                raise LockHeld(f"{self.folder} is held by {name}")
            time.sleep(pause)
            pause = min(1.5 * pause, POLL[1])

    def _create(self) -> bool:
        """Whether the lock was free and is this process's now."""
        aside = Path(f"{self.folder}.{self.token}")
        try:
            with naming_the_disk(aside, size=4096):
                os.mkdir(aside)
                (aside / os.path.basename(self.file)).touch()
                os.rename(aside, self.folder)
        except NotADirectoryError:
            os.unlink(self.folder)  # the lock file of an early version
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return os.path.exists(self.file)

    def _take(self, name: str) -> bool:
        """Whether the lock of the holder `name` is this process's now."""
        old = os.path.join(self.folder, name)
        with contextlib.suppress(FileNotFoundError):  # another waiter was faster, or the holder has released it
            os.utime(old)  # a rename keeps the time, and nobody may find the new name with the old time
            os.rename(old, self.file)
        return os.path.exists(self.file)

    def beat(self) -> None:
        while not self._released.wait(BEAT):
            with contextlib.suppress(OSError):  # a network folder may be away for a while; `confirm` will tell
                self.is_held()

    def release(self) -> None:
        if os.getpid() == self._pid:
            self._released.set()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.file)
            with contextlib.suppress(OSError):  # gone, or not empty: another process holds it by now
                os.rmdir(self.folder)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[Lock]:
    """Hold the lock on `path`; its parent folder is created, and nothing stays behind.

    Waits while a living process holds it; with wait=False, raises LockHeld instead. DiskFull if there is no room. Call `confirm` on the
    lock before you publish what was made under it.
    """
    os.makedirs(path.parent, exist_ok=True)
    lock = Lock(path)
    try:
        lock.acquire(wait)
        threading.Thread(target=lock.beat, name="lock", daemon=True).start()
        yield lock
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a living process holds `path`; on another host, one that gave a sign of life in the last STALE seconds, by the wall clock."""
    holder = _holder(path)
    return holder is not None and not _is_stale(holder[0], time.time() - holder[1])


def _holder(path: Path | str) -> tuple[str, float] | None:
    """Name and modification time of the file in a lock's folder."""
    try:
        with os.scandir(path) as files:
            return next(((file.name, file.stat().st_mtime) for file in files), None)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_stale(name: str, silence: float) -> bool:
    """Whether a holder is dead or, if this host cannot know, whether it gave no sign of life for STALE seconds."""
    where, pid, start, _ = name.rsplit("_", 3)
    if where == host():
        started = _started(int(pid))
        if started is None or started and start:
            return started != start  # another process may have the number by now
    return silence > STALE


@functools.cache
def host() -> str:
    """This machine since its boot, as this container sees it: within it, process numbers are comparable."""
    try:
        facts = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        facts = str(uuid.getnode())
    name = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:100]
    return f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"


def _started(pid: int) -> str | None:
    """When a process of this host began, in clock ticks since the boot; '' if that is unknown, None if the process is dead."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # another user's
        pass
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return None if facts[0] in "ZX" else facts[19]  # a zombie is dead, even if its parent has not asked for its exit status
