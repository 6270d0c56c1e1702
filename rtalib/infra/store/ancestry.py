"""Which entries of the store a result was made of: recorded while it is computed."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_used: ContextVar[list[str] | None] = ContextVar("used", default=None)


@contextmanager
def track_dependencies() -> Iterator[list[str]]:
    """A list that collects the key of every entry made or found in the block, each once, in the order of first use.

    The dependencies of an entry are in its own card, not in this list. Threads started in the block are not tracked.
    """
    token = _used.set([])
    try:
        yield _used.get()
    finally:
        _used.reset(token)


def record_dependency(key: str) -> None:
    """Record that an entry is used. The store calls it; call it yourself for entries that you keep in memory beyond one call."""
    used = _used.get()
    if used is not None and key not in used:
        used.append(key)


def cached(maxsize: int | None) -> Callable[[Callable], Callable]:
    """functools.lru_cache for functions that read the store: a hit records the dependencies of the call that computed the value."""

    def decorate(function: Callable) -> Callable:
        @functools.lru_cache(maxsize)
        def compute(*arguments: Any, **named: Any) -> tuple[Any, list[str]]:
            with track_dependencies() as used:
                return function(*arguments, **named), used

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            value, used = compute(*arguments, **named)
            for key in used:
                record_dependency(key)
            return value

        return call

    return decorate
