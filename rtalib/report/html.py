"""Filters of report.html.jinja: tables in a box that scrolls, with a caption and with heading cells that say what they head."""

import base64
import html
import re
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from rtalib.results import papers, tables
from rtalib.results.style import BLUE, ORANGE, RULES, wide

PREVIEW = 60  # lines shown of a saved table, or of rows that no paper has
STRONGEST = 0x73  # opacity of the greatest difference's color


def png(path: Path) -> str:
    """A picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def styled(table: pd.DataFrame, *identity: str) -> Markup:
    """A table of `tables`."""
    return _box(tables.style(table), table.attrs["caption"], *identity)


def differences(table: pd.DataFrame, *identity: str) -> Markup:
    """Measured minus published, method by column, in points: orange below, blue above, the deeper the farther; the last column is n."""
    order = [list(dict.fromkeys(table.index.get_level_values(name))) for name in ("method", "column")]
    gaps = table["difference"].unstack("column").loc[*order].dropna(how="all").dropna(axis=1, how="all")
    gaps = gaps.rename(columns=papers.label).rename_axis(index=None, columns=None)
    if gaps.empty:
        return Markup("")
    scale = STRONGEST / (float(gaps.abs().max().max()) or 1.0)
    tints = gaps.map(lambda gap: f"background: {BLUE if gap > 0 else ORANGE}{round(scale * abs(gap)):02X}", na_action="ignore").fillna("")
    styler = gaps.assign(n=table["seeds"].groupby(level="method").max()).style.format("{:+z.1f}", na_rep="", subset=list(gaps))
    styler = styler.apply(lambda _: tints, axis=None, subset=list(gaps)).format_index(escape="html").set_table_styles(RULES)
    return _box(styler, f"Measured minus published, in points. {table.attrs['conditions']}", *identity, "gaps")


def published_alone(published: papers.Published) -> Markup:
    """The published numbers alone."""
    table = wide(tables.compare([], published))
    table = table[["published"]] if "published" in table else table.droplevel(1).drop(columns="n")
    digits = 1 if published.unit == "percent" else 2 if published.unit == "hours" else 0
    styler = table.style.format(precision=digits, na_rep="", thousands=",").format_index(escape="html").set_table_styles(RULES)
    return _box(styler, f"{published.title}, as published, in {published.unit}.", published.id, "published")


def listing(table: pd.DataFrame, caption: str, *identity: str) -> Markup:
    """The first lines of a plain table."""
    styler = table.head(PREVIEW).style.hide(axis="index").format(precision=2, na_rep="", escape="html").set_table_styles(RULES)
    text = list(table.select_dtypes(exclude="number"))
    styler = styler.set_properties(subset=text, **{"text-align": "left !important"}).format_index(escape="html", axis=1)
    return _box(styler, caption + (f" The first {PREVIEW} of {len(table)} lines." if len(table) > PREVIEW else ""), *identity)


def _box(styler: pd.io.formats.style.Styler, caption: str, *identity: str) -> Markup:
    """HTML of a styled table in a box that scrolls by mouse, touch and keyboard; heading cells say whether they head a column or a row.

    Ids come from `identity`.
    """
    uuid = re.sub(r"[\W_]", "-", "-".join(identity))
    text = styler.set_caption(f"<span>{html.escape(caption)}</span>").set_uuid(uuid).to_html()
    text = re.sub(r'<th class="blank[^>]*>[^<]*</th>', '<td class="blank"></td>', text)
    text = re.sub(r'<th (id="[^"]*" )?class="(col_heading|index_name)', r'<th scope="col" \1class="\2', text)
    text = re.sub(r'<th (id="[^"]*" class="row_heading[^"]*" rowspan)', r'<th scope="rowgroup" \1', text)
    text = re.sub(r'<th (id="[^"]*" class="row_heading)', r'<th scope="row" \1', text)
    return Markup('<div class="scroll" role="region" tabindex="0" aria-label="{}">{}</div>').format(caption, Markup(text))
