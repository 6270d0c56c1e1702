"""Dataclasses of TOML tables, and the lines of CSV files."""

from dataclasses import dataclass, field

import pytest

from rtalib.infra.data_files import build, read_csv


@dataclass(frozen=True)
class Card:
    name: str
    sizes: tuple[int, ...]
    pairs: dict[str, tuple] = field(default_factory=dict)


def test_arrays_become_tuples_at_every_depth():
    assert build(Card, {"name": "a", "sizes": [1, 2], "pairs": {"x": [[1, 2], [3]]}}, "here") == Card("a", (1, 2), {"x": ((1, 2), (3,))})


def test_a_wrong_key_is_named_with_its_place():
    with pytest.raises(ValueError, match="cards.toml, a: unknown key 'size'. Did you mean 'sizes'"):
        build(Card, {"name": "a", "size": [1]}, "cards.toml, a")
    with pytest.raises(ValueError, match="cards.toml, a: the key 'sizes' is missing"):
        build(Card, {"name": "a"}, "cards.toml, a")


def test_lines_of_a_csv_file_are_text_by_column():
    lines = read_csv("rtalib.results.published", "errata.csv")
    assert lines.fieldnames == ["paper", "place", "issue", "resolution", "concerns"]
    assert {line["paper"] for line in lines} == {"rta", "cf"}
