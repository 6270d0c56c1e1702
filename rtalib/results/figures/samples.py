"""From result rows (flat dicts, see `tables`) to what a figure needs: samples by method and column, intervals, names, origin."""

from collections.abc import Mapping, Sequence

import pandas as pd

from rtalib.results.tables import context, interval, values


def method_names(rows: Sequence[Mapping]) -> list[str]:
    """The methods of the rows in the order of their first appearance. ValueError if there are no rows."""
    if not rows:
        raise ValueError("rows: got none, expected at least one result row")
    return list(dict.fromkeys(str(row["method"]) for row in rows))


def measured(rows: Sequence[Mapping], columns: Sequence[str]) -> list[str]:
    """The columns that at least one row has."""
    return [name for name in columns if any(row.get(name) is not None for row in rows)]


def tidy(rows: Sequence[Mapping], methods: Sequence[str], columns: Sequence[str], *, minus: str | None = None) -> pd.DataFrame:
    """One line per method, column and seed, with `percent`, the mean over the seed's models (see `tables.values`).

    minus: a reference method, subtracted seed by seed; seeds that it lacks are left out.
    """
    found = []
    for column in columns:
        base = values(rows, minus, column) if minus else 0
        for method in methods:
            sample = (values(rows, method, column) - base).dropna()
            found += [(method, column, seed, value) for seed, value in sample.items()]
    return pd.DataFrame(found, columns=["method", "column", "seed", "percent"])


def student(sample: pd.Series) -> tuple[float, float]:
    """Ends of the 95 % Student-t interval of the mean, for seaborn's `errorbar`. NaN for fewer than two numbers."""
    mean, half = sample.mean(), interval(sample)
    return mean - half, mean + half


def points(**look: object) -> dict:
    """How seaborn draws means with their intervals, changed by `look`."""
    return {"errorbar": student, "capsize": 0.1, "markersize": 3.5, "linewidth": 1.2, "err_kws": {"linewidth": 0.8}} | look


def short_name(method: str) -> str:
    """A method's name for an axis: "10,000 Ori + 4 × 10,000 Ori with FGSM" -> "+ FGSM"; other names stay."""
    if " with " in method and method.startswith("10,000 Ori"):
        return "+ " + method.rsplit(" with ", 1)[1].replace("(Ours)", "")
    return {"10,000 Ori(baseline)": "originals", "5 × 10,000 Ori": "5 × originals"}.get(method, method)


def origin(rows: Sequence[Mapping]) -> str:
    """The scale, the data set, the protocol and the seeds of the rows, for the foot of a figure, and the largest share of copies that an
    augmentation of RTA's rows left as they were (copies of the originals themselves do not count), if all rows state it."""
    facts, kept = context(rows), [row.get("unmodified") for row in rows]
    most = 0 if None in kept else max((share for share in kept if share < 100), default=0)
    named = [f"{name} {facts[name]}" for name in ("scale", "dataset", "protocol", "seed") if name in facts]
    return " · ".join(named + [f"copies left unmodified: {most:.0f} % at most"] * (most > 0))
