"""A kernel in which nothing can be trained: what would have to be made raises, so that the book holds recorded results alone."""

from rtalib.infra import grid, store


def install() -> None:
    store.make = grid.run = _refuse


def _refuse(*arguments: object, **options: object) -> None:
    raise RuntimeError("this cell makes or trains something; in the book nothing is trained: give the cell the tag 'trains'")
