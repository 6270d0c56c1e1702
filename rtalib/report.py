"""One HTML file that shows a run: every published number beside the measured one, verdicts, figures, costs and provenance.

It is built from what lies in the run's folder alone and holds its pictures, so it opens without a network and can be sent around.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rtalib import papers, tables
from rtalib.papers import Published
from rtalib.store import outputs
from rtalib.table_style import RULES, VERDICT_COLOURS

PAPERS = {"rta": "RTA + iterative search", "cf": "CF-DARTS"}
GROUP = ("scale", "dataset", "protocol")  # rows that differ in these are shown apart
PREVIEW = 60  # lines of a saved table that are shown


@dataclass(frozen=True)
class Block:
    """Rows of one table at one scale, data set and protocol, made ready for the page."""

    name: str
    comparison: Markup
    verdicts: Markup
    wins: Markup
    seeds: str
    cells: int
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Section:
    """A published table, or a table of rows that no paper has (`published` None)."""

    id: str
    heading: str
    published: Published | None
    blocks: list[Block] = field(default_factory=list)
    planned: int = 0
    paper_only: Markup = Markup("")


def write(run: Path | str, *, title: str = "rtalib", name: str = "report.html") -> Path:
    """Build <folder>/<name> and return its path. `run` is a run's name below the outputs folder (str), or its folder (Path).

    Reads rows/<table>/*.json (only those of plans/<table>.json where there is a plan), figures/*.png, tables/*.csv and notebooks (*.ipynb).
    FileNotFoundError where the folder does not exist; ValueError naming the file where a row is not a JSON object.
    """
    folder = run if isinstance(run, Path) else outputs() / run
    if not folder.is_dir():
        raise FileNotFoundError(f"run: {folder} is no folder; expected a run's folder with rows/, figures/ or tables/ in it")
    rows = {path.name: read_rows(folder, path.name) for path in sorted((folder / "rows").glob("*")) if path.is_dir()}
    ids = [*papers.PUBLISHED, *(table for table, found in rows.items() if found and table not in papers.PUBLISHED)]
    rows = {table: rows[table] for table in ids if rows.get(table)}
    tested = {(table, group): _verdicts(found, table) for table, all_rows in rows.items() for group, found in _groups(all_rows).items()}
    every = [row for found in rows.values() for row in found]
    page = _environment().get_template("report.html.jinja")
    text = page.render(
        title=title,
        facts=tables.context(every),
        sections=[_section(folder, id, rows.get(id, []), tested) for id in ids],
        papers=PAPERS,
        tally=_tally(tested.values()),
        claims=_claims_overview(tested),
        figures=_figures(folder),
        saved=_saved_tables(folder),
        notebooks=sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts),
        costs=_costs(rows),
        stamps=_stamps(every),
    )
    target = folder / name
    target.write_text(text, encoding="utf-8")
    return target


def read_rows(folder: Path, table: str) -> list[dict]:
    """Rows of a table in the run's folder; those of its plan, in its order, where plans/<table>.json exists."""
    plan = folder / "plans" / f"{table}.json"
    here = folder / "rows" / table
    paths = [here / f"{key}.json" for key in json.loads(plan.read_text())] if plan.exists() else sorted(here.glob("*.json"))
    return [_read(path) for path in paths if path.exists()]


def _read(path: Path) -> dict:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not a JSON object ({error}); remove the file and run its table again") from error
    if not isinstance(row, dict):
        raise ValueError(f"{path}: expected a JSON object, got {str(row)[:80]}")
    return row


def _environment() -> Environment:
    blocks = {"trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=PackageLoader("rtalib"), autoescape=True, undefined=StrictUndefined, **blocks)
    environment.filters["number"] = lambda value: f"{value:,.1f}" if isinstance(value, float) else str(value)
    environment.filters["label"] = papers.label
    return environment


# ------------------------------------------------------------------------------------------------------------ sections


def _groups(rows: Sequence[Mapping]) -> dict[tuple, list[Mapping]]:
    """Rows by (scale, data set, protocol)."""
    found: dict[tuple, list[Mapping]] = {}
    for row in rows:
        found.setdefault(tuple(str(row.get(name) or "") for name in GROUP), []).append(row)
    return found


def _section(folder: Path, id: str, rows: list[dict], tested: Mapping) -> Section:
    published = papers.PUBLISHED.get(id)
    heading = f"{_number(published)}. {published.title}" if published else id
    plan = folder / "plans" / f"{id}.json"
    planned = len(json.loads(plan.read_text())) if plan.exists() else len(rows)
    if not rows:
        return Section(id, heading, published, paper_only=_published_alone(published))
    blocks = [_block(id, " · ".join(filter(None, group)), found, tested[id, group]) for group, found in _groups(rows).items()]
    return Section(id, heading, published, blocks, planned)


def _number(published: Published) -> str:
    return published.table.replace("table", "Table ") if published.table.startswith("table") else f"Authors' notebook: {published.table}"


def _block(id: str, name: str, rows: list[dict], tested: pd.DataFrame | str) -> Block:
    facts = {"seeds": tables.context(rows).get("seed", "not stated"), "cells": len(rows), "seconds": _seconds(rows)}
    published = papers.PUBLISHED.get(id)
    try:
        shown = tables.style(tables.compare(rows, published)) if published else tables.frame(rows).style.format(precision=1, escape="html")
        wins = _wins(rows, id, name)
        comparison = _render(shown, id, name, "rows")
    except ValueError as error:  # rows that must not be averaged: the page says so in the table's place
        return Block(name, Markup(""), Markup(""), Markup(""), **facts, error=str(error))
    if isinstance(tested, str):
        return Block(name, comparison, Markup(""), wins, **facts, error=tested)
    verdicts = _render(tables.style(tested), id, name, "claims") if len(tested) else Markup("")
    return Block(name, comparison, verdicts, wins, **facts)


def _wins(rows: list[dict], *identity: str) -> Markup:
    """Corruptions won per method, where one corruption guided all rows and the original network is among them."""
    one_guide = len({row["corruption"] for row in rows if row.get("corruption")}) == 1
    table = tables.wins(rows) if one_guide and any(row.get("method") == "Org. DNN" for row in rows) else pd.DataFrame()
    return _render(tables.style(table), *identity, "wins") if len(table) else Markup("")


def _render(styler: pd.io.formats.style.Styler, *identity: str) -> Markup:
    """HTML of a styled table; its ids come from its place on the page, so the same run gives the same file."""
    identifier = "".join(c if c.isalnum() else "-" for c in "-".join(identity))
    return Markup(styler.set_uuid(identifier).to_html())


def _published_alone(published: Published) -> Markup:
    table = tables.wide(tables.compare([], published)[["published", "measured", "interval", "seeds", "difference"]])
    table = table[["published"]] if "published" in table else table.droplevel(1)
    digits = 1 if published.unit == "percent" else 2 if published.unit == "hours" else 0
    return _render(table.style.format(precision=digits, na_rep="", thousands=",").set_table_styles(RULES), published.id, "published")


def _verdicts(rows: list[dict], table: str) -> pd.DataFrame | str:
    """Verdicts of the table's claims, or why they cannot be given."""
    try:
        return tables.verdicts(rows, papers.CLAIMS.get(table, ()))
    except ValueError as error:
        return str(error)


def _tally(tested: Sequence[pd.DataFrame | str]) -> dict[str, int]:
    """How many claims of the measured tables have each verdict."""
    counts = dict.fromkeys(VERDICT_COLOURS, 0)
    for table in tested:
        for verdict in [] if isinstance(table, str) else table["verdict"]:
            counts[verdict] += 1
    return counts


def _claims_overview(tested: Mapping[tuple, pd.DataFrame | str]) -> list[dict]:
    """The measured claims, one line each, for the head of the page."""
    found = []
    for (table, group), frame in tested.items():
        for line in [] if isinstance(frame, str) else frame.to_dict("records"):
            if line["verdict"] != "missing":
                found.append({**line, "table": table, "group": " · ".join(filter(None, group))})
    return found


# ----------------------------------------------------------------------------------------------- files, costs, origins


def _figures(folder: Path) -> list[dict]:
    """figures/*.png as data addresses, with links to the vector files beside them."""
    found = []
    for path in sorted((folder / "figures").glob("*.png")):
        vectors = [path.with_suffix(kind).relative_to(folder).as_posix() for kind in (".svg", ".pdf") if path.with_suffix(kind).exists()]
        data = base64.b64encode(path.read_bytes()).decode()
        found.append({"name": path.stem.replace("_", " ").replace("-", " "), "data": f"data:image/png;base64,{data}", "vectors": vectors})
    return found


def _saved_tables(folder: Path) -> list[dict]:
    """tables/*.csv with their first lines."""
    found = []
    for path in sorted((folder / "tables").glob("*.csv")):
        table = pd.read_csv(path)
        shown = table.head(PREVIEW).to_html(index=False, na_rep="", float_format="{:.2f}".format, border=0)
        found.append({"name": path.name, "path": path.relative_to(folder).as_posix(), "lines": len(table), "html": Markup(shown)})
    return found


def _seconds(rows: Sequence[Mapping]) -> float:
    return float(sum(float(row.get("seconds") or 0) for row in rows))


def _costs(rows: Mapping[str, list[dict]]) -> list[dict]:
    """Seconds per cell: table, method, number of cells, mean, greatest and total."""
    found = []
    for table, all_rows in rows.items():
        for method in dict.fromkeys(str(row.get("method", "")) for row in all_rows):
            spent = [float(row["seconds"]) for row in all_rows if str(row.get("method", "")) == method and row.get("seconds") is not None]
            if spent:
                cost = {"cells": len(spent), "mean": sum(spent) / len(spent), "most": max(spent), "total": sum(spent)}
                found.append({"table": table, "method": method, **cost})
    return found


def _stamps(rows: Sequence[Mapping]) -> list[dict]:
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
