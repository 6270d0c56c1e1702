"""Comparison, verdicts and wins against direct computations; every way in which numbers must not be mixed."""

import math

import numpy as np
import pandas as pd
import pytest
from made_up import cf_rows, rta_rows
from scipy import stats

from rtalib import papers, tables
from rtalib.results.claims import Claim

RTA1, CF2, CF3 = papers.RTA["table1"], papers.CF_DARTS["table2"], papers.CF_DARTS["table3"]
LAST = list(RTA1.rows)[-1]  # RTA(Ours)


def claim(better: str, worse: str, metric: str = "fail", margin: float = 0.0) -> Claim:
    return Claim("x", "cf", "table2", "x", better, worse, metric, margin)


def row(method: str, seed: int, **values) -> dict:
    return {"method": method, "seed": seed, **values}


def test_compare_averages_models_first_and_intervals_are_over_seeds():
    rows = rta_rows()
    found = tables.compare(rows, RTA1).loc[(LAST, "score")]
    by_seed = [np.mean([r["score"] for r in rows if r["method"] == LAST and r["seed"] == seed]) for seed in range(3)]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(by_seed), scale=stats.sem(by_seed))
    assert found["measured"] == pytest.approx(np.mean(by_seed))
    assert found["interval"] == pytest.approx((high - low) / 2)
    assert (found["seeds"], found["published"]) == (3, 98.58)
    assert found["difference"] == pytest.approx(np.mean(by_seed) - 98.58)


def test_a_seed_with_a_missing_model_does_not_count():
    rows = rta_rows()[:-1]  # the last seed of RTA lacks its second model
    assert tables.compare(rows, RTA1).loc[(LAST, "score"), "seeds"] == 2


def test_compare_keeps_the_paper_s_order_adds_controls_and_the_whole_guiding_set():
    table = tables.compare(cf_rows(), CF2)
    assert list(dict.fromkeys(table.index.get_level_values("method"))) == [*CF2.rows, "Org. DNN (retrained)"]
    assert list(dict.fromkeys(table.index.get_level_values("column")))[:3] == ["clean", "fail", "gaussian_noise"]
    assert math.isnan(table.loc[("CF-DARTS", "gaussian_noise"), "published"])
    assert table.loc[("CF-DARTSE", "fail"), "published_std"] == 2.08


def test_compare_without_rows_shows_the_paper_alone():
    table = tables.compare([], CF2)
    assert table["measured"].isna().all() and table.loc[("CF-DARTSE", "fail"), "published"] == 87.77
    assert "Not measured" in table.attrs["caption"]


def test_a_figure_without_printed_numbers_and_rows_is_an_empty_table():
    table = tables.compare([], papers.PUBLISHED["cf-figure4"])
    assert len(table) == 0 and "measured" in table and "Not measured" in table.attrs["caption"]


def test_a_claim_names_the_rows_it_rests_on():
    rows = [row | {"key": f"{row['method'].replace(' ', '')}-{row['seed']}"} for row in cf_rows()]
    rows = [row for row in rows if row["key"] != "Org.DNN-2"]
    found = tables.verdicts(rows, [claim("CF-DARTS", "Org. DNN")]).iloc[0]
    assert found["seeds"] == 2
    assert found["rows"] == "CF-DARTS-0 CF-DARTS-1 Org.DNN-0 Org.DNN-1", "seed 2 lacks its partner"


def test_scale_and_data_are_on_the_table_s_face():
    demo, full = (tables.compare(rta_rows(scale=scale), RTA1).attrs["caption"] for scale in ("demo", "paper"))
    assert "scale demo, data shapes10" in demo and "seeds 0, 1, 2" in demo and "Not the paper's setting" in demo
    assert "Not the paper's setting" not in full


@pytest.mark.parametrize("name,other", [("scale", "small"), ("dataset", "cifar10"), ("protocol", "paper"), ("corruption", "fog")])
def test_different_experiments_are_not_averaged(name, other):
    rows = cf_rows()
    rows[0] = rows[0] | {name: other}
    with pytest.raises(ValueError, match=f"mix values of {name}"):
        tables.compare(rows, CF2)
    with pytest.raises(ValueError, match=f"mix values of {name}"):
        tables.verdicts(rows, [claim("CF-DARTS", "Org. DNN")])


def test_two_values_for_one_seed_raise():
    with pytest.raises(ValueError, match="twice for seed 0"):
        tables.values([row("a", 0, fail=1.0), row("a", 0, fail=2.0)], "a", "fail")


def test_blocks_of_table_3_take_the_rows_of_their_guide():
    fog, glass = cf_rows(corruption="fog"), cf_rows(corruption="glass_blur")
    table = tables.compare(fog + glass, CF3)
    expected = np.mean([r["fail"] for r in fog if r["method"] == "CF-DARTS"])
    assert table.loc[("fg: CF-DARTS", "fail"), "measured"] == pytest.approx(expected)
    assert table.loc[("pl: CF-DARTS", "fail"), "seeds"] == 0
    assert table.loc[("gb: Org. DNN (retrained)", "fail"), "seeds"] == 3


def test_verdict_is_scipy_s_paired_test():
    rows = cf_rows(seeds=5)
    found = tables.verdicts(rows, [claim("CF-DARTSE", "RF-DARTSE")]).iloc[0]
    pair = [np.array([r["fail"] for r in rows if r["method"] == method]) for method in ("CF-DARTSE", "RF-DARTSE")]
    expected = stats.ttest_rel(*pair)
    low, high = expected.confidence_interval(0.95)
    assert (found["p"], found["low"], found["high"]) == pytest.approx((expected.pvalue, low, high))
    assert (found["seeds"], found["verdict"]) == (5, "reproduced")
    assert found["published"] == pytest.approx(87.77 - 82.87)
    assert found["published_p"] == pytest.approx(0.0033, abs=1e-4)


