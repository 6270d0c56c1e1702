"""LaTeX of the tables of `tables`: booktabs rules and nothing else, so that `\\usepackage{booktabs}` is all a paper needs."""

from collections.abc import Sequence

import pandas as pd

from rtalib.results.papers import label

NARROW = 8  # columns above which a table is set small
SPECIAL = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"×": r"$\times$", "±": r"$\pm$", "Δ": r"$\Delta$", "→": r"$\to$", "·": r"$\cdot$", "≥": r"$\geq$", "≤": r"$\leq$"},
    **{power: f"$^{{{digit}}}$" for digit, power in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{"–": "--", "—": "---", "<": "$<$", ">": "$>$"},
}


def escape(text: str) -> str:
    """`text` as LaTeX prints it letter by letter; the signs of this library's names and captions become their commands."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def number(value: object, digits: int = 1, *, signed: bool = False) -> str:
    """A number in math mode, so that its minus is one; empty for NaN, integers without decimals, other values escaped."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return "" if value is None else escape(str(value))
    if pd.isna(value):
        return ""
    text = f"{value:{'+' if signed else ''}.{digits}f}" if isinstance(value, float) else f"{value:{'+' if signed else ''}d}"
    return f"${text}$" if text[0] in "+-" else text


def span(counts: pd.Series) -> str:
    """ "3", or "2-3" where the positive ones of `counts` differ; "0" where none is positive."""
    found = sorted({int(count) for count in counts if count > 0}) or [0]
    return str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"


def booktabs(header: Sequence[str], lines: Sequence[Sequence[str]], align: str, caption: str = "", groups: Sequence[int] = ()) -> str:
    """A table environment; header and lines are LaTeX already, `align` is the preamble, `groups` are lines preceded by a space."""
    body = []
    for position, line in enumerate(lines):
        body += [r"\addlinespace"] if position in groups else []
        body.append(" & ".join(line) + r" \\")
    small = [r"\footnotesize", r"\setlength{\tabcolsep}{3pt}"] if len(header) > NARROW else []
    titled = [rf"\caption{{{escape(caption)}}}"] if caption else []
    rules = [r"\toprule", " & ".join(header) + r" \\", r"\midrule", *body, r"\bottomrule"]
    opening = [r"\begin{table}", r"\centering", *small, *titled, rf"\begin{{tabular}}{{{align}}}"]
    return "\n".join([*opening, *rules, r"\end{tabular}", r"\end{table}", ""])


def comparison(table: pd.DataFrame) -> str:
    """A table of `tables.compare`.

    One column: published, measured ± half width of the 95 % interval, n (seeds), difference. Several: the lines of `style.wide`.
    """
    columns = list(dict.fromkeys(table.index.get_level_values("column")))
    digits = 1 if table.attrs.get("unit", "percent") == "percent" else 2
    caption = table.attrs.get("caption", "")
    return _one_column(table, columns[0], digits, caption) if len(columns) == 1 else _several(table, columns, digits, caption)


def _one_column(table: pd.DataFrame, column: str, digits: int, caption: str) -> str:
    lines = []
    for method, row in table.droplevel("column").iterrows():
        half = "" if pd.isna(row["interval"]) else rf" $\pm$ {row['interval']:.{digits}f}"
        numbers = [number(row["published"], digits), number(row["measured"], digits) + half, str(int(row["seeds"]))]
        lines.append([escape(str(method)), *numbers, number(row["difference"], digits, signed=True)])
    header = [escape(label(column)), "published", r"measured $\pm$ 95\,\%", "$n$", "difference"]
    return booktabs(header, lines, "lrrrr", caption)


def _several(table: pd.DataFrame, columns: list[str], digits: int, caption: str) -> str:
    lines, groups = [], []
    parts = {"published": "published", "measured": "measured", "interval": r"$\pm$ 95\,\%"}
    for method, rows in table.groupby(level="method", sort=False):
        rows = rows.droplevel("method").loc[columns]
        groups.append(len(lines))
        for name, text in parts.items():
            if rows[name].notna().any():
                shown = "" if len(lines) > groups[-1] else escape(str(method))
                n = span(rows["seeds"]) if name == "measured" else ""
                lines.append([shown, text, *(number(value, digits) for value in rows[name]), n])
    header = ["", "", *(escape(label(column)) for column in columns), "$n$"]
    return booktabs(header, lines, "ll" + "r" * (len(columns) + 1), caption, groups[1:])


def plain(table: pd.DataFrame) -> str:
    """Any other table, its index first where it has a name; numbers to the right."""
    table = table if list(table.index.names) == [None] else table.reset_index()
    kinds = ["r" if pd.api.types.is_numeric_dtype(kind) else "l" for kind in table.dtypes]
    lines = [[number(value) for value in row] for row in table.itertuples(index=False, name=None)]
    names = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in table.columns]
    return booktabs([escape(name) for name in names], lines, "".join(kinds), table.attrs.get("caption", ""))


def verdicts(shown: pd.DataFrame, formats: dict, caption: str = "") -> str:
    """A table of verdicts as `style.verdict_view` shows it; the claim's words wrap."""
    lines = []
    for row in shown.to_dict("records"):
        texts = {name: formats.get(name, "{}") for name in row}
        cells = {name: how(row[name]) if callable(how) else how.format(row[name]) for name, how in texts.items()}
        lines.append([_signed("" if text in ("nan", "+nan") else text) for text in cells.values()])
    return booktabs([escape(name) for name in shown.columns], lines, "lp{6cm}" + "r" * (len(shown.columns) - 3) + "l", caption)


def _signed(text: str) -> str:
    """A formatted number with a sign goes into math mode."""
    return f"${text}$" if text[:1] in ("+", "-") and text[1:2].isdigit() else escape(text)
