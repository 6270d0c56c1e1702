"""python -m rtalib decide: hours go to the seeds that decide claims, one seed of one claim at a time."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from rtalib import scales
from rtalib.errors import check_name, check_number
from rtalib.infra import grid, store
from rtalib.results import sequential
from rtalib.results.claims import CLAIMS


def runners() -> dict[str, Callable[..., list[dict]]]:
    """{table: its run_table}, of the tables whose rows can be computed one method and seed at a time."""
    from rtalib.experiments import repair, rta

    found = {f"cf-{table}": partial(repair.run_table, table) for table in repair.TABLES}
    found |= {f"rta-{table}": partial(rta.run_table, table) for table in ("table1", "table2", "table3")}
    return {table: runner for table, runner in found.items() if CLAIMS[table]}


def spend(table: str, hours: float, *, scale: str, dataset: str, executor: str) -> list[dict]:
    """Compute seeds until no open claim of the table can be decided in what is left of `hours`; the rows of the table.

    A killed call resumes, because it begins from the stored rows. Those of other protocols than the scale's own are left out.
    """
    check_number("hours", hours, 0)
    check_name("table", table, runners())
    run, protocol, started = scales.run_name(scale, dataset), scales.get(scale).protocol, time.time()
    rows = [row for row in store.rows(run, table) if row.get("protocol", protocol) == protocol]
    while True:
        left = hours - (time.time() - started) / grid.HOUR
        cells = sequential.next_cells(rows, CLAIMS[table], hours_of(rows), left) if left > 0 else []
        if not cells:
            print(text(sequential.standings(rows, CLAIMS[table])), flush=True)
            return rows
        print("next: " + ", ".join(f"{method}, seed {seed}" for method, seed in cells), flush=True)
        known = {(row["method"], row["seed"]) for row in rows} | set(cells)
        seeds = sorted({seed for _, seed in known})
        rows = runners()[table](scale=scale, dataset=dataset, seeds=seeds, only=known, executor=executor)


def hours_of(rows: Sequence[Mapping]) -> dict[str, float]:
    """Hours of a seed of each method: all its rows, divided by its seeds. Copies of a deployed network cost nothing and are left out."""
    found: dict[str, tuple[float, set[int]]] = {}
    for row in rows:
        if row.get("kind") != "deployed":
            seconds, seeds = found.get(row["method"], (0.0, set()))
            found[row["method"]] = seconds + float(row.get("seconds") or 0), seeds | {row["seed"]}
    return {method: seconds / len(seeds) / grid.HOUR for method, (seconds, seeds) in found.items()}


def text(found: Sequence[sequential.Standing]) -> str:
    """A line for each claim: its seeds, its evidence, the threshold, and what more seeds may do."""
    lines = [f"{'claim':<10} {'seeds':>5} {'evidence':>9} {'needed':>7}  standing"]
    for each in found:
        more = f"decided at about {each.needed:.0f} seeds" if each.needed < float("inf") else f"open at {sequential.MOST} seeds, as it goes"
        lines.append(
            f"{each.claim.id:<10} {each.seeds:>5} {each.evidence:>9.3g} {each.threshold:>7.0f}  {'decided' if each.decided else more}"
        )
    return "\n".join(lines)
