"""What a cell will cost, learned from the rows of the cells that were computed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rtalib.infra.store import plain

IGNORED = ("seed",)  # makes no difference to the time
WAITING = 3.0  # a cell that took more than so many times its CPU seconds waited for another one, or for the machine


def estimate(cells: Sequence[Any], rows: Sequence[Mapping]) -> list[float | None]:
    """Expected seconds of each cell: the mean over the rows that agree with it in the most fields; None where no row is of its kind.

    cells: frozen dataclasses, or mappings of their fields. rows: of any tables; those that lack one of a cell's fields are of another
    kind, and so do not count.
    """
    wanted = [{name: value for name, value in plain(cell).items() if name not in IGNORED} for cell in cells]
    result: list[float | None] = [None] * len(wanted)
    for names in dict.fromkeys(map(tuple, wanted)):
        members = [number for number, cell in enumerate(wanted) if tuple(cell) == names]
        for number, seconds in zip(members, _estimate([wanted[number] for number in members], rows, names), strict=True):
            result[number] = seconds
    return result


def seconds(row: Mapping) -> float:
    """What a row's cell took, by the clock; its CPU seconds where it mostly waited."""
    busy = row.get("cpu_seconds", row["seconds"])
    return busy if row["seconds"] > WAITING * busy else row["seconds"]


def _estimate(cells: Sequence[Mapping], rows: Sequence[Mapping], names: tuple[str, ...]) -> list[float | None]:
    """The same for cells that have the same fields."""
    kinds: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        if "seconds" in row and all(name in row for name in names):
            kinds.setdefault(tuple(str(row[name]) for name in names), []).append(seconds(row))
    if not kinds:
        return [None] * len(cells)
    asked = [tuple(str(cell[name]) for name in names) for cell in cells]
    distinct = list(dict.fromkeys(asked))
    agree = np.zeros((len(distinct), len(kinds)), dtype=np.int16)
    for column, known in zip(zip(*distinct, strict=True), zip(*kinds, strict=True), strict=True):
        codes = {value: code for code, value in enumerate(dict.fromkeys(known))}
        agree += np.array([codes.get(value, -1) for value in column])[:, None] == np.array([codes[value] for value in known])
    nearest = agree == agree.max(axis=1, keepdims=True)
    total, count = (np.array([f(spent) for spent in kinds.values()], dtype=float) for f in (sum, len))
    means = dict(zip(distinct, (nearest @ total / (nearest @ count)).tolist(), strict=True))
    return [means[cell] for cell in asked]
