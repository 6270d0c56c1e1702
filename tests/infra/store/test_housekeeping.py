"""ls, why and gc: what lies in the store, where it comes from, and what no table needs."""

import contextlib
import os
import re
import time
import warnings
from pathlib import Path

import pytest

from rtalib import store
from rtalib.cli import main as cli
from rtalib.infra.store import housekeeping


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    return tmp_path


def make(recipe: str, seed: int, *inputs: store.Entry, quietly: tuple[store.Entry, ...] = ()) -> store.Entry:
    """An entry of some inputs: `inputs` are in its parameters, `quietly` are only used while it is built."""

    def build(work):
        for entry in quietly:
            store.record_dependency(entry.key)
        (work / "payload.txt").write_text(f"{recipe} {seed}")

    return store.make(recipe, 1, {"seed": seed, "inputs": [entry.key for entry in inputs]}, build, label=f"{recipe}-s{seed}")


def row(name: str, *used: store.Entry, table: str = "t", **facts) -> str:
    key = store.key(name, 1, table)
    store.write_row("demo", table, key, {"key": key, "entries": [entry.key for entry in used], **facts})
    store.write_plan("demo", table, [*store.read_plan("demo", table), key])
    return key


@pytest.fixture
def family():
    """data -> network -> selection, data -> search (recorded in its card alone), a row of the first; and an orphan."""
    data = make("data", 0)
    network = make("network", 0, data)
    selection = make("selection", 0, network, data)
    search = make("search", 0, quietly=(data,))
    orphan = make("network", 1)
    key = row("cell", selection, search)
    return {"data": data, "network": network, "selection": selection, "search": search, "orphan": orphan, "row": key}


def age(path: Path, days: float) -> None:
    os.utime(path, (time.time() - 86400 * days,) * 2)


def test_ls_says_what_there_is_and_what_it_cost(family):
    found = housekeeping.ls()
    assert [item["name"] for item in found] == [family[name].path.name for name in ("data", "network", "orphan", "search", "selection")]
    assert all(item["bytes"] > 5 and item["seconds"] >= 0 and -1 < item["age"] < 60 for item in found)
    assert [item["recipe"] for item in housekeeping.ls("network")] == ["network"] * 2
    with pytest.raises(ValueError, match="unknown recipe 'netwrok'. Did you mean 'network'"):
        housekeeping.ls("netwrok")


def test_ls_of_nothing(folder):
    assert housekeeping.ls() == [] and housekeeping.gc() == ([], [])


def test_why_is_a_tree_down_to_the_leaves(family):
    lines = [re.sub(r"  \d.*? MB, .*? s", "", line) for line in housekeeping.why(family["selection"].key).splitlines()]
    name = {role: f"{entry.path.parent.name}/{entry.path.name}" for role, entry in family.items() if role != "row"}
    assert lines == [name["selection"], f"├── {name['network']}", f"│   └── {name['data']}", f"└── {name['data']}"]
    assert name["data"] in housekeeping.why(family["search"].key)


def test_why_of_a_row_and_of_the_beginning_of_a_key(family):
    text = housekeeping.why(family["row"][:8])
    assert text.splitlines()[0] == f"row {family['row']} of t in run demo"
    assert all(family[name].key in text for name in ("selection", "network", "data", "search")) and family["orphan"].key not in text
    assert "no longer" not in text


def test_why_names_what_is_gone_and_what_is_not_known(family):
    os.rename(family["data"].path, family["data"].path.with_name(".away"))
    assert f"{family['data'].key}  (no longer in the store)" in housekeeping.why(family["search"].key)
    old = store.key("old", 1, {})
    store.write_row("demo", "t", old, {"key": old, "network": family["network"].key})
    text = housekeeping.why(old)
    assert "predates dependency tracking" in text and family["network"].key in text
    with pytest.raises(ValueError, match="no entry or row begins with 'xyz'"):
        housekeeping.why("xyz")
    with pytest.raises(ValueError, match="several entries or rows begin with ''"):
        housekeeping.why("")


def test_gc_shows_first_and_keeps_what_rows_reach(family):
    for entry in housekeeping.entries():
        age(entry.path / "card.json", 10)
    garbage, remarks = housekeeping.gc()
    assert [item.path for item in garbage] == [family["orphan"].path] and remarks == []
    assert family["orphan"].path.exists()
    garbage, _ = housekeeping.gc(delete=True)
    assert [item.path for item in garbage] == [family["orphan"].path] and garbage[0].bytes > 100
    assert {entry.key for entry in housekeeping.entries()} == {family[name].key for name in ("data", "network", "selection", "search")}
    assert housekeeping.gc() == ([], [])


