"""From result rows to numbers: the rows of a method, its values by seed, and what the rows say about themselves.

A row has "method", "seed" and percent values; RTA rows also have "model", and the result of a (method, seed) is the mean over its models.
"""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from rtalib.results.papers import derived, split_guide

CONTEXT = ("scale", "dataset", "protocol", "corruption")  # rows of a method that differ in these are different experiments


def frame(rows: Iterable[Mapping]) -> pd.DataFrame:
    """One line per row without nested values (stamp, history), methods in the order of their first appearance."""
    return pd.DataFrame([{name: value for name, value in row.items() if not isinstance(value, (dict, list))} for row in rows])


def same(name: str, other: str) -> bool:
    """Method names are equal up to spaces."""
    return name.replace(" ", "") == other.replace(" ", "")


def select(rows: Sequence[Mapping], method: str) -> list[Mapping]:
    """Rows of a published or claimed method; "gb: CF-DARTS" asks for the guiding corruption too (a row without one fits every block)."""
    guide, name = split_guide(method)
    chosen = [row for row in rows if same(str(row["method"]), name) or same(str(row["method"]), method)]
    return chosen if guide is None else [row for row in chosen if row.get("corruption") in (None, guide)]


def check_one_experiment(rows: Sequence[Mapping], what: str, names: Sequence[str] = CONTEXT) -> None:
    for name in names:
        found = sorted({str(row[name]) for row in rows if row.get(name) is not None})
        if len(found) > 1:
            raise ValueError(f"rows of {what!r} mix values of {name}: {', '.join(found)}; expected one. Select the rows of one first.")


def cells(rows: Sequence[Mapping], method: str, column: str) -> dict[tuple, float]:
    """{(seed, model): value} of a method; model is "" if the rows have none."""
    chosen = select(rows, method)
    check_one_experiment(chosen, method)
    found: dict[tuple, float] = {}
    for row in chosen:
        key, value = (row.get("seed", 0), str(row.get("model", ""))), derived(row, column)
        if value is None or value != value:
            continue
        if found.setdefault(key, value) != value:
            raise ValueError(
                f"rows of {method!r} give {column!r} twice for seed {key[0]} {key[1]}: {found[key]} and {value}; expected one row"
            )
    return found


def values(rows: Sequence[Mapping], method: str, column: str) -> pd.Series:
    """Measured values of a method by seed, each the mean over models; empty if nothing was measured.

    A seed that lacks some models does not count, because its mean would be over other models.
    """
    found = cells(rows, method, column)
    return by_seed(found, found)


def by_seed(found: Mapping[tuple, float], measured: Iterable[tuple]) -> pd.Series:
    """The mean over models, by seed, of the seeds that have all models of `measured`, which are pairs of a seed and a model."""
    models = dict.fromkeys(model for _, model in measured)
    seeds = [seed for seed in dict.fromkeys(seed for seed, _ in found) if all((seed, model) in found for model in models)]
    means = [sum(found[seed, model] for model in models) / len(models) for seed in seeds]
    return pd.Series(means, index=pd.Index(seeds, name="seed"), dtype=float)


def context(rows: Sequence[Mapping]) -> dict:
    """Scale, data set, protocol, seeds and image counts that the rows state, joined by commas if there are several."""
    facts = {}
    for name in ("scale", "dataset", "protocol", "corruption", "seed", "n_train", "n_eval"):
        found = list(dict.fromkeys(row[name] for row in rows if row.get(name) is not None))
        if found:
            facts[name] = ", ".join(map(str, sorted(found) if name == "seed" else found))
    return facts


def conditions(rows: Sequence[Mapping]) -> str:
    """ "Measured: scale demo, data shapes10, ..., seeds 0, 1, on 2 cores of ...", as far as the rows state it."""
    facts, hosts = context(rows), hardware(rows)
    size = f"scale {facts.get('scale', 'not stated')}, data {facts.get('dataset', 'not stated')}"
    parts = [f"{name.replace('_', ' ')} {facts[name]}" for name in ("protocol", "n_train", "n_eval") if name in facts]
    return f"Measured: {', '.join([size, *parts])}, seeds {facts.get('seed', 'not stated')}{', on ' if hosts else ''}{hosts}."


def hardware(rows: Sequence[Mapping]) -> str:
    """The hardware in the rows' stamps, the GPU or else cores and CPU, joined by " and "; empty without stamps."""
    stamps = [row["stamp"] for row in rows if row.get("stamp")]
    names = [stamp.get("gpu") or f"{stamp.get('cores', 'unknown')} cores of {stamp.get('cpu', 'an unknown CPU')}" for stamp in stamps]
    return " and ".join(dict.fromkeys(map(str, names)))


def lone(rows: Sequence[Mapping]) -> bool:
    """Whether the rows of a method are copies of those of one deployed network, so that their number says nothing about its spread."""
    return bool(rows) and all(row.get("kind") == "deployed" for row in rows)
