"""How the tables of `tables` look in a notebook, in the report and on paper."""

import html
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from rtalib.results import tex
from rtalib.results.papers import label

# Translucent, so that they sit on white and on black: published orange, measured blue (Okabe and Ito's palette).
ORANGE, BLUE, GREEN, RED = "rgba(230,159,0,.28)", "rgba(0,114,178,.30)", "rgba(0,158,115,.30)", "rgba(213,94,0,.26)"
SIGNED = ("gain, published", "gain, measured")
GREY = "rgba(128,128,128,.22)"
VERDICT_COLOURS = {"reproduced": GREEN, "undecided": BLUE, "not reproduced": RED, "missing": GREY}
RULES = [
    {"selector": "", "props": "border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px;"},
    {"selector": "caption", "props": "caption-side: top; text-align: left; padding: 0 0 .5em; font-size: 13px; opacity: .85;"},
    {"selector": "th", "props": "text-align: right; font-weight: 600; padding: .25em .6em; white-space: nowrap;"},
    {"selector": "th.row_heading", "props": "text-align: left; font-weight: 500; vertical-align: top;"},
    {"selector": "td", "props": "text-align: right; padding: .25em .6em;"},
    {"selector": "thead tr:last-child th", "props": "border-bottom: 1px solid rgba(128,128,128,.6);"},
    {"selector": "tbody tr", "props": "border-bottom: 1px solid rgba(128,128,128,.16);"},
]


def wide(comparison: pd.DataFrame) -> pd.DataFrame:
    """The table of `tables.compare` as it is read.

    One column: a line per method, with its gain over the first method in both, which compares where levels do not.
    Several columns: the paper's columns, and per method the lines "published", "measured" and "± 95 %", those without a number left out;
    the last column, "n", is the number of seeds.
    """
    columns = list(dict.fromkeys(comparison.index.get_level_values("column")))
    if len(columns) == 1:
        table = comparison.droplevel("column")
        gains = {f"gain, {name}": table[name] - table[name].iloc[0] for name in ("published", "measured")}
        table = table[["published", "measured", "interval", "seeds", "difference"]].assign(**gains)
        return table.rename(columns={"interval": "± 95 %"}).rename_axis(index=None, columns=label(columns[0]))
    methods = list(dict.fromkeys(comparison.index.get_level_values("method")))
    lines = {"published": "published", "measured": "measured", "interval": "± 95 %"}
    parts = {text: comparison[name].unstack("column").loc[methods, columns] for name, text in lines.items()}
    table = pd.concat(parts).swaplevel().loc[[(method, text) for method in methods for text in lines.values()]]
    table = table.dropna(how="all").rename(columns=label).rename_axis(index=[None, None], columns=None)
    seeds = comparison["seeds"].groupby(level="method").agg(tex.span)
    return table.assign(n=[seeds[method] if text == "measured" else "" for method, text in table.index])


def style(table: pd.DataFrame) -> Styler:
    """A Styler for any table of `tables`: compare, verdicts, wins. One decimal, tabular figures, legible on light and dark pages."""
    if "verdict" in table:
        return _style_verdicts(table)
    if list(table.index.names) == ["method", "column"]:
        return _style_comparison(table)
    styler = table.style.format(precision=1, na_rep="", escape="html")
    return _finish(styler.bar(subset=["wins"], color=BLUE, vmin=0, vmax=max(1, table["wins"].max())), table)  # no win: an empty bar


def _finish(styler: Styler, table: pd.DataFrame) -> Styler:
    styler = styler.set_table_styles(RULES).format_index(escape="html", axis=0).format_index(escape="html", axis=1)
    return styler.set_caption(html.escape(table.attrs["caption"])) if "caption" in table.attrs else styler


