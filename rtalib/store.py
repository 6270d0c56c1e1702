"""Content-addressed artefacts and result rows on disk; a folder is an entry and its rename is the commit.

An artefact's key is a hash of [recipe, version, parameters], where inputs appear as keys, never as tensors. Its folder is written under a
work name and renamed when complete, so a crash leaves only the work folder, which the next builder gets back: checkpoints in it resume.
A lock that the operating system drops when its holder dies keeps two processes from computing the same thing.

Layout: outputs()/store/<recipe>/<label>-<key>/{card.json, payload}; outputs()/<run>/rows/<table>/<key>.json;
outputs()/<run>/plans/<table>.json names the rows that the table's last run consists of.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rtalib.provenance import stamp


def outputs() -> Path:
    """The folder for everything that runs produce: $RTALIB_OUTPUTS, else outputs/ in the clone around the working folder, else here."""
    if chosen := os.environ.get("RTALIB_OUTPUTS"):
        return Path(chosen).absolute()
    here = Path.cwd()
    clones = (folder for folder in (here, *here.parents) if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").exists())
    return next(clones, here) / "outputs"


# ---------------------------------------------------------------------------------------------------------------- keys


def plain(value: Any, where: str = "parameters") -> Any:
    """`value` as JSON types: dataclasses become dicts, tuples lists. Other types raise; floats must be finite."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: {value} cannot be part of a key; expected a finite number")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{where}: {type(value).__name__} cannot be part of a key; expected JSON types, tuples or dataclasses")


def key(recipe: str, version: int, parameters: Any) -> str:
    """16 hex digits. Equal for any order of names and for tuple or list; 1 and 1.0 differ, and so do versions."""
    text = json.dumps([recipe, version, plain(parameters)], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --------------------------------------------------------------------------------------------------------------- files


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` (created, and left behind empty); waits for another holder, dead ones do not count."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    """Whether a living process holds `path`."""
    if not path.exists():
        return False
    with open(path, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write `path` so that a reader, or a crash, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as handle:
        handle.write(data.encode() if isinstance(data, str) else data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


# ----------------------------------------------------------------------------------------------------------- artefacts


@dataclasses.dataclass(frozen=True)
class Entry:
    """A finished artefact: its folder and its card (recipe, version, parameters, files with digests, seconds, stamp)."""

    path: Path
    card: dict

    @property
    def key(self) -> str:
        return self.card["key"]


def find(recipe: str, key: str) -> Entry | None:
    """The finished entry, or None. An entry whose files are missing or changed in size is set aside, not returned."""
    for path in (outputs() / "store" / recipe).glob(f"*-{key}"):
        card = json.loads((path / "card.json").read_text())
        if all((path / name).exists() and (path / name).stat().st_size == facts["bytes"] for name, facts in card["files"].items()):
            return Entry(path, card)
        os.replace(path, path.with_name(f".corrupt-{path.name}-{time.time_ns()}"))
    return None


def make(recipe: str, version: int, parameters: Any, build: Callable[[Path], None], *, label: str = "entry") -> Entry:
    """The entry for these parameters; `build(folder)` writes its files when it is not there yet.

    `folder` keeps what an interrupted build of the same key left in it. Files and folders whose names begin with "checkpoint" are for
    that purpose alone and are dropped at the end. An exception in `build` leaves no entry, and nothing is cached for it.
    """
    name = key(recipe, version, parameters)
    home = outputs() / "store" / recipe
    if entry := find(recipe, name):
        return entry
    with locked(home / f".{name}.lock"):
        if entry := find(recipe, name):
            return entry
        work = home / f".{name}.work"
        work.mkdir(parents=True, exist_ok=True)
        started = time.time()
        build(work)
        for left in work.glob("checkpoint*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        card = {"key": name, "recipe": recipe, "version": version, "parameters": plain(parameters)}
        card |= {"seconds": round(time.time() - started, 3), "files": _files(work), "stamp": stamp()}
        write_atomic(work / "card.json", json.dumps(card, indent=1))
        final = home / f"{label}-{name}"
        os.replace(work, final)
        return Entry(final, card)


def _files(folder: Path) -> dict[str, dict]:
    """Name -> size and digest of every file below `folder`, each flushed to the disk first."""
    facts = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "card.json"):
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
        facts[str(path.relative_to(folder))] = {"bytes": path.stat().st_size, "sha256": digest(path)}
    return facts


# ---------------------------------------------------------------------------------------------------------------- rows


def row_path(run: str, table: str, key: str) -> Path:
    return outputs() / run / "rows" / table / f"{key}.json"


def write_row(run: str, table: str, key: str, row: dict) -> None:
    """Store one finished cell of a table."""
    write_atomic(row_path(run, table, key), json.dumps(row, indent=1))


def read_row(run: str, table: str, key: str) -> dict | None:
    """The stored row, or None."""
    path = row_path(run, table, key)
    return json.loads(path.read_text()) if path.exists() else None


def write_plan(run: str, table: str, keys: list[str]) -> None:
    """Note which cells the table consists of; `rows` and the status go by it."""
    write_atomic(outputs() / run / "plans" / f"{table}.json", json.dumps(keys))


def read_plan(run: str, table: str) -> list[str]:
    path = outputs() / run / "plans" / f"{table}.json"
    return json.loads(path.read_text()) if path.exists() else []


def tables(run: str) -> list[str]:
    """Tables that were begun in this run."""
    return sorted(path.stem for path in (outputs() / run / "plans").glob("*.json"))


def rows(run: str, table: str) -> list[dict]:
    """The finished rows of the table's last run, in the order of its cells."""
    found = (read_row(run, table, name) for name in read_plan(run, table))
    return [row for row in found if row is not None]
