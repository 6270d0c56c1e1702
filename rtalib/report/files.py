"""What a report reads in a run's folder: rows, figures with their descriptions, notebooks; and the costs and origins of the rows."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from rtalib.data import pictures
from rtalib.infra import store

T = TypeVar("T")
NAMES = {"scale": str, "dataset": str, "protocol": str, "method": str, "corruption": str, "seed": int}  # by which rows are told apart

PIXELS_PER_INCH = 118  # at which a figure of two columns (7.1 inches) fills the page


@dataclass(frozen=True)
class Picture:
    """figures/<name>.png: its path in the run's folder, the vector files beside it, its description and look ("" in older files), its size.

    width, height: pixels on a page, such that the letters of all figures have one size.
    """

    name: str
    path: str
    vectors: tuple[str, ...]
    words: str
    look: str
    width: int
    height: int

    @property
    def title(self) -> str:
        first, *others = self.name.replace("_", " ").replace("-", " ").split(" ")
        first = {"rta": "RTA,", "cf": "CF-DARTS,"}.get(first, first[:1].upper() + first[1:])
        return " ".join([first, *others])


def owner(name: str, ids: Sequence[str]) -> str | None:
    """The one of `ids` that begins the name of a file ("cf-table2-nulls", "cf-figure4a"), the longest if several do; or None."""
    return max((id for id in ids if name.startswith(id) and not name[len(id) :][:1].isdigit()), key=len, default=None)


def whole(read: Callable[[Path], T], paths: Iterable[Path], left_out: list[str]) -> dict[Path, T]:
    """What `read` returns of these files; those that are damaged are named in `left_out`, with the reason."""
    found = {}
    for path in paths:
        try:
            found[path] = read(path)
        except (ValueError, TypeError) as error:
            left_out.append(f"{path}: {' '.join(str(error).split())}")
    return found


def read_all(folder: Path, left_out: list[str]) -> dict[str, list[dict]]:
    """{table: its rows}, for the tables that have any: those of the table's plan in its order, or all without a plan.

    FileNotFoundError if the folder does not exist.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"run: {folder} is no folder; expected a run's folder with rows/, figures/ or tables/ in it")
    tables = [path.name for path in sorted((folder / "rows").glob("*")) if path.is_dir()]
    return {table: rows for table in tables if (rows := read_table(folder, table, left_out))}


def read_table(folder: Path, table: str, left_out: list[str]) -> list[dict]:
    """The rows of one table, see `read_all`; [] if the run has none."""
    keys, rows = plan(folder, table, left_out), folder / "rows" / table
    paths = sorted(rows.glob("[!.]*.json")) if keys is None else [rows / f"{key}.json" for key in keys]
    return list(whole(_row, filter(Path.exists, paths), left_out).values())


def _row(path: Path) -> dict:
    row = store.check_row(path)
    for name, kind in NAMES.items():
        if row.get(name) is not None and not isinstance(row[name], kind):
            raise ValueError(f"{name}: expected {kind.__name__}, got {str(row[name])[:60]!r}")
    return row


def plan(folder: Path, table: str, left_out: list[str]) -> list[str] | None:
    """The keys of the table's cells in plans/<table>.json, if there is one."""
    path = folder / "plans" / f"{table}.json"
    return whole(store.check_plan, [path] if path.exists() else [], left_out).get(path)


def figures(folder: Path, left_out: list[str]) -> list[Picture]:
    """figures/*.png by name, with the description that `figures.save` wrote into them."""
    return list(whole(partial(_figure, folder), sorted((folder / "figures").glob("*.png")), left_out).values())


def _figure(folder: Path, path: Path) -> Picture:
    vectors = tuple(p.relative_to(folder).as_posix() for kind in (".svg", ".pdf") if (p := path.with_suffix(kind)).exists())
    with pictures.opened("it", path) as image:
        words, look = (str(image.info.get(name, "")) for name in ("Description", "Look"))
        scale = PIXELS_PER_INCH / image.info.get("dpi", (PIXELS_PER_INCH,))[0]
        size = [round(scale * side) for side in image.size]
        image.verify()  # the checksums in the file
    return Picture(path.stem, path.relative_to(folder).as_posix(), vectors, words, look, *size)


def costs(rows: Mapping[str, list[dict]]) -> list[dict]:
    """Seconds per cell: table, method, number of cells, mean, greatest and total."""
    spent: dict[tuple[str, str], list[float]] = {}
    for table, row in ((table, row) for table, found in rows.items() for row in found if row.get("seconds") is not None):
        spent.setdefault((table, str(row.get("method", ""))), []).append(float(row["seconds"]))
    facts = {"cells": len, "mean": lambda each: sum(each) / len(each), "most": max, "total": sum}
    return [{"table": table, "method": method, **{name: of(each) for name, of in facts.items()}} for (table, method), each in spent.items()]


def stamps(rows: Sequence[Mapping]) -> list[dict]:
    """The different origins of the rows (all facts but the time), with how many rows have each, and from when to when."""
    found: dict[str, dict] = {}
    for row in rows:
        facts = {name: _plain(value) for name, value in (row.get("stamp") or {}).items()}
        time = facts.pop("time", "")
        entry = found.setdefault(json.dumps(facts, sort_keys=True), {"facts": facts, "rows": 0, "first": time, "last": time})
        entry |= {"rows": entry["rows"] + 1, "first": min(entry["first"], time), "last": max(entry["last"], time)}
    return list(found.values())


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return {"True": "yes", "False": "no", "None": "none"}.get(str(value), str(value))
