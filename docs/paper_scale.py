"""Draw the table of paper-scale.md from the recorded rehearsal: `python docs/paper_scale.py`; tests/rehearsal checks it.

With the argument `plan`, the plan below it is made anew, too, which takes a minute and needs Tiny-ImageNet.
"""

import sys
from pathlib import Path

from rtalib.cli import plan
from rtalib.infra.grid.cell import environment
from rtalib.rehearsal import hours, rows
from rtalib.rehearsal.prices import RECORD, Prices, guessed
from rtalib.rehearsal.work import of_cells

PAGE = Path(__file__).parent / "paper-scale.md"
BEGIN, PLAN = "<!-- rehearsed -->", "<!-- planned -->"


def rehearsed() -> str:
    """A line for each kind, in the order in which they were measured."""
    with environment(RTALIB_OUTPUTS=str(RECORD)):
        found = sorted(rows.measured("paper", "cifar10").values(), key=lambda row: row["stamp"]["time"])
    lines = ["| kind of work | seconds of a unit | memory, GiB | checkpoint, MB | note |", "| --- | ---: | ---: | ---: | --- |"]
    for row in found:
        size = f"{row['checkpoint']:.1f}" if row["checkpoint"] else ""
        note = row["note"] or ("" if row["measured"] == row["kind"]["batch"] else f"measured with {row['measured']} images")
        lines.append(f"| {row['name']} | {row['unit_seconds']:.3g} | {row['needed']:.1f} | {size} | {note} |")
    return "\n".join(lines)


def planned() -> str:
    """The plan of all tables at these prices; what was not rehearsed is a guess."""
    cells = plan.check(["all"], scale="paper", dataset="shapes10")  # whose images have CIFAR-10's size
    with environment(RTALIB_OUTPUTS=str(RECORD)):
        measured = rows.measured("paper", "cifar10")
        prices = Prices(measured, *guessed(measured))
    steps = hours.steps(of_cells(cells), [], prices, {})
    lines = []
    for table, found in cells.items():
        own = [step for step in steps if step.table == table]
        lines.append(plan.Line(table, len(found), 0, sum(step.seconds for step in own), any(step.guess for step in own)))
    return plan.text(plan.Plan(tuple(lines), tuple(steps), "a core of AMD EPYC"))


def main() -> None:
    head, _, rest = PAGE.read_text().partition(BEGIN)
    old = rest.partition(PLAN)[2]
    text = f"\n\n```\n{planned()}\n```\n" if sys.argv[1:] == ["plan"] else old
    PAGE.write_text(f"{head}{BEGIN}\n\n{rehearsed()}\n\n{PLAN}{text}")


if __name__ == "__main__":
    main()
