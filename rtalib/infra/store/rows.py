"""Result rows of tables, one file each, and the plans that say which rows a table consists of."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtalib.errors import unknown
from rtalib.infra.store.files import set_aside, write_atomic
from rtalib.infra.store.keys import root

if TYPE_CHECKING:
    import pandas as pd


def row_path(run: str, table: str, key: str) -> Path:
    return root() / run / "rows" / table / f"{key}.json"


def write_row(run: str, table: str, key: str, row: dict) -> None:
    """Store one finished cell of a table."""
    write_atomic(row_path(run, table, key), json.dumps(row, indent=1))


def read_row(run: str, table: str, key: str) -> dict | None:
    """The stored row, or None; a truncated or otherwise unreadable one is set aside, with a warning."""
    return _read_json(row_path(run, table, key), dict)


def _read_json(path: Path | str, kind: type) -> Any:
    try:
        with open(path, "rb") as stream:
            found = json.loads(stream.read())
    except FileNotFoundError:
        return None
    except ValueError as error:
        set_aside(Path(path), f"no JSON ({error})")
        return None
    if not isinstance(found, kind):
        set_aside(Path(path), f"expected a JSON {kind.__name__}, got {type(found).__name__}")
        return None
    return found


def write_plan(run: str, table: str, keys: list[str]) -> None:
    """Record which cells the table consists of; `rows` and the status read it."""
    write_atomic(root() / run / "plans" / f"{table}.json", json.dumps(keys))


def read_plan(run: str, table: str) -> list[str]:
    return _read_json(root() / run / "plans" / f"{table}.json", list) or []


def tables(run: str) -> list[str]:
    """Tables begun in this run."""
    return sorted(path.stem for path in (root() / run / "plans").glob("[!.]*.json"))


def rows(run: str, table: str) -> list[dict]:
    """The finished rows of the table's last run, in the order of its cells."""
    folder = row_path(run, table, "").parent
    found = (_read_json(f"{folder}/{name}.json", dict) for name in read_plan(run, table))
    return [row for row in found if row is not None]


def frame(run: str, tables: Sequence[str] | None = None) -> "pd.DataFrame":
    """The finished rows of some tables of a run, or of all; the column `table` names the table of each. Needs pandas."""
    import pandas as pd

    begun = _begun(run)
    for name in tables or ():
        if name not in begun:
            raise unknown("table", name, begun)
    return pd.DataFrame([{"table": name} | row for name in (begun if tables is None else tables) for row in rows(run, name)])


_begun = tables  # an argument of `frame` has its name
