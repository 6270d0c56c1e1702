"""What the two papers omit, contradict or overstate, and what this code does about it: published/errata.csv, in our words.

Cells that a paper prints with two values are listed with their table (papers.Conflict).
"""

from dataclasses import dataclass

import pandas as pd

from rtalib.errors import check_name
from rtalib.results.papers import SHORT
from rtalib.results.published import read_csv


@dataclass(frozen=True)
class Erratum:
    """paper: "rta" or "cf"; place: where in it; issue: what is wrong or missing there; resolution: what this code does;
    concerns: the tables, figures or algorithms that it affects most, such as "cf-table2"; can be empty."""

    paper: str
    place: str
    issue: str
    resolution: str
    concerns: tuple[str, ...] = ()


ERRATA = tuple(Erratum(**line | {"concerns": tuple(line["concerns"].split())}) for line in read_csv("errata"))


def of(*ids: str) -> tuple[Erratum, ...]:
    """The errata that concern any of these tables, figures or algorithms, in the list's order; ValueError for an unknown id."""
    known = dict.fromkeys(id for erratum in ERRATA for id in erratum.concerns)
    for id in ids:
        check_name("table, figure or algorithm", id, known)
    return tuple(erratum for erratum in ERRATA if set(ids) & set(erratum.concerns))


def table(*ids: str) -> pd.DataFrame:
    """`of(*ids)`, or all errata without an id, for `tables.style`: where, in the paper, and here."""
    lines = [(f"{SHORT[erratum.paper]}, {erratum.place}", erratum.issue, erratum.resolution) for erratum in (of(*ids) if ids else ERRATA)]
    return pd.DataFrame(lines, columns=["where", "in the paper", "here"])
