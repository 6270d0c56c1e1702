"""What a run has to show: every published number beside the measured one, verdicts, figures, costs, provenance, faults of the papers.

It is collected from what lies in the run's folder alone, and written as: report.html (html.py), one file that holds its
pictures and opens without a network; REPORT.md (markdown.py), the same facts for a terminal; tables/<table>.tex; and claims.csv,
every claim with the keys of its rows. The same folder gives the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from rtalib.experiments.repair import chance, gain_parts, together
from rtalib.experiments.rta import severity_budget
from rtalib.experiments.rta.score import PARTS
from rtalib.infra.store import outputs, write_atomic
from rtalib.report import files as report_files
from rtalib.report import html as report_html
from rtalib.report import markdown as report_text
from rtalib.results import papers, tables
from rtalib.results.contrasts import with_contrasts
from rtalib.results.errata import FAULTS, Fault
from rtalib.results.papers import Conflict, Published
from rtalib.results.style import VERDICT_COLORS, latex

GROUP = ("scale", "dataset", "protocol")  # rows that differ in these are shown apart
# Tables whose claims are tested on rows made of theirs, and the name under which their claims stand.
MADE = {
    "search-or-chance": chance.with_medians,
    "together": partial(with_contrasts, contrasts=together.CONTRASTS),
    "gain-parts": partial(with_contrasts, contrasts=gain_parts.CONTRASTS),
    "severity-budget": severity_budget.with_returns,
    "neighbours": gain_parts.with_families,
}
CLAIMS = {table.removeprefix("ours-"): papers.CLAIMS[table] for table in sorted(papers.CLAIMS, key=lambda table: table.startswith("ours-"))}
TITLES = {
    "search-or-chance": "Searched cells beside random ones of their size",
    "together": "RTA data for CF-DARTS' network: both, either, neither",
    "gain-parts": "Where the gain of CF-DARTSE comes from",
    "severity-budget": "RTA sets by severity and copies, and what an hour of them returns",
    "coverage": "Iterative search that covers the misclassified",
    "neighbours": "What a guiding corruption does for its family and for the others",
    "coverage-search": "Steps of the search that covers, and of its rivals",
    "together-sets": "Training sets of notebook 20",
    "cf-deployed": "The deployed networks and their failures",
    "rta-search": "Steps of the iterative searches",
    "rta-sets": "Training sets of Table 1",
    "rta-sources": "Source models that the RTA sets attack",
    "source-study": "All source models under attack",
    "source-transfer": "What is crafted on one source, on the others",
}


@dataclass(frozen=True)
class Block:
    """Rows of one table at one scale, data set and protocol.

    comparison: `tables.compare` with the paper's columns (None without a published table, or where `error` says why there is none);
    parts: the same with all parts of the proxy score; plain: the rows of a table that no paper has.
    """

    name: str
    rows: list[dict]
    comparison: pd.DataFrame | None = None
    parts: pd.DataFrame | None = None
    plain: pd.DataFrame | None = None
    verdicts: pd.DataFrame | None = None
    wins: pd.DataFrame | None = None
    error: str = ""

    @property
    def seeds(self) -> str:
        return tables.context(self.rows).get("seed", "not stated")

    @property
    def seconds(self) -> float:
        return report_files.seconds(self.rows)


@dataclass(frozen=True)
class Section:
    """A published table or figure, or a table of rows that no paper has (`published` None)."""

    id: str
    heading: str
    published: Published | None
    blocks: list[Block]
    figures: list[report_files.Picture]
    planned: int = 0

    @property
    def short(self) -> str:
        return _number(self.published) if self.published else self.id


@dataclass(frozen=True)
class Report:
    """Everything that the page and the text say, in their order. claims: one line per claim and group of rows, see `claims`."""

    title: str
    folder: Path
    facts: dict
    claims: pd.DataFrame
    sections: list[Section]
    figures: list[report_files.Picture]
    saved: list[report_files.Saved]
    notebooks: list[str]
    costs: list[dict]
    stamps: list[dict]
    faults: Sequence[Fault]
    conflicts: list[tuple[Published, Conflict]]

    @property
    def tally(self) -> dict[str, int]:
        return {verdict: int((self.claims["verdict"] == verdict).sum()) for verdict in VERDICT_COLORS}

    def named(self, table: str) -> str:
        """ "CF-DARTS, Table 2" for "cf-table2"; the title of a table beyond the papers."""
        published = papers.PUBLISHED.get(table)
        return f"{papers.NAMES[published.paper]}, {_number(published)}" if published else TITLES.get(table, table)

    def of(self, paper: str | None) -> list[Section]:
        """The sections of a paper, "rta" or "cf", or those beyond the papers (None)."""
        return [section for section in self.sections if (section.published and section.published.paper) == paper]


def write(run: Path | str, *, title: str = "rtalib") -> Path:
    """Write report.html, REPORT.md, claims.csv and tables/<table>.tex into a run's folder; return the page's path.

    `run` is a run's name below the outputs folder (str), or its folder (Path). FileNotFoundError where the folder does not exist;
    ValueError naming the file where a row is not a JSON object.
    """
    report = collect(run if isinstance(run, Path) else outputs() / run, title)
    for name, text in _latex(report).items():
        write_atomic(report.folder / "tables" / f"{name}.tex", text)
    write_atomic(report.folder / "claims.csv", report.claims.to_csv(index=False))
    write_atomic(report.folder / "REPORT.md", report_text.text(report))
    write_atomic(report.folder / "report.html", report_html.page(report))
    return report.folder / "report.html"


def collect(folder: Path, title: str = "rtalib") -> Report:
    """Read rows/<table>/*.json (those of plans/<table>.json where there is a plan), figures/*.png, tables/*.csv and *.ipynb of a folder."""
    rows = report_files.read_all(folder)
    ids = [*papers.PUBLISHED, *(table for table in rows if table not in papers.PUBLISHED)]
    every = [row for table in ids for row in rows.get(table, [])]
    pictures = report_files.figures(folder)
    return Report(
        title,
        folder,
        facts=tables.context(every),
        claims=_claims(rows),
        sections=[_section(folder, id, rows.get(id, []), [p for p in pictures if report_files.owner(p.name, ids) == id]) for id in ids],
        figures=[picture for picture in pictures if report_files.owner(picture.name, ids) is None],
        saved=[table for table in report_files.saved(folder) if report_files.owner(table.name, list(papers.PUBLISHED)) is None],
        notebooks=report_files.notebooks(folder),
        costs=report_files.costs({table: rows[table] for table in ids if table in rows}),
        stamps=report_files.stamps(every),
        faults=FAULTS,
        conflicts=[(published, conflict) for published in papers.PUBLISHED.values() for conflict in published.conflicts],
    )


def claims(run: Path | str) -> pd.DataFrame:
    """Every claim of both papers, and ours, as `tables.verdicts` has them, for a run's folder or its name; first `table` and `group`.

    A table measured at two scales, data sets or protocols has its claims twice; the claims of one that is not, the verdict "missing".
    """
    return _claims(report_files.read_all(run if isinstance(run, Path) else outputs() / run))


def _claims(rows: Mapping[str, list[dict]]) -> pd.DataFrame:
    found = []
    for table, listed in CLAIMS.items():
        for group, chosen in (_groups(rows.get(table, [])) or {"": []}).items():
            tested = _verdicts(chosen, table)
            tested = tables.verdicts([], listed) if isinstance(tested, str) else tested  # the table's own place says why
            found.append(tested.assign(table=table, group=group))
    table = pd.concat([frame for frame in found if len(frame)], ignore_index=True)
    return table[["table", "group", *table.columns.drop(["table", "group"])]]


# ------------------------------------------------------------------------------------------------------------ sections


def _groups(rows: Sequence[dict]) -> dict[str, list[dict]]:
    """Rows by "scale · data set · protocol"."""
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(" · ".join(str(row[name]) for name in GROUP if row.get(name)), []).append(row)
    return found


def _section(folder: Path, id: str, rows: list[dict], pictures: list[report_files.Picture]) -> Section:
    published = papers.PUBLISHED.get(id)
    heading = f"{_number(published)}. {published.title}" if published else TITLES.get(id, id)
    blocks = [_block(folder, id, name, found) for name, found in _groups(rows).items()]
    return Section(id, heading, published, blocks, pictures, report_files.planned(folder, id) or len(rows))


def _number(published: Published) -> str:
    for kind in ("table", "figure"):
        if published.table.startswith(kind):
            return published.table.replace(kind, f"{kind.capitalize()} ")
    return f"Authors' notebook: {published.table}"


def _block(folder: Path, id: str, name: str, rows: list[dict]) -> Block:
    published = papers.PUBLISHED.get(id)
    tested = _verdicts(rows, id)
    error = tested if isinstance(tested, str) else ""
    verdicts = tested if not error and len(tested) else None
    if published is None:
        return Block(name, rows, plain=_plain(rows), verdicts=verdicts, error=error)
    try:
        parts = tables.compare(rows, published, columns=_columns(folder, published, rows))
        comparison = tables.compare(rows, published)
        wins = _wins(rows)
    except ValueError as found:  # rows that must not be averaged: the page says so in the table's place
        return Block(name, rows, error=str(found))
    more = parts if len(parts) > len(comparison) else None
    return Block(name, rows, comparison, more, verdicts=verdicts, wins=wins, error=error)


def _columns(folder: Path, published: Published, rows: list[dict]) -> list[str] | None:
    """Those of the CSV that a notebook saved, so that its LaTeX says the same; else with the parts of the score that were measured."""
    saved = folder / "tables" / f"{published.id}.csv"
    if saved.exists() and "column" in (table := pd.read_csv(saved)):
        return list(dict.fromkeys(table["column"]))
    parts = [part for part in PARTS if part not in published.columns and any(row.get(part) is not None for row in rows)]
    return [*published.columns, *parts] if "score" in published.columns else None


def _wins(rows: list[dict]) -> pd.DataFrame | None:
    """Corruptions won per method, where one corruption guided all rows and the original network is among them."""
    one_guide = len({row["corruption"] for row in rows if row.get("corruption")}) == 1
    table = tables.wins(rows) if one_guide and any(row.get("method") == "Org. DNN" for row in rows) else pd.DataFrame()
    return table if len(table) else None


def _plain(rows: list[dict]) -> pd.DataFrame:
    """The rows' columns that differ from row to row; what they share stands in attrs["shared"]."""
    table = tables.frame(rows).drop(columns=["key", "table", "cpu_seconds"], errors="ignore").dropna(axis=1, how="all")
    shared = {name: table[name].iloc[0] for name in table if len(table) > 1 and table[name].nunique(dropna=False) == 1}
    table = table.drop(columns=list(shared))
    table.attrs["shared"] = shared
    return table


def _verdicts(rows: list[dict], table: str) -> pd.DataFrame | str:
    """Verdicts of the table's claims, or why they cannot be given."""
    try:
        return tables.verdicts(MADE[table](rows) if table in MADE else rows, CLAIMS.get(table, ()))
    except ValueError as error:
        return str(error)


def _latex(report: Report) -> dict[str, str]:
    """{name: LaTeX} of the measured tables; a table in several blocks has a file for each, numbered from the second on."""
    found = {}
    for section in report.sections:
        for number, block in enumerate(section.blocks, 1):
            table = block.comparison if block.parts is None else block.parts
            if table is not None:
                found[section.id if number == 1 else f"{section.id}-{number}"] = latex(table)
    return found