def test_gc_keeps_young_entries_and_all_of_them_where_rows_do_not_say(family):
    garbage, remarks = housekeeping.gc()
    assert garbage == [] and remarks == ["1 entries that no row reaches are younger than 7 days and kept"]
    assert [item.path for item in housekeeping.gc(days=0)[0]] == [family["orphan"].path]
    key = store.key("old", 1, {})
    store.write_row("demo", "old", key, {"key": key})
    store.write_plan("demo", "old", [key])
    garbage, (remark,) = housekeeping.gc(days=0, delete=True)
    assert garbage == [] and "1 rows predate dependency tracking" in remark and family["orphan"].path.exists()


def test_gc_beside_a_run_removes_no_entry(family):
    """A cell may have found an entry that no row reaches yet."""
    lock = store.row_path("demo", "t", "b").with_name(".b.lock")
    with store.locked(lock):
        garbage, remarks = housekeeping.gc(days=0, delete=True)
        assert garbage == [] and remarks == ["a run is at work; the 1 entries that no row reaches are kept"] and store.is_locked(lock)
    assert [item.path for item in housekeeping.gc(days=0, delete=True)[0]] == [family["orphan"].path]


def test_gc_stops_where_a_run_begins_meanwhile(family, monkeypatch):
    lock, looked = store.row_path("demo", "t", "b").with_name(".b.lock"), housekeeping._reached
    with contextlib.ExitStack() as run:

        def begun(known):
            run.enter_context(store.locked(lock))
            return looked(known)

        monkeypatch.setattr(housekeeping, "_reached", begun)  # after the look for locks
        assert housekeeping.gc(days=0, delete=True) == ([], []) and family["orphan"].path.exists()


def test_gc_sweeps_what_dead_processes_and_corruption_left(family, folder):
    home = folder / "store" / "network"
    (family["network"].path / "payload.txt").write_text("x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert store.find("network", family["network"].key) is None
        store.row_path("demo", "t", family["row"]).write_text("{")
        assert store.read_row("demo", "t", family["row"]) is None
    dead = "0123456789abcdef"
    (home / f".{dead}.work-aaaa").mkdir()
    (home / f".{dead}.work-aaaa" / "checkpoint.pt").write_text("half")
    (home / f".{dead}.lock").mkdir()
    (home / f".{dead}.lock" / f"elsewhere_1_2_{'a' * 12}").touch()
    age(home / f".{dead}.lock" / f"elsewhere_1_2_{'a' * 12}", 1)
    (home / ".card.json.0000.tmp").touch()
    age(home / ".card.json.0000.tmp", 1)
    (home / ".card.json.1111.tmp").touch()  # of a living process
    alive = store.key("alive", 1, {})
    (home / f".{alive}.work-bbbb").mkdir()
    with store.locked(home / f".{alive}.lock"):
        reasons = {item.path.name.split("-")[0]: item.reason for item in housekeeping.gc()[0]}
        housekeeping.gc(delete=True)
        left = {path.name for path in home.glob(".*")}
    assert reasons == {
        ".corrupt": "set aside as corrupt",
        f".{dead}.work": "work of a dead process",
        f".{dead}.lock": "lock of a dead process",
        ".card.json.0000.tmp": "temporary, of a dead process",
    }
    assert left == {".card.json.1111.tmp", f".{alive}.work-bbbb", f".{alive}.lock"}
    assert not list(folder.glob("demo/rows/t/.*"))


def test_the_commands_say_the_same(family, capsys):
    assert cli.main(["store", "ls", "network"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].endswith(f"network/{family['network'].path.name}") and lines[2].startswith("2 entries, ")
    assert cli.main(["store", "why", family["network"].key]) == 0
    assert capsys.readouterr().out.strip() == housekeeping.why(family["network"].key)
    assert cli.main(["store", "gc", "--days", "0"]) == 0
    out = capsys.readouterr().out
    assert (
        family["orphan"].path.name in out and out.endswith("; nothing was removed, --delete does it\n") and family["orphan"].path.exists()
    )
    assert cli.main(["store", "gc", "--days", "0", "--delete"]) == 0
    assert capsys.readouterr().out.endswith(" freed\n") and not family["orphan"].path.exists()
    for arguments, words in ((["ls", "netwrok"], "Did you mean 'network'"), (["why", "xyz"], "no entry or row begins with 'xyz'")):
        assert cli.main(["store", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error and error.startswith("rtalib: ") and error.count("\n") == 1
