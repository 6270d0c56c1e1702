"""What the store holds: a list of it, the ancestry of a key, and the removal of what no table needs."""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rtalib.errors import unknown
from rtalib.infra.store.entries import Corrupt, Entry, lock_path, read_card
from rtalib.infra.store.files import remove, size_of
from rtalib.infra.store.keys import root
from rtalib.infra.store.locks import LockHeld, is_locked, locked
from rtalib.infra.store.rows import read_row

KEY = re.compile(r"[0-9a-f]{16}")
UNREACHED = "no row reaches it"
DAYS = 7.0  # gc keeps younger entries even if no row reaches them: the cell that needs them may be unfinished
_TEMPORARY = 3600.0  # seconds after which nobody writes to a temporary file any more


def entries(recipe: str | None = None) -> list[Entry]:
    """The entries of the store, or of one recipe, by name, without those whose card is unreadable. Digests are not verified.

    ValueError for a recipe without entries.
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
    return [
        {
            "recipe": entry.card["recipe"],
            "name": entry.path.name,
            "bytes": _bytes(entry),
            "age": _age(entry.path / "card.json"),
            "seconds": entry.card["seconds"],
        }
        for entry in entries(recipe)
    ]


def _bytes(entry: Entry) -> int:
    return sum(facts["bytes"] for facts in entry.card["files"].values())


def _age(path: Path) -> float:
    """Seconds since a file was written; 0 if it is gone by now."""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime
    return 0.0


# ------------------------------------------------------------------------------------------------------------- ancestry


def parents(facts: dict, known: dict[str, Entry]) -> list[str]:
    """Keys of the entries that a card or a row was made of: its recorded dependencies, and the keys among its values.

    A recorded dependency counts even if it is no longer in the store; of the values, only keys of entries in the store count.
    """
    values = {name: value for name, value in facts.items() if name not in ("key", "entries", "files", "stamp")}
    return list(dict.fromkeys([*facts.get("entries", []), *(text for text in _keys(values) if text in known)]))


def _keys(value: object) -> Iterator[str]:
    """All strings in JSON values that could be keys."""
    if isinstance(value, str):
        yield from [value] if KEY.fullmatch(value) else []
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _keys(item)


def why(key: str) -> str:
    """What an entry or a row (by its key, or the first digits) was made of, as a tree of lines down to the leaves.

    ValueError unless exactly one key begins so.
    """
    known = {entry.key: entry for entry in entries()}
    found = {name: (_title(entry), entry.card) for name, entry in known.items() if name.startswith(key)}
    for path in root().glob(f"*/rows/*/{key}*.json"):
        run, table = path.parts[-4], path.parts[-2]
        if row := read_row(run, table, path.stem):
            remark = "" if "entries" in row else "  (predates dependency tracking: only keys among its fields are followed)"
            found[path.stem] = (f"row {path.stem} of {table} in run {run}{remark}", row)
    if len(found) != 1:
        some = f": {', '.join(sorted(found)[:5])}" if found else "; `python -m rtalib store ls` lists them"
        raise ValueError(f"key: {'several entries or rows begin' if found else 'no entry or row begins'} with {key!r}{some}")
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


# -------------------------------------------------------------------------------------------------- garbage collection


@dataclass(frozen=True)
class Garbage:
    """Something that nothing needs: where it is, why it may go, and its bytes."""

    path: Path
    reason: str
    bytes: int


def gc(*, delete: bool = False, days: float = DAYS) -> tuple[list[Garbage], list[str]]:
    """What may go, and remarks on what is kept although no row reaches it; only `delete` removes anything.

    Kept are the entries that stored rows reach, also rows of seeds that the last plan of their table does not name; entries younger than
    `days`; and all entries while a process holds a lock, or if a row is damaged or predates dependency tracking. Everything set aside or
    half removed goes, and the work folders, locks and temporary files of dead processes. What another process locks meanwhile stays.
    """
    hidden = _hidden()
    garbage = [Garbage(path, reason, size_of(path)) for path in hidden if (reason := _reason(path))]
    known = {entry.key: entry for entry in entries()}
    reached, untracked_rows, damaged = _reached(known)
    unreached = [entry for name, entry in known.items() if name not in reached]
    old = [entry for entry in unreached if _age(entry.path / "card.json") > 86400 * days]
    remarks = []
    if damaged:
        remarks.append(f"{damaged} rows are damaged; the {len(unreached)} entries that no other row reaches are kept")
    elif untracked_rows:
        remarks.append(
            f"{untracked_rows} rows predate dependency tracking; the {len(unreached)} entries that no other row reaches are kept"
        )
    elif unreached and _at_work(hidden):
        remarks.append(f"a run is at work; the {len(unreached)} entries that no row reaches are kept")
    else:
        garbage += [Garbage(entry.path, UNREACHED, size_of(entry.path)) for entry in old]
        if young := len(unreached) - len(old):
            remarks.append(f"{young} entries that no row reaches are younger than {days:g} days and kept")
    if delete:
        # a run may begin meanwhile, and find what no row reaches yet
        garbage = [item for item in garbage if not (item.reason == UNREACHED and _at_work(_hidden())) and _remove(item.path)]
    return garbage, remarks


def _at_work(hidden: list[Path]) -> bool:
    """Whether a process computes a cell or makes an entry."""
    return any(path.name.endswith(".lock") and is_locked(path) for path in hidden)


def _reached(known: dict[str, Entry]) -> tuple[set[str], int, int]:
    """Keys of the entries that rows rest on, down to the leaves; how many rows predate dependency tracking; how many are damaged."""
    reached, untracked_rows, damaged = set(), 0, 0
    for path in root().glob("*/rows/*/[!.]*.json"):
        row = read_row(path.parts[-4], path.parts[-2], path.stem)
        if row is None:
            damaged += path.exists()
            continue
        untracked_rows += "entries" not in row
        ahead = parents(row, known)
        while ahead:
            name = ahead.pop()
            if name in known and name not in reached:
                reached.add(name)
                ahead += parents(known[name].card, known)
    return reached, untracked_rows, damaged


def _hidden() -> list[Path]:
    """Hidden files and folders of the store and of the runs: locks, work, temporary and set-aside things."""
    patterns = (".*", "store/.*", "store/*/.*", "*/plans/.*", "*/rows/*/.*", "*/notebooks/.*")
    return sorted(path for pattern in patterns for path in root().glob(pattern))


def _reason(path: Path) -> str:
    """Why a hidden file or folder may go, or ''."""
    name = path.name
    if name.startswith(".corrupt-"):
        return "set aside as corrupt"
    if name.startswith(".gone-"):
        return "half removed"
    if ".work" in name and not is_locked(_lock_of(path)):
        return "work of a dead process"
    if name.endswith(".lock") and not is_locked(path):
        return "lock of a dead process"
    if (name.endswith(".tmp") or ".lock." in name) and _age(path) > _TEMPORARY:
        return "temporary, of a dead process"
    return ""


def _lock_of(path: Path) -> Path:
    """The lock of an entry or of a work folder; another hidden thing has one that nobody else uses."""
    return lock_path(path.parent, path.name[1:17] if path.name.startswith(".") else path.name[-16:])


def _remove(path: Path) -> bool:
    """Remove a file or a folder under its lock; False if another process holds the lock."""
    try:
        if path.name.endswith(".lock"):
            with locked(path, wait=False):  # takes it over from a dead process, and releases it
                return True
        gone = path.with_name(f".gone-{path.name}")
        with locked(_lock_of(path), wait=False), contextlib.suppress(FileNotFoundError):  # another gc was faster
            os.replace(path, gone)  # nobody may find half an entry
        remove(gone)
        return True
    except LockHeld:
        return False
