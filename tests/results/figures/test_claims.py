"""The picture of the claims shows those that have two numbers, where they belong, and says what is decided."""

import pytest
from made_up import rta_rows

from rtalib import papers, tables
from rtalib.results import figures
from rtalib.results.figures.samples import origin

TESTED = tables.verdicts(rta_rows(), papers.CLAIMS["rta-table1"])


def test_a_dot_stands_at_its_published_and_its_measured_difference():
    axes = figures.published_against_measured(TESTED).axes[0]
    dots = [point for bars in axes.containers for point in zip(*bars.lines[0].get_data(), strict=True)]
    assert sorted(dots) == sorted(zip(TESTED["published"], TESTED["difference"], strict=True))
    for bars in axes.containers:
        verdict = bars.get_label().partition(" (")[0]
        assert bars.get_label() == f"{verdict} ({(TESTED['verdict'] == verdict).sum()})"
        assert (bars.lines[0].get_markerfacecolor() != "white") == (verdict in ("reproduced", "not reproduced"))


def test_claims_without_two_numbers_are_left_out():
    with pytest.raises(ValueError, match="claims: none has a published difference"):
        figures.published_against_measured(tables.verdicts([], papers.CLAIMS["rta-table1"]))


def test_the_foot_says_how_many_copies_an_attack_left_as_they_were():
    rows = [{"method": "a", "seed": 0, "scale": "cpu", "unmodified": share} for share in (0.0, 26.7, 100.0)]
    assert origin(rows) == "scale cpu · seed 0 · copies left unmodified: 27 % at most"
    assert origin([*rows, {"method": "b", "seed": 0, "scale": "cpu"}]) == "scale cpu · seed 0", "an older row does not state it"
    assert origin([{"method": "a", "seed": 0, "scale": "cpu"}]) == "scale cpu · seed 0"
