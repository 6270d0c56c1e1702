"""python -m rtalib plan and python -m rtalib tables: what tables would compute, and computing them without a notebook."""

import argparse
import os
import sys
from collections.abc import Sequence

USAGE_ERROR = 2


def add_commands(commands: argparse._SubParsersAction) -> None:
    text = "say what tables would compute, what of it is stored, and how long the rest would take"
    plan = commands.add_parser("plan", help=text, description=text.capitalize() + ".")
    plan.add_argument("--hours", type=float, metavar="H", help="assumed for a cell that no stored row tells about")
    plan.set_defaults(command=_plan)
    text = "compute the rows of tables without their notebooks, for batch jobs and machines without Jupyter"
    tables = commands.add_parser("tables", help=text, description=text.capitalize() + ". Finished rows are kept; `report` shows them.")
    tables.add_argument("--executor", default="processes", help="serial | processes | ray (default: processes)")
    tables.set_defaults(command=_tables)
    for command in (plan, tables):
        add = command.add_argument
        add("tables", nargs="+", metavar="TABLE", help="rta-table1 | cf-table2 | cf-figure4 | table2 (of both papers) | ...")
        add("--seeds", default="", help="how many (5 is 0 to 4), or which, comma-separated (default: the scale's own)")
        add("--scale", default="demo", help="smoke | demo | cpu | night | small | paper (default: demo)")
        add("--dataset", default="shapes10", help="shapes10 | cifar10 | tiny-imagenet | a path (default: shapes10, built in)")
        add("--outputs", metavar="DIR", help="folder for results (default: $RTALIB_OUTPUTS, else ./outputs)")


def _plan(options: argparse.Namespace) -> int:
    from rtalib.cli import plan

    at = {"scale": options.scale, "dataset": options.dataset}
    try:
        lines = plan.collect(options.tables, **at, seeds=_seeds(options.seeds), hours=options.hours)
    except (ValueError, FileNotFoundError) as error:
        return _refused(error)
    print(plan.text(lines, plan.hardware(**at)))
    return 0


def _tables(options: argparse.Namespace) -> int:
    """The exit status: 2 for arguments that cannot be used, 1 where cells of a table failed; the other tables are computed all the same."""
    from rtalib.cli import plan
    from rtalib.infra import grid, store

    os.environ["RTALIB_OUTPUTS"] = str(store.outputs())  # for the workers
    at = {"scale": options.scale, "dataset": options.dataset}
    try:
        seeds = _seeds(options.seeds)
        plan.collect(options.tables, **at, seeds=seeds, executor=options.executor)  # every argument is checked before anything runs
        names = list(dict.fromkeys(table for name in options.tables for table in plan.tables(name)))
    except (ValueError, FileNotFoundError) as error:
        return _refused(error)
    failed = []
    for name in names:
        try:
            rows = plan.runners()[name](**at, seeds=seeds, executor=options.executor)
            print(f"{name}: {len(rows)} rows", flush=True)
        except grid.GridError as error:
            failed.append(name)
            print(f"rtalib: {name}: {error}", file=sys.stderr)
    if failed:
        print(f"rtalib: not complete: {', '.join(failed)}; the same command tries again what is missing", file=sys.stderr)
    return 1 if failed else 0


def _refused(error: Exception) -> int:
    print(f"rtalib: {error}", file=sys.stderr)
    return USAGE_ERROR


def _seeds(text: str) -> Sequence[int]:
    """'5' is 0 to 4, '3,4' those two, '' none."""
    given = [int(seed) for seed in text.split(",") if seed]
    if "," in text or not given:
        return given
    if given[0] < 1:
        raise ValueError(f"--seeds: expected at least one seed, got {text}; a single seed is written with a comma: '0,'")
    return range(given[0])
