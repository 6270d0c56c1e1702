"""Claims: one holder at a time, dead and silent ones overtaken by one of many, nothing left behind."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rtalib import store
from rtalib.infra.store import locks as store_claims

OTHER = "elsewhere-00000000"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rows" / ".a.lock"


def hold(path: Path, name: str, age: float = 0.0) -> Path:
    """A claim as its holder left it, `age` seconds ago."""
    path.mkdir(parents=True)
    file = path / name
    file.touch()
    os.utime(file, (time.time() - age,) * 2)
    return file


def program(code: str, *arguments: object, host: str | None = None) -> subprocess.Popen:
    """A process of its own, on a machine of its own if `host` is given."""
    head = "import os, sys, time\nfrom pathlib import Path\nfrom rtalib import store, store_claims\n"
    head += f"store_claims.host = lambda: {host!r}\n" if host else ""
    return subprocess.Popen([sys.executable, "-c", head + code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def test_a_claim_is_held_and_leaves_nothing_behind(path):
    assert not store.is_locked(path)
    with store.locked(path) as claim:
        assert store.is_locked(path) and claim.is_held()
        claim.confirm()
        with pytest.raises(store.ClaimHeld, match="is held by"), store.locked(path, wait=False):
            raise AssertionError
    assert not store.is_locked(path) and list(path.parent.iterdir()) == []


def test_an_error_inside_releases(path):
    with pytest.raises(RuntimeError, match="boom"), store.locked(path):
        raise RuntimeError("boom")
    assert list(path.parent.iterdir()) == []


def test_threads_wait_for_each_other_with_little_latency(path):
    order, ends = [], {}

    def work(name: str) -> None:
        with store.locked(path):
            order.append(name)
            time.sleep(0.02)
            order.append(name)
        ends[name] = time.monotonic()

    started = time.monotonic()
    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order[0::2] == order[1::2] and sorted(order[0::2]) == ["a", "b", "c"]
    assert max(ends.values()) - started < 0.6


def test_a_killed_holder_is_overtaken_at_once(path):
    with program("with store.locked(Path(sys.argv[1])):\n print(flush=True)\n time.sleep(60)", path) as holder:
        holder.stdout.readline()
        assert store.is_locked(path)
        holder.kill()
        started = time.monotonic()
        with store.locked(path):  # also while it is a zombie, which nobody has waited for
            assert time.monotonic() - started < 1
    assert list(path.parent.iterdir()) == []


def test_a_process_number_that_was_given_again_is_not_the_holder(path):
    hold(path, f"{store_claims.host()}_{os.getpid()}_1_aaaa")
    assert not store.is_locked(path)
    with store.locked(path, wait=False):
        pass


def test_a_living_process_of_this_host_is_never_overtaken(path):
    hold(path, f"{store_claims.host()}_{os.getpid()}_{store_claims._started(os.getpid())}_aaaa", age=1e6)
    assert store.is_locked(path)
    with pytest.raises(store.ClaimHeld), store.locked(path, wait=False):
        raise AssertionError


@pytest.mark.parametrize("age, stale", [(0.5 * store_claims.STALE, False), (1.5 * store_claims.STALE, True)])
def test_another_host_is_overtaken_when_it_is_silent(path, age, stale):
    hold(path, f"{OTHER}_1_2_aaaa", age)
    assert store.is_locked(path) != stale
    if stale:
        with store.locked(path, wait=False) as claim:
            assert os.listdir(path) == [os.path.basename(claim.file)] and store.is_locked(path)
        assert list(path.parent.iterdir()) == []
    else:
        with pytest.raises(store.ClaimHeld), store.locked(path, wait=False):
            raise AssertionError


def test_silence_is_measured_by_the_clock_of_the_file_system(path, monkeypatch):
    hold(path, f"{OTHER}_1_2_aaaa")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert store.is_locked(path)
    monkeypatch.setattr(store_claims, "now", lambda folder: 4e9)
    assert not store.is_locked(path)


def test_a_slow_waiter_cannot_take_a_fresh_claim(path):
    """It has judged the old one, and tries what it decided after another waiter was faster."""
    stale = f"{OTHER}_1_2_aaaa"
    hold(path, stale, age=1e6)
    slow = store_claims.Claim(path)
    with store.locked(path) as winner:
        assert not slow._take(stale)
        slow.release()
        assert winner.is_held() and len(os.listdir(path)) == 1


RACE = """
path, log = Path(sys.argv[1]), sys.argv[2]
while not Path(sys.argv[3]).exists(): time.sleep(0.0005)
for _ in range(8):
    with store.locked(path):
        with open(log, "a") as handle: handle.write("in\\n"); handle.flush(); time.sleep(0.001); handle.write("out\\n")
