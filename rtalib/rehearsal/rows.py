"""The rows of a rehearsal: computed as the cells of a grid, so that an interrupted rehearsal resumes, and found again by their kinds."""

from collections.abc import Sequence

from rtalib import scales
from rtalib.infra import grid, store
from rtalib.rehearsal.kinds import Kind, Rehearsal, rehearse

TABLE = "rehearsal"
RECIPE = "rtalib.rehearsal"


def run_name(scale: str, dataset: str) -> str:
    """The folder of a rehearsal beside that of the run itself, whose report it is no part of."""
    return f"rehearsal-{scales.run_name(scale, dataset)}"


def run(kinds: Sequence[Kind], scale: str, dataset: str, longest: float | None = None, workers: int | None = 1) -> list[dict]:
    """Rows of the kinds; see kinds.rehearse. One at a time, as times and free memory are to be those of a machine without other work."""
    cells = [Rehearsal(kind, dataset, longest) for kind in kinds]
    where = {"run": run_name(scale, dataset), "table": TABLE, "recipe": RECIPE}
    return grid.run(rehearse, cells, workers=workers, ordered=True, describe=one_line, **where)


def one_line(row: dict) -> str:
    """What a finished kind took."""
    note = f" ({row['note']})" if row["note"] else ""
    return f"{row['name']}: {row['unit_seconds']:.4g} s, {row['needed']:.1f} GiB{note}"


def measured(scale: str, dataset: str) -> dict[str, dict]:
    """{kind as text: row} of all rows that there are, the last of each kind."""
    rows = store.rows(run_name(scale, dataset), TABLE)
    return {text_of(row["kind"]): row for row in rows}


def text_of(kind: Kind | dict) -> str:
    """All fields of a kind, as rows have them."""
    return repr(sorted(store.plain(kind).items()))
