"""The store: keys, atomic entries, locks, rows, and what is left after a kill at every step."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from rtalib import store


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    return tmp_path


def write(text):
    return lambda work: (work / "payload.txt").write_text(text)


def never(work):
    raise AssertionError("built again")


def in_process(code: str, *, expect: int = 0) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=os.environ)
    assert done.returncode == expect, done.stderr
    return done.stdout


def test_key_ignores_order_and_container_but_not_type_or_version():
    @dataclass(frozen=True)
    class Config:
        a: int
        b: tuple

    same = store.key("r", 1, {"a": 1, "b": (1, 2)})
    assert same == store.key("r", 1, {"b": [1, 2], "a": 1}) == store.key("r", 1, Config(1, (1, 2)))
    assert len({same, store.key("r", 1, {"a": 1.0, "b": (1, 2)}), store.key("r", 2, {"a": 1, "b": (1, 2)}), store.key("q", 1, {})}) == 4


@pytest.mark.parametrize("value, kind", [(float("nan"), ValueError), (Path("x"), TypeError), ({1}, TypeError)])
def test_key_refuses_what_it_cannot_name(value, kind):
    with pytest.raises(kind, match=r"parameters\.eps"):
        store.key("r", 1, {"eps": value})


def test_make_builds_once_and_describes_itself():
    entry = store.make("network", 1, {"seed": 0}, write("weights"), label="tiny-s0")
    assert entry.path.name == f"tiny-s0-{entry.key}"
    assert entry.card["parameters"] == {"seed": 0} and entry.card["files"]["payload.txt"]["bytes"] == 7
    assert store.make("network", 1, {"seed": 0}, never).path == entry.path
    assert store.make("network", 2, {"seed": 0}, write("other")).path != entry.path and entry.path.exists()


def test_moved_outputs_still_hit(folder, monkeypatch):
    store.make("network", 1, {"seed": 0}, write("weights"))
    os.replace(folder / "store", folder / "elsewhere")
    (folder / "new").mkdir()
    os.replace(folder / "elsewhere", folder / "new" / "store")
    monkeypatch.setenv("RTALIB_OUTPUTS", str(folder / "new"))
    assert store.make("network", 1, {"seed": 0}, never).path.exists()


def test_failed_build_leaves_no_entry_and_keeps_its_checkpoint():
    def fails(work):
        (work / "checkpoint.pt").write_text("half")
        raise RuntimeError("boom")

    def resumes(work):
        assert (work / "checkpoint.pt").read_text() == "half"
        (work / "payload.txt").write_text("whole")

    with pytest.raises(RuntimeError, match="boom"):
        store.make("network", 1, {}, fails)
    assert store.find("network", store.key("network", 1, {})) is None
    entry = store.make("network", 1, {}, resumes)
    assert sorted(path.name for path in entry.path.iterdir()) == ["card.json", "payload.txt"]


def test_truncated_entry_is_set_aside_and_made_again():
    entry = store.make("network", 1, {}, write("weights"))
    (entry.path / "payload.txt").write_text("we")
    assert (store.make("network", 1, {}, write("weights")).path / "payload.txt").read_text() == "weights"
    assert list(entry.path.parent.glob(".corrupt-*"))


@pytest.mark.parametrize("moment", ["build", "card", "rename"])
def test_kill_at_any_moment_leaves_no_entry_and_the_next_call_finishes(moment):
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    in_process(
        f"""
        import os, signal
        from rtalib import store
        def build(work):
            (work / "payload.txt").write_text("weights")
            if "{moment}" == "build":
                {kill}
        def dies(*_):
            {kill}
        if "{moment}" == "card":
            store.write_atomic = dies
        if "{moment}" == "rename":
            store.write_atomic = lambda path, data: path.write_text(data)
            store.os.replace = dies
        store.make("network", 1, {{}}, build)
        """,
        expect=-9,
    )
    assert store.find("network", store.key("network", 1, {})) is None
    assert (store.make("network", 1, {}, write("weights")).path / "payload.txt").read_text() == "weights"


@pytest.mark.slow
def test_racing_processes_build_once(folder):
    code = f"""
        import time
        from pathlib import Path
        from rtalib import store
        def build(work):
            with open({str(folder / "count")!r}, "a") as handle:
                handle.write("x")
            time.sleep(0.5)
            (work / "payload.txt").write_text("weights")
        print(store.make("network", 1, {{}}, build).key)
        """
    racers = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({racer.communicate()[0] for racer in racers}) == 1
    assert (folder / "count").read_text() == "x"


def test_lock_of_a_dead_process_is_free(folder):
    path = folder / "x.lock"
    in_process(
        f"import os, signal\nfrom rtalib import store\nwith store.locked(store.Path({str(path)!r})): os.kill(os.getpid(), 9)", expect=-9
    )
    assert not store.is_locked(path)
    with store.locked(path):
        assert store.is_locked(path)


def test_rows_follow_the_plan():
    for name in "abc":
        store.write_row("demo", "t", name, {"value": name})
    store.write_plan("demo", "t", ["c", "missing", "a"])
    assert [row["value"] for row in store.rows("demo", "t")] == ["c", "a"]
    assert store.tables("demo") == ["t"]


def test_write_atomic_survives_a_failed_replace(folder, monkeypatch):
    path = folder / "row.json"
    store.write_atomic(path, json.dumps({"a": 1}))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.write_atomic(path, json.dumps({"a": 2}))
    assert json.loads(path.read_text()) == {"a": 1}
