"""Errata of the papers: each names the tables for which it matters, and a notebook shows those of its own."""

import html

import pytest

from rtalib import papers, tables
from rtalib.results import errata

FIGURES = {"cf-figure4", "rta-figure1-corruptions", "rta-figure1-attacks", "cf-algorithm1"}


def test_every_table_has_a_few_errata_and_every_concern_is_a_result_of_its_paper():
    concerns = {id for erratum in errata.ERRATA for id in erratum.concerns}
    assert concerns <= {*papers.PUBLISHED, *FIGURES}
    assert {id for id in papers.PUBLISHED if id.split("-")[1].startswith("table")} <= concerns
    assert all(id.startswith(erratum.paper + "-") for erratum in errata.ERRATA for id in erratum.concerns)
    assert all(1 <= len(errata.of(id)) <= 5 for id in concerns)


def test_several_tables_share_an_erratum_once_and_in_the_list_s_order():
    both = errata.of("rta-table3", "rta-table2")
    assert both == tuple(erratum for erratum in errata.ERRATA if erratum in errata.of("rta-table2") + errata.of("rta-table3"))
    assert errata.of() == ()


def test_shown_as_a_table_of_texts():
    page = html.unescape(tables.style(errata.table("cf-table7")).to_html())
    assert all(erratum.issue in page and erratum.resolution in page for erratum in errata.of("cf-table7"))
    assert errata.of("cf-table1")[0].issue not in page
    assert all(erratum.issue in html.unescape(tables.style(errata.table()).to_html()) for erratum in errata.ERRATA)


def test_unknown_names_are_suggested():
    with pytest.raises(ValueError, match="Did you mean 'cf-table2'"):
        errata.of("cf-tabel2")
