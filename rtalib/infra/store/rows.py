"""Result rows of tables, one file each, and the plans that say which rows a table consists of."""

import json
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtalib.errors import check_kind, check_name
from rtalib.infra.store.files import move_aside, write_atomic
from rtalib.infra.store.keys import root
from rtalib.infra.store.sealed import seal, unseal

if TYPE_CHECKING:
    import pandas as pd

NAME = re.compile(r"[^./\0][^/\0]*")  # a key that stays in its folder
FACTS = {"key": str, "table": str, "seconds": (int, float), "cpu_seconds": (int, float), "entries": list, "stamp": dict}  # of the grid


def row_path(run: str | Path, table: str, key: str) -> Path:
    check_kind("key", key, str, "a key")
    return _folder(run, "rows", table) / f"{key}.json"


def _folder(run: str | Path, kind: str, table: str) -> Path:
    check_kind("run", run, (str, Path), "the name of a run, or its folder")
    check_kind("table", table, str, "the name of a table")
    return root() / run / kind / table


def write_row(run: str, table: str, key: str, row: dict) -> None:
    """Store one finished cell of a table."""
    write_atomic(row_path(run, table, key), seal(row))


def read_row(run: str, table: str, key: str) -> dict | None:
    """The stored row, or None; one that was truncated or changed counts as missing, with a warning. Nothing is written."""
    return _read(row_path(run, table, key))


def has_row(run: str, table: str, key: str) -> bool:
    """Whether the row is stored; one that was truncated or changed is set aside. To be called by the holder of the cell's lock."""
    path = row_path(run, table, key)
    try:
        return path.exists() and bool(check_row(path))
    except ValueError:
        move_aside(path)
        return False


def check_row(path: Path | str) -> dict:
    """The row in a file; ValueError that says what is wrong with it."""
    with open(path, "rb") as file:
        row = unseal(file.read())
    for name, kind in FACTS.items():
        if row.get(name) is not None and not isinstance(row[name], kind):
            raise ValueError(f"{name}: expected {kind}, got {str(row[name])[:60]!r}")
    return row


def check_plan(path: Path) -> list[str]:
    """The keys of a table's cells in a plan; ValueError that says what is wrong with it."""
    text = path.read_bytes()
    keys = json.loads(text) if text.startswith(b"[") else unseal(text).get("keys")  # a list before plans had checksums
    if not isinstance(keys, list) or not all(isinstance(key, str) and NAME.fullmatch(key) for key in keys):
        raise ValueError("expected a list of keys")
    return keys


def _read(path: Path | str, check: Callable = check_row) -> Any:
    try:
        return check(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        # one place, so that Python prints it once
        warnings.warn(f"{path}: {error}; it counts as missing until its table is computed again", stacklevel=1)
        return None


def write_plan(run: str, table: str, keys: list[str]) -> None:
    """Record which cells the table consists of; `rows` and the status read it."""
    write_atomic(_folder(run, "plans", table).with_name(f"{table}.json"), seal({"keys": keys}))


def read_plan(run: str | Path, table: str) -> list[str]:
    return _read(_folder(run, "plans", table).with_name(f"{table}.json"), check_plan) or []


def tables(run: str) -> list[str]:
    """Tables begun in this run."""
    return sorted(path.stem for path in (root() / run / "plans").glob("[!.]*.json"))


def rows(run: str, table: str) -> list[dict]:
    """The finished rows of the table's last run, in the order of its cells."""
    folder = row_path(run, table, "").parent
    found = (_read(f"{folder}/{name}.json") for name in read_plan(run, table))
    return [row for row in found if row is not None]


def further(run: str | Path, table: str) -> str:
    """A line about rows on disk of seeds that the table's last plan does not name, or ''. run: its name, or its folder.

    Rows of the planned seeds are parts of other tables, such as the training sets that several tables share.
    """
    planned, folder = set(read_plan(run, table)), row_path(run, table, "any").parent
    others = [path for path in folder.glob("[!.]*.json") if path.stem not in planned] if planned else []
    seeds = {_seed(folder / f"{key}.json") for key in planned} if others else set()
    count = sum(_seed(path) not in seeds for path in others)
    return f"{table}: {count} further rows are stored, of seeds that its last plan does not name" if count else ""


def _seed(path: Path) -> int | None:
    return (_read(path) or {}).get("seed")


def frame(run: str, tables: Sequence[str] | None = None) -> "pd.DataFrame":
    """The finished rows of some tables of a run, or of all; the column `table` names the table of each. Needs pandas."""
    import pandas as pd

    begun = _begun(run)
    for name in tables or ():
        check_name("table", name, begun)
    return pd.DataFrame([{"table": name} | row for name in (begun if tables is None else tables) for row in rows(run, name)])


_begun = tables  # an argument of `frame` has its name
