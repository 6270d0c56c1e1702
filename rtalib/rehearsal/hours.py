"""From the work of tables to hours: what is left to do, what it costs, and how long some devices take with it."""

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from rtalib.rehearsal.kinds import Kind
from rtalib.rehearsal.prices import Prices
from rtalib.rehearsal.work import Work

Cell = tuple[str, str]  # table, key


@dataclass(frozen=True)
class Step:
    """A task that is left, or a whole cell of known cost: for which table first, its seconds, and the steps that it waits for."""

    table: str
    seconds: float
    guess: bool = False
    needs: tuple[int, ...] = ()


def steps(work: Work, stored: Collection[Cell], prices: Prices, known: Mapping[Cell, float]) -> list[Step]:
    """What is left, each step after those that it needs. stored: finished cells, whose tasks are done; known: seconds of whole cells."""
    place: dict[int, int | None] = {}
    for cell in stored:
        _enter(work, work.cells[cell], place, lambda task: None)
    left: list[Step] = []
    for cell, tasks in work.cells.items():
        if cell in stored:
            continue
        if cell in known:
            left.append(Step(cell[0], known[cell]))
            continue

        def price(number: int, table: str = cell[0]) -> int:
            task = work.tasks[number]
            found = [(count, *prices.of(kind)) for kind, count in task.units]
            needs = tuple(place[need] for need in task.needs if place[need] is not None)
            seconds = sum(count * each for count, each, _ in found)
            left.append(Step(table, seconds, any(guess for *_, guess in found), needs))
            return len(left) - 1

        _enter(work, tasks, place, price)
    return left


def _enter(work: Work, tasks: Sequence[int], place: dict[int, int | None], enter: Callable[[int], int | None]) -> None:
    """Give each of the tasks, and of those that they need, its place; needed ones first."""
    for number in tasks:
        if number not in place:
            _enter(work, work.tasks[number].needs, place, enter)
            place[number] = enter(number)


def kinds_left(work: Work, stored: Collection[Cell], known: Mapping[Cell, float]) -> list[Kind]:
    """The kinds of what is left and of unknown cost, each once."""
    place: dict[int, int | None] = {}
    left: list[int] = []
    for cell in stored:
        _enter(work, work.cells[cell], place, lambda task: None)
    for cell, tasks in work.cells.items():
        if cell not in known and cell not in stored:
            _enter(work, tasks, place, left.append)
    return list(dict.fromkeys(kind for number in left for kind, _ in work.tasks[number].units))


def makespan(left: Sequence[Step], devices: int) -> float:
    """Seconds until all steps are done on so many devices: whatever is free takes the step with the longest way to the end (Graham 1969).

    A step waits for its needs, on one device at a time.
    """
    after: list[list[int]] = [[] for _ in left]
    waiting = [len(step.needs) for step in left]
    for number, step in enumerate(left):
        for need in step.needs:
            after[need].append(number)
    way = [0.0] * len(left)
    for number in reversed(range(len(left))):
        way[number] = left[number].seconds + max((way[other] for other in after[number]), default=0.0)
    ready = [(-way[number], number) for number in range(len(left)) if not waiting[number]]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < devices:
            number = heapq.heappop(ready)[1]
            heapq.heappush(running, (now + left[number].seconds, number))
        now, done = heapq.heappop(running)
        for number in after[done]:
            waiting[number] -= 1
            if not waiting[number]:
                heapq.heappush(ready, (-way[number], number))
    return now
