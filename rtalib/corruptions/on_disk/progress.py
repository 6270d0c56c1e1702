"""How far a long computation is: one line on stderr."""

import sys
import time
from typing import TextIO

from rtalib.cli.status import clock

REDRAW, LINE = 0.2, 30.0  # seconds between two states: on a terminal, and where every state is a line of its own


class Progress:
    """Percent done, rate and time left of `total` items. A terminal shows one line, rewritten; a file gets a line every half minute."""

    def __init__(self, total: int, unit: str, stream: TextIO | None = None) -> None:
        self.total, self.unit, self.stream = total, unit, stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.started = self.shown = time.monotonic()
        self.done = self.width = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self.done:
            self._show(end="\n")

    def add(self, count: int) -> None:
        self.at(self.done + count)

    def at(self, done: int) -> None:
        """State how many items are done."""
        self.done = done
        if done < self.total and time.monotonic() - self.shown >= (REDRAW if self.terminal else LINE):
            self._show(end="" if self.terminal else "\n")

    def _show(self, end: str) -> None:
        self.shown = time.monotonic()
        elapsed = max(self.shown - self.started, 1e-9)
        rate = self.done / elapsed
        left = f"about {clock((self.total - self.done) / rate)} left" if rate and self.done < self.total else f"in {clock(elapsed)}"
        text = f"{100 * self.done // max(self.total, 1):3d} %  {self.done:,} of {self.total:,} {self.unit}  {rate:,.0f}/s  {left}"
        start = "\r" if self.terminal else ""
        self.stream.write(start + text.ljust(self.width) + end)  # blanks over what a longer line had left
        self.stream.flush()
        self.width = len(text) if self.terminal else 0
