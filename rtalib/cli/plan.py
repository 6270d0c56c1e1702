"""python -m rtalib plan and tables: what tables would compute and how long it would take, and computing them without a notebook.

Times are means over the stored rows of the same run (scale and data set); a cell that is like no stored one has no time unless hours are
assumed for it.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from rtalib import scales
from rtalib.errors import check_number, unknown
from rtalib.infra import grid, store
from rtalib.infra.grid.progress import Costs, shared_out

DEVICES = (1, 8, 64)
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Line:
    """A table of the plan: its cells, how many of them are stored, and the seconds of each other one, None if unknown."""

    table: str
    cells: int
    stored: int
    seconds: tuple[float | None, ...]


def runners() -> dict[str, Callable[..., list[dict]]]:
    """{table: its run_table}, by the names of stored tables."""
    from rtalib.experiments import repair, rta
    from rtalib.experiments.repair import chance, together

    own = {f"rta-{table}": partial(rta.run_table, table) for table in rta.TABLES}
    own |= {f"cf-{table}": partial(repair.run_table, table) for table in repair.TABLES}
    own |= {question: partial(together.run_table, question) for question in together.QUESTIONS}
    return own | {"search-or-chance": chance.run}


def named(names: Iterable[str]) -> list[str]:
    """The tables with these names, each once: 'cf-table2', or 'table2' of both papers. ValueError for an unknown one."""
    found = []
    for name in names:
        tables = [table for table in runners() if name in (table, table.removeprefix("rta-").removeprefix("cf-"))]
        if not tables:
            raise unknown("table", name, runners())
        found += tables
    return list(dict.fromkeys(found))


def seeds(text: str | None) -> Sequence[int]:
    """'5' is 0 to 4, '3,4' those two, '' none."""
    given = [_integer(seed) for seed in (text or "").split(",") if seed]
    if not given or "," in text:
        for seed in given:
            check_number("--seeds", seed, 0, 2**32 - 1, integer=True)  # what the draws of attacks take
        return given
    if not 1 <= given[0] <= MOST_SEEDS:
        raise ValueError(f"--seeds: expected 1 to {MOST_SEEDS:,} seeds, got {text}; a single seed is written with a comma: '0,'")
    return range(given[0])


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--seeds: expected integers such as 5 or 0,1,2, got {text[:60]!r}") from None


def collect(names: Iterable[str], *, scale: str, dataset: str, hours: float | None = None, **how) -> list[Line]:
    """The lines of a plan: the named tables and those that they are made of, each once, in the order in which they would run.

    hours: assumed for a cell that is like no stored one. how: seeds (default: the scale's own) and executor of the tables. Computes and
    stores nothing; raises ValueError for everything that the tables would refuse.
    """
    if hours is not None:
        check_number("hours", hours, 0, open_low=True)
    with grid.planning() as planned:
        for table in named(names):
            runners()[table](scale=scale, dataset=dataset, **how)
    run, lines = scales.run_name(scale, dataset), []
    costs = Costs(row for table in store.tables(run) for row in store.rows(run, table))
    assumed = None if hours is None else hours * grid.HOUR
    for table, cells in planned.items():
        missing = [store.plain(cell) | {"table": table} for key, cell in cells.items() if store.read_row(run, table, key) is None]
        lines.append(Line(table, len(cells), len(cells) - len(missing), tuple(costs.of(cell, assumed) for cell in missing)))
    return lines


def compute(names: Iterable[str], **how) -> list[str]:
    """Run the tables; returns the names of the tables with failed cells."""
    failed = []
    for name in named(names):
        try:
            print(f"{name}: {len(runners()[name](**how))} rows", flush=True)
        except grid.GridError as error:
            failed.append(name)
            print(f"rtalib: {name}: {error}", file=sys.stderr)
    return failed


def hardware(scale: str, dataset: str) -> str:
    """What the stored rows of the run were computed on, '' if there are none."""
    run = scales.run_name(scale, dataset)
    stamps = [row.get("stamp") or {} for table in store.tables(run) for row in store.rows(run, table)]
    return " and ".join(sorted({str(stamp.get("gpu") or f"a core of {stamp.get('cpu') or 'an unknown CPU'}") for stamp in stamps}))


def text(lines: Sequence[Line], measured_on: str = "") -> str:
    """The plan in words: a line for each table, and the least time of all on several GPUs (or cores, if the cells use none)."""
    shown = [f"{'table':<18} {'cells':>6} {'stored':>7} {'to run':>7} {'expected':>10}"]
    for line in lines:
        known = [second for second in line.seconds if second is not None]
        expected = ("" if len(known) == len(line.seconds) else "> " if known else "unknown") + (_hours(sum(known)) if known else "")
        shown.append(f"{line.table:<18} {line.cells:>6} {line.stored:>7} {len(line.seconds):>7} {expected or '0':>10}")
    every = [second for line in lines for second in line.seconds]
    known = [second for second in every if second is not None]
    if not every:
        shown += ["", "everything is stored: nothing would run"]
    if len(known) < len(every):
        shown += ["", f"{len(every) - len(known)} of {len(every)} cells are like no stored one: run one of each kind, or assume --hours"]
    if known:
        where = f", as measured on {measured_on}" if measured_on else ""
        shown += ["", f"{_hours(sum(known))} in all{where}; the longest cell {_hours(max(known))}. Shared out evenly, on"]
        shown += [f"{devices:>6}: {_hours(shared_out(known, devices)):>10}" for devices in DEVICES]
    return "\n".join(shown)


def _hours(seconds: float) -> str:
    return f"{seconds / grid.HOUR:.1f} h" if seconds >= grid.HOUR else f"{seconds / 60:.1f} min"
