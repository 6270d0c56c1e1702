"""What a kill at every step, a race, a suspended machine or a full disk leaves in the store, and that the next call mends it."""

import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from stored import never, write

from rtalib import store
from rtalib.infra.store import housekeeping, locks


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    return tmp_path


def in_process(code: str, *, expect: int = 0) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=os.environ)
    assert done.returncode == expect, done.stderr
    return done.stdout


STEPS = {
    "build": "entries._files = dies",  # between the payload and its digests
    "card": "entries.write_atomic = lambda path, data: dies() if path.name == 'card.json' else None",
    "card's temporary file": "files.os.fsync = dies",
    "card's rename": "files.os.replace = dies",
    "confirmation": "locks.Lock.confirm = dies",
    "rename": "entries.os.replace = dies",
    "release": "locks.Lock.release = dies",
    "removal of checkpoints": "entries._keep = lambda *_: dies()",
    "release of the file": "locks.os.unlink = lambda path: dies() if '.lock' in str(path) else os_unlink(path)",
    "release of the folder": "locks.os.rmdir = lambda path: dies() if str(path).endswith('.lock') else os_rmdir(path)",
}


@pytest.mark.parametrize("step", STEPS)
def test_kill_at_any_step_leaves_a_whole_entry_or_none_and_the_next_call_finishes(step, folder):
    in_process(
        f"""
        import os, signal
        from rtalib import store
        from rtalib.infra.store import entries, files, locks
        entries.stamp = dict  # without torch, a process starts at once
        store.make("network", 1, {{"before": True}}, lambda work: (work / "payload.txt").write_text("before"))
        os_rmdir, os_unlink = os.rmdir, os.unlink
        def dies(*_):
            os.kill(os.getpid(), signal.SIGKILL)
        def build(work):
            (work / "payload.txt").write_text("weights")
            (work / "checkpoint.pt").write_text("half")
            {STEPS[step]}
        store.make("network", 1, {{}}, build)
        """,
        expect=-9,
    )
    found = store.find("network", store.key("network", 1, {}))
    assert (found is not None) == step.startswith("release")
    entry = store.make("network", 1, {}, write("weights"))
    assert [path.name for path in sorted(entry.path.iterdir())] == ["card.json", "payload.txt"]
    assert (entry.path / "payload.txt").read_text() == "weights"
    assert store.make("network", 1, {"before": True}, never)
    left = [path for path in entry.path.parent.glob(".*") if not path.name.endswith(".lock")]
    assert left == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_kill_while_a_row_is_written_leaves_the_old_row(step):
    store.write_row("demo", "t", "a", {"value": 1})
    in_process(
        f"""
        import os, signal
        from rtalib import store
        os.{step} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        store.write_row("demo", "t", "a", {{"value": 2}})
        """,
        expect=-9,
    )
    assert store.read_row("demo", "t", "a") == {"value": 1}
    store.write_row("demo", "t", "a", {"value": 2})
    assert store.read_row("demo", "t", "a") == {"value": 2}


@pytest.mark.parametrize("machines", [1, 3])
def test_racing_processes_build_once(folder, machines):
    code = f"""
        import sys, time
        from rtalib import store
        from rtalib.infra.store import entries, locks
        entries.stamp = dict
        if {machines} > 1:
            locks.host = lambda: "host-" + sys.argv[1]
        def build(work):
            with open({str(folder / "count")!r}, "a") as handle:
                handle.write("x")
            time.sleep(0.5)
            (work / "payload.txt").write_text("weights")
        print(store.make("network", 1, {{}}, build).key)
        """
    racers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    assert len({racer.communicate()[0] for racer in racers}) == 1
    assert (folder / "count").read_text() == "x"


SUSPENDED = """
import sys, time
from pathlib import Path
from rtalib import store
from rtalib.infra.store import entries, locks
entries.stamp = dict
locks.host = lambda: "laptop-00000000"
locks.Lock.beat = lambda self: None
def build(work):
    (work / "checkpoint.pt").write_text("of the laptop")
    print("began", flush=True)
    sys.stdin.readline()
    store.write_atomic(work / "checkpoint.pt", "of the laptop, later")
    (work / "payload.txt").write_text("laptop")
print(store.make("network", 1, {}, build).key, flush=True)
"""


