"""Locks: one holder at a time, dead and silent ones are replaced by one of many, nothing stays behind."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rtalib import store
from rtalib.infra.store import locks

ELSEWHERE = "elsewhere-00000000"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rows" / ".a.lock"


def hold(path: Path, name: str, age: float = 0.0) -> Path:
    """A lock as its holder left it, `age` seconds ago."""
    path.mkdir(parents=True)
    file = path / name
    file.touch()
    os.utime(file, (time.time() - age,) * 2)
    return file


PROGRAM = """
import os, sys, time
from pathlib import Path
from rtalib import store
from rtalib.infra.store import locks
path = Path(sys.argv[1])
"""


@contextlib.contextmanager
def program(code: str, *arguments: object, host: str | None = None, **constants: float):
    """A process of its own, on a machine of its own if `host` is given, killed at the end; constants: of the module under test."""
    head = PROGRAM + "".join(f"locks.{name} = {value}\n" for name, value in constants.items())
    head += f"locks.host = lambda: {host!r}\n" if host else ""
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


HOLD = """
with store.locked(path):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_is_held_and_leaves_nothing_behind(path):
    assert not store.is_locked(path)
    with store.locked(path) as lock:
        assert store.is_locked(path) and lock.is_held()
        lock.confirm()
        with pytest.raises(store.LockHeld, match="is held by"), store.locked(path, wait=False):
            raise AssertionError
    assert not store.is_locked(path) and list(path.parent.iterdir()) == []


def test_an_error_inside_releases(path):
    with pytest.raises(RuntimeError, match="boom"), store.locked(path):
        raise RuntimeError("boom")
    assert list(path.parent.iterdir()) == []


def test_threads_wait_for_each_other(path):
    order = []

    def work(name: str) -> None:
        with store.locked(path):
            order.append(name)
            time.sleep(0.02)
            order.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order[0::2] == order[1::2] and sorted(order[0::2]) == ["a", "b", "c"]


def test_a_killed_holder_is_replaced_at_once(path):
    with program(HOLD, path) as holder:
        holder.stdout.readline()
        assert store.is_locked(path)
        holder.kill()
        deadline = time.monotonic() + 0.1 * locks.STALE
        while store.is_locked(path) and time.monotonic() < deadline:
            time.sleep(0.01)
        with store.locked(path, wait=False):  # while the holder is a zombie, which nobody has waited for
            assert holder.returncode is None
    assert list(path.parent.iterdir()) == []


def test_a_process_number_that_was_given_again_is_not_the_holder(path):
    hold(path, f"{locks.host()}_{os.getpid()}_1_aaaa")
    assert not store.is_locked(path)
    with store.locked(path, wait=False):
        pass


def test_a_living_process_of_this_host_keeps_its_lock(path):
    hold(path, f"{locks.host()}_{os.getpid()}_{locks._started(os.getpid())}_aaaa", age=1e6)
    assert store.is_locked(path)
    with pytest.raises(store.LockHeld), store.locked(path, wait=False):
        raise AssertionError


@pytest.mark.parametrize("age, stale", [(0.5 * locks.STALE, False), (1.5 * locks.STALE, True)])
def test_who_does_not_wait_judges_another_host_by_the_age_of_its_last_sign_of_life(path, age, stale):
    hold(path, f"{ELSEWHERE}_1_2_aaaa", age)
    assert store.is_locked(path) != stale
    if stale:
        with store.locked(path, wait=False) as lock:
            assert os.listdir(path) == [os.path.basename(lock.file)] and store.is_locked(path)
            assert os.stat(lock.file).st_mtime > time.time() - 0.5 * locks.STALE  # the new name does not come with the old time
        assert list(path.parent.iterdir()) == []
    else:
        with pytest.raises(store.LockHeld), store.locked(path, wait=False):
            raise AssertionError


@pytest.mark.parametrize("age", [1e6, -1e6])
def test_who_waits_watches_another_host_whatever_the_clocks_say(path, age, monkeypatch):
    """Its clock, or this one, is off by days: a holder that is silent is replaced after STALE seconds, not before."""
    monkeypatch.setattr(locks, "STALE", 0.3)
    hold(path, f"{ELSEWHERE}_1_2_aaaa", age)
    started = time.monotonic()
    with store.locked(path):
        assert time.monotonic() - started >= 0.3
    assert list(path.parent.iterdir()) == []


@pytest.mark.slow
def test_a_clock_that_jumps_takes_no_lock_away(path):
    """A waiter on another host sees the holder's touches, although the holder's clock jumps back and forth by hours."""
    file = hold(path, f"{ELSEWHERE}_1_2_aaaa")
    times, ended = [], threading.Event()

    def touch() -> None:
        while not ended.wait(0.05):
            times.append(time.time() + 7200 * (-1) ** len(times))
            os.utime(file, (times[-1],) * 2)

    holder = threading.Thread(target=touch)
    holder.start()
    with program(HOLD, path, STALE=3.0) as waiter:
        time.sleep(6)
        kept = file.exists()
        ended.set()
        holder.join()
        assert kept and waiter.stdout.readline() == "held\n"


