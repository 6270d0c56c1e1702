"""The store: keys, entries that are verified, rows and frames, and what was made of what."""

import hashlib
import json
import os
import shutil
import subprocess
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from stored import never, write

from rtalib import store
from rtalib.infra.store import entries as store_entries
from rtalib.infra.store import housekeeping
from rtalib.infra.store import keys as store_keys


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    return tmp_path


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


def test_copying_joins_the_results_of_two_machines(folder, monkeypatch):
    for name in "ab":
        monkeypatch.setenv("RTALIB_OUTPUTS", str(folder / name))
        store.make("network", 1, {"seed": name}, write(name))
        store.make("network", 1, {"seed": "both"}, write("both"))
        store.write_row("demo", "t", name, {"value": name})
    subprocess.run(["cp", "-r", "--no-clobber", f"{folder}/a/.", f"{folder}/b"], check=True)  # as rsync -a --ignore-existing
    store.write_plan("demo", "t", ["a", "b"])
    assert [row["value"] for row in store.rows("demo", "t")] == ["a", "b"]
    for seed in ("a", "b", "both"):
        assert (store.make("network", 1, {"seed": seed}, never).path / "payload.txt").read_text() == seed


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


def damage(path: Path, how: str) -> None:
    if how == "truncated":
        (path / "payload.txt").write_text("we")
    elif how == "changed":
        (path / "payload.txt").write_text("WEIGHTS")
    elif how == "missing":
        (path / "payload.txt").unlink()
    elif how == "no card":
        (path / "card.json").unlink()
    elif how == "half a card":
        (path / "card.json").write_text((path / "card.json").read_text()[:40])
    else:
        (path / "card.json").write_text(how)


FAULTS = {
    "truncated": "payload.txt has 2 bytes, not 7",
    "changed": r"payload.txt has the digest [0-9a-f]{12}\.\.\., not",
    "missing": "payload.txt is missing",
    "no card": "card.json is missing",
    "half a card": "card.json cannot be read",
    "[]": "card.json cannot be read",
    '{"files": {"a": 1}}': "card.json cannot be read",
    '{"files": {}, "key": "another"}': "card.json cannot be read",
}


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("read", ["make", "find"])
def test_corrupt_entry_is_set_aside_with_a_warning_and_made_again(how, read):
    entry = store.make("network", 1, {}, write("weights"))
    damage(entry.path, how)
    with pytest.warns(UserWarning, match=f"{entry.path.name}.*: .*{FAULTS[how]}.*set aside as .corrupt-{entry.path.name}"):
        if read == "find":
            assert store.find("network", entry.key) is None
        again = store.make("network", 1, {}, write("weights"))
    assert again.path == entry.path and (again.path / "payload.txt").read_text() == "weights"
    assert len(list(entry.path.parent.glob(".corrupt-*"))) == 1
    assert store.find("network", entry.key) == again


def test_only_the_corrupt_one_of_two_entries_with_a_key_is_set_aside():
    entry = store.make("network", 1, {}, write("weights"), label="one")
    damage(entry.path, "changed")
    twin = entry.path.with_name(f"two-{entry.key}")
    shutil.copytree(entry.path, twin)
    (twin / "payload.txt").write_text("weights")
    with pytest.warns(UserWarning, match="set aside"):
        assert store.make("network", 1, {}, never).path == twin
    assert not entry.path.exists()


def test_digests_are_verified_once_per_process_and_again_when_a_file_was_touched(monkeypatch):
    entry = store.make("network", 1, {}, write("weights"))
    taken = []
    monkeypatch.setattr(store_entries, "digest", lambda path: taken.append(path.name) or store.digest(path))
    assert store.find("network", entry.key) == entry and taken == []  # they were taken when it was made
    store_entries._verified.clear()
    for _ in range(3):
        assert store.find("network", entry.key) == entry
    assert taken == ["payload.txt"]
    os.utime(entry.path / "payload.txt", (1, 1))
    assert store.find("network", entry.key) == entry and len(taken) == 2


def test_a_hit_costs_less_than_a_millisecond():
    parameters = [{"seed": seed, "epochs": list(range(50))} for seed in range(100)]
    for value in parameters:
        store.make("network", 1, value, write("weights"))
    started = time.process_time()  # not the clock: other work may run beside the tests
    for value in parameters:
        store.make("network", 1, value, never)
    assert (time.process_time() - started) / 100 < 1e-3


def test_an_interrupted_build_leaves_its_checkpoints_alone():
    def fails(work):
        (work / "half.npy").write_text("half")
        (work / "checkpoints").mkdir()
        (work / "checkpoints" / "3").write_text("third")
        raise RuntimeError("boom")

    def resumes(work):
        assert [path.name for path in work.rglob("*")] == ["checkpoints", "3"]
        (work / "payload.txt").write_text("whole")

    with pytest.raises(RuntimeError, match="boom"):
        store.make("network", 1, {}, fails)
    assert [path.name for path in store.make("network", 1, {}, resumes).path.glob("p*")] == ["payload.txt"]


