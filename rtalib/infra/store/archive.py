"""A table with its ancestry as one archive: export on one machine, import on another. Nothing in it is executed, nothing is overwritten.

An archive (.tar.gz or .zip) holds archive.json, which lists all other files with sizes and digests, and these under the names that they
have below outputs(): the table's plan, its rows, and the store's entries that the rows rest on. It is checked as a whole before anything
is put into place: its names, then every digest, then every key.
"""

import gzip
import io
import json
import os
import re
import shutil
import stat
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rtalib.errors import unknown
from rtalib.infra.store.entries import Entry, claim_path, find, look_or_set_aside, mark_layout, read_card
from rtalib.infra.store.files import digest, disk_full, is_full, size_of
from rtalib.infra.store.housekeeping import ancestry, entries
from rtalib.infra.store.keys import LAYOUT, StoreError, key, root
from rtalib.infra.store.locks import locked
from rtalib.infra.store.rows import read_plan, read_row, row_path, tables, write_plan

INDEX = "archive.json"
ENDINGS = (".json", ".npy", ".safetensors", ".txt", ".csv", ".parquet")  # of files in entries: no format that can carry code
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError)
_NAME = r"[A-Za-z0-9_+,=@()-][A-Za-z0-9_.+,=@() -]*"  # no leading dot
_PLAN = re.compile(rf"{_NAME}/plans/{_NAME}\.json")
_ROW = re.compile(rf"{_NAME}/rows/{_NAME}/[0-9a-f]{{16}}\.json")
_PAYLOAD = re.compile(rf"store/{_NAME}/{_NAME}-[0-9a-f]{{16}}(/{_NAME})+")


# --------------------------------------------------------------------------------------------------------------- export


def export_table(run: str, table: str, out: Path | str) -> dict[str, int]:
    """Write the plan and rows of a table and all entries they rest on to `out`, a .tar.gz or a .zip; returns how many of what.

    Keys: rows, entries, bytes, and unsaid, the rows that are older than notes of what rows use: of these only entries named among their
    fields are in it. ValueError for a table that was not begun and another ending; StoreError for an entry that cannot go into an archive.
    """
    out = Path(out)
    pack = _packer(out)
    if table not in tables(run):
        raise unknown("table", table, tables(run))
    found = {name: row for name in read_plan(run, table) if (row := read_row(run, table, name)) is not None}
    known = {entry.key: entry for entry in entries()}
    used = {name: entry for row in found.values() for name, entry in ancestry(row, known).items()}
    paths = [root() / run / "plans" / f"{table}.json", *(row_path(run, table, name) for name in found)]
    for name, entry in used.items():
        if find(entry.card["recipe"], name) is None:
            raise StoreError(f"{entry.path} was not as it was written; compute the table again, then export it")
        paths += [entry.path / "card.json", *(entry.path / file for file in entry.card["files"])]
    files = {path.relative_to(root()).as_posix(): path for path in paths}
    for name in files:
        _check_name(name)
    listed = {name: {"bytes": path.stat().st_size, "sha256": digest(path)} for name, path in files.items()}
    index = json.dumps({"layout": LAYOUT, "run": run, "table": table, "files": listed}, indent=1).encode()
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        pack(temporary, index, files)
        os.replace(temporary, out)
    except OSError as error:
        if is_full(error):
            raise disk_full(error, out, sum(facts["bytes"] for facts in listed.values())) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    unsaid = sum("entries" not in row for row in found.values())
    return {"rows": len(found), "entries": len(used), "bytes": out.stat().st_size, "unsaid": unsaid}


def _packer(out: Path) -> Callable[[Path, bytes, dict[str, Path]], None]:
    if out.name.endswith(".tar.gz"):
        return _pack_tar
    if out.name.endswith(".zip"):
        return _pack_zip
    raise ValueError(f"archive: expected a name that ends with .tar.gz or .zip, got {out.name!r}")


