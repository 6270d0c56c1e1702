"""Artefacts: a folder is an entry, its rename is the commit, and a process verifies its digests at the first read."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtalib.errors import check_kind
from rtalib.infra.provenance import stamp
from rtalib.infra.store.ancestry import record_dependency, track_dependencies
from rtalib.infra.store.files import digest, flush, naming_the_disk, remove, set_aside, write_atomic
from rtalib.infra.store.keys import LAYOUT, StoreError, key, plain, root
from rtalib.infra.store.locks import Lock, LockLost, locked
from rtalib.infra.store.sealed import seal, unseal


@dataclasses.dataclass(frozen=True)
class Entry:
    """A finished artefact: its folder, and its card: recipe, version, parameters, entries used, files with digests, seconds, stamp."""

    path: Path
    card: dict

    @property
    def key(self) -> str:
        return self.card["key"]


class Corrupt(StoreError):
    """An entry that differs from what was written."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path.name}: {reason}")
        self.path, self.reason = path, reason


_verified: dict[Path, tuple[Entry, list]] = {}  # by folder: what was read, and the times and sizes of the files then
_places: dict[tuple[Path, str], Path] = {}  # by the recipe's folder and key: where the entry was last seen


def find(recipe: str, key: str) -> Entry | None:
    """The finished entry, or None. A corrupt entry is set aside, with a warning, and not returned."""
    check_kind("recipe", recipe, str, "the name of a recipe")
    check_kind("key", key, str, "a key")
    home = root() / "store" / recipe
    try:
        entry = _look(home, key)
    except Corrupt:
        with locked(lock_path(home, key)):
            entry = _look_or_set_aside(home, key)
    if entry:
        record_dependency(key)
    return entry


def make(recipe: str, version: int, parameters: Any, build: Callable[[Path], None], *, label: str = "entry") -> Entry:
    """The entry for these parameters; `build(folder)` writes its files if it does not exist yet.

    An interrupted build leaves its files and folders whose names begin with "checkpoint" to the next build of the same key; a finished one
    drops them. If `build` raises, nothing but checkpoints stays. DiskFull if there is no room. A process that was suspended until another
    one took over discards its work and returns the other's entry.
    """
    check_kind("build", build, Callable, "a function of a folder")
    check_kind("label", label, str, "a text")
    name = key(recipe, version, parameters)
    home = root() / "store" / recipe
    entry = None
    with contextlib.suppress(Corrupt):
        entry = _look(home, name)
    while entry is None:
        with contextlib.suppress(LockLost), locked(lock_path(home, name)) as lock:
            card = {"key": name, "recipe": recipe, "version": version, "parameters": plain(parameters)}
            entry = _look_or_set_aside(home, name) or _build(home / f"{label}-{name}", card, build, lock)
    record_dependency(name)
    return entry


def lock_path(home: Path, key: str) -> Path:
    """The lock of an entry; home: the folder of its recipe."""
    return home / f".{key}.lock"


def _build(final: Path, card: dict, build: Callable[[Path], None], lock: Lock) -> Entry:
    """Make an entry. LockLost, and nothing stays behind, if another process has taken over in the meantime."""
    if not (version := final.parent.parent / "VERSION").exists():
        write_atomic(version, f"{LAYOUT}\n")
    work = _work_folder(final.parent, card["key"], lock)
    started = time.time()
    try:
        with naming_the_disk(work, [work]):
            with track_dependencies() as used:
                build(work)
            _keep(work, lambda name: not name.startswith("checkpoint"))
            card |= {"seconds": round(time.time() - started, 3), "entries": used, "files": _files(work), "stamp": stamp()}
            write_atomic(work / "card.json", seal(card))
        lock.confirm()
        os.replace(work, final)
    except BaseException as error:
        lost = not lock.is_held()
        _keep(work, lambda name: name.startswith("checkpoint") and not lost)
        if lost and isinstance(error, Exception):
            lock.confirm()
        raise
    entry = Entry(final, card)
    _verified[final], _places[final.parent, card["key"]] = (entry, _state(entry)), final
    return entry


def _work_folder(home: Path, key: str, lock: Lock) -> Path:
    """A folder for this build alone, with the checkpoints of the previous one: a builder that lost its lock no longer finds its folder."""
    work = home / f".{key}.work-{lock.token}"
    left = sorted(home.glob(f".{key}.work*"), key=lambda path: path.stat().st_mtime)
    for old in left[:-1]:
        remove(old)
    if left:
        os.replace(left[-1], work)
    work.mkdir(parents=True, exist_ok=True)
    _keep(work, lambda name: name.startswith("checkpoint"))
    work.mkdir(exist_ok=True)
    return work


def _keep(folder: Path, wanted: Callable[[str], bool]) -> None:
    """Remove what is not wanted, by name, from a folder, and the folder itself if it is empty then."""
    with contextlib.suppress(FileNotFoundError):
        for path in [path for path in folder.iterdir() if not wanted(path.name)]:
            remove(path)
        if not any(folder.iterdir()):
            folder.rmdir()


def _files(folder: Path) -> dict[str, dict]:
    """Name -> size and digest of every file below `folder`, each flushed to the disk first."""
    facts = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "card.json"):
        flush(path)
        facts[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest(path)}
    return facts


def _look(home: Path, key: str) -> Entry | None:
    """The entry, verified; Corrupt if it differs from what was written."""
    known = _places.get((home, key))
    if known and (entry := _read(known)):
        return entry
    for path in home.glob(f"[!.]*-{key}"):
        if entry := _read(path):
            _places[home, key] = path
            return entry
    return None


def _read(path: Path) -> Entry | None:
    """The entry in a folder; its files are compared with their digests unless this process did so and nobody touched them since."""
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
    """The entry in a folder by its card alone, without a look at its files. Corrupt if the card is unreadable."""
    try:
        card = unseal((path / "card.json").read_bytes())
        if not all(isinstance(facts["bytes"], int) and isinstance(facts["sha256"], str) for facts in card["files"].values()):
            raise TypeError("files")
        if not path.name.endswith(f"-{card['key']}"):
            raise ValueError(f"key {card['key']}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(path, f"card.json cannot be read ({error})") from error
    return Entry(path, card)


def _state(entry: Entry) -> list[tuple[int, int]]:
    """Modification times (ns) and sizes of an entry's files."""
    found = [os.stat(f"{entry.path}/{name}") for name in ("card.json", *entry.card["files"])]
    return [(facts.st_mtime_ns, facts.st_size) for facts in found]


def _look_or_set_aside(home: Path, key: str) -> Entry | None:
    """As _look, for the holder of the lock: nobody else moves or makes the entry."""
    while True:
        try:
            return _look(home, key)
        except Corrupt as error:
            set_aside(error.path, error.reason)