def test_a_store_of_a_newer_version_is_refused(folder):
    store.make("network", 1, {}, write("weights"))
    assert (folder / "store" / "VERSION").read_text() == "1\n"
    (folder / "store" / "VERSION").write_text("2\n")
    store_keys._check_layout.cache_clear()
    for use in (
        lambda: store.make("network", 1, {}, never),
        lambda: store.find("network", "0" * 16),
        lambda: store.read_row("demo", "t", "a"),
        lambda: store.write_row("demo", "t", "a", {}),
        lambda: store.write_plan("demo", "t", []),
    ):
        with pytest.raises(store.StoreError, match=r"written by a newer rtalib \(layout 2, this one knows 1\): update rtalib"):
            use()
    (folder / "store" / "VERSION").write_text("ten")
    with pytest.raises(store.StoreError, match="got 'ten'"):
        store.tables("demo")


def test_no_file_holds_the_path_of_outputs(folder):
    entry = store.make("network", 1, {"seed": 0}, write("weights"))
    store.write_row("demo", "t", "a", {"entry": entry.key})
    store.write_plan("demo", "t", ["a"])
    texts = [path.read_text() for path in folder.rglob("*") if path.is_file()]
    assert len(texts) == 5 and not any(str(folder) in text for text in texts)


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

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.write_atomic(path, json.dumps({"a": 2}))
    assert json.loads(path.read_text()) == {"a": 1}


def test_replacing_takes_the_names_together_or_none(folder):
    paths = [folder / "new" / name for name in ("one", "two", "three")]
    with store.replacing(*paths) as temporary:
        for path in temporary[:2]:
            path.write_text("first")
        temporary[2].mkdir()
        (temporary[2] / "inside").touch()
        assert not any(path.exists() for path in paths)
    assert [path.name for path in sorted((folder / "new").iterdir())] == ["one", "three", "two"]
    with pytest.raises(RuntimeError, match="boom"), store.replacing(*paths[:2]) as temporary:
        temporary[0].write_text("second")
        temporary[1].mkdir()
        raise RuntimeError("boom")
    assert [path.read_text() for path in paths[:2]] == ["first", "first"] and len(list((folder / "new").iterdir())) == 3


def test_replacing_keeps_a_folder_that_is_there(folder):
    (folder / "entry").mkdir()
    (folder / "entry" / "old").touch()
    with pytest.raises(OSError, match="not empty"), store.replacing(folder / "entry") as (work,):
        work.mkdir()
    assert [path.name for path in folder.iterdir()] == ["entry"] and (folder / "entry" / "old").exists()


def test_a_content_digest_is_the_sha256_of_texts_and_row_major_values():
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    weights, count, long = torch.randn(2, 3, 4, 5), torch.tensor(7), torch.arange(10_000)
    text = b"text" + images.numpy().tobytes() + weights.numpy().tobytes() + count.numpy().tobytes() + long.numpy().tobytes()
    expected = hashlib.sha256(text).hexdigest()[:16]
    assert store.content_digest("text", images, weights, count, long) == expected
    last = weights.to(memory_format=torch.channels_last).requires_grad_()
    assert store.content_digest("text", images.to(memory_format=torch.channels_last), last, count, long) == expected
    bits = torch.tensor([1.0, -2.0], dtype=torch.bfloat16)
    assert store.content_digest(bits) == hashlib.sha256(bytes([0x80, 0x3F, 0x00, 0xC0])).hexdigest()[:16]
    assert store.content_digest(torch.zeros(0)) == store.content_digest("") == hashlib.sha256().hexdigest()[:16]


DAMAGED = ['{"value": 1', "", "[1, 2]", "\x00\x00", "[" * 100_000, '{"seconds": "ten"}', '{"stamp": "x"}', '{"entries": 3}']


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_row_counts_as_missing_and_whoever_computes_it_sets_it_aside(text):
    store.write_plan("demo", "t", ["a", "b"])
    store.write_row("demo", "t", "b", {"value": 2})
    path = store.row_path("demo", "t", "a")
    path.write_text(text)
    with pytest.warns(UserWarning, match=r"a.json: .*counts as missing"):
        assert store.rows("demo", "t") == [{"value": 2}]
    assert path.read_text() == text, "who reads writes nothing"
    assert not store.has_row("demo", "t", "a") and store.has_row("demo", "t", "b")
    assert not path.exists() and [aside.read_text() for aside in path.parent.glob(".corrupt-a.json-*")] == [text]
    assert store.read_row("demo", "t", "a") is None


