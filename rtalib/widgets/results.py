"""The tables of a run as heat maps: published, measured, and the difference, with the claims on them and their verdicts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from rtalib.errors import unknown
from rtalib.experiments.rta.score import PARTS
from rtalib.results import papers, tables
from rtalib.results.claims import CLAIMS
from rtalib.results.figures.arrays import heat
from rtalib.results.figures.samples import short_name
from rtalib.results.figures.style import GREY, PAGE, Drawing, figure, place, use_style
from rtalib.results.papers import PUBLISHED, label
from rtalib.results.style import VERDICT_COLORS as VERDICTS
from rtalib.widgets.base import around

if TYPE_CHECKING:
    from ipywidgets import VBox

ALL = "all"
SHOWS = ("difference", "measured", "published")
# From vermilion over white to blue: safe for every common color vision; the ends are pale enough for black numbers.
DIVERGING = LinearSegmentedColormap.from_list("difference", ["#E8925A", "white", "#6FAED6"])
NAMES = 1.9  # inches for the names of the methods
LINE, CLAIM, WIDEST = 0.2, 0.16, 0.8  # height of a method and of a claim, greatest width of a column, in inches


def results_view(comparison: pd.DataFrame, verdicts: pd.DataFrame, show: str = "difference", verdict: str = ALL) -> Drawing:
    """A heat map, methods by columns, of the measured or published numbers or of their difference, and below it the claims.

    comparison, verdicts: of tables.compare and tables.verdicts. show: one of SHOWS. verdict: one of VERDICTS, to show only the claims with
    this verdict and the methods that they name, or 'all'. Raises ValueError for other names.
    """
    if show not in SHOWS:
        raise unknown("kind of number", show, SHOWS)
    if verdict not in (ALL, *VERDICTS):
        raise unknown("verdict", verdict, (ALL, *VERDICTS))
    claims = verdicts if verdict == ALL else verdicts[verdicts["verdict"] == verdict]
    table = _numbers(comparison, show)
    if verdict != ALL:
        named = {name.replace(" ", "") for name in (*claims["better"], *claims["worse"])}
        table = table[[method.replace(" ", "") in named for method in table.index]]
    what = "measured less published" if show == "difference" else show
    facts = f"{comparison.attrs['id']}: {what}, {comparison.attrs['unit']}; {len(table)} methods, claims {verdict}: {len(claims)}"
    height = 0.3 + 0.5 + LINE * max(len(table), 1) + 0.15 + CLAIM * (len(claims) + 1)
    with use_style():
        drawing = figure(PAGE, height, layout=None)
        drawing.text(0.05 / PAGE, 1 - 0.05 / height, facts, va="top", weight="bold")
        if table.size:
            width = min(PAGE - NAMES - 0.1, WIDEST * table.shape[1])
            _heat_map(place(drawing, NAMES, 0.25 + CLAIM * (len(claims) + 1), width, LINE * len(table)), table, show)
        _claim_lines(drawing, claims, height)
    drawing.set_label(f"{facts}. {_extremes(table, show)}")
    return drawing


def _numbers(comparison: pd.DataFrame, show: str) -> pd.DataFrame:
    """Methods by columns in the order of the comparison, without empty ones."""
    order = {name: list(dict.fromkeys(comparison.index.get_level_values(name))) for name in ("method", "column")}
    table = comparison[show].unstack("column").loc[order["method"], order["column"]]
    return table.dropna(how="all").dropna(how="all", axis=1)


def _heat_map(axes: Axes, table: pd.DataFrame, show: str) -> None:
    numbers = table.to_numpy(float)
    reach = max(float(np.nanmax(np.abs(numbers))), 1e-9)
    if show == "difference":
        look = {"cmap": DIVERGING, "vmin": -reach, "vmax": reach, "fmt": "+z.1f"}
    else:
        look = {"vmin": 0, "vmax": 2 * reach, "fmt": "z.1f" if reach < 1000 else ".0f"}  # pale enough for black numbers
    lines, columns = [short_name(str(name)) for name in table.index], [label(str(name)) for name in table.columns]
    heat(axes, lines, columns, numbers, numbers, annot_kws={"size": 5.5 if table.shape[1] > 12 else 6.5}, **look)
    axes.set_xticks(axes.get_xticks(), columns, rotation=40, ha="left", rotation_mode="anchor")
    axes.tick_params(labeltop=True, labelbottom=False, labelsize=6.5)


def _claim_lines(drawing: Drawing, claims: pd.DataFrame, height: float) -> None:
    for line, claim in enumerate(claims.to_dict("records")):
        at = (0.1 + CLAIM * (len(claims) - line - 0.5)) / height
        drawing.text(0.05 / PAGE, at, claim["verdict"], color=VERDICTS[claim["verdict"]], weight="bold", fontsize=6, va="center")
        printed = "" if pd.isna(claim["published"]) else f"published {claim['published']:+z.1f}"
        found = "" if pd.isna(claim["difference"]) else f"measured {claim['difference']:+z.1f}"
        drawing.text(1.1 / PAGE, at, f"{claim['claim']}  {claim['text']}", fontsize=6, va="center")
        drawing.text(1 - 0.9 / PAGE, at, printed, fontsize=6, va="center", ha="right", color=GREY)
        drawing.text(1 - 0.05 / PAGE, at, found, fontsize=6, va="center", ha="right")


def _extremes(table: pd.DataFrame, show: str) -> str:
    """The least and the greatest number in words."""
    if not table.size:
        return "No number"
    cells = table.stack()
    ends = {"least": cells.idxmin(), "greatest": cells.idxmax()}
    return "; ".join(f"{name} {show} {cells[key]:.1f}, {key[0]}, {label(key[1])}" for name, key in ends.items())


def compared(rows: Mapping[str, Sequence[Mapping]]) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """{id of a published table: its comparison and its verdicts} for rows by table; a table without rows has only published numbers.

    A table of scores also has the parts of the score that are in its rows. Tables of neither paper are left out.
    """
    made = {}
    for name, found in rows.items():
        if name in PUBLISHED:
            published = papers.get(name)
            parts = [part for part in PARTS if any(part in row for row in found)]
            columns = ["score", *parts] if "score" in published.columns else None
            made[name] = tables.compare(found, published, columns=columns), tables.verdicts(found, CLAIMS.get(name, ()))
    return made


def explore_results(found: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], **start: object) -> "VBox":
    """Menus around `results_view`: the table, the kind of number, the verdict of the claims. found: of `compared`.

    Opens on the first table that was measured, if any was; start: other first values.
    """
    from ipywidgets import Dropdown, Layout

    first = next((name for name, (table, _) in found.items() if table["measured"].notna().any()), next(iter(found)))
    return around(
        lambda table, **state: results_view(*found[table], **state),
        {
            "table": Dropdown(
                options=[(f"{name}: {PUBLISHED[name].title}", name) for name in found],
                value=start.get("table", first),
                description="table",
                layout=Layout(width="max-content"),
            ),
            "show": Dropdown(options=SHOWS, value=start.get("show", SHOWS[0]), description="show"),
            "verdict": Dropdown(options=(ALL, *VERDICTS), value=start.get("verdict", ALL), description="claims"),
        },
        name="results",
        code="widgets.explore_results(found, table={table}, show={show}, verdict={verdict})\n"
        "widgets.results_view(*found[{table}], {show}, {verdict})",
    )
