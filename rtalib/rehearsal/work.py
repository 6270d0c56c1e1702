"""What the cells of tables need: tasks, each done once however many cells share its result, in units of some kinds.

`of_cells` is the only entrance; rta_work and repair_work know the two papers. The counts are those of the code that they describe, and
tests/rehearsal compares them with what the store holds after tables have run.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rtalib.rehearsal.kinds import Kind

Key = int  # the number of a task


@dataclass(frozen=True)
class Task:
    """what it makes; units: (kind, how many) of its own; needs: tasks whose results it reads; size: bytes that it leaves in the store."""

    what: str
    units: tuple[tuple[Kind, float], ...] = ()
    needs: tuple[Key, ...] = ()
    size: float = 0.0


@dataclass
class Work:
    """Tasks, each after those that it needs. cells: the tasks that each (table, key of a cell) reads."""

    tasks: list[Task] = field(default_factory=list)
    cells: dict[tuple[str, str], tuple[Key, ...]] = field(default_factory=dict)
    numbers: dict[tuple, Key] = field(default_factory=dict)

    def add(self, name: tuple, units: Iterable[tuple[Kind, float]] = (), needs: Iterable[Key] = (), size: float = 0.0) -> Key:
        """Enter a task, unless one of this name is there; returns its number. name: what it makes, then what tells it from others."""
        if name not in self.numbers:
            self.numbers[name] = len(self.tasks)
            kept = tuple((kind, count) for kind, count in units if count > 0)
            self.tasks.append(Task(name[0], kept, tuple(dict.fromkeys(needs)), size))
        return self.numbers[name]


def of_cells(planned: Mapping[str, Mapping[str, Any]], side: int = 32, classes: int = 10) -> Work:
    """The work of cells {table: {key: cell}}, as grid.planning gives them. side, classes: of the data set's images.

    TypeError for a cell of a kind that neither paper knows.
    """
    from rtalib.rehearsal import repair_work, rta_work

    work = Work()
    for table, cells in planned.items():
        for key, cell in cells.items():
            needs = repair_work.needs(work, table, cell, side, classes) or rta_work.needs(work, table, cell, side, classes)
            if needs is None:
                raise TypeError(f"cell: nothing is known about the work of {type(cell).__name__} in table {table!r}")
            work.cells[table, key] = tuple(needs)
    return work
