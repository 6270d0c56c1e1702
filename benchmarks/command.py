"""python -m benchmarks: the goals of speed, measured beside peers and rooflines."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks import page, runner
from rtalib.cli.main import run


@click.command()
@click.argument("goals", nargs=-1, metavar="[ID]...")
@click.option("--device", help="cpu | cuda: only the goals of one.  [default: both, if there is a GPU]")
@click.option("--again", is_flag=True, help="Measure again what is finished.")
@click.option("--list", "only_list", is_flag=True, help="Show the goals and what is known of each; measure nothing.")
@click.option("--outputs", metavar="DIR", help="Folder of results.  [default: $RTALIB_OUTPUTS, else ./outputs]")
def command(goals: tuple[str, ...], device: str | None, again: bool, only_list: bool, outputs: str | None) -> None:
    """Measure ours beside peers and rooflines, and write the page of ratios. ID: only these goals, such as C1 or C1-d64.

    Finished rows are kept. Exit status 1 if a benchmark failed, whatever the verdicts are.
    """
    if outputs:
        os.environ["RTALIB_OUTPUTS"] = str(Path(outputs).absolute())
    try:
        chosen = runner.choose(runner.goals(), goals, device)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if only_list:
        for goal in chosen:
            print(f"{goal.name:<14} {goal.operation}, {goal.size}\n{'':<14} {runner.summary(goal, page.row_of(goal))}")
        return
    try:
        runner.run(chosen, again=again)
    finally:
        print(f"page: {os.path.relpath(page.write())}")
    failed = [goal.name for goal in chosen if page.row_of(goal).get("failed")]
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}; see the logs beside the page")


def main(arguments: Sequence[str] | None = None) -> int:
    return run(command, arguments, "python -m benchmarks")
