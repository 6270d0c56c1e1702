"""The published tables of both papers as data, cell by cell, with the places where a paper contradicts itself.

RTA: "Robust TrivialAugment + Iterative Search" (tables 1-4, and the counts that its authors' notebook prints).
CF_DARTS: core-failure-set guided DARTS (tables 1-7). published/papers.toml holds titles, notes and conflicts, published/<id>.csv the cells;
a cell that a paper leaves empty is absent. CLAIMS: see claims.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rtalib.errors import check_name
from rtalib.infra.data_files import read_toml
from rtalib.results.claims import CLAIMS as CLAIMS
from rtalib.results.claims import Claim as Claim
from rtalib.results.published import FOLDER, read_csv

_FACTS = read_toml("rtalib.results.published", "papers.toml")
NAMES, SHORT = _FACTS["names"], _FACTS["short_names"]
FAMILIES = {family: tuple(headings) for family, headings in _FACTS["corruptions"].items()}
# Library name of a corruption -> its heading in the CF-DARTS tables, in the benchmark's order; LABELS has the other columns, too.
CORRUPTION_LABELS: dict[str, str] = {name: heading for headings in _FACTS["corruptions"].values() for name, heading in headings.items()}
LABELS: dict[str, str] = CORRUPTION_LABELS | _FACTS["labels"]
GUIDES: dict[str, str] = _FACTS["guides"]  # abbreviation in the paper -> library name of a guiding corruption
TITLES: dict[str, str] = _FACTS["ours"]  # of the tables of rows that no paper has
STEPS = frozenset(_FACTS["steps"]["of"])  # those whose last plan need not be the only one that counts


@dataclass(frozen=True)
class Conflict:
    """A cell for which the paper gives two values, or whose printed value contradicts the heading of its column."""

    method: str
    column: str
    printed: float
    other: float | None  # None: no second number is printed
    note: str


@dataclass(frozen=True)
class Published:
    """One published table: `rows[method][column]` and, if printed, `std[method][column]`, both in `unit`.

    `settings[method]` are columns that describe a method and are not results; `runs` is how many runs a number averages
    (None: the paper does not say). Column names are the library's; method names are the paper's own.
    """

    paper: str  # "rta" | "cf"
    table: str  # "table1" ...
    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, float]]
    std: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unit: str = "percent"
    runs: int | None = None
    notes: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Name of the table in result rows, e.g. "cf-table2"."""
        return f"{self.paper}-{self.table}"

    @property
    def name(self) -> str:
        """ "Table 2", "Figure 4", "Authors' notebook: counts"."""
        kind = self.table.rstrip("0123456789")
        return f"{kind.capitalize()} {self.table[len(kind) :]}" if kind in ("table", "figure") else f"Authors' notebook: {self.table}"

    def value(self, method: str, column: str) -> float | None:
        """The printed number, or None if the paper prints none. "mean" and "others" are averages (see `derived`).

        "gb: Org. DNN" falls back to "Org. DNN": a network that no corruption guided belongs to every block.
        """
        guide, name = split_guide(method)
        row = self.rows.get(method) or self.rows.get(name)
        return None if row is None else derived(row, column, guide=guide)


def label(column: str) -> str:
    """Heading of a column: the paper's word for a corruption, else the name with its underscores as spaces."""
    return LABELS.get(column) or column.replace("_", " ").capitalize()


def split_guide(method: str) -> tuple[str | None, str]:
    """ "gb: CF-DARTS" -> ("glass_blur", "CF-DARTS"); "CF-DARTS" -> (None, "CF-DARTS")."""
    head, colon, tail = method.partition(": ")
    return (GUIDES[head], tail) if colon and head in GUIDES else (None, method)


def derived(row: Mapping[str, object], column: str, *, guide: str | None = None) -> float | None:
    """`row[column]` as a float, or None. Two columns are computed from the corruption columns that the row holds:

    "mean": their average; "others": their average without the guiding corruption (`guide`, else row["corruption"], else Gaussian noise).
    Two are RTA's score with other weights than equal ones for its eight parts: "families": a third each for clean images, corruptions and
    attacks; "untransferred": without the attacks, which are made on a single network.
    """
    if column in ("families", "untransferred"):
        means = {family: _mean([row.get(part) for part in parts]) for family, parts in _FACTS["score_families"].items()}
        kept = [part for family, parts in _FACTS["score_families"].items() if family != "attacks" for part in parts]
        return _mean(list(means.values())) if column == "families" else _mean([row.get(part) for part in kept])
    if column in ("mean", "others"):
        guide = guide or str(row.get("corruption") or "gaussian_noise")
        names = [name for name in CORRUPTION_LABELS if row.get(name) is not None and (column == "mean" or name != guide)]
        return sum(float(row[name]) for name in names) / len(names) if names else None
    value = row.get(column)
    return None if value is None or isinstance(value, str) else float(value)


def _mean(numbers: list) -> float | None:
    """None if one of the numbers is missing."""
    return None if None in numbers else sum(map(float, numbers)) / len(numbers)


def _cells(id: str) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Columns of published/<id>.csv, and its cells as {method: {column: text}} without the empty ones."""
    lines = read_csv(id)
    cells = {line.pop("method"): {column: text for column, text in line.items() if text} for line in lines}
    return list(lines.fieldnames or ())[1:], cells


def _published(paper: str, table: str, *, shared=(), notes=(), conflicts=(), settings=(), **facts) -> Published:
    """A table of papers.toml with its cells; its deviations are in published/<id>-std.csv if the paper prints them."""
    header, cells = _cells(f"{paper}-{table}")
    columns = tuple(column for column in header if column not in settings)
    deviations = _cells(f"{paper}-{table}-std")[1] if FOLDER.joinpath(f"{paper}-{table}-std.csv").is_file() else {}
    return Published(
        paper,
        table,
        columns=columns,
        rows={method: {column: float(row[column]) for column in columns if column in row} for method, row in cells.items()},
        std={method: {column: float(text) for column, text in row.items()} for method, row in deviations.items()},
        notes=(*(_FACTS["shared"][name] for name in shared), *notes),
        conflicts=tuple(Conflict(**{"other": None} | conflict) for conflict in conflicts),
        settings={method: {name: row[name] for name in settings} for method, row in cells.items()} if settings else {},
        **facts,
    )


RTA, CF_DARTS = ({table: _published(paper, table, **facts) for table, facts in _FACTS[paper].items()} for paper in NAMES)
PUBLISHED: dict[str, Published] = {table.id: table for group in (RTA, CF_DARTS) for table in group.values()}


def get(table: str) -> Published:
    """The published table of an id such as "cf-table2"; ValueError with a suggestion for another name."""
    check_name("published table", table, PUBLISHED)
    return PUBLISHED[table]