@pytest.mark.parametrize("when", ["while the other computes", "when the other is done"])
def test_a_suspended_process_gives_way_to_another_machine(when, folder, monkeypatch):
    """Another machine takes over its silent lock and its checkpoint; then it wakes up and returns the other's entry."""
    monkeypatch.setattr(locks, "STALE", 0.3)
    laptop = subprocess.Popen([sys.executable, "-c", SUSPENDED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert laptop.stdout.readline() == "began\n"
    home = folder / "store" / "network"

    def build(work):
        assert (work / "checkpoint.pt").read_text() == "of the laptop"
        if when == "while the other computes":
            laptop.stdin.write("wake up\n")
            laptop.stdin.flush()
            time.sleep(0.3)
            assert (work / "checkpoint.pt").read_text() == "of the laptop"
        (work / "payload.txt").write_text("other")

    entry = store.make("network", 1, {}, build)
    out, _ = laptop.communicate("wake up\n" if when != "while the other computes" else None, timeout=120)
    assert laptop.returncode == 0 and out.strip() == entry.key
    assert (store.find("network", entry.key).path / "payload.txt").read_text() == "other"
    assert [path.name for path in home.iterdir()] == [entry.path.name]


# Full disks


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_leaves_nothing_half_written(small_disk, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(small_disk))
    first = store.make("network", 1, {"seed": 0}, write("weights"))
    store.write_row("demo", "t", "a", {"value": 1})

    def build(work):
        store.write_atomic(work / "checkpoint.pt", "half")
        (work / "payload.npy").write_bytes(bytes(2_000_000))

    with pytest.raises(store.DiskFull, match=rf"No space left on device: .* bytes needed, .* free on the disk at {small_disk}"):
        store.make("network", 1, {"seed": 1}, build)
    with pytest.raises(store.DiskFull, match="2,000,0.. bytes needed"):
        store.write_row("demo", "t", "b", {"value": "x" * 2_000_000})
    names = sorted(path.relative_to(small_disk).as_posix() for path in small_disk.rglob("*") if path.is_file())
    (checkpoint,) = [name for name in names if "checkpoint" in name]
    assert [name for name in names if name != checkpoint] == [
        "demo/rows/t/a.json",
        *(f"store/{name}" for name in ("VERSION", f"network/{first.path.name}/card.json", f"network/{first.path.name}/payload.txt")),
    ]
    assert store.make("network", 1, {"seed": 0}, never) == first and store.read_row("demo", "t", "a") == {"value": 1}
    assert store.make("network", 1, {"seed": 1}, write("smaller"))


@pytest.mark.parametrize(
    "error",
    [RuntimeError('IoError(Os { code: 28, message: "No space left on device" })'), OSError("614400 requested and 331648 written")],
    ids=["safetensors", "numpy"],
)
def test_a_library_that_says_it_in_words_is_understood(error):
    def build(work):
        raise error

    with pytest.raises(store.DiskFull, match="free on the disk at") as caught:
        store.make("network", 1, {}, build)
    assert caught.value.__cause__ is error


def test_an_array_that_fills_the_disk_is_understood(small_disk, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(small_disk))
    with pytest.raises(store.DiskFull, match=f"free on the disk at {small_disk}"):
        store.make("network", 1, {}, lambda work: np.save(work / "array.npy", np.ones(300_000)))


def test_outputs_that_cannot_be_written_can_be_read(small_disk, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(small_disk))
    entry = store.make("network", 1, {}, write("weights"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert [item["name"] for item in housekeeping.ls()] == [entry.path.name]
    assert housekeeping.gc(days=0)[0][0].path == entry.path
    assert store.find("network", entry.key) == entry == store.make("network", 1, {}, never)


def test_a_file_beyond_the_limit_names_its_size(folder):
    out = in_process(
        """
        import resource, signal
        from rtalib import store
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            store.write_row("demo", "t", "a", {"value": "x" * 5000})
        except store.DiskFull as error:
            print(error)
        """
    )
    assert "File too large: 5,0" in out and list((folder / "demo" / "rows" / "t").iterdir()) == []
