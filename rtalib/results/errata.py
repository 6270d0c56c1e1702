"""Where the two papers are silent, contradict themselves or claim more than they show, and what is done about it here.

The list is published/faults.csv, in our words. Cells that a paper prints in two ways stand with their table (papers.Conflict).
"""

import csv
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from rtalib.errors import unknown

if TYPE_CHECKING:
    import pandas as pd

SHORT = {"rta": "RTA", "cf": "CF-DARTS"}


@dataclass(frozen=True)
class Fault:
    """paper: "rta" or "cf"; place: where in it; fault: what is wrong or missing there; resolution: what this code does;
    concerns: the tables, figures or algorithms for which it matters most, such as "cf-table2"; perhaps none."""

    paper: str
    place: str
    fault: str
    resolution: str
    concerns: tuple[str, ...] = ()


def of(*ids: str) -> tuple[Fault, ...]:
    """The faults that matter most for any of these tables, figures or algorithms, in the list's order; ValueError for an unknown id."""
    known = dict.fromkeys(id for fault in FAULTS for id in fault.concerns)
    for id in ids:
        if id not in known:
            raise unknown("table, figure or algorithm", id, known)
    return tuple(fault for fault in FAULTS if set(ids) & set(fault.concerns))


def table(*ids: str) -> "pd.DataFrame":
    """`of(*ids)`, or all faults without an id, for `tables.style`: where, what, and what is done here."""
    import pandas as pd

    lines = [(f"{SHORT[fault.paper]}, {fault.place}", fault.fault, fault.resolution) for fault in (of(*ids) if ids else FAULTS)]
    return pd.DataFrame(lines, columns=["where", "in the paper", "here"])


def _load() -> tuple[Fault, ...]:
    with resources.files("rtalib.results").joinpath("published", "faults.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Fault(**row | {"concerns": tuple(row["concerns"].split())}) for row in csv.DictReader(file))


FAULTS = _load()
