"""Which entries of the store were used to make what: noted while it is made, so that ancestry is known and not guessed."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


@contextmanager
def noting() -> Iterator[list[str]]:
    """Yields a list to which the key of every entry that is made or found inside is added, each once, in the order of first use.

    What an entry was made of is noted in its own card, not here. Threads that are started inside are not heard.
    """
    token = _notes.set([])
    try:
        yield _notes.get()
    finally:
        _notes.reset(token)


def note(key: str) -> None:
    """An entry is used. The store calls it; others do for what they keep in memory beyond one call."""
    notes = _notes.get()
    if notes is not None and key not in notes:
        notes.append(key)


def remember(maxsize: int) -> Callable[[Callable], Callable]:
    """functools.lru_cache for functions that read the store: a later call notes the entries that the first one used."""

    def decorate(function: Callable) -> Callable:
        @functools.lru_cache(maxsize)
        def first(*arguments: Any, **named: Any) -> tuple[Any, list[str]]:
            with noting() as used:
                return function(*arguments, **named), used

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            value, used = first(*arguments, **named)
            for key in used:
                note(key)
            return value

        return call

    return decorate
