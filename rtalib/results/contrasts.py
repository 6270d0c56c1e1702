"""Weighted sums of methods over matched seeds (gains, the parts of a gain, interactions), as rows on which claims can be tested, and as a
table of effects with intervals."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from rtalib.results.papers import CORRUPTION_LABELS
from rtalib.results.tables import CONTEXT, conditions, t_test, values

Contrast = Mapping[str, float]  # {method: weight}
SAME = (*CONTEXT, "seed")  # rows that agree in these may be compared
MEASURED = ("clean", "fail", *CORRUPTION_LABELS, "transfer_pgd")


def gain(method: str, reference: str) -> Contrast:
    """How far a method is above its reference."""
    return {method: 1.0, reference: -1.0}


def minus(first: Contrast, second: Contrast) -> Contrast:
    """The difference of two contrasts; methods that cancel out are left out."""
    total = {name: first.get(name, 0.0) - second.get(name, 0.0) for name in (*first, *second)}
    return {name: weight for name, weight in total.items() if weight}


def contrast_rows(rows: Sequence[Mapping], contrasts: Mapping[str, Contrast], columns: Sequence[str] = MEASURED) -> list[dict]:
    """A row for every contrast and seed: the weighted sum of the rows of its methods, in each column that all of them have, and their keys.

    Seeds that lack a method are left out. ValueError if a method has two rows for a seed.
    """
    groups: dict[tuple, dict[str, Mapping]] = {}
    for row in rows:
        members = groups.setdefault(tuple(row.get(name) for name in SAME), {})
        if row["method"] in members:
            raise ValueError(f"rows: expected one of {row['method']!r} for seed {row.get('seed')}, got two")
        members[row["method"]] = row
    found = []
    for name, weights in contrasts.items():
        for same, members in groups.items():
            if not all(method in members for method in weights):
                continue
            parts = [(weight, members[method]) for method, weight in weights.items()]
            shared = [column for column in columns if all(row.get(column) is not None for _, row in parts)]
            sums = {column: sum(weight * row[column] for weight, row in parts) for column in shared}
            keys = " ".join(row["key"] for _, row in parts if row.get("key"))
            found.append({"method": name, **dict(zip(SAME, same, strict=True)), **sums, "key": keys})
    return found


def with_contrasts(rows: Sequence[Mapping], contrasts: Mapping[str, Contrast]) -> list[dict]:
    """The rows, followed by those of the contrasts."""
    return [*rows, *contrast_rows(rows, contrasts)]


def effects(rows: Sequence[Mapping], names: Iterable[str], columns: Sequence[str]) -> pd.DataFrame:
    """The rows of contrasts as a table: effect (mean over seeds, in points), low and high (95 % Student-t), seeds, and p of a two-sided
    t-test against no effect; by name and metric, for the names that were measured. NaN if one seed gives no interval."""
    samples = {(name, column): values(rows, name, column) for name in names for column in columns}
    found = [[*key, *t_test(sample), len(sample)] for key, sample in samples.items() if len(sample)]
    table = pd.DataFrame(found, columns=["effect of", "metric", "effect", "low", "high", "p", "seeds"])
    table.insert(5, "seeds", table.pop("seeds"))
    table.attrs = {"caption": f"Effects in points, with 95 % intervals over seeds. {conditions(rows)}"} if rows else {}
    return table
