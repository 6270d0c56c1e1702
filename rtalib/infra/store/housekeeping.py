"""What lies in the store: a list of it, the ancestry of a key, and the removal of what no table needs."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rtalib.errors import unknown
from rtalib.infra.store.entries import Corrupt, Entry, read_card
from rtalib.infra.store.files import size_of
from rtalib.infra.store.keys import root
from rtalib.infra.store.locks import ClaimHeld, is_locked, locked, now
from rtalib.infra.store.rows import read_plan, read_row, tables

KEY = re.compile(r"[0-9a-f]{16}")
DAYS = 7.0  # an entry that no row reaches is kept so long: the cell that it was made for may not be finished
_TEMPORARY = 3600.0  # seconds after which a temporary file is no longer being written


def entries(recipe: str | None = None) -> list[Entry]:
    """The entries of the store, or of one recipe, by name; those whose card cannot be read are left out. Digests are not verified here.

    ValueError for a recipe of which the store has no entry.
    """
    home = root() / "store"
    recipes = sorted(path.name for path in home.glob("[!.]*") if path.is_dir())
    if recipe is not None and recipe not in recipes:
        raise unknown("recipe", recipe, recipes)
    found = []
    for path in sorted(path for name in ([recipe] if recipe else recipes) for path in (home / name).glob("[!.]*-*")):
        with contextlib.suppress(Corrupt, FileNotFoundError):
            found.append(read_card(path))
    return found


def ls(recipe: str | None = None) -> list[dict]:
    """Of every entry: recipe, name (label and key), bytes, age in seconds, and the seconds that it took to make."""
    found = entries(recipe)
    time = now(root() / "store") if found else 0.0
    return [
        {
            "recipe": entry.card["recipe"],
            "name": entry.path.name,
            "bytes": _bytes(entry),
            "age": time - (entry.path / "card.json").stat().st_mtime,
            "seconds": entry.card["seconds"],
        }
        for entry in found
    ]


# ------------------------------------------------------------------------------------------------------------- ancestry


def parents(facts: dict, known: dict[str, Entry]) -> list[str]:
    """Keys of the entries that a card or a row was made of: those it has noted, and those among its values.

    A noted entry that is not in the store any more is named all the same; of other values only those of entries that are there count.
    """
    values = {name: value for name, value in facts.items() if name not in ("key", "entries", "files", "stamp")}
    return list(dict.fromkeys([*facts.get("entries", []), *(text for text in _texts(values) if text in known)]))


def _texts(value: object) -> Iterator[str]:
    """All strings in JSON values that could be keys."""
    if isinstance(value, str):
        yield from [value] if KEY.fullmatch(value) else []
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def ancestry(facts: dict, known: dict[str, Entry]) -> dict[str, Entry]:
    """The entries that a card or a row rests on, by key, down to the leaves; known: all entries of the store."""
    found: dict[str, Entry] = {}
    ahead = parents(facts, known)
    while ahead:
        name = ahead.pop()
        if name in known and name not in found:
            found[name] = known[name]
            ahead += parents(known[name].card, known)
    return found


def why(key: str) -> str:
    """What an entry or a row (by its key, or the beginning of it) was made of, as a tree of lines down to the leaves.

    ValueError where nothing, or more than one thing, begins so.
    """
    known = {entry.key: entry for entry in entries()}
    found = {name: (_title(entry), entry.card) for name, entry in known.items() if name.startswith(key)}
    for path in root().glob(f"*/rows/*/{key}*.json"):
        run, table = path.parts[-4], path.parts[-2]
        if row := read_row(run, table, path.stem):
            note = "" if "entries" in row else "  (older than notes of what rows use: only keys among its fields are followed)"
            found[path.stem] = (f"row {path.stem} of {table} in run {run}{note}", row)
    if len(found) != 1:
        raise ValueError(f"key: {'several entries or rows begin' if found else 'no entry or row begins'} with {key!r}" + _some(found))
    title, facts = next(iter(found.values()))
    return "\n".join([title, *_branches(facts, known, "", set())])


def _branches(facts: dict, known: dict[str, Entry], indent: str, shown: set[str]) -> Iterator[str]:
    names = parents(facts, known)
    for name in names:
        fork, below = ("└── ", "    ") if name == names[-1] else ("├── ", "│   ")
        if name not in known:
            yield f"{indent}{fork}{name}  (no longer in the store)"
            continue
        repeated = name in shown and parents(known[name].card, known)
        yield f"{indent}{fork}{_title(known[name])}{'  (see above)' if repeated else ''}"
        if not repeated:
            shown.add(name)
            yield from _branches(known[name].card, known, indent + below, shown)


def _title(entry: Entry) -> str:
    return f"{entry.card['recipe']}/{entry.path.name}  {_bytes(entry) / 1e6:.1f} MB, {entry.card['seconds']:.1f} s"


def _some(found: dict) -> str:
    return f": {', '.join(sorted(found)[:5])}" if found else "; `python -m rtalib store ls` lists them"


def _bytes(entry: Entry) -> int:
    return sum(facts["bytes"] for facts in entry.card["files"].values())


# -------------------------------------------------------------------------------------------------- garbage collection


@dataclass(frozen=True)
class Garbage:
    """Something that nothing needs: where it is, why it may go, and its bytes."""

    path: Path
    reason: str
    bytes: int


def gc(*, delete: bool = False, days: float = DAYS) -> tuple[list[Garbage], list[str]]:
    """What may go, and in words what is kept although no row reaches it; nothing is removed without `delete`.

    Kept is what the rows of the plans of all runs reach, and every entry younger than `days`. Entries go only if every planned row that is
    there has noted what it uses. Besides them go set-aside and half-removed things, and work folders, claims and temporary files of
    processes that are dead. What another process claims in the meantime is left to it.
    """
    time = now(root()) if root().is_dir() else 0.0
    garbage = [Garbage(path, reason, size_of(path)) for path, reason in _leftovers(time)]
    unreached, young, unsaid = _unreached(time - 86400 * days)
    remarks = []
    if unsaid:
        remarks.append(
            f"{unsaid} rows are older than notes of what rows use, so all {len(unreached) + young} entries beyond the others' are kept"
        )
    else:
        garbage += [Garbage(entry.path, "no planned row reaches it", size_of(entry.path)) for entry in unreached]
        remarks += [f"{young} entries that no row reaches are younger than {days:g} days and kept"] if young else []
    if delete:
        garbage = [item for item in garbage if _remove(item.path)]
    return garbage, remarks


def _unreached(before: float) -> tuple[list[Entry], int, int]:
    """Entries that no planned row reaches and that were made before a time; how many are younger; how many rows have no notes."""
    known = {entry.key: entry for entry in entries()}
    reached, unsaid = set(), 0
    for run in (path.parent.name for path in root().glob("*/plans")):
        for table in tables(run):
            for row in filter(None, (read_row(run, table, key) for key in read_plan(run, table))):
                unsaid += "entries" not in row
                if not set(parents(row, known)) <= reached:
                    reached |= ancestry(row, known).keys()
    left = [entry for name, entry in known.items() if name not in reached]
    old = [entry for entry in left if (entry.path / "card.json").stat().st_mtime < before]
    return old, len(left) - len(old), unsaid


def _leftovers(time: float) -> Iterator[tuple[Path, str]]:
    """Hidden things of the store and of the rows that nobody uses; time: now, by the file system's clock."""
    places = (root().glob(pattern) for pattern in (".*", "store/.*", "store/*/.*", "*/plans/.*", "*/rows/*/.*", "*/notebooks/.*"))
    for path in sorted(path for place in places for path in place):
        name = path.name
        if name.startswith((".corrupt-", ".gone-")):
            yield path, "set aside as corrupt" if name.startswith(".corrupt-") else "half removed"
        elif ".work" in name and not is_locked(_claim_of(path)):
            yield path, "work of a process that is dead"
        elif name.endswith(".lock") and not is_locked(path):
            yield path, "claim of a process that is dead"
        elif (name.endswith(".tmp") or ".lock." in name or name.startswith(".import-")) and time - path.stat().st_mtime > _TEMPORARY:
            yield path, "temporary, of a process that is dead"


def _claim_of(path: Path) -> Path:
    """Of an entry or a work folder."""
    key = path.name.partition(".work")[0].lstrip(".") if path.name.startswith(".") else path.name[-16:]
    return path.with_name(f".{key}.lock")


def _remove(path: Path) -> bool:
    """Remove a file or folder under the claim it may belong to; False if another process holds that."""
    claim = path if path.name.endswith(".lock") else _claim_of(path)
    gone = path.with_name(f".gone-{path.name}")
    try:
        with locked(claim, wait=False):  # which takes over, and then releases, a dead process's
            if path != claim:
                with contextlib.suppress(FileNotFoundError):  # another gc was faster
                    os.replace(path, gone)  # nobody shall find half an entry
    except ClaimHeld:
        return False
    if gone.is_dir():
        shutil.rmtree(gone)
    else:
        gone.unlink(missing_ok=True)
    return True
