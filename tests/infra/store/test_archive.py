"""A table as one archive: out of one store, into another; and archives that somebody made to do harm."""

import io
import json
import os
import pickle
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from stored import never

from rtalib import store
from rtalib.cli import main as cli
from rtalib.infra.store import archive as store_archive
from rtalib.infra.store import housekeeping
from rtalib.infra.store import keys as store_keys

ENDINGS = (".tar.gz", ".zip")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table of three cells, two of them finished, of an entry that was made of another; beside it an entry that it does not need."""
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "here"))
    data = store.make("data", 1, {"seed": 0.1}, lambda work: (work / "images.npy").write_bytes(b"\x93NUMPY" * 999), label="fog")

    def build(work):
        (work / "parts").mkdir()
        (work / "parts" / "weights.safetensors").write_bytes(os.urandom(5000))
        (work / "history.json").write_text("[]")

    network = store.make("network", 2, {"data": data.key, "eps": 8 / 255}, build, label="resnet-s0")
    store.make("network", 2, {}, build, label="other")
    keys = [store.key("cell", 1, number) for number in range(3)]
    for number, key in enumerate(keys[:2]):
        store.write_row("demo", "t", key, {"key": key, "value": number, "entries": [network.key]})
    store.write_plan("demo", "t", keys)
    return {"data": data, "network": network, "keys": keys}


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "there"))
    return tmp_path / "there"


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_table_moves_with_its_ancestry(table, tmp_path, monkeypatch, ending):
    rows = store.rows("demo", "t")
    counts = store_archive.export_table("demo", "t", tmp_path / f"t{ending}")
    assert counts == {"rows": 2, "entries": 2, "unsaid": 0, "bytes": (tmp_path / f"t{ending}").stat().st_size}
    there = elsewhere(tmp_path, monkeypatch)
    assert store_archive.import_table(tmp_path / f"t{ending}") == {"rows": 2, "entries": 2, "rows_kept": 0, "entries_kept": 0}
    assert store.rows("demo", "t") == rows and store.read_plan("demo", "t") == table["keys"]
    made = store.make("network", 2, {"data": table["data"].key, "eps": 8 / 255}, never)
    assert made.card == table["network"].card and (made.path / "parts" / "weights.safetensors").stat().st_size == 5000
    assert {entry.key for entry in housekeeping.entries()} == {table["data"].key, table["network"].key}
    assert list(there.glob(".*")) == [] and list(there.rglob("*.lock")) == []


def test_what_is_here_is_kept(table, tmp_path):
    store_archive.export_table("demo", "t", tmp_path / "t.zip")
    store.write_row("demo", "t", table["keys"][0], {"key": table["keys"][0], "value": "mine"})
    shutil.rmtree(table["data"].path)
    store.write_plan("demo", "t", ["mine", table["keys"][1]])
    assert store_archive.import_table(tmp_path / "t.zip") == {"rows": 0, "entries": 1, "rows_kept": 2, "entries_kept": 1}
    assert store.read_row("demo", "t", table["keys"][0])["value"] == "mine" and store.find("data", table["data"].key)
    assert store.read_plan("demo", "t") == ["mine", table["keys"][1], table["keys"][0], table["keys"][2]]


def test_an_export_refuses_what_it_cannot_send(table, tmp_path):
    with pytest.raises(ValueError, match="unknown table 'tt'. Did you mean 't'"):
        store_archive.export_table("demo", "tt", tmp_path / "t.zip")
    with pytest.raises(ValueError, match=r"expected a name that ends with .tar.gz or .zip, got 't.7z'"):
        store_archive.export_table("demo", "t", tmp_path / "t.7z")
    (table["data"].path / "images.npy").write_bytes(b"x")
    with pytest.warns(UserWarning), pytest.raises(store.StoreError, match="not as it was written"):
        store_archive.export_table("demo", "t", tmp_path / "t.zip")
    pickled = store.make("pickled", 1, {}, lambda work: (work / "model.pkl").write_bytes(pickle.dumps(1)))
    store.write_row("demo", "u", "0" * 16, {"entries": [pickled.key]})
    store.write_plan("demo", "u", ["0" * 16])
    with pytest.raises(store.StoreError, match="model.pkl' is of a format that can carry code"):
        store_archive.export_table("demo", "u", tmp_path / "u.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


# Hostile and damaged archives


def repack(source: Path, target: Path, *, change=lambda name, data: (name, data), extra=()) -> Path:
    """A copy of a .tar.gz whose members went through `change`; None drops one. extra: (TarInfo, bytes) to be put at the end."""
    with tarfile.open(source) as old, tarfile.open(target, "w:gz") as new:
        for info in old.getmembers():
            changed = change(info.name, old.extractfile(info).read())
            if changed:
                info.name, data = changed
                info.size = len(data)
                new.addfile(info, io.BytesIO(data))
        for info, data in extra:
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    return target


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def refused(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    there = elsewhere(tmp_path, monkeypatch)
    before = {path for path in tmp_path.rglob("*") if there not in path.parents}
    with pytest.raises(store.StoreError, match=words) as caught:
        store_archive.import_table(archive)
    assert str(caught.value).endswith("nothing was imported") and str(archive) in str(caught.value)
    assert not there.exists() or list(there.iterdir()) == []
    assert {path for path in tmp_path.rglob("*") if there not in path.parents} - {there} == before


PLACE = "store/network/x-0123456789abcdef"
HOSTILE = {
    "zip-slip": (member("../../evil.json"), "outside these places"),
    "slip inside": (member(f"{PLACE}/../../../../evil.json"), "outside these places"),
    "absolute": (member("/tmp/evil.json"), "outside these places"),
    "backslash": (member("store\\..\\evil.json"), "outside these places"),
    "hidden": (member("demo/rows/t/.evil.json"), "outside these places"),
    "configuration": (member("evil.py"), "outside these places"),
    "symlink": (member(f"{PLACE}/a.json", tarfile.SYMTYPE, "/etc/passwd"), "a link, a device or a folder"),
    "hard link": (member(f"{PLACE}/a.json", tarfile.LNKTYPE, "archive.json"), "a link, a device or a folder"),
    "device": (member(f"{PLACE}/a.json", tarfile.CHRTYPE), "a link, a device or a folder"),
    "fifo": (member(f"{PLACE}/a.json", tarfile.FIFOTYPE), "a link, a device or a folder"),
    "folder": (member(f"{PLACE}/a.json", tarfile.DIRTYPE), "a link, a device or a folder"),
    "pickle": (member(f"{PLACE}/weights.pkl"), "format that can carry code"),
    "torch file": (member(f"{PLACE}/weights.pt"), "format that can carry code"),
    "not listed": (member(f"{PLACE}/a.json"), "there and not listed"),
    "twice": (member("archive.json"), "a name is there twice"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_member_is_refused_before_anything_is_written(table, tmp_path, monkeypatch, name):
    info, words = HOSTILE[name]
    store_archive.export_table("demo", "t", tmp_path / "t.tar.gz")
    archive = repack(tmp_path / "t.tar.gz", tmp_path / "evil.tar.gz", extra=[(info, b"{}" if info.isreg() else b"")])
    refused(archive, tmp_path, monkeypatch, words)


@pytest.mark.parametrize("name, words", [("../evil.json", "outside these places"), (f"{PLACE}/a.json", "a link, a device")])
def test_a_hostile_zip_is_refused(table, tmp_path, monkeypatch, name, words):
    store_archive.export_table("demo", "t", tmp_path / "t.zip")
    with zipfile.ZipFile(tmp_path / "t.zip", "a") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFLNK if "link" in words else stat.S_IFREG) << 16
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "t.zip", tmp_path, monkeypatch, words)


def with_index(change):
    def changed(name, data):
        if name != "archive.json":
            return name, data
        index = json.loads(data)
        change(index)
        return name, json.dumps(index).encode()

    return changed


DAMAGED = {
    "another digest": (lambda name, data: (name, data[:-1] + b"!") if name.endswith(".npy") else (name, data), "another digest"),
    "cut short": (lambda name, data: (name, data[:-1]) if name.endswith(".npy") else (name, data), "has not the .* bytes"),
    "longer": (lambda name, data: (name, data + b"!") if name.endswith(".npy") else (name, data), "has not the .* bytes"),
    "a file missing": (lambda name, data: None if name.endswith(".npy") else (name, data), "is listed and missing"),
    "no index": (lambda name, data: None if name == "archive.json" else (name, data), "this is no archive of a table"),
    "newer": (with_index(lambda index: index.update(layout=2)), r"made by a newer rtalib \(layout 2, this one knows 1\)"),
    "no plan": (with_index(lambda index: index.update(table="x")), "is none that an export writes"),
    "sizes that are none": (with_index(lambda index: index["files"].update({"x": {"bytes": "1"}})), "is none that an export writes"),
    "an index that is none": (lambda name, data: (name, b"{") if name == "archive.json" else (name, data), "is damaged"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_archive_is_refused(table, tmp_path, monkeypatch, name):
    change, words = DAMAGED[name]
    store_archive.export_table("demo", "t", tmp_path / "t.tar.gz")
    refused(repack(tmp_path / "t.tar.gz", tmp_path / "bad.tar.gz", change=change), tmp_path, monkeypatch, words)


def test_an_entry_that_has_not_the_key_of_its_parameters_is_refused(table, tmp_path, monkeypatch):
    """An archive that is consistent in itself, but would pass one result off as another's."""
    card = table["data"].path / "card.json"
    card.write_text(card.read_text().replace('"seed": 0.1', '"seed": 0.2'))
    store_archive.export_table("demo", "t", tmp_path / "t.zip")
    refused(tmp_path / "t.zip", tmp_path, monkeypatch, "has not the key of its parameters")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("part", [0, 10, -100])