def test_a_slow_waiter_cannot_take_a_fresh_lock(path):
    """It has judged the old holder, and acts after another waiter was faster."""
    stale = f"{ELSEWHERE}_1_2_aaaa"
    hold(path, stale, age=1e6)
    slow = locks.Lock(path)
    with store.locked(path, wait=False) as winner:
        assert not slow._take(stale)
        slow.release()
        assert winner.is_held() and len(os.listdir(path)) == 1


RACE = """
log = sys.argv[2]
while not Path(sys.argv[3]).exists(): time.sleep(0.0005)
for _ in range(8):
    with store.locked(path):
        with open(log, "a") as handle: handle.write("in\\n"); handle.flush(); time.sleep(0.001); handle.write("out\\n")
"""


@pytest.mark.slow
def test_waiters_of_three_machines_race_for_a_stale_lock(path, tmp_path):
    hold(path, f"{ELSEWHERE}_1_2_aaaa", age=1e6)
    with contextlib.ExitStack() as stack:
        arguments = RACE, path, tmp_path / "log", tmp_path / "go"
        racers = [stack.enter_context(program(*arguments, host=f"host-{i % 3}", STALE=3.0)) for i in range(6)]
        time.sleep(1.5)
        (tmp_path / "go").touch()
        assert [racer.wait(120) for racer in racers] == [0] * 6
    assert (tmp_path / "log").read_text().split() == ["in", "out"] * 48  # never two at a time
    assert list(path.parent.iterdir()) == []


SUSPENDED = """
try:
    with store.locked(path) as lock:
        print("held", flush=True)
        sys.stdin.readline()
        lock.confirm()
except store.LockLost as error:
    print(error, flush=True)
"""


@pytest.mark.slow
def test_a_suspended_holder_is_replaced_by_another_machine_and_notices(path):
    """SIGSTOP does to a process what a closed lid does to a laptop."""
    with program(SUSPENDED, path, host="laptop", BEAT=0.1) as laptop:
        assert laptop.stdout.readline() == "held\n"
        with program(HOLD, path, STALE=4.0) as waiter:
            time.sleep(6)
            assert [name.partition("_")[0] for name in os.listdir(path)] == ["laptop"]  # it gives signs of life, so it keeps the lock
            os.kill(laptop.pid, signal.SIGSTOP)
            assert waiter.stdout.readline() == "held\n"
            os.kill(laptop.pid, signal.SIGCONT)
            assert "another process has taken over" in laptop.communicate("confirm\n", timeout=300)[0]
            assert store.is_locked(path)  # the loser's release has left it alone


def test_the_holder_that_was_replaced_notices(path):
    with store.locked(path) as lock:
        other = locks.Lock(path)
        assert other._take(os.path.basename(lock.file))
        assert not lock.is_held()
        with pytest.raises(store.LockLost, match="another process has taken over"):
            lock.confirm()
    assert other.is_held()  # the loser's release has left it alone
    other.release()
    assert list(path.parent.iterdir()) == []


def test_holders_touch_their_locks(path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.02)
    with store.locked(path) as a, store.locked(path.with_name(".b.lock")) as b:
        for lock in (a, b):
            os.utime(lock.file, (0, 0))
        deadline = time.monotonic() + 300
        while any(os.stat(lock.file).st_mtime == 0 for lock in (a, b)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert all(os.stat(lock.file).st_mtime > 0 for lock in (a, b))
        beating = [thread for thread in threading.enumerate() if thread.name == "lock"]
    for thread in beating:
        thread.join(20)
    assert not any(thread.is_alive() for thread in beating)


def leave_the_block(lock: locks.Lock) -> None:
    held = lock.is_held()
    lock.release()
    os._exit(held)


def test_a_forked_child_neither_holds_nor_releases(path):
    with store.locked(path) as lock:
        child = multiprocessing.get_context("fork").Process(target=leave_the_block, args=(lock,))
        child.start()
        child.join()
        assert child.exitcode == 0 and lock.is_held()
    assert not store.is_locked(path)


def test_the_lock_file_of_an_early_version_is_no_obstacle(path):
    path.parent.mkdir()
    path.touch()
    assert not store.is_locked(path)
    with store.locked(path, wait=False):
        assert store.is_locked(path)
    assert list(path.parent.iterdir()) == []


def test_an_empty_lock_is_free(path):
    """What a kill between the two steps of a release leaves."""
    path.mkdir(parents=True)
    assert not store.is_locked(path)
    with store.locked(path, wait=False):
        assert store.is_locked(path)


@pytest.mark.parametrize("place, call", [(locks.os, "mkdir"), (Path, "touch"), (locks.os, "rename")])
def test_a_full_disk_leaves_no_lock(path, monkeypatch, place, call):
    def full(*_):
        raise OSError(28, "No space left on device")

    path.parent.mkdir()
    monkeypatch.setattr(place, call, full)
    with pytest.raises(store.DiskFull, match="free on the disk at"), store.locked(path):
        raise AssertionError
    assert list(path.parent.iterdir()) == []


def test_a_lock_costs_little(path):
    started = time.process_time()  # not the clock: other work may run beside the tests
    for number in range(200):
        with store.locked(path.with_name(f".{number}.lock")):
            pass
    assert (time.process_time() - started) / 200 < 2e-3
