"""python -m rtalib bench: the goals of speed, measured beside peers and rooflines."""

import argparse
import os
import sys


def add_command(commands: argparse._SubParsersAction) -> None:
    text = "measure ours beside peers and rooflines, and write the page of ratios"
    command = commands.add_parser("bench", help=text, description=text.capitalize() + ". Finished rows are kept.")
    add = command.add_argument
    add("goals", nargs="*", metavar="ID", help="only these goals: C1, or C1-d64 (default: all)")
    add("--device", help="cpu | cuda: only the goals of one (default: both, as far as they are here)")
    add("--again", action="store_true", help="measure anew what is finished")
    add("--list", action="store_true", help="show the goals, and what is known of each, and measure nothing")
    add("--outputs", metavar="DIR", help="folder for results (default: $RTALIB_OUTPUTS, else ./outputs)")
    command.set_defaults(command=_bench)


def _bench(options: argparse.Namespace) -> int:
    """The exit status: 2 for arguments that cannot be used, 1 where a benchmark failed, 0 else, whatever the verdicts are."""
    from benchmarks import page as bench_page
    from benchmarks import runner as bench

    try:
        chosen = bench.choose(bench.goals(), options.goals, options.device)
    except (ValueError, FileNotFoundError) as error:
        print(f"rtalib: {error}", file=sys.stderr)
        return 2
    if options.list:
        for goal in chosen:
            print(f"{goal.name:<14} {goal.operation}, {goal.size}\n{'':<14} {bench.summary(goal, bench_page.row_of(goal))}")
        return 0
    try:
        bench.run(chosen, again=options.again)
    finally:
        print(f"page: {os.path.relpath(bench_page.write())}")
    failed = [goal.name for goal in chosen if bench_page.row_of(goal).get("failed")]
    if failed:
        print(f"rtalib: failed: {', '.join(failed)}; see the logs beside the page", file=sys.stderr)
    return 1 if failed else 0
