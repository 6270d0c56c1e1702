"""What a report reads in a run's folder: rows, figures with their words, notebooks; and what their rows say of cost and origin."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rtalib.data import pictures

PIXELS_PER_INCH = 118  # at which a figure of two columns (7.1 inches) fills the page


def owner(name: str, ids: Sequence[str]) -> str | None:
    """The table or figure of a paper, one of `ids`, that begins the name of a file ("cf-table2-nulls", "cf-figure4a"); or None."""
    fits = [id for id in ids if name.startswith(id) and not name[len(id) :][:1].isdigit()]
    return max(fits, key=len) if fits else None


@dataclass(frozen=True)
class Picture:
    """figures/<name>.png: its address from the run's folder, the vector files beside it, what it shows ("" in older files), its size.

    width, height: pixels on a page, such that all figures have letters of one size.
    """

    name: str
    path: str
    vectors: tuple[str, ...]
    words: str
    width: int
    height: int

    @property
    def title(self) -> str:
        text = self.name.replace("_", " ").replace("-", " ")
        for short, full in (("rta ", "RTA, "), ("cf ", "CF-DARTS, ")):
            text = full + text.removeprefix(short) if text.startswith(short) else text
        return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Saved:
    """tables/<name>.csv, by its address from the run's folder, with its content."""

    name: str
    path: str
    table: pd.DataFrame


def read_all(folder: Path) -> dict[str, list[dict]]:
    """{table: rows} of the tables that have any. FileNotFoundError where the folder does not exist."""
    if not folder.is_dir():
        raise FileNotFoundError(f"run: {folder} is no folder; expected a run's folder with rows/, figures/ or tables/ in it")
    names = [path.name for path in sorted((folder / "rows").glob("*")) if path.is_dir()]
    return {table: rows for table in names if (rows := read_rows(folder, table))}


def read_rows(folder: Path, table: str) -> list[dict]:
    """Rows of a table in the run's folder; those of its plan, in its order, where plans/<table>.json exists."""
    here, plan = folder / "rows" / table, _plan(folder, table)
    paths = sorted(here.glob("*.json")) if plan is None else [here / f"{key}.json" for key in plan]
    return [_read(path) for path in paths if path.exists()]


def planned(folder: Path, table: str) -> int:
    """How many cells the table's plan has; 0 without a plan."""
    return len(_plan(folder, table) or ())


def _plan(folder: Path, table: str) -> list[str] | None:
    path = folder / "plans" / f"{table}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _read(path: Path) -> dict:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not a JSON object ({error}); remove the file and run its table again") from error
    if not isinstance(row, dict):
        raise ValueError(f"{path}: expected a JSON object, got {str(row)[:80]}")
    return row


def figures(folder: Path) -> list[Picture]:
    """figures/*.png by name, with the description that style.save wrote into them."""
    found = []
    for path in sorted((folder / "figures").glob("*.png")):
        vectors = tuple(p.relative_to(folder).as_posix() for kind in (".svg", ".pdf") if (p := path.with_suffix(kind)).exists())
        with pictures.opened(str(path), path) as image:
            words = str(image.info.get("Description", ""))
            scale = PIXELS_PER_INCH / image.info.get("dpi", (PIXELS_PER_INCH,))[0]
            size = [round(scale * side) for side in image.size]
        found.append(Picture(path.stem, path.relative_to(folder).as_posix(), vectors, words, *size))
    return found


def saved(folder: Path) -> list[Saved]:
    """tables/*.csv by name."""
    return [Saved(path.stem, path.relative_to(folder).as_posix(), pd.read_csv(path)) for path in sorted((folder / "tables").glob("*.csv"))]


def notebooks(folder: Path) -> list[str]:
    """Executed notebooks, by their address from the folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def seconds(rows: Sequence[Mapping]) -> float:
    return float(sum(float(row.get("seconds") or 0) for row in rows))


def costs(rows: Mapping[str, list[dict]]) -> list[dict]:
    """Seconds per cell: table, method, number of cells, mean, greatest and total."""
    found = []
    for table, all_rows in rows.items():
        for method in dict.fromkeys(str(row.get("method", "")) for row in all_rows):
            spent = [float(row["seconds"]) for row in all_rows if str(row.get("method", "")) == method and row.get("seconds") is not None]
            if spent:
                cost = {"cells": len(spent), "mean": sum(spent) / len(spent), "most": max(spent), "total": sum(spent)}
                found.append({"table": table, "method": method, **cost})
    return found


def stamps(rows: Sequence[Mapping]) -> list[dict]:
    """The different origins of the rows (all facts but the time), with how many rows have each and from when to when."""
    found: dict[str, dict] = {}
    for row in rows:
        stamp = dict(row.get("stamp") or {})
        time = str(stamp.pop("time", ""))
        entry = found.setdefault(json.dumps(stamp, sort_keys=True), {"facts": stamp, "rows": 0, "first": time, "last": time})
        entry["rows"] += 1
        entry["first"], entry["last"] = min(entry["first"], time), max(entry["last"], time)
    return [entry | {"facts": {name: _plain(value) for name, value in entry["facts"].items()}} for entry in found.values()]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return {True: "yes", False: "no", None: "none"}.get(value, str(value)) if isinstance(value, (bool, type(None))) else str(value)