def _style_comparison(comparison: pd.DataFrame) -> Styler:
    table = wide(comparison)
    digits = 1 if comparison.attrs.get("unit", "percent") == "percent" else 2
    styler = table.style.format(precision=digits, na_rep="")
    if not isinstance(table.index, pd.MultiIndex):
        styler = styler.format(
            {"seeds": "{:d}", "difference": f"{{:+.{digits}f}}", "± 95 %": f"{{:.{digits}f}}"}, precision=digits, na_rep=""
        )
        for name, colour in (("published", ORANGE), ("measured", BLUE)):
            if table[name].notna().any():
                styler = styler.bar(subset=[name], color=colour, vmin=_floor(table[name]), vmax=table[name].max(), height=72)
    else:
        colours = {"published": ORANGE, "measured": BLUE}
        numbers = [name for name in table.columns if name != "n"]
        spread = [key for key in table.index if key[1] == "± 95 %"]
        styler = styler.set_properties(subset=(spread, numbers), **{"opacity": "0.8"}) if spread else styler
        measured = [key for key in table.index if key[1] == "measured"]
        styler = styler.apply(_best, axis=0, subset=(measured, numbers)) if measured else styler
        styler = styler.apply_index(lambda level: [f"background: {colours.get(text, 'none')}" for text in level], level=1)
    return _finish(styler, comparison)


def prose(table: pd.DataFrame) -> Styler:
    """A Styler for a table of texts: whole sentences, set to the left."""
    left = {"text-align": "left !important", "vertical-align": "top", "max-width": "36em"}
    styler = _finish(table.style.hide(axis="index").format(escape="html").set_properties(**left), table)
    return styler.set_table_styles([{"selector": "th", "props": "text-align: left !important;"}], overwrite=False)


def _floor(values: pd.Series) -> float:
    """Where a column's bars begin: a little under the least value, so that small differences are seen."""
    return float(values.min() - 0.15 * (values.max() - values.min()) - 1e-9)


def _best(values: pd.Series) -> list[str]:
    """The three highest of a column, shaded in steps: a heat that survives one decimal."""
    ranks = values.rank(ascending=False, method="min")
    return [f"background: rgba(0,114,178,{0.42 - 0.13 * (rank - 1):.2f})" if rank <= 3 else "" for rank in ranks]


def verdict_view(table: pd.DataFrame) -> tuple[pd.DataFrame, dict]:
    """Columns of a table of verdicts that are read, renamed, and their formats."""
    shown = table[["claim", "text", "published", "published_p", "difference", "low", "high", "seeds", "p", "verdict"]]
    names = {"published": "published Δ", "published_p": "published p", "difference": "measured Δ", "low": "95 % from", "high": "to"}
    shown = shown.rename(columns=names)
    bounds = dict.fromkeys(["95 % from", "to"], "{:+.1f}")  # with the sign of a bound that rounds to 0: is 0 inside?
    return shown, dict.fromkeys(["published Δ", "measured Δ"], "{:+z.1f}") | bounds | {"published p": p_value, "p": p_value}


def _style_verdicts(table: pd.DataFrame) -> Styler:
    shown, formats = verdict_view(table)
    styler = shown.style.hide(axis="index").format(formats | {"text": html.escape}, na_rep="")
    styler = styler.map(
        lambda verdict: f"background: {VERDICT_COLOURS[verdict]}; white-space: nowrap; text-align: left !important", subset=["verdict"]
    )
    left = {"text-align": "left !important"}  # a rule for all cells of a table outweighs that of a single one
    styler = styler.set_properties(subset=["claim"], **left, **{"white-space": "nowrap"})
    return _finish(styler.set_properties(subset=["text"], **left, **{"min-width": "22em"}), table)


def p_value(value: float) -> str:
    """A p value in three decimals at most."""
    return "" if pd.isna(value) else "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def save(table: pd.DataFrame, folder: Path | str, name: str) -> list[Path]:
    """Write <name>.csv (full precision, the tidy table) and <name>.tex (booktabs, one decimal). Returns both paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.csv", folder / f"{name}.tex"]
    table.to_csv(paths[0], index=list(table.index.names) != [None])
    paths[1].write_text(latex(table), encoding="utf-8")
    return paths


def latex(table: pd.DataFrame) -> str:
    """A table environment for any table of `tables`; needs booktabs alone."""
    if "verdict" in table:
        return tex.verdicts(*verdict_view(table), table.attrs.get("caption", ""))
    return tex.comparison(table) if list(table.index.names) == ["method", "column"] else tex.plain(table)