VALUES = {"score": 10.229166666666668, "nan": float("nan"), "counts": {3: 1, 2: (1, 2)}, "word": "é\ud800", "none": None, "big": 2**70}


def test_each_flipped_bit_of_a_row_is_noticed_or_harmless():
    store.write_row("demo", "t", "a", VALUES)
    path = store.row_path("demo", "t", "a")
    good, row = path.read_bytes(), store.read_row("demo", "t", "a")
    assert repr(row) == repr(json.loads(json.dumps(VALUES)))
    harmless = []
    for position in range(len(good)):
        for bit in range(8):
            path.write_bytes(good[:position] + bytes([good[position] ^ 1 << bit]) + good[position + 1 :])
            with warnings.catch_warnings(action="ignore"):
                found = store.read_row("demo", "t", "a")
            if found is not None and repr(found) != repr(row):
                harmless.append({name: value for name, value in found.items() if name in row})
    # the name of the checksum itself: the row then looks like one of a version without checksums, and its values are the right ones
    assert len(harmless) <= 8 * len("checksum") and all(repr(found) == repr(row) for found in harmless)


def test_any_depth_is_refused_in_a_line():
    """Reading allows one level more than the writing for the checksum does, so all depths near the limit are tried."""
    for depth in range(900, 1000):
        with pytest.raises(ValueError, match="nested too deep|has changed"):
            store.unseal('{"checksum": "", "a": ' + "[" * depth + "]" * depth + "}")


def test_a_row_without_a_checksum_is_one_of_an_earlier_version():
    path = store.row_path("demo", "t", "a")
    path.parent.mkdir(parents=True)
    path.write_text('{"value": 1}')
    assert store.read_row("demo", "t", "a") == {"value": 1}


@pytest.mark.parametrize(
    "keys", ['["../../elsewhere"]', '["/etc/x"]', '[".hidden"]', '["a\\u0000"]', "[1]", "{}", '{"keys": 3}', "[", "[[]]"]
)
def test_a_plan_names_rows_of_its_table_alone(keys, folder):
    (folder / "elsewhere.json").write_text("[1]")
    store.write_plan("demo", "t", ["a"])
    (folder / "demo" / "plans" / "t.json").write_text(keys)
    with pytest.warns(UserWarning, match="t.json: .*counts as missing"):
        assert store.rows("demo", "t") == []
    assert (folder / "elsewhere.json").read_text() == "[1]" and housekeeping.gc() == ([], [])


def test_frame_of_all_tables_or_some():
    for table in ("one", "two"):
        store.write_plan("demo", table, ["a", "b"])
        for name in "ab":
            store.write_row("demo", table, name, {"value": f"{table} {name}"})
    assert list(store.frame("demo").value) == ["one a", "one b", "two a", "two b"]
    assert store.frame("demo", ["two"]).to_dict("list") == {"table": ["two", "two"], "value": ["two a", "two b"]}
    store.write_row("demo", "two", "b", {"value": "new"})
    assert list(store.frame("demo", ["two"]).value) == ["two a", "new"]
    with pytest.raises(ValueError, match="unknown table 'tow'. Did you mean 'two'"):
        store.frame("demo", ["tow"])
    assert len(store.frame("never")) == 0


def test_ten_thousand_rows_fold_in_a_second():
    names = [f"{number:016x}" for number in range(10_000)]
    text = json.dumps({f"field{i}": i / 7 for i in range(20)} | {"stamp": {"packages": {"torch": "2"}}}, indent=1)
    store.write_plan("demo", "t", names)
    folder = store.row_path("demo", "t", "").parent
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.json").write_text(text)
    import pandas  # noqa: F401 - its own import is not what is measured

    times = []
    for _ in range(3):
        started = time.process_time()
        assert store.frame("demo").shape == (10_000, 22)
        times.append(time.process_time() - started)
    assert min(times) < 1.0


# Ancestry


def test_the_dependencies_of_a_build_are_in_its_card_and_those_of_a_block_are_listed():
    def child(seed):
        return store.make("data", 1, {"seed": seed}, write("images"))

    def build(work):
        child(1)
        child(1)
        (work / "payload.txt").write_text("weights")

    for _ in range(2):  # made, then found
        with store.track_dependencies() as used:
            child(0)
            parent = store.make("network", 1, {}, build)
            store.find("data", child(0).key)
        assert used == [child(0).key, parent.key]
    assert parent.card["entries"] == [child(1).key]


def test_a_cached_function_records_its_dependencies_each_time():
    calls = []

    @store.cached(maxsize=2)
    def network(seed):
        calls.append(seed)
        return store.make("network", 1, {"seed": seed}, write("weights"))

    keys = []
    for _ in range(3):
        with store.track_dependencies() as used:
            entry = network(seed=3)
        keys.append(used)
    assert keys == [[entry.key]] * 3 and calls == [3]
