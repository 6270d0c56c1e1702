"""python -m rtalib plan and tables: what tables would compute, what is missing for it and how long it would take, and computing them
without a notebook.

A cell that is like a stored one of the same run takes as long as that. The work of the others is counted in steps, images and gradients, at
what a rehearsal has measured for each; what nobody has rehearsed here is guessed from recorded rows of other scales, and marked by "~".
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from rtalib import scales
from rtalib.cli import reproduce
from rtalib.errors import LARGEST_SEED, check_number, unknown
from rtalib.infra import grid, store
from rtalib.infra.grid.progress import Costs
from rtalib.rehearsal import hours as hours_of
from rtalib.rehearsal import minutes, missing, rows
from rtalib.rehearsal.hours import Step
from rtalib.rehearsal.prices import Prices, guessed
from rtalib.rehearsal.work import Work, of_cells

DEVICES = (1, 8, 64)
MOST_SEEDS = 10_000
ALL = "all"


@dataclass(frozen=True)
class Line:
    """A table of the plan: its cells, how many of them are stored, the seconds of what it is the first to need, and whether these are
    partly a guess."""

    table: str
    cells: int
    stored: int
    seconds: float
    guess: bool


@dataclass(frozen=True)
class Plan:
    """lines: of the tables; steps: what is left; origin: what the times were measured on; lacks: what is missing or in the way."""

    lines: tuple[Line, ...]
    steps: tuple[Step, ...]
    origin: str = ""
    lacks: tuple[str, ...] = ()


def runners() -> dict[str, Callable[..., list[dict]]]:
    """{table: its run_table}, by the names of stored tables."""
    from rtalib.experiments import repair, rta
    from rtalib.experiments.repair import chance, together

    own = {f"rta-{table}": partial(rta.run_table, table) for table in rta.TABLES}
    own |= {f"cf-{table}": partial(repair.run_table, table) for table in repair.TABLES}
    own |= {question: partial(together.run_table, question) for question in together.QUESTIONS}
    return own | {"rta-overlap": rta.overlap.run, "search-or-chance": chance.run}


def named(names: Iterable[str]) -> list[str]:
    """The tables with these names, each once: 'cf-table2', 'table2' of both papers, or 'all'. ValueError for an unknown one."""
    found = []
    for name in names:
        if name == ALL:
            found += runners()
            continue
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
            check_number("--seeds", seed, 0, LARGEST_SEED, integer=True)
        return given
    if not 1 <= given[0] <= MOST_SEEDS:
        raise ValueError(f"--seeds: expected 1 to {MOST_SEEDS:,} seeds, got {text}; a single seed is written with a comma: '0,'")
    return range(given[0])


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--seeds: expected integers such as 5 or 0,1,2, got {text[:60]!r}") from None


def check(names: Iterable[str], **how) -> dict[str, dict]:
    """The cells of the named tables and of those that they are made of, {table: {key: cell}}; ValueError for what they would refuse."""
    with grid.planning() as planned:
        for table in named(names):
            runners()[table](**how)
    return planned


def collect(
    names: Iterable[str],
    *,
    scale: str,
    dataset: str,
    hours: float | None = None,
    rehearse: bool = False,
    longest: float | None = None,
    **how,
) -> Plan:
    """The plan of the named tables and those that they are made of, each once, in the order in which they would run.

    hours: assumed for each cell that is like no stored one. rehearse: first run a few steps of every kind of work that has not been
    rehearsed at this scale, none of them longer than `longest` seconds if given. how: seeds (default: the scale's own) and executor of the
    tables. Computes and stores nothing else; raises ValueError for everything that the tables would refuse.
    """
    for name, value in (("hours", hours), ("longest", longest)):
        if value is not None:
            check_number(name, value, 0, open_low=True)
    planned = check(names, scale=scale, dataset=dataset, **how)
    run = scales.run_name(scale, dataset)
    cells = {(table, key): cell for table, found in planned.items() for key, cell in found.items()}
    stored = {(table, key) for table, key in cells if store.read_row(run, table, key) is not None}
    costs = Costs(row for table in store.tables(run) for row in store.rows(run, table))
    assumed = None if hours is None else hours * grid.HOUR
    left = {place: store.plain(cell) | {"table": place[0]} for place, cell in cells.items() if place not in stored}
    known = {place: seconds for place, cell in left.items() if (seconds := costs.of(cell, assumed)) is not None}
    work = of_cells(planned, *missing.shape(dataset)) if len(known) < len(left) else Work(cells=dict.fromkeys(cells, ()))
    kinds = hours_of.kinds_left(work, stored, known)
    if rehearse:
        print("\n".join(missing.lacks(work, scale, dataset)), flush=True)
        rows.run(kinds, scale, dataset, longest)
    measured = rows.measured(scale, dataset)
    prices = Prices(measured, *(() if all(rows.text_of(kind) in measured for kind in kinds) else guessed(measured)))
    steps = hours_of.steps(work, stored, prices, known)
    lines = []
    for table, found in planned.items():
        own = [step for step in steps if step.table == table]
        done = sum(place in stored for place in cells if place[0] == table)
        lines.append(Line(table, len(found), done, sum(step.seconds for step in own), any(step.guess for step in own)))
    origin = " and ".join(filter(None, (hardware(scale, dataset), prices.origin)))
    return Plan(tuple(lines), tuple(steps), origin, tuple(missing.lacks(work, scale, dataset)))


def compute(names: Iterable[str], **how) -> dict[str, str]:
    """Run the tables; returns the last line of the error of each table with failed cells."""
    failed = {}
    for name in named(names):
        try:
            print(f"{name}: {len(runners()[name](**how))} rows", flush=True)
        except grid.GridError as error:
            *rest, failed[name] = str(error).splitlines()
            if rest:
                print(f"rtalib: {name}: {error}", file=sys.stderr)
    return failed


def hardware(scale: str, dataset: str) -> str:
    """What the stored rows of the run and of its rehearsal were computed on, '' if there are none."""
    run = scales.run_name(scale, dataset)
    found = [row for table in store.tables(run) for row in store.rows(run, table)] + list(rows.measured(scale, dataset).values())
    stamps = [row.get("stamp") or {} for row in found]
    return " and ".join(sorted({str(stamp.get("gpu") or f"a core of {stamp.get('cpu') or 'an unknown CPU'}") for stamp in stamps}))


def text(plan: Plan) -> str:
    """The plan in words: what is missing, a line for each table, and the least time of all on several GPUs (or cores, without GPUs)."""
    shown = [*plan.lacks, ""] if plan.lacks else []
    shown += [f"{'table':<18} {'cells':>6} {'stored':>7} {'to run':>7} {'expected':>12}"]
    for line in plan.lines:
        expected = ("~ " if line.guess else "") + (_hours(line.seconds) if line.seconds else "0")
        shown.append(f"{line.table:<18} {line.cells:>6} {line.stored:>7} {line.cells - line.stored:>7} {expected:>12}")
    if all(line.stored == line.cells for line in plan.lines):
        return "\n".join([*shown, "", "everything is stored: nothing would run"])
    total, guess = sum(step.seconds for step in plan.steps), sum(step.seconds for step in plan.steps if step.guess)
    shown += ["", "What several tables share counts for the first one that needs it."]
    if guess:
        shown.append(f"~ a guess, for {100 * guess / total:.0f} % of the time: --rehearse measures here what it is made of, in a few steps")
    longest = max(step.seconds for step in plan.steps)
    shown += ["", f"{_hours(total)} in all, as measured on {plan.origin}; the longest piece {_hours(longest)}."]
    shown += ["With every piece after those that it needs, on as many such devices:"]
    shown += [f"{devices:>6}: {_hours(hours_of.makespan(plan.steps, devices)):>12}" for devices in DEVICES]
    books = sorted(reproduce.NOTEBOOKS.glob(reproduce.NUMBERED))
    spent = minutes.of_notebooks(books, [(line.table, line.seconds) for line in plan.lines])
    of_each = " · ".join(f"{number} {value:,.0f}" for number, value in spent.items())
    return "\n".join([*shown, *(["", f"Minutes of the notebooks, one after the other on one device: {of_each}"] if spent else [])])


def _hours(seconds: float) -> str:
    if seconds >= 48 * grid.HOUR:
        return f"{seconds / grid.HOUR:,.0f} h"
    return f"{seconds / grid.HOUR:.1f} h" if seconds >= grid.HOUR else f"{seconds / 60:.1f} min"
