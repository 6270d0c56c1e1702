"""The arguments that the tables of both papers share."""

from collections.abc import Container, Iterable, Sequence

from rtalib import scales
from rtalib.errors import LARGEST_SEED, check_kind, check_name, check_number
from rtalib.infra import grid


def checked(
    *,
    table: object,
    tables: Container[str],
    scale: object,
    dataset: object,
    seeds: object,
    protocol: object,
    protocols: Iterable[str],
    only: object,
    executor: object,
) -> tuple[scales.Scale, Sequence[int], str]:
    """(scale, seeds, protocol), the scale's own where none are given; errors name the argument, before anything is read or computed."""
    check_name("table", table, tables)
    settings = scales.get(scale)
    check_kind("dataset", dataset, str, "a name or a path")
    check_kind("seeds", seeds, (list, tuple, range), "a list of integers")
    for seed in seeds:
        check_number("seeds", seed, 0, LARGEST_SEED, integer=True)
    check_kind("protocol", protocol, str, "a name")
    protocol = protocol or settings.protocol
    check_name("protocol", protocol, protocols)
    check_kind("only", only, (set, frozenset, list, tuple, dict, type(None)), "pairs of a method and a seed, or None")
    check_name("executor", executor, grid.EXECUTORS)
    return settings, seeds or settings.seeds, protocol
