"""How the tables of `tables` look in a notebook, in the report (HTML) and on paper (LaTeX)."""

import html
import re
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from rtalib.results.papers import label

# Okabe and Ito's palette, told apart with every common color vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PINK = "#0072B2", "#D55E00", "#CC79A7"
VERDICT_COLORS = {
    "reproduced": GREEN,
    "not after correction": SKY,
    "cannot be decided": BLUE,
    "not found": ORANGE,
    "not reproduced": RED,
    "missing": BLACK,
}
OPACITY = "4A"  # of a color behind text, so that it suits white and black pages
COLORS = {"published": ORANGE + OPACITY, "measured": BLUE + OPACITY}
RANKS = {1: BLUE + "6B", 2: BLUE + OPACITY, 3: BLUE + "29"}  # shades of the three best of a column
LEFT = {"text-align": "left !important"}  # a rule for all cells of a table outweighs that of a single one
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
    """The table of `tables.compare` in the form for readers.

    One column: a line per method, with its gain over the first method in both, because gains compare even if levels do not.
    Several columns: the paper's columns, and per method the lines "published", "measured" and "± 95 %" that have a number; the last column,
    "n", is the number of seeds.
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
    seeds = comparison["seeds"].groupby(level="method").agg(_span)
    return table.assign(n=[seeds[method] if text == "measured" else "" for method, text in table.index])


def _span(counts: pd.Series) -> str:
    """ "3", or "2-3" if the positive ones of `counts` differ; "0" if none is positive."""
    found = sorted(int(count) for count in counts if count > 0) or [0]
    return "-".join(dict.fromkeys([str(found[0]), str(found[-1])]))


def style(table: pd.DataFrame) -> Styler:
    """A Styler for any table of `tables` or `errata`: one decimal, tabular figures, legible on light and dark pages."""
    if "verdict" in table:
        styler = _style_verdicts(table)
    elif list(table.index.names) == ["method", "column"]:
        styler = _style_comparison(table)
    elif "wins" in table:
        styler = table.style.format(precision=1, na_rep="", escape="html")
        styler = styler.bar(subset=["wins"], color=COLORS["measured"], vmin=0, vmax=max(1, table["wins"].max()))  # no win: an empty bar
    else:
        styler = table.style.hide(axis="index").format(escape="html")
        styler = styler.set_properties(**LEFT, **{"vertical-align": "top", "max-width": "36em"})
    styler = styler.set_table_styles(RULES).format_index(escape="html", axis=0).format_index(escape="html", axis=1)
    return styler.set_caption(html.escape(table.attrs["caption"])) if "caption" in table.attrs else styler


def _style_comparison(comparison: pd.DataFrame) -> Styler:
    table, digits = wide(comparison), _digits(comparison)
    styler = table.style.format(precision=digits, na_rep="")
    if not isinstance(table.index, pd.MultiIndex):
        formats = {"seeds": "{:d}", "difference": f"{{:+.{digits}f}}", "± 95 %": f"{{:.{digits}f}}"}
        styler = styler.format(formats, precision=digits, na_rep="")
        for name, color in COLORS.items():
            low, high = table[name].min(), table[name].max()
            if high == high:  # bars begin a little below the least value, so that small differences are seen
                styler = styler.bar(subset=[name], color=color, vmin=low - 0.15 * (high - low) - 1e-9, vmax=high, height=72)
        return styler
    numbers = [name for name in table.columns if name != "n"]
    lines = {part: [key for key in table.index if key[1] == part] for part in ("measured", "± 95 %")}
    if lines["measured"]:
        styler = styler.set_properties(subset=(lines["± 95 %"], numbers), **{"opacity": "0.8"})
        styler = styler.apply(_best, axis=0, subset=(lines["measured"], numbers))
    return styler.apply_index(lambda level: [f"background: {COLORS.get(text, 'none')}" for text in level], level=1)


def _best(values: pd.Series) -> list[str]:
    """Shades of the three highest numbers of a column."""
    return [f"background: {RANKS[rank]}" if rank in RANKS else "" for rank in values.rank(ascending=False, method="min")]


def _verdict_view(table: pd.DataFrame) -> tuple[pd.DataFrame, dict]:
    """The columns of a table of verdicts for readers, renamed, and their formats."""
    names = {"published": "published Δ", "difference": "measured Δ", "low": "95 % from", "high": "to", "images": "± images"}
    weights = {"families": "families Δ", "untransferred": "untransferred Δ"} if table["families"].notna().any() else {}
    tests = {"seeds": "seeds", "p": "p", "holm": "p, Holm", "power": "power", "verdict": "verdict"}
    shown = table[["claim", "text", *names, *weights, *tests]].rename(columns=names | weights | tests)
    bounds = dict.fromkeys(["95 % from", "to"], "{:+.1f}")  # with the sign of a bound that rounds to 0: is 0 inside?
    formats = {"p": p_value, "p, Holm": p_value, "power": "{:.2f}", "± images": "{:.1f}"} | dict.fromkeys(weights.values(), signed)
    return shown, {"published Δ": signed, "measured Δ": signed} | formats | bounds


def _style_verdicts(table: pd.DataFrame) -> Styler:
    shown, formats = _verdict_view(table)
    styler = shown.style.hide(axis="index").format(formats | {"text": html.escape}, na_rep="")
    styler = styler.map(lambda verdict: f"background: {VERDICT_COLORS[verdict]}{OPACITY}", subset=["verdict"])
    styler = styler.set_properties(subset=["claim", "verdict"], **LEFT, **{"white-space": "nowrap"})
    return styler.set_properties(subset=["text"], **LEFT, **{"min-width": "22em"})


def p_value(value: float) -> str:
    """A p value in three decimals at most; empty for NaN."""
    return "" if pd.isna(value) else "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def signed(value: float) -> str:
    """A difference in points, with its sign unless it rounds to 0; empty for NaN."""
    return "" if pd.isna(value) else f"{value:+z.1f}"


def texts(comparison: pd.DataFrame) -> pd.DataFrame:
    """The numbers of `tables.compare` as text: published, measured ± half width of the 95 % interval, difference; empty for NaN."""
    forms = {"published": "{:.{}f}", "measured": "{:.{}f}", "interval": " ± {:.{}f}", "difference": "{:+z.{}f}"}
    digits = _digits(comparison)
    cells = {name: ["" if pd.isna(number) else form.format(number, digits) for number in comparison[name]] for name, form in forms.items()}
    found = pd.DataFrame(cells, index=comparison.index)
    found["measured"] += found.pop("interval")
    return found


def _digits(table: pd.DataFrame) -> int:
    return 1 if table.attrs.get("unit", "percent") == "percent" else 2


def save(table: pd.DataFrame, folder: Path | str, name: str) -> list[Path]:
    """Write <name>.csv (full precision, the tidy table) and <name>.tex (booktabs, one decimal). Returns both paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.csv", folder / f"{name}.tex"]
    table.to_csv(paths[0], index=list(table.index.names) != [None])
    paths[1].write_text(latex(table), encoding="utf-8")
    return paths


