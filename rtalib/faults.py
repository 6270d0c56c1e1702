"""Where the two papers are silent, contradict themselves or claim more than they show, and what is done about it here.

The list is published/faults.csv, in our words. Cells that a paper prints in two ways stand with their table (papers.Conflict).
"""

import csv
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Fault:
    """paper: "rta" or "cf"; place: where in it; fault: what is wrong or missing there; resolution: what this code does."""

    paper: str
    place: str
    fault: str
    resolution: str


def _load() -> tuple[Fault, ...]:
    with resources.files("rtalib").joinpath("published", "faults.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Fault(**row) for row in csv.DictReader(file))


FAULTS = _load()
