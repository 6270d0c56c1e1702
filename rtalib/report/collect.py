"""What a report says, collected from a run's folder: sections of rows beside published numbers, claims, costs, origins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from rtalib.experiments.repair import chance, gain_parts, together
from rtalib.experiments.rta import severity_budget
from rtalib.experiments.rta.score import PARTS
from rtalib.infra.store import further, outputs
from rtalib.report import files, notebooks
from rtalib.results import papers, tables
from rtalib.results.contrasts import with_contrasts
from rtalib.results.papers import TITLES, Published

GROUP = ("scale", "dataset", "protocol")  # rows that differ in these are shown apart
MARKS = {
    "reproduced": "✓",
    "not after correction": "~",
    "cannot be decided": "○",
    "not found": "·",
    "not reproduced": "✗",
    "missing": "–",
}
WORDS = {"missing": "not measured"}
# Tables whose claims are tested on rows made of theirs.
MADE = {
    "search-or-chance": chance.with_medians,
    "together": partial(with_contrasts, contrasts=together.CONTRASTS),
    "gain-parts": partial(with_contrasts, contrasts=gain_parts.CONTRASTS),
    "own-starts": partial(with_contrasts, contrasts=gain_parts.CONTRASTS),
    "severity-budget": severity_budget.with_returns,
    "neighbours": gain_parts.with_families,
}
CLAIMS = {table.removeprefix("ours-"): listed for table, listed in papers.CLAIMS.items()}


@dataclass(frozen=True)
class Block:
    """Rows of one table at one scale, data set and protocol.

    comparison: `tables.compare` with the paper's columns (None without a published table, or if `error` says why it cannot be made);
    parts: the same with all parts of the proxy score; plain: the rows of a table that no paper has.
    """

    name: str
    rows: list[dict]
    error: str = ""
    comparison: pd.DataFrame | None = None
    parts: pd.DataFrame | None = None
    plain: pd.DataFrame | None = None
    verdicts: pd.DataFrame | None = None
    wins: pd.DataFrame | None = None

    @property
    def seeds(self) -> str:
        return tables.context(self.rows).get("seed", "not stated")

    @property
    def seconds(self) -> float:
        return float(sum(float(row.get("seconds") or 0) for row in self.rows))

    @property
    def detailed(self) -> pd.DataFrame | None:
        """The comparison with the most columns."""
        return self.comparison if self.parts is None else self.parts


@dataclass(frozen=True)
class Section:
    """A published table or figure, or a table of rows that no paper has (`published` None)."""

    id: str
    published: Published | None
    blocks: list[Block]
    figures: list[files.Picture]
    planned: int = 0

    @property
    def heading(self) -> str:
        return f"{self.published.name}. {self.published.title}" if self.published else TITLES.get(self.id, self.id)


@dataclass(frozen=True)
class Report:
    """Everything that the page and the text say, in their order. claims: one line per claim and group of rows, see `claims`."""

    title: str
    folder: Path
    facts: dict
    claims: pd.DataFrame
    sections: list[Section]
    figures: list[files.Picture]
    saved: dict[str, pd.DataFrame]
    notebooks: list[str]
    costs: list[dict]
    stamps: list[dict]
    left_out: list[str]  # damaged files, what is wrong with each, and rows that no plan names

    @property
    def tally(self) -> dict[str, int]:
        return {verdict: int((self.claims["verdict"] == verdict).sum()) for verdict in MARKS}

    @property
    def machines(self) -> list[str]:
        """GPUs or CPUs that the rows come from, each once."""
        facts = [stamp["facts"] for stamp in self.stamps]
        names = (fact["gpu"] if fact.get("gpu", "none") != "none" else fact.get("cpu", "hardware not stated") for fact in facts)
        return list(dict.fromkeys(names))

    @property
    def claims_by_table(self) -> list[tuple[tuple[str, str], list[dict]]]:
        """(((table, group), its claims), ...)."""
        return by_table(self.claims)

    def of(self, paper: str | None) -> list[Section]:
        """The sections of a paper, "rta" or "cf", or those beyond the papers (None)."""
        return [section for section in self.sections if (section.published and section.published.paper) == paper]


def named(table: str) -> str:
    """ "CF-DARTS, Table 2" for "cf-table2"; the title of a table beyond the papers."""
    published = papers.PUBLISHED.get(table)
    return f"{papers.NAMES[published.paper]}, {published.name}" if published else TITLES.get(table, table)


def by_table(claims: pd.DataFrame) -> list[tuple[tuple[str, str], list[dict]]]:
    """(((table, group), its claims), ...) in their order."""
    return [(name, frame.to_dict("records")) for name, frame in claims.groupby(["table", "group"], sort=False)]


def collect(run: Path | str, title: str = "rtalib") -> Report:
    """Read rows/<table>/*.json (those that plans/<table>.json lists, if it exists), figures/*.png, tables/*.csv and *.ipynb of a run."""
    folder = run if isinstance(run, Path) else outputs() / run
    left_out: list[str] = []
    rows = files.read_all(folder, left_out)
    left_out += filter(None, (further(folder.absolute(), table) for table in rows if table not in papers.STEPS))
    ids = list(dict.fromkeys([*papers.PUBLISHED, *rows]))
    every = [row for table in ids for row in rows.get(table, [])]
    pictures = {picture: files.owner(picture.name, ids) for picture in files.figures(folder, left_out)}
    csvs = [path for path in sorted(folder.glob("tables/*.csv")) if files.owner(path.stem, papers.PUBLISHED) is None]
    return Report(
        title,
        folder,
        facts=tables.context(every),
        claims=_claims(rows),
        sections=[_section(folder, id, rows.get(id, []), [p for p, owner in pictures.items() if owner == id], left_out) for id in ids],
        figures=[picture for picture, owner in pictures.items() if owner is None],
        saved={path.stem: table for path, table in files.whole(pd.read_csv, csvs, left_out).items()},
        notebooks=notebooks.listed(folder),
        costs=files.costs({table: rows[table] for table in ids if table in rows}),
        stamps=files.stamps(every),
        left_out=left_out,
    )


def claims(run: Path | str) -> pd.DataFrame:
    """Every claim of both papers, and ours, as `tables.verdicts` has them, for a run's folder or its name; first `table` and `group`.

    The claims of a table measured at two scales, data sets or protocols appear once for each; those of a table that was not measured have
    the verdict "missing".
    """
    return collect(run).claims


def _claims(rows: Mapping[str, list[dict]]) -> pd.DataFrame:
    found = []
    for table, listed in CLAIMS.items():
        for group, chosen in (_groups(rows.get(table, [])) or {"": []}).items():
            tested = _verdicts(chosen, table)
            tested = tables.verdicts([], listed) if isinstance(tested, str) else tested  # the section of the table says why
            found.append(tested.assign(table=table, group=group))
    table = pd.concat([frame for frame in found if len(frame)], ignore_index=True)
    return table[["table", "group", *table.columns.drop(["table", "group"])]]


def _verdicts(rows: Sequence[dict], table: str) -> pd.DataFrame | str:
    """Verdicts of the table's claims, or why they cannot be given."""
    try:
        return tables.verdicts(MADE[table](rows) if table in MADE else rows, CLAIMS.get(table, ()))
    except (ValueError, TypeError) as error:
        return str(error)


def _groups(rows: Sequence[dict]) -> dict[str, list[dict]]:
    """Rows by "scale · data set · protocol"."""
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(" · ".join(str(row[name]) for name in GROUP if row.get(name)), []).append(row)
    return found


def _section(folder: Path, id: str, rows: list[dict], pictures: list[files.Picture], left_out: list[str]) -> Section:
    blocks = [_block(folder, id, name, found, left_out) for name, found in _groups(rows).items()]
    return Section(id, papers.PUBLISHED.get(id), blocks, pictures, len(files.plan(folder, id, []) or rows))


def _block(folder: Path, id: str, name: str, rows: list[dict], left_out: list[str]) -> Block:
    published, tested = papers.PUBLISHED.get(id), _verdicts(rows, id)
    error = tested if isinstance(tested, str) else ""
    verdicts = tested if not error and len(tested) else None
    if published is None:
        return Block(name, rows, error, plain=_plain(rows), verdicts=verdicts)
    try:
        parts = tables.compare(rows, published, columns=_columns(folder, published, rows, left_out))
        comparison, wins = tables.compare(rows, published), _wins(rows)
    except (ValueError, TypeError) as found:  # rows that must not be averaged: the page says so instead of the table
        return Block(name, rows, str(found))
    return Block(name, rows, error, comparison, parts if len(parts) > len(comparison) else None, verdicts=verdicts, wins=wins)


def _columns(folder: Path, published: Published, rows: list[dict], left_out: list[str]) -> list[str] | None:
    """Those of the CSV that a notebook saved, so that its LaTeX says the same; else with the parts of the score that were measured."""
    saved = folder / "tables" / f"{published.id}.csv"
    table = files.whole(pd.read_csv, [saved] if saved.exists() else [], left_out).get(saved, ())
    if "column" in table:
        return list(dict.fromkeys(table["column"]))
    parts = [part for part in PARTS if part not in published.columns and any(row.get(part) is not None for row in rows)]
    return [*published.columns, *parts] if "score" in published.columns else None


def _wins(rows: list[dict]) -> pd.DataFrame | None:
    """Corruptions won per method, if one corruption guided all rows and the original network is among them."""
    one_guide = len({row["corruption"] for row in rows if row.get("corruption")}) == 1
    table = tables.wins(rows) if one_guide and any(row.get("method") == "Org. DNN" for row in rows) else pd.DataFrame()
    return table if len(table) else None


def _plain(rows: list[dict]) -> pd.DataFrame:
    """The columns that differ from row to row; attrs["shared"] says what the rows share."""
    table = tables.frame(rows).drop(columns=["key", "table", "cpu_seconds"], errors="ignore").dropna(axis=1, how="all")
    shared = {name: table[name].iloc[0] for name in table if len(table) > 1 and table[name].nunique(dropna=False) == 1}
    table = table.drop(columns=list(shared))
    table.attrs["shared"] = "".join(f" {name.replace('_', ' ')} {value}." for name, value in shared.items())
    return table
