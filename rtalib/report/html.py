"""Filters of report.html.jinja: tables in a box that scrolls, with a caption and with heading cells that say what they head."""

import base64
import html
import io
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from PIL import Image

from rtalib.data import pictures
from rtalib.results import papers, tables
from rtalib.results.style import BLUE, ORANGE, RULES, wide

PREVIEW = 60  # lines shown of a saved table, or of rows that no paper has
LEVELS = 16  # of red, green and blue in a figure
REACH = 12  # points from the middle of a claim's axis to its edge
SHARPNESS = 1.2  # pixels of a figure for one of the page
STRONGEST = 0x73  # opacity of the greatest difference's color


def picture(path: Path, width: int) -> str:
    """A figure as an address that holds it, in few bytes: at most SHARPNESS pixels for each of the page's `width`, few colors or lossy.

    Few: LEVELS of each channel, from black to white. A palette of the most frequent colors would turn the one orange point of a map brown.
    """
    with pictures.opened(str(path), path) as image:
        small = image.convert("RGB")
    if small.width > SHARPNESS * width:
        small = small.resize((round(SHARPNESS * width), round(SHARPNESS * width * small.height / small.width)), Image.Resampling.LANCZOS)
    step = 255 / (LEVELS - 1)
    plain = small.point(lambda value: round(round(value / step) * step))
    return "data:image/webp;base64," + base64.b64encode(min(_webp(plain, lossless=True), _webp(small, quality=80), key=len)).decode()


def _webp(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", method=2, **options)  # half the time of the default, 2 % more bytes
    return buffer.getvalue()


def place(difference: float) -> float:
    """Where a difference in points stands on an axis from -REACH to REACH, in percent of its width; what is beyond stands at the edge."""
    return round(50 + 48 * min(max(difference / REACH, -1), 1), 1)


def anchor(claim: Mapping) -> str:
    """The id of a claim's line."""
    return re.sub(r"\W+", "-", f"claim-{claim['claim']}-{claim['group']}").strip("-")


def duration(seconds: float) -> str:
    """ "48 s", "12 min", "5.7 h"."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


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
    places = ", ".join(f"td:nth-child({i})" for i, name in enumerate(table, 1) if not pd.api.types.is_numeric_dtype(table[name]))
    left = [{"selector": places, "props": "text-align: left !important"}] if places else []
    styler = styler.set_table_styles(left, overwrite=False).format_index(escape="html", axis=1)
    return _box(styler, caption + (f" The first {PREVIEW} of {len(table)} lines." if len(table) > PREVIEW else ""), *identity)


def _box(styler: pd.io.formats.style.Styler, caption: str, *identity: str) -> Markup:
    """HTML of a styled table in a box that scrolls by mouse, touch and keyboard; heading cells say whether they head a column or a row.

    Ids come from `identity`; they are short, since a table has thousands.
    """
    uuid = f"{zlib.crc32('-'.join(identity).encode()):x}"
    styler.cell_ids = False  # but for cells that have a look of their own: half of the page's bytes
    text = styler.set_caption(f"<span>{html.escape(caption)}</span>").set_uuid(uuid).to_html()
    text = re.sub(r' class="data row\d+ col\d+[^"]*"', "", re.sub(r"\n\s+", "\n", text))
    text = re.sub(r'<th class="blank[^>]*>[^<]*</th>', '<td class="blank"></td>', text)
    text = re.sub(r'<th (id="[^"]*" )?class="(col_heading|index_name)', r'<th scope="col" \1class="\2', text)
    text = re.sub(r'<th ((id="[^"]*" )?class="row_heading[^"]*" rowspan)', r'<th scope="rowgroup" \1', text)
    text = re.sub(r'<th ((id="[^"]*" )?class="row_heading)', r'<th scope="row" \1', text)
    return Markup('<div class="scroll" role="region" tabindex="0" aria-label="{}">{}</div>').format(caption, Markup(text))
