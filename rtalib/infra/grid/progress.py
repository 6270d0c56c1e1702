"""How far a grid is, and what its cells cost: the mean seconds of the finished cells of the same kind."""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence

HOUR = 3600.0
KIND = ("table", "method", "source", "model", "protocol", "corruption", "what")  # cells that agree in these take about equally long
WAITING = 3.0  # a cell that took more than this times its CPU seconds waited for another cell, or for the machine
LINE = 30.0  # seconds between two lines in a file


class Costs:
    """Mean seconds of cells by their kind, learned from rows."""

    def __init__(self, rows: Iterable[Mapping]) -> None:
        self._spent: dict[tuple, list[float]] = {}
        for row in rows:
            self.learn(row)

    def learn(self, row: Mapping) -> None:
        if "seconds" in row:
            self._spent.setdefault(_kind(row), []).append(seconds(row))

    def of(self, cell: Mapping, unknown: float | None = None) -> float | None:
        """Expected seconds of a cell, `unknown` if no row is of its kind. cell: its fields and its table."""
        spent = self._spent.get(_kind(cell))
        return sum(spent) / len(spent) if spent else unknown


def _kind(facts: Mapping) -> tuple[str, ...]:
    return tuple(str(facts.get(name)) for name in KIND)


def seconds(row: Mapping) -> float:
    """Seconds of a row's cell by the clock; its CPU seconds if it mostly waited."""
    busy = row.get("cpu_seconds", row["seconds"])
    return busy if row["seconds"] > WAITING * busy else row["seconds"]


def shared_out(expected: Sequence[float], workers: int) -> float:
    """Seconds until cells of so many seconds are done: their sum over the workers, but no less than the longest."""
    return max(max(expected, default=0.0), sum(expected) / workers)


def clock(seconds: float) -> str:
    """1:05 or 2:01:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Prints how far a table is: a line for each described cell, else one every half minute (one that is rewritten, on a terminal)."""

    def __init__(self, table: str, total: int, left: Mapping[str, Mapping], costs: Costs, workers: int = 1) -> None:
        """total: all cells, also stored ones; left: the fields and the table of each missing cell, by its key; workers: cells at a time."""
        self.table, self.total, self.left, self.costs, self.workers = table, total, dict(left), costs, workers
        self.stored, self.started = total - len(left), time.monotonic()
        self.shown = self.started
        if self.stored:
            print(f"[{table}] {self.stored}/{total} cells were stored", flush=True)

    def finished(self, key: str, row: Mapping | None, text: str = "") -> None:
        """Count a cell and learn from its row (None: it failed)."""
        del self.left[key]
        if row:
            self.costs.learn(row)
        rewritten = sys.stdout.isatty() and self.left and not text
        if text or rewritten or not self.left or time.monotonic() - self.shown >= LINE:
            self.shown = time.monotonic()
            line = self._line(self.shown - self.started)
            print(f"{line}: {text}" if text else line, end="   \r" if rewritten else "\n", flush=True)

    def _line(self, elapsed: float) -> str:
        done = self.total - len(self.left)
        mean = elapsed * self.workers / (done - self.stored)
        left = shared_out([self.costs.of(cell, mean) for cell in self.left.values()], self.workers)
        return f"[{self.table}] {done}/{self.total} cells, {clock(elapsed)} elapsed, about {clock(left)} left"