def test_pairs_match_by_seed_not_by_order():
    rows = [row("a", s, fail=10.0 * s + 1 + 0.01 * s) for s in (2, 0, 1)] + [row("b", s, fail=10.0 * s) for s in (0, 1, 2, 7)]
    found = tables.verdicts(rows, [claim("a", "b")]).iloc[0]
    assert found["difference"] == pytest.approx(1.01) and found["seeds"] == 3 and found["verdict"] == "reproduced"


def test_a_seed_counts_once_with_the_mean_over_its_models():
    found = tables.verdicts(rta_rows(), papers.CLAIMS["rta-table1"]).set_index("claim")
    assert (found["seeds"] == 3).all() and found.loc["rta1.1", "published"] == pytest.approx(1.74)
    gains = {(0, "a"): 1.0, (0, "b"): 1.2, (1, "a"): 3.0, (1, "b"): 3.2, (2, "a"): 5.0}  # seed 2 lacks a model
    rows = [row("worse", seed, fail=0.0) | {"model": model} for seed, model in [*gains, (2, "b")]]
    rows += [row("better", seed, fail=gain) | {"model": model} for (seed, model), gain in gains.items()]
    found = tables.verdicts(rows, [claim("better", "worse")]).iloc[0]
    expected = stats.ttest_1samp([1.1, 3.1], 0.0)
    low, high = expected.confidence_interval(0.95)
    assert found["seeds"] == 2 and (found["difference"], found["p"]) == pytest.approx((2.1, expected.pvalue))
    assert (found["low"], found["high"]) == pytest.approx((low, high))


@pytest.mark.parametrize(
    "better,margin,verdict",
    [
        ([5.0], 0.0, "cannot be decided"),  # one seed proves nothing
        ([5.0, 9.0, -3.0], 0.0, "cannot be decided"),
        ([5.0, 5.2, 4.9], 0.0, "reproduced"),
        ([5.0, 5.0, 5.0], 0.0, "cannot be decided"),  # no spread, no test
        ([-1.0, -1.1, -0.9], 0.0, "not reproduced"),
        ([0.0, 0.0], 0.0, "cannot be decided"),  # no difference
        ([-5.0, -9.0, 3.0], 0.0, "cannot be decided"),
        ([-0.1, -0.12, -0.09], 0.5, "reproduced"),
        ([float("nan")], 0.0, "missing"),
    ],
)
def test_verdicts(better, margin, verdict):
    rows = [row("a", s, fail=50 + d) for s, d in enumerate(better)] + [row("b", s, fail=50.0) for s in range(len(better))]
    assert tables.verdicts(rows, [claim("a", "b", margin=margin)]).iloc[0]["verdict"] == verdict


def test_models_of_one_seed_prove_nothing():
    rows = [row("a", 0, model=m, fail=50 + d) for m, d in (("x", 5.0), ("y", 5.1))] + [row("b", 0, model=m, fail=50.0) for m in "xy"]
    found = tables.verdicts(rows, [claim("a", "b")]).iloc[0]
    assert np.isnan(found["p"]) and (found["seeds"], found["verdict"]) == (1, "cannot be decided")


def test_missing_method_is_missing():
    assert tables.verdicts([], [claim("a", "b")]).iloc[0]["verdict"] == "missing"


def test_wins_on_the_published_numbers():
    rows = [{"method": m, "seed": 0, "corruption": "gaussian_noise", **r} for m, r in CF2.rows.items()]
    table = tables.wins(rows, reference="AU-DARTSE")
    assert tuple(table.loc["CF-DARTSE", ["wins", "of"]]) == (5, 14)  # it loses 9 of 14
    assert table.loc["CF-DARTSE", "mean gap"] == pytest.approx(86.74 - 86.29, abs=0.01)


def test_style_puts_published_beside_measured_and_escapes():
    hostile = [r | {"method": "<script>"} if r["method"] == "AugMix" else r for r in cf_rows()]
    text = tables.style(tables.compare(hostile, CF2)).to_html()
    assert "<script>" not in text and "&lt;script&gt;" in text and "scale demo" in text
    simple = tables.style(tables.compare(rta_rows(), RTA1)).to_html()
    assert simple.index("published</th>") < simple.index("measured</th>")
    assert "reproduced" in tables.style(tables.verdicts(rta_rows(), papers.CLAIMS["rta-table1"])).to_html()
    assert "of" in tables.style(tables.wins(cf_rows())).to_html()


def test_save_round_trips_and_writes_booktabs(tmp_path):
    table = tables.compare(cf_rows(), CF2)
    csv, tex = tables.save(table, tmp_path, "cf-table2")
    pd.testing.assert_frame_equal(pd.read_csv(csv, index_col=[0, 1]), table, check_dtype=False)
    text = tex.read_text()
    assert r"\toprule" in text and r"\bottomrule" in text and "87.8" in text and r"$\pm$ 95\,\%" in text
    _, verdict_tex = tables.save(tables.verdicts(rta_rows(), papers.CLAIMS["rta-table1"]), tmp_path, "claims")
    assert "reproduced" in verdict_tex.read_text()


def test_frame_is_flat():
    frame = tables.frame(cf_rows())
    assert "history" not in frame and "stamp" not in frame and len(frame) == 33
