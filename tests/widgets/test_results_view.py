"""Tables as heat maps: the numbers, the filter by verdict, and tables that were not measured."""

import numpy as np
import pytest
from made_up import cf_rows, rta_rows

from rtalib.widgets.results import DIVERGING, compared, explore_results, results_view


@pytest.fixture(scope="module")
def found():
    return compared({"rta-table1": rta_rows(), "cf-table2": cf_rows(), "cf-table3": [], "rta-sources": [{"method": "x"}]})


def numbers(drawing) -> np.ndarray:
    return np.asarray(drawing.axes[0].collections[0].get_array())


def test_tables_without_rows_have_their_published_numbers_and_unknown_ones_are_left_out(found):
    assert list(found) == ["rta-table1", "cf-table2", "cf-table3"]
    assert not results_view(*found["cf-table3"]).axes and results_view(*found["cf-table3"], "published").axes


def test_cells_are_those_of_the_comparison(found):
    comparison, verdicts = found["cf-table2"]
    for show in ("difference", "measured", "published"):
        drawing = results_view(comparison, verdicts, show)
        assert numbers(drawing)[0, 0] == pytest.approx(comparison.loc[("Org. DNN", "clean"), show])
    axes = results_view(comparison, verdicts).axes[0]
    low, high = axes.collections[0].get_clim()
    assert low == -high and DIVERGING(0.5)[:3] == pytest.approx((1, 1, 1), abs=0.01)  # no difference is white
    assert axes.texts[0].get_text() == f"{comparison.loc[('Org. DNN', 'clean'), 'difference']:+.1f}"


def test_a_verdict_leaves_its_claims_and_the_methods_that_they_name(found):
    comparison, verdicts = found["rta-table1"]
    chosen = verdicts[verdicts["verdict"] == "reproduced"]
    drawing = results_view(comparison, verdicts, "measured", "reproduced")
    assert 0 < len(chosen) < len(verdicts)
    assert len(drawing.axes[0].get_yticks()) == len({*chosen["better"], *chosen["worse"]})
    assert sum(text.get_text() == "reproduced" for text in drawing.texts) == len(chosen)
    assert f"claims reproduced: {len(chosen)}" in drawing.get_label()


def test_wrong_names_are_suggested(found):
    with pytest.raises(ValueError, match="Did you mean 'measured'"):
        results_view(*found["cf-table2"], "measurd")
    with pytest.raises(ValueError, match="Did you mean 'reproduced'"):
        results_view(*found["cf-table2"], "measured", "reproducd")


def test_the_explorer_opens_on_a_measured_table():
    box = explore_results(compared({"rta-table1": [], "cf-table2": cf_rows()}))
    table, show, verdict = box.children[0].children
    assert (table.value, show.value, verdict.value) == ("cf-table2", "difference", "all")
    table.value, show.value = "rta-table1", "published"
    assert "rta-table1: published" in box.children[1].value
