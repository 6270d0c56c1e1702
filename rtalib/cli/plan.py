"""python -m rtalib plan: what a table would compute, what of it is stored, and what the rest would take, before anything starts.

Times come from the stored rows of the same run, that is scale and data set; what no row tells about stays unknown unless hours are assumed
for it. The schedule hands the longest cells out first, as `grid.run` does, and lets no cell wait for another.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from rtalib import scales
from rtalib.errors import unknown
from rtalib.infra import grid, store
from rtalib.infra.grid.progress import Costs, shared_out

GPUS = (1, 8, 64)


@dataclass(frozen=True)
class Line:
    """A table of the plan: how many cells it has, how many of them are stored, and the seconds of each other one, None where unknown."""

    table: str
    cells: int
    stored: int
    seconds: tuple[float | None, ...]


def runners() -> dict[str, Callable[..., object]]:
    """{table: its run_table}, by the names that stored tables have."""
    from rtalib.experiments import repair
    from rtalib.experiments.repair import chance, together
    from rtalib.experiments.rta import tables as rta

    own = {f"rta-{table}": partial(rta.run_table, table) for table in rta.TABLES}
    own |= {f"cf-{table}": partial(repair.run_table, table) for table in repair.TABLES}
    own |= {question: partial(together.run_table, question) for question in together.QUESTIONS}
    return own | {"search-or-chance": chance.run}


def tables(name: str) -> list[str]:
    """The tables that a name stands for: 'cf-table2' for itself, 'table2' for that of either paper. ValueError for an unknown one."""
    found = [table for table in runners() if name in (table, table.removeprefix("rta-").removeprefix("cf-"))]
    if not found:
        raise unknown("table", name, runners())
    return found


def collect(
    names: Iterable[str],
    *,
    scale: str,
    dataset: str,
    seeds: Sequence[int] = (),
    executor: str = "processes",
    hours: float | None = None,
) -> list[Line]:
    """The lines of a plan: the named tables (see `tables`) and what they are made of, each once, in the order in which they would run.

    seeds: default the scale's own. hours: assumed for a cell that no stored row tells about. Computes and stores nothing; raises ValueError
    for what the tables themselves would refuse.
    """
    if hours is not None and not hours > 0:
        raise ValueError(f"hours: expected more than 0, got {hours}")
    with grid.planning() as planned:
        for table in dict.fromkeys(table for name in names for table in tables(name)):
            runners()[table](scale=scale, dataset=dataset, seeds=seeds, executor=executor)
    run = scales.run_name(scale, dataset)
    costs = Costs(row for table in store.tables(run) for row in store.rows(run, table))
    assumed, lines = None if hours is None else hours * grid.HOUR, []
    for table, cells in planned.items():
        missing = [store.plain(cell) | {"table": table} for key, cell in cells.items() if store.read_row(run, table, key) is None]
        lines.append(Line(table, len(cells), len(cells) - len(missing), tuple(costs.of(cell) or assumed for cell in missing)))
    return lines


def hardware(scale: str, dataset: str) -> str:
    """What the rows of the run were computed on, '' where there are none."""
    run = scales.run_name(scale, dataset)
    stamps = [row.get("stamp") or {} for table in store.tables(run) for row in store.rows(run, table)]
    return " and ".join(sorted({str(stamp.get("gpu") or f"a core of {stamp.get('cpu') or 'an unknown CPU'}") for stamp in stamps}))


def text(lines: Sequence[Line], measured_on: str = "", gpus: Sequence[int] = GPUS) -> str:
    """The plan in words: a line for each table, the sum, and how long it would take on so many GPUs (or cores, where cells have none)."""
    shown = [f"{'table':<18} {'cells':>6} {'stored':>7} {'to run':>7} {'expected':>10}"]
    for line in lines:
        known = [second for second in line.seconds if second is not None]
        expected = ("" if len(known) == len(line.seconds) else "> " if known else "unknown") + (_hours(sum(known)) if known else "")
        shown.append(f"{line.table:<18} {line.cells:>6} {line.stored:>7} {len(line.seconds):>7} {expected or '0':>10}")
    every = [second for line in lines for second in line.seconds]
    known = [second for second in every if second is not None]
    if not every:
        return "\n".join([*shown, "", "everything is stored: nothing would run"])
    if len(known) < len(every):
        shown += [
            "",
            f"{len(every) - len(known)} of {len(every)} cells are like no stored one: run one of each kind, or assume --hours",
        ]
    if known:
        where = f", as measured on {measured_on}" if measured_on else ""
        shown += ["", f"{_hours(sum(known))} in all{where}; the longest cell {_hours(max(known))}. Evenly shared, on"]
        shown += [f"{devices:>6}: {_hours(shared_out(known, devices)):>10}" for devices in gpus]
    return "\n".join(shown)


def _hours(seconds: float) -> str:
    return f"{seconds / grid.HOUR:.1f} h" if seconds >= grid.HOUR else f"{seconds / 60:.1f} min"
