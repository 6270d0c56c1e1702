"""Measured beside published: pure functions from result rows (flat dicts, see `values`) to pandas tables.

Every table made here states the scale and the data set of its rows in `attrs` and in its caption.
"""

import itertools
from collections.abc import Mapping, Sequence

import pandas as pd

from rtalib.results.papers import CORRUPTION_LABELS, GUIDES, SHORT, Published, split_guide
from rtalib.results.statistics import interval as interval
from rtalib.results.statistics import t_test as t_test
from rtalib.results.style import save as save
from rtalib.results.style import style as style
from rtalib.results.style import wide as wide
from rtalib.results.values import CONTEXT, check_one_experiment, conditions, context, lone, same, select, values
from rtalib.results.values import frame as frame
from rtalib.results.values import hardware as hardware
from rtalib.results.verdicts import published_difference as published_difference
from rtalib.results.verdicts import verdicts as verdicts


def caption(rows: Sequence[Mapping], published: Published) -> str:
    """One line that says what was published, what was measured and at which size."""
    title = f"{SHORT[published.paper]} {published.table.replace('table', 'table ').replace('figure', 'figure ')}: {published.title}."
    if not rows:
        return f"{title} Not measured in this run."
    advice = "" if context(rows).get("scale") == "paper" else " Not the paper's setting: compare differences between rows, not levels."
    return f"{title} {conditions(rows)}{advice}"


def compare(rows: Sequence[Mapping], published: Published, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Published and measured for every method and column, in the order of the paper; methods that it lacks (null baselines) follow.

    A network that was deployed once is one sample, in whatever number of rows it stands.
    columns: by default those of the published table, and the columns of corruptions or failing examples that only the rows have.
    Returns a table with index (method, column) and: published, published_std, measured, std, interval (half width, 95 %), seeds, difference
    (measured - published). attrs: caption, unit, context. ValueError if rows of one method mix scales, data sets or protocols.
    """
    if columns is None:
        more = (*CORRUPTION_LABELS, "common_fail")
        extra = [name for name in more if name not in published.columns and any(row.get(name) is not None for row in rows)]
        columns = [*published.columns, *extra] if set(published.columns) & set(CORRUPTION_LABELS) else published.columns
    order = [name for name in ("clean", "fail", *CORRUPTION_LABELS) if name in columns]
    columns = order + [name for name in columns if name not in order]
    guided = any(split_guide(name)[0] for name in published.rows)
    check_one_experiment(rows, published.id, CONTEXT[:-1] if guided else CONTEXT)
    known = {id(row) for method in published.rows for row in select(rows, method)}
    added = dict.fromkeys(_name(row, guided) for row in rows if id(row) not in known)
    records = []
    for method, column in itertools.product([*published.rows, *added], columns):
        found = values(rows, method, column)
        found = found[:1] if lone(select(rows, method)) else found
        printed = published.value(method, column), published.std.get(method, {}).get(column)
        records.append((method, column, *printed, found.mean(), found.std(), interval(found), len(found)))
    names = ("method", "column", "published", "published_std", "measured", "std", "interval", "seeds")
    table = pd.DataFrame(records, columns=names).astype({"published": float, "published_std": float}).set_index(["method", "column"])
    table["difference"] = table["measured"] - table["published"]
    table.attrs = {"caption": caption(rows, published), "unit": published.unit, "context": context(rows), "id": published.id}
    table.attrs["conditions"] = conditions(rows) if rows else "Not measured."
    return table


def _name(row: Mapping, guided: bool) -> str:
    """Name of a method that the paper lacks, in tables with blocks with the prefix of its guiding corruption."""
    prefix = {name: short for short, name in GUIDES.items()}.get(str(row.get("corruption")))
    return f"{prefix}: {row['method']}" if guided and prefix else str(row["method"])


def wins(rows: Sequence[Mapping], *, reference: str = "Org. DNN") -> pd.DataFrame:
    """Per method: the number of corruption sets on which its mean over seeds exceeds that of `reference`, of those that both have, and the
    mean gap."""
    names = [name for name in CORRUPTION_LABELS if any(row.get(name) is not None for row in rows)]
    base = {name: values(rows, reference, name).mean() for name in names}
    found = []
    for method in dict.fromkeys(str(row["method"]) for row in rows):
        gaps = pd.Series({name: values(rows, method, name).mean() - base[name] for name in names}, dtype=float).dropna()
        if not same(method, reference) and len(gaps):
            found.append({"method": method, "wins": int((gaps > 0).sum()), "of": len(gaps), "mean gap": float(gaps.mean())})
    table = pd.DataFrame(found, columns=["method", "wins", "of", "mean gap"]).set_index("method")
    table.attrs = {"caption": f"Corruption sets on which a method is above {reference}.", "context": context(rows)}
    return table