# --------------------------------------------------------------------------------------------------------------- LaTeX

CROWDED = 8  # columns above which a table is set small
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {sign: f"\\{sign}" for sign in "&%$#_{}"}
SIGNS = {"×": r"$\times$", "±": r"$\pm$", "Δ": r"$\Delta$", "→": r"$\to$", "·": r"$\cdot$", "≥": r"$\geq$", "≤": r"$\leq$", "𝑛": "$n$"}
SIGNS |= {"<": "$<$", ">": "$>$", "–": "--", "—": "---", "\u2009": r"\,"} | {power: f"$^{{{i}}}$" for i, power in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}


def latex(table: pd.DataFrame) -> str:
    """A table environment for any table; needs booktabs alone."""
    shown, formats, align = table if list(table.index.names) == [None] else table.reset_index(), {}, None
    if "verdict" in table:
        shown, formats = _verdict_view(table)
        align = "lp{6cm}" + "r" * (len(shown.columns) - 3) + "l"
    elif list(table.index.names) == ["method", "column"]:
        shown = _on_paper(table)
        align = ("ll" if shown.columns[0] == "" else "lr") + "r" * (len(shown.columns) - 2)
    shown = shown.set_axis([" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in shown], axis=1)
    styler = shown.style.hide(axis="index").format(formats, precision=_digits(table), na_rep="", escape="latex")
    caption = "".join(SPECIAL.get(letter, letter) for letter in table.attrs.get("caption", ""))
    styler = styler.format_index(escape="latex", axis=1)
    text = styler.to_latex(hrules=True, position_float="centering", column_format=align, caption=caption or None)
    text = text.translate(str.maketrans(SIGNS))
    if shown.columns[0] == "":  # several lines per method: a space before each
        text = re.sub(r"(?<=\\\\\n)(?! |\\midrule|\\bottomrule)", r"\\addlinespace\n", text)
    text = re.sub(r"(?m)(^|(?<!\\)& )([+-]\d+(\.\d+)?)(?= )", r"\1$\2$", text)  # in math mode a minus is one
    small = "\\centering\n\\footnotesize\n\\setlength{\\tabcolsep}{3pt}"
    return text.replace("\\centering", small, 1) if len(shown.columns) > CROWDED else text


def _on_paper(table: pd.DataFrame) -> pd.DataFrame:
    """The lines of `wide`; if there is one column: published, measured ± half width, n (seeds), difference."""
    columns, percent = list(dict.fromkeys(table.index.get_level_values("column"))), "± 95\u2009%"
    if len(columns) == 1:
        lines = texts(table).droplevel("column").rename_axis(label(columns[0])).rename(columns={"measured": f"measured {percent}"})
        lines.insert(2, "𝑛", table["seeds"].array)
        return lines.reset_index()
    lines = wide(table).rename(columns={"n": "𝑛"}, index={"± 95 %": percent}).reset_index(names=["", " "])
    return lines.assign(**{"": lines[""].mask(lines[""].duplicated(), "")})
