"""The committed rows of real runs (outputs/record): what a notebook shows before anything was run here, and what the book is made of."""

from pathlib import Path

import pandas as pd

from rtalib.report import collect, files
from rtalib.results import papers
from rtalib.scales import SCALES

FOLDER = Path(__file__).parents[2] / "outputs" / "record"
NETWORKS = FOLDER / "networks"  # results on published networks
NOTE = "Recorded, not run here."


def runs() -> list[Path]:
    """Folders of the recorded runs, the largest scale first; none in an installed wheel."""
    order = list(SCALES)
    found = [path for path in FOLDER.glob("*-*") if path.name.split("-")[0] in order and (path / "rows").is_dir()]
    return sorted(found, key=lambda path: (-order.index(path.name.split("-")[0]), path.name))


def rows(table: str) -> list[dict]:
    """Rows of a table, such as 'cf-table2', of the largest recorded run that has it, or of the published networks' (NETWORKS).

    LookupError if no run has it, as outside a clone of the repository.
    """
    for folder in (*runs(), NETWORKS):
        if found := _read(folder, table):
            return found
    raise LookupError(f"table: no run in {FOLDER} has rows of {table!r}")


def _read(folder: Path, table: str) -> list[dict]:
    damaged: list[str] = []
    found = files.read_table(folder, table, damaged)
    if damaged:
        raise ValueError(damaged[0])
    return found


def published() -> dict[str, list[dict]]:
    """{id of a published table: its recorded rows}, of those that a run has, in the papers' order."""
    return {name: found for name in papers.PUBLISHED for folder in reversed(runs()) if (found := _read(folder, name))}


def claims() -> pd.DataFrame:
    """Every claim as `report.claims` has it, each from the largest recorded run that measured it; those that none measured are left out."""
    found = pd.concat([collect.claims(folder).assign(run=folder.name) for folder in runs()])
    return found[found["verdict"] != "missing"].drop_duplicates("claim").sort_index(kind="stable").reset_index(drop=True)