def _pack_tar(out: Path, index: bytes, files: dict[str, Path]) -> None:
    with tarfile.open(out, "w:gz", compresslevel=1) as archive:  # weights do not compress
        for name, source in ((INDEX, index), *files.items()):
            member = tarfile.TarInfo(name)
            with open(source, "rb") if isinstance(source, Path) else io.BytesIO(source) as stream:
                member.size = stream.seek(0, os.SEEK_END)
                stream.seek(0)
                archive.addfile(member, stream)


def _pack_zip(out: Path, index: bytes, files: dict[str, Path]) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False) as archive:
        archive.writestr(INDEX, index)
        for name, path in files.items():
            archive.write(path, name)


# --------------------------------------------------------------------------------------------------------------- import


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    is_plain: bool
    open: Callable[[], IO[bytes]]


def import_table(path: Path | str) -> dict[str, int]:
    """Take in what `export_table` wrote; returns how many rows and entries are new and how many were kept as they were here.

    Keys: rows, entries, rows_kept, entries_kept. What is here stays as it is; a plan that is here is continued with the archive's cells.
    StoreError, with nothing changed, for an archive that is damaged, was made by a newer rtalib, or holds what an export never writes:
    a path outside its place, a link, a device, a file that is not listed or of a format that can carry code.
    """
    path = Path(path)
    _packer(path)
    staging = root() / f".import-{uuid.uuid4().hex[:12]}"
    try:
        return _put_in_place(*_unpacked(path, staging))
    except StoreError as error:
        raise StoreError(f"{path}: {error}; nothing was imported") from None
    except _DAMAGED as error:
        raise StoreError(f"{path} is damaged, or no archive of a table ({error}); nothing was imported") from error
    except OSError as error:
        if is_full(error):
            raise disk_full(error, staging / INDEX, size_of(staging)) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpacked(path: Path, staging: Path) -> tuple[list[Entry], list[Path], list[str], dict]:
    """Entries, rows, plan and index of an archive, all checked and unpacked in the staging folder."""
    with _reading(path) as members:
        index = _check_members(members)
        for member in members:
            if member.name != INDEX:
                _unpack(member, index["files"][member.name], staging / member.name)
    plan = json.loads((staging / index["run"] / "plans" / f"{index['table']}.json").read_bytes())
    if not isinstance(plan, list) or not all(isinstance(name, str) for name in plan):
        raise StoreError("its plan is no list of keys")
    return _check_entries(staging, index["files"]), _check_rows(staging, index), plan, index


@contextmanager
def _reading(path: Path) -> Iterator[list[_Member]]:
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            yield [_zip_member(archive, info) for info in archive.infolist()]
    else:
        with tarfile.open(path, "r:gz") as archive:
            yield [
                _Member(info.name, info.size, info.isreg() and not info.issparse(), lambda info=info: archive.extractfile(info))
                for info in archive
            ]


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    return _Member(info.orig_filename, info.file_size, kind in (0, stat.S_IFREG) and not info.is_dir(), lambda: archive.open(info))


def _check_members(members: list[_Member]) -> dict:
    """The archive's index, once every name and kind is found to be as an export writes them."""
    for member in members:
        if not member.is_plain:
            raise StoreError(f"{member.name!r} is a link, a device or a folder; only plain files are expected")
        if member.name != INDEX:
            _check_name(member.name)
    names = [member.name for member in members]
    if len(set(names)) < len(names):
        raise StoreError("a name is there twice")
    if INDEX not in names:
        raise StoreError(f"{INDEX} is missing: this is no archive of a table")
    with members[names.index(INDEX)].open() as stream:
        index = json.loads(stream.read(members[names.index(INDEX)].size))
    if not isinstance(index, dict) or not isinstance(index.get("layout"), int):
        raise StoreError(f"{INDEX} is none that an export writes")
    if index["layout"] > LAYOUT:
        raise StoreError(f"it was made by a newer rtalib (layout {index['layout']}, this one knows {LAYOUT}): update rtalib")
    if not _is_index(index):
        raise StoreError(f"{INDEX} is none that an export writes")
    if different := sorted(set(index["files"]) ^ (set(names) - {INDEX})):
        raise StoreError(f"{different[0]!r} is listed and missing, or there and not listed")
    return index


