"""How far a grid is: a line per finished cell, with the time left as its cells' costs foretell it."""

import time
from collections.abc import Mapping, Sequence

from rtalib.infra.grid import costs

LEARN = 5.0  # seconds between two looks at what the rows of this very run teach


class Progress:
    """total: all cells, with the stored ones. kinds: what each missing one is, by key (see costs.estimate). rows: what is known already."""

    def __init__(self, table: str, total: int, kinds: Mapping[str, Mapping], rows: Sequence[Mapping]) -> None:
        self.table, self.total, self.stored = table, total, total - len(kinds)
        self.left, self.rows = dict(kinds), list(rows)
        if self.stored:
            print(f"[{table}] {self.stored}/{total} cells were stored", flush=True)
        self._learn()

    def rank(self, key: str) -> tuple[bool, float]:
        """Where a cell stands in the order of starting: what nothing is known of first, then the longest."""
        seconds = self.expected[key]
        return seconds is not None, -(seconds or 0.0)

    def start(self, workers: int) -> None:
        self.workers, self.started = workers, time.monotonic()

    def finished(self, key: str, row: Mapping | None, text: str = "") -> None:
        """Count a cell, learn from its row (None: it failed) and say how far all are."""
        del self.left[key]
        if row:
            self.rows.append(row)
        now = time.monotonic()
        if now - self.learned > LEARN:
            self._learn()
        done, elapsed = self.total - len(self.left), now - self.started
        mean = elapsed * self.workers / (done - self.stored)
        expected = [mean if self.expected[name] is None else self.expected[name] for name in self.left]
        left = max(max(expected, default=0.0), sum(expected) / self.workers)
        line = f"[{self.table}] {done}/{self.total} cells, {_clock(elapsed)} elapsed, about {_clock(left)} left"
        print(f"{line}: {text}" if text else line, flush=True)

    def _learn(self) -> None:
        self.expected = dict(zip(self.left, costs.estimate(list(self.left.values()), self.rows), strict=True))
        self.learned = time.monotonic()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
