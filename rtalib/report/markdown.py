"""Filters of REPORT.md.jinja: the lines of Markdown tables."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from rtalib.results.papers import label
from rtalib.results.style import texts


def plain(value: Any) -> Any:
    """A text in one line in which nothing is a tag, a link or a picture: class names and errors come from files."""
    if not isinstance(value, str):
        return value
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", re.sub(r"\n(?!\Z)", " ", value))
    return text.replace("](", "]\\(").replace("][", "]\\[")


def row(cells: Iterable[object]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def comparison(table: pd.DataFrame) -> Iterator[list]:
    """The lines of a table of `tables.compare`: one per method if there is one column, else up to three."""
    columns, parts = list(dict.fromkeys(table.index.get_level_values("column"))), texts(table)
    if len(columns) == 1:
        yield ["method", *(f"{label(columns[0])}, {part}" for part in parts), "n"]
        yield ["---", *["---:"] * 4]
        yield from ([method, *line, n] for (method, _), line, n in zip(table.index, parts.to_numpy(), table["seeds"], strict=True))
        return
    yield ["method", "", *map(label, columns), "n"]
    yield ["---", "---", *["---:"] * (len(columns) + 1)]
    for method in dict.fromkeys(table.index.get_level_values("method")):
        for part, line in parts.loc[method].loc[columns].items():
            if line.any():
                yield [method, part, *line, table.loc[method, "seeds"].max() if part == "measured" else ""]
