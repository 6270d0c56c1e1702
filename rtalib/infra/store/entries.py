"""Artefacts: a folder is an entry, its rename is the commit, and its digests are verified when a process first reads it."""

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtalib.infra.provenance import stamp
from rtalib.infra.store.ancestry import note, noting
from rtalib.infra.store.files import DiskFull, digest, disk_full, is_full, set_aside, size_of, write_atomic
from rtalib.infra.store.keys import LAYOUT, StoreError, key, plain, root
from rtalib.infra.store.locks import Claim, ClaimLost, locked


@dataclasses.dataclass(frozen=True)
class Entry:
    """A finished artefact: its folder, and its card: recipe, version, parameters, entries used, files with digests, seconds, stamp."""

    path: Path
    card: dict

    @property
    def key(self) -> str:
        return self.card["key"]


class Corrupt(StoreError):
    """An entry that is not as it was written."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path.name}: {reason}")
        self.path, self.reason = path, reason


_verified: dict[Path, tuple[Entry, list]] = {}  # by folder: what was read, and the times and sizes of the files then
_places: dict[tuple[Path, str], Path] = {}  # by recipe's folder and key: where the entry was last seen


def find(recipe: str, key: str) -> Entry | None:
    """The finished entry, or None. One that is not as it was written is set aside, with a warning, and not returned."""
    home = root() / "store" / recipe
    try:
        entry = _look(home, key)
    except Corrupt:
        with locked(claim_path(home, key)):
            entry = look_or_set_aside(home, key)
    if entry:
        note(key)
    return entry


def make(recipe: str, version: int, parameters: Any, build: Callable[[Path], None], *, label: str = "entry") -> Entry:
    """The entry for these parameters; `build(folder)` writes its files when it is not there yet.

    Files and folders whose names begin with "checkpoint" are what an interrupted build leaves to the next one of the same key; they are
    dropped at the end. An exception in `build` leaves no entry, nothing but checkpoints, and nothing is cached for it. DiskFull where
    there is no room. A process that was suspended until another had taken over gives way and returns the other's entry.
    """
    name = key(recipe, version, parameters)
    home = root() / "store" / recipe
    entry = None
    with contextlib.suppress(Corrupt):
        entry = _look(home, name)
    while entry is None:
        with contextlib.suppress(ClaimLost), locked(claim_path(home, name)) as claim:
            card = {"key": name, "recipe": recipe, "version": version, "parameters": plain(parameters)}
            entry = look_or_set_aside(home, name) or _build(home / f"{label}-{name}", card, build, claim)
    note(name)
    return entry


def mark_layout(folder: Path) -> None:
    """Say in the store's folder of which layout it is."""
    if not (version := folder / "VERSION").exists():
        write_atomic(version, f"{LAYOUT}\n")


def claim_path(home: Path, key: str) -> Path:
    """Where the claim on an entry is; home: the folder of its recipe."""
    return home / f".{key}.lock"


def _build(final: Path, card: dict, build: Callable[[Path], None], claim: Claim) -> Entry:
    """ClaimLost, and nothing left behind, where another process has taken over in the meantime."""
    mark_layout(final.parent.parent)
    work = _work_folder(final.parent, card["key"], claim)
    started = time.time()
    try:
        with noting() as used:
            build(work)
        _keep(work, lambda name: not name.startswith("checkpoint"))
        card |= {"seconds": round(time.time() - started, 3), "entries": used, "files": _files(work), "stamp": stamp()}
        write_atomic(work / "card.json", json.dumps(card, indent=1))
        claim.confirm()
        os.replace(work, final)
    except BaseException as error:
        size = size_of(work)
        overtaken = not claim.is_held()
        _keep(work, lambda name: name.startswith("checkpoint") and not overtaken)
        if overtaken and isinstance(error, Exception):
            claim.confirm()
        if is_full(error) and not isinstance(error, DiskFull):
            raise disk_full(error, work, size) from error
        raise
    entry = Entry(final, card)
    _verified[final], _places[final.parent, card["key"]] = (entry, _state(entry)), final
    return entry


def _work_folder(home: Path, key: str, claim: Claim) -> Path:
    """A folder of this builder's own, with the checkpoints that the last one left. Who was overtaken finds his no more."""
    work = home / f".{key}.work-{claim.token}"
    left = sorted(home.glob(f".{key}.work*"), key=lambda path: path.stat().st_mtime)
    for old in left[:-1]:
        shutil.rmtree(old, ignore_errors=True)
    if left:
        os.replace(left[-1], work)
    work.mkdir(parents=True, exist_ok=True)
    _keep(work, lambda name: name.startswith("checkpoint"))
    work.mkdir(exist_ok=True)
    return work


def _keep(folder: Path, wanted: Callable[[str], bool]) -> None:
    """Remove what is not wanted, by name, from a folder, and the folder if nothing is left or it is gone already."""
    with contextlib.suppress(FileNotFoundError):
        for path in [path for path in folder.iterdir() if not wanted(path.name)]:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


def _files(folder: Path) -> dict[str, dict]:
    """Name -> size and digest of every file below `folder`, each flushed to the disk first."""
    facts = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "card.json"):
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
        facts[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest(path)}
    return facts


def _look(home: Path, key: str) -> Entry | None:
    """The entry, verified; Corrupt if it is not as it was written."""
    known = _places.get((home, key))
    if known and (entry := _read(known)):
        return entry
    for path in home.glob(f"*-{key}"):
        if not path.name.startswith(".") and (entry := _read(path)):
            _places[home, key] = path
            return entry
    return None


def _read(path: Path) -> Entry | None:
    """The entry in a folder; its files are read and compared with their digests unless this process did so and they were not touched."""
    entry, state = _verified.get(path, (None, None))
    try:
        if entry and _state(entry) == state:
            return entry
        entry = read_card(path)
        state = _state(entry)
        for name, facts in entry.card["files"].items():
            if (found := (path / name).stat().st_size) != facts["bytes"]:
                raise Corrupt(path, f"{name} has {found} bytes, not {facts['bytes']}")
            if (found := digest(path / name)) != facts["sha256"]:
                raise Corrupt(path, f"{name} has the digest {found[:12]}..., not {facts['sha256'][:12]}...")
    except FileNotFoundError as error:
        if not path.exists():  # set aside or removed by another process
            return None
        raise Corrupt(path, f"{Path(error.filename).name} is missing") from None
    _verified[path] = entry, state
    return entry


def read_card(path: Path) -> Entry:
    """The entry in a folder by its card alone; its files are not looked at. Corrupt if the card is no card."""
    try:
        card = json.loads((path / "card.json").read_bytes())
        if not all(isinstance(facts["bytes"], int) and isinstance(facts["sha256"], str) for facts in card["files"].values()):
            raise TypeError("files")
        if not path.name.endswith(f"-{card['key']}"):
            raise ValueError(f"key {card['key']}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(path, f"card.json cannot be read ({error})") from error
    return Entry(path, card)


def _state(entry: Entry) -> list[tuple[int, int]]:
    """When the files of an entry were last written, in ns, and their sizes."""
    found = [os.stat(f"{entry.path}/{name}") for name in ("card.json", *entry.card["files"])]
    return [(facts.st_mtime_ns, facts.st_size) for facts in found]


def look_or_set_aside(home: Path, key: str) -> Entry | None:
    """As _look, for the holder of the claim: nobody else moves or makes the entry."""
    while True:
        try:
            return _look(home, key)
        except Corrupt as error:
            set_aside(error.path, error.reason)
