"""The report as one HTML page: pictures, styles and script inside, every table with a caption and headings that say what they head."""

import base64
import html
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rtalib.results import papers, tables
from rtalib.results.style import RULES, p_value, wide

if TYPE_CHECKING:
    from rtalib.report.collect import Report

MARKS = {"reproduced": "✓", "not reproduced": "✗", "undecided": "○", "missing": "–"}
WORDS = {"missing": "not measured"}
PREVIEW = 60  # lines of a saved table, or of rows that no paper has, that are shown
STRONGEST = 0.45  # opacity of the greatest difference's colour


def page(report: "Report") -> str:
    """The whole page."""
    template = _environment(report.folder).get_template("report.html.jinja")
    return template.render(report=report, papers=papers.NAMES, marks=MARKS, words=WORDS)


def _environment(folder: Path) -> Environment:
    blocks = {"trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=PackageLoader("rtalib.report"), autoescape=True, undefined=StrictUndefined, **blocks)
    environment.filters |= {
        "number": lambda value: f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value),
        "signed": lambda value: "" if math.isnan(value) else f"{value:+z.1f}",
        "p": p_value,
        "label": papers.label,
        "png": lambda picture: "data:image/png;base64," + base64.b64encode((folder / picture.path).read_bytes()).decode(),
        "by_table": lambda claims: [(name, frame.to_dict("records")) for name, frame in claims.groupby(["table", "group"], sort=False)],
        "comparison": lambda block, id: _styled(block.comparison, id, block.name, "rows"),
        "parts": lambda block, id: _styled(block.parts, id, block.name, "parts"),
        "shared": lambda facts: "".join(f" {name.replace('_', ' ')} {value}." for name, value in facts.items()),
        "differences": _differences,
        "published": _published_alone,
        "wins": lambda block, id: _styled(block.wins, id, block.name, "wins"),
        "listing": _listing,
    }
    return environment


# -------------------------------------------------------------------------------------------------------------- tables


def accessible(styler: pd.io.formats.style.Styler, caption: str, *identity: str) -> Markup:
    """HTML of a styled table with a caption; heading cells say whether they head a column or a row. Ids come from `identity`."""
    styler = styler.set_caption(f"<span>{html.escape(caption)}</span>").set_uuid(_slug(*identity))
    text = re.sub(r'<th class="blank[^>]*>[^<]*</th>', '<td class="blank"></td>', styler.to_html())
    text = re.sub(r'<th (id="[^"]*" )?class="(col_heading|index_name)', r'<th scope="col" \1class="\2', text)
    text = re.sub(r'<th (id="[^"]*" class="row_heading[^"]*" rowspan)', r'<th scope="rowgroup" \1', text)
    return Markup(re.sub(r'<th (id="[^"]*" class="row_heading)', r'<th scope="row" \1', text))


def _slug(*identity: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in "-".join(identity))


def _styled(table: pd.DataFrame, *identity: str) -> Markup:
    """Published beside measured."""
    return _box(accessible(tables.style(table), table.attrs["caption"], *identity), table.attrs["caption"])


def _differences(table: pd.DataFrame, *identity: str) -> Markup:
    """Measured minus published, method by column, in points: orange below, blue above, the deeper the farther; the last column is n."""
    gaps = table["difference"].unstack("column").loc[list(dict.fromkeys(table.index.get_level_values("method")))]
    gaps = gaps[list(dict.fromkeys(table.index.get_level_values("column")))].dropna(how="all").dropna(axis=1, how="all")
    if gaps.empty:
        return Markup("")
    most = float(gaps.abs().max().max()) or 1.0

    def tint(gap: float) -> str:
        shade = f"{0 if math.isnan(gap) else STRONGEST * abs(gap) / most:.2f}"
        return f"background: rgba({'0,114,178' if gap > 0 else '230,159,0'},{shade})"

    seeds = table["seeds"].groupby(level="method").max()
    shown = gaps.rename(columns=papers.label).rename_axis(index=None, columns=None).assign(n=seeds)
    numbers = [name for name in shown if name != "n"]
    styler = shown.style.format("{:+z.1f}", subset=numbers, na_rep="").format("{:d}", subset=["n"]).map(tint, subset=numbers)
    caption = f"Measured minus published, in points. {table.attrs['conditions']}"
    return _box(accessible(styler.format_index(escape="html").set_table_styles(RULES), caption, *identity, "gaps"), caption)


def _published_alone(published: papers.Published) -> Markup:
    table = wide(tables.compare([], published)[["published", "measured", "interval", "seeds", "difference"]])
    table = table[["published"]] if "published" in table else table.droplevel(1).drop(columns="n")
    digits = 1 if published.unit == "percent" else 2 if published.unit == "hours" else 0
    styler = table.style.format(precision=digits, na_rep="", thousands=",").format_index(escape="html").set_table_styles(RULES)
    caption = f"{published.title}, as published, in {published.unit}."
    return _box(accessible(styler, caption, published.id, "published"), caption)


def _listing(table: pd.DataFrame, caption: str, *identity: str) -> Markup:
    """The first lines of a plain table."""
    styler = table.head(PREVIEW).style.hide(axis="index").format(precision=2, na_rep="", escape="html").set_table_styles(RULES)
    text = set(table.select_dtypes(exclude="number"))
    styler = styler.set_properties(subset=list(text), **{"text-align": "left !important"}) if text else styler
    more = f" The first {PREVIEW} of {len(table)} lines." if len(table) > PREVIEW else ""
    return _box(accessible(styler.format_index(escape="html", axis=1), caption + more, *identity), caption)


def _box(table: Markup, label: str) -> Markup:
    """A table in a box of its own that scrolls, by mouse, touch and keyboard."""
    return Markup('<div class="scroll" role="region" tabindex="0" aria-label="{}">{}</div>').format(label, table)
