"""How every benchmark writes its rows."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path


def write(out: Path, rows: Sequence[Mapping], fields: Sequence[str], facts: Mapping) -> None:
    """A CSV with a line per row: its `fields`, empty where it has none, and the `facts` of the run."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*fields, *facts], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **facts} for row in rows)
