"""Minutes of notebooks from the seconds of tables."""

import paper_scale
import pytest

from rtalib.cli import plan, reproduce
from rtalib.rehearsal import minutes


def test_every_table_has_its_notebook():
    owners = {table for notebook in reproduce.numbered(None) for table in minutes.tables_of(notebook)}
    assert owners == set(plan.runners())


def test_a_table_and_what_it_is_made_of_count_for_the_first_notebook_that_computes_it():
    tables = [
        ("rta-sources", 60.0),
        ("rta-sets", 30.0),
        ("rta-table1", 30.0),
        ("rta-table2", 120.0),
        ("rta-table3", 60.0),
        ("cf-table2", 6.0),
    ]
    found = minutes.of_notebooks(reproduce.numbered(None), tables)
    assert found == {"03": pytest.approx(2), "04": pytest.approx(3), "12": pytest.approx(0.1)}


def test_the_page_shows_the_recorded_rehearsal():
    assert paper_scale.rehearsed() in paper_scale.PAGE.read_text(), "run `python docs/paper_scale.py`"
    assert "second order" in paper_scale.rehearsed() and "resnet50" in paper_scale.rehearsed()