def test_a_truncated_archive_is_refused(table, tmp_path, monkeypatch, ending, part):
    store_archive.export_table("demo", "t", tmp_path / f"t{ending}")
    archive = tmp_path / f"half{ending}"
    archive.write_bytes((tmp_path / f"t{ending}").read_bytes()[:part])
    refused(archive, tmp_path, monkeypatch, "is damaged, or no archive of a table")


def test_an_import_into_a_full_disk_changes_nothing(table, tmp_path, monkeypatch):
    store_archive.export_table("demo", "t", tmp_path / "t.zip")
    there = elsewhere(tmp_path, monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda _: exec("raise OSError(28, 'No space left on device')"))
    with pytest.raises(store.DiskFull, match="free on the disk at"):
        store_archive.import_table(tmp_path / "t.zip")
    assert list(there.iterdir()) == []


def test_the_commands(table, tmp_path, capsys):
    out = str(tmp_path / "t.tar.gz")
    assert cli.main(["store", "export", "demo", "t", "--out", out]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 2 rows and 2 entries, ")
    store_keys._check_layout.cache_clear()
    assert cli.main(["store", "import", out]) == 0
    assert capsys.readouterr().out == "0 rows and 0 entries taken in; 2 and 2 were here and kept\n"
    assert cli.main(["store", "export", "demo", "tt", "--out", out]) == 2
    assert cli.main(["store", "import", str(tmp_path / "none.zip")]) == 2
    (tmp_path / "bad.zip").write_text("PK")
    assert cli.main(["store", "import", str(tmp_path / "bad.zip")]) == 1
    assert capsys.readouterr().err.count("\n") == 3
