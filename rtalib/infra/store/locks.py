"""Claims: who works on what, in a folder that several machines may share and where flock may not reach.

A claim on `path` is a folder of that name with one empty file in it, whose name says who holds it: host, process, its start, a token. It is
prepared aside and renamed into place, which succeeds only where nothing or an empty folder is (POSIX rename), so that it is there as a
whole or not at all. A thread of the holder touches the file every BEAT seconds.

A claim is stale when its process on this host is dead, or, where that cannot be known (another host or container), when its file was not
touched for STALE seconds on the file system's own clock. It is taken over by renaming its file to the name of the new holder: of several
waiters one succeeds, and one that was slow finds that name gone. Names hold a token, so nobody can remove or take a claim but the one that
was judged. A holder that was suspended and overtaken learns it from `Claim.confirm`, to be called before results are put into place.
"""

import contextlib
import errno
import functools
import hashlib
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from rtalib.infra.store.files import disk_full, is_full

BEAT = 5.0  # seconds between two touches
STALE = 180.0  # seconds without one; network file systems may show a touch a minute late
POLL = (0.005, 0.5)  # seconds between two looks at another's claim: the first, and the longest after growing by half each time


class ClaimLost(RuntimeError):
    """Another process took the claim over, because this one gave no sign of life for STALE seconds."""


class ClaimHeld(RuntimeError):
    """Another process holds the claim, and it was not to be waited for."""


class Claim:
    """A claim that this process holds, or waits for; see `locked`."""

    def __init__(self, path: Path):
        self.token = uuid.uuid4().hex[:12]
        self.folder = str(path)
        self.file = os.path.join(path, f"{host()}_{os.getpid()}_{_started(os.getpid())}_{self.token}")
        self._pid = os.getpid()

    def is_held(self) -> bool:
        """Whether it is still this process's own; says so to the others in the same step."""
        try:
            os.utime(self.file)
        except FileNotFoundError:
            return False
        return True

    def confirm(self) -> None:
        """Raise ClaimLost where it is no longer held. After it there are STALE seconds to put a result into place."""
        if not self.is_held():
            raise ClaimLost(f"{self.folder}: another process has taken over, as this one gave no sign of life for {STALE:g} s")

    def acquire(self, wait: bool) -> None:
        pause, judged = POLL[0], -STALE
        while not self._create():
            if not (holder := _holder(self.folder)):
                continue
            if _is_here(holder) or time.monotonic() - judged > BEAT:  # of a foreign one the clock must be asked
                judged = time.monotonic()
                if _is_stale(self.folder, holder) and self._take(holder):
                    break
            if not wait:
                raise ClaimHeld(f"{self.folder} is held by {holder}")
            time.sleep(pause)
            pause = min(1.5 * pause, POLL[1])
        _heart.add(self)

    def _create(self) -> bool:
        if _holder(self.folder):
            return False
        aside = f"{self.folder}.{self.token}"
        try:
            os.mkdir(aside)
            os.close(os.open(os.path.join(aside, os.path.basename(self.file)), os.O_CREAT | os.O_EXCL))
            os.rename(aside, self.folder)
        except NotADirectoryError:
            os.unlink(self.folder)  # a lock file that earlier versions left behind
        except OSError as error:
            if is_full(error):
                raise disk_full(error, Path(self.folder), 4096) from error
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(aside, os.path.basename(self.file)))
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(aside)
        return os.path.exists(self.file)

    def _take(self, holder: str) -> bool:
        old = os.path.join(self.folder, holder)
        try:
            os.utime(old)  # a rename leaves the time as it is, and nobody shall find the new name with the old time
            os.rename(old, self.file)
        except FileNotFoundError:  # another waiter was faster, or the holder has ended
            pass
        return os.path.exists(self.file)

    def release(self) -> None:
        """Give the claim up; nothing happens where it is not held, or in a forked child."""
        if self._pid != os.getpid():
            return
        _heart.discard(self)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.file)
        try:
            os.rmdir(self.folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # ENOTEMPTY: it is another's by now
                raise


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[Claim]:
    """Hold the claim on `path` (its folder is created, and nothing stays behind); waits for another holder, dead ones do not count.

    wait=False: raise ClaimHeld instead of waiting. Before what was made under the claim is put into place, call `confirm` on it.
    """
    os.makedirs(path.parent, exist_ok=True)
    claim = Claim(path)
    try:
        claim.acquire(wait)
        yield claim
    finally:
        claim.release()


def is_locked(path: Path) -> bool:
    """Whether a living process holds `path`; of another host's, whether it gave a sign of life in the last STALE seconds."""
    holder = _holder(path)
    return holder is not None and not _is_stale(path, holder)


def _holder(path: Path | str) -> str | None:
    """The name of the file in a claim's folder."""
    try:
        return next(iter(os.listdir(path)), None)
    except (FileNotFoundError, NotADirectoryError):
        return None


# ------------------------------------------------------------------------------------------------------------ staleness


@functools.cache
def host() -> str:
    """This machine, since it was started, as this container sees it: where equal, process numbers mean the same."""
    try:
        facts = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:  # no Linux
        facts = str(uuid.getnode())
    name = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:100]
    return f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"


def _started(pid: int) -> str | None:
    """When a process of this host began, in clock ticks since the boot; '' where that cannot be known; None if there is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # another user's
        pass
    try:
        with open(f"/proc/{pid}/stat") as stream:
            facts = stream.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return None if facts[0] in "ZX" else facts[19]  # a zombie is dead, though nobody has asked for its exit status


def _is_here(holder: str) -> bool:
    return holder.rsplit("_", 3)[0] == host()


def _is_stale(path: Path | str, holder: str) -> bool:
    if _is_here(holder):
        _, pid, start, _ = holder.rsplit("_", 3)
        started = _started(int(pid))
        if started is None or started and start:
            return started != start  # the number may have been given to another process since
    return _silence(path, holder) > STALE


def _silence(path: Path | str, holder: str) -> float:
    """Seconds since the holder's last touch, by the clock of the file system, which a file just made there tells."""
    try:
        last = os.stat(os.path.join(path, holder)).st_mtime
    except FileNotFoundError:
        return 0.0
    return now(os.path.dirname(path)) - last


def now(folder: Path | str) -> float:
    """Seconds since 1970 by the clock of the file system that `folder` is on."""
    probe = os.path.join(folder, f".{uuid.uuid4().hex[:12]}.tmp")
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL))
        return os.stat(probe).st_mtime
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(probe)


# ------------------------------------------------------------------------------------------------------------ heartbeat


class _Heart:
    """One thread per process that touches all claims the process holds."""

    def __init__(self):
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """A forked child has neither the thread nor the claims."""
        self._claims: set[Claim] = set()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, claim: Claim) -> None:
        with self._guard:
            self._claims.add(claim)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="claims", daemon=True)
                self._thread.start()

    def discard(self, claim: Claim) -> None:
        with self._guard:
            self._claims.discard(claim)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            with self._guard:
                claims = list(self._claims)
            for claim in claims:
                try:
                    claim.is_held()
                except OSError:  # a network folder that is away for a while; the next touch may come through, and `confirm` will tell
                    continue


_heart = _Heart()