def _is_index(index: dict) -> bool:
    files = index.get("files")
    if not isinstance(files, dict) or f"{index.get('run')}/plans/{index.get('table')}.json" not in files:
        return False
    return all(
        isinstance(facts, dict) and type(facts.get("bytes")) is int and facts.keys() == {"bytes", "sha256"} for facts in files.values()
    )


def _check_name(name: str) -> None:
    """StoreError for a name that cannot be in an archive; nothing but the plan, a row or an entry's file can."""
    if not any(pattern.fullmatch(name) for pattern in (_PLAN, _ROW, _PAYLOAD)):
        raise StoreError(f"{name!r} is no plan, no row and no file of an entry; paths outside these places are refused")
    if not name.endswith(ENDINGS):
        raise StoreError(f"{name!r} is of a format that can carry code; only {', '.join(ENDINGS)} are taken")


def _unpack(member: _Member, facts: dict, path: Path) -> None:
    """One file into the staging folder, not a byte more than it is listed with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left = facts["bytes"]
    with member.open() as source, open(path, "xb") as target:
        while left and (block := source.read(min(left, 1 << 20))):
            target.write(block)
            left -= len(block)
        if left or source.read(1):
            raise StoreError(f"{member.name!r} has not the {facts['bytes']} bytes that it is listed with")
        target.flush()
        os.fsync(target.fileno())
    if digest(path) != facts["sha256"]:
        raise StoreError(f"{member.name!r} has another digest than it is listed with")


def _check_entries(staging: Path, listed: dict[str, dict]) -> list[Entry]:
    """The entries in the staging folder, each found to be complete and to have the key of its parameters."""
    found = []
    for path in sorted(staging.glob("store/*/*")):
        entry, prefix = read_card(path), path.relative_to(staging).as_posix()
        files = {name.removeprefix(f"{prefix}/"): facts for name, facts in listed.items() if name.startswith(f"{prefix}/")}
        del files["card.json"]
        if files != entry.card["files"]:
            raise StoreError(f"{prefix} has other files than its card says")
        recipe, version, parameters = (entry.card.get(name) for name in ("recipe", "version", "parameters"))
        if recipe != path.parent.name or key(recipe, version, parameters) != entry.key:
            raise StoreError(f"{prefix} has not the key of its parameters")
        found.append(entry)
    return found


def _check_rows(staging: Path, index: dict) -> list[Path]:
    """The rows in the staging folder, each an object under its own key."""
    paths = sorted((staging / index["run"] / "rows" / index["table"]).glob("*.json"))
    for path in paths:
        row = json.loads(path.read_bytes())
        if not isinstance(row, dict) or row.get("key", path.stem) != path.stem:
            raise StoreError(f"{path.relative_to(staging)} is no row of that key")
    return paths


def _put_in_place(found: list[Entry], rows: list[Path], plan: list[str], index: dict) -> dict[str, int]:
    counts = {"rows": 0, "entries": 0, "rows_kept": 0, "entries_kept": 0}
    mark_layout(root() / "store")
    for entry in found:
        home = root() / "store" / entry.path.parent.name
        with locked(claim_path(home, entry.key)):
            new = look_or_set_aside(home, entry.key) is None
            if new:
                os.replace(entry.path, home / entry.path.name)
        counts["entries" if new else "entries_kept"] += 1
    for path in rows:
        target = row_path(index["run"], index["table"], path.stem)
        new = read_row(index["run"], index["table"], path.stem) is None
        if new:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
        counts["rows" if new else "rows_kept"] += 1
    here = read_plan(index["run"], index["table"])
    write_plan(index["run"], index["table"], list(dict.fromkeys([*here, *plan])))
    return counts