"""


@pytest.mark.slow
def test_waiters_of_three_machines_race_for_a_stale_claim(path, tmp_path):
    hold(path, f"{OTHER}_1_2_aaaa", age=1e6)
    racers = [program(RACE, path, tmp_path / "log", tmp_path / "go", host=f"host-{i % 3}") for i in range(6)]
    time.sleep(1.5)
    (tmp_path / "go").touch()
    assert [racer.wait(60) for racer in racers] == [0] * 6
    assert (tmp_path / "log").read_text().split() == ["in", "out"] * 48  # never two at a time
    assert list(path.parent.iterdir()) == []


def test_the_holder_that_was_overtaken_notices(path):
    with store.locked(path) as claim:
        other = store_claims.Claim(path)
        assert other._take(os.path.basename(claim.file))
        assert not claim.is_held()
        with pytest.raises(store.ClaimLost, match="another process has taken over"):
            claim.confirm()
    assert other.is_held()  # the loser's release has left it alone
    other.release()
    assert list(path.parent.iterdir()) == []


def test_one_thread_beats_for_all_claims(path, monkeypatch):
    monkeypatch.setattr(store_claims, "BEAT", 0.02)
    heart = store_claims._Heart()
    monkeypatch.setattr(store_claims, "_heart", heart)
    paths = [path.with_name(f".{name}.lock") for name in "abc"]
    with store.locked(paths[0]) as a, store.locked(paths[1]) as b, store.locked(paths[2]) as c:
        for claim in (a, b, c):
            os.utime(claim.file, (0, 0))
        deadline = time.monotonic() + 5
        while any(os.stat(claim.file).st_mtime == 0 for claim in (a, b, c)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert all(time.time() - os.stat(claim.file).st_mtime < 5 for claim in (a, b, c))
        assert sum(thread.name == "claims" and thread is heart._thread for thread in threading.enumerate()) == 1


def leave_the_block(claim: store_claims.Claim) -> None:
    claim.release()


def test_a_forked_child_releases_nothing(path):
    with store.locked(path) as claim:
        child = multiprocessing.get_context("fork").Process(target=leave_the_block, args=(claim,))
        child.start()
        child.join()
        assert child.exitcode == 0 and claim.is_held()
    assert not store.is_locked(path)


def test_the_lock_file_of_an_earlier_version_is_no_obstacle(path):
    path.parent.mkdir()
    path.touch()
    assert not store.is_locked(path)
    with store.locked(path, wait=False):
        assert store.is_locked(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("call", ["mkdir", "open", "rename"])
def test_a_full_disk_leaves_no_claim(path, monkeypatch, call):
    def full(*_):
        raise OSError(28, "No space left on device")

    path.parent.mkdir()
    monkeypatch.setattr(store_claims.os, call, full)
    with pytest.raises(store.DiskFull, match="free on the disk at"), store.locked(path):
        raise AssertionError
    assert list(path.parent.iterdir()) == []


def test_a_claim_costs_little(path):
    started = time.perf_counter()
    for number in range(200):
        with store.locked(path.with_name(f".{number}.lock")):
            pass
    assert (time.perf_counter() - started) / 200 < 0.02  # 0.1 ms in memory; 4 ms on a disk that discards freed blocks at once
