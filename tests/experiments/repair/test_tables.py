"""Every table of CF-DARTS at smoke scale: which rows it has, what they share, and bad names."""

from collections import Counter

import pytest

from rtalib import papers, repair, scales, tables
from rtalib.experiments.repair import tables as repair_tables
from rtalib.infra.store import housekeeping

SETUP = scales.get("smoke").repair


@pytest.fixture(scope="module")
def rows(smoke_outputs):
    """rows(table): computed once, all in one store, which is that of the notebooks."""
    known: dict[str, list[dict]] = {}

    def run(table):
        if table not in known:
            known[table] = repair.run_table(table, scale="smoke", executor="serial")
        return known[table]

    return run


@pytest.mark.parametrize("table", ["table1", "table2", "table3", "table4", pytest.param("table6", marks=pytest.mark.slow), "table7"])
def test_every_published_method_has_a_row(rows, table):
    found = tables.compare(rows(table), papers.CF_DARTS[table])
    published = found[found.published.notna()]
    missing = published[published.measured.isna()]
    assert len(missing) == 0, missing.index.tolist()[:5]


@pytest.mark.slow
def test_table5_has_the_rows_of_its_search_methods_and_common_failures(rows):
    found = rows("table5")
    bases = {"darts": "Org. DNN", **repair_tables.SEARCHES}
    for search in SETUP.searches:
        kinds = Counter((row["kind"], row["selection"], row["extended"]) for row in found if row["search"] == search)
        assert set(kinds.values()) == {1} and len(kinds) == 6
        [deployed] = [row for row in found if row["method"] == bases[search]]
        assert deployed["fail"] == 0 and deployed["common_fail"] in (0, None)
    assert len({row["n_common_fail"] for row in found}) == 1
    names = {trial.method for trial in repair_tables.table5({**_common(), "setup": scales.get("paper").repair})}
    assert set(papers.CF_DARTS["table5"].rows) < names


def _common():
    return {"seed": 0, "dataset": "shapes10", "corruption": "fog", "protocol": "disjoint", "scale": "paper"}


@pytest.mark.parametrize("table", [name for name in repair.TABLES if name != "table7"])
def test_every_claim_can_be_tested_on_the_trials(table):
    common = {**_common(), "target": None, "setup": scales.get("paper").repair}
    trials = [{"method": trial.method, "corruption": trial.corruption} for trial in repair_tables.TABLES[table](common)]
    for claim in papers.CLAIMS[f"cf-{table}"]:
        for method in (claim.better, claim.worse):
            assert tables.select(trials, method), f"{claim.id}: no trial for {method!r}"


def networks(rows: list[dict]) -> set[str]:
    """Keys of all networks that the rows rest on."""
    known = {entry.card["key"]: entry for entry in housekeeping.entries()}
    found, ahead = set(), [key for row in rows for key in row["entries"]]
    while ahead:
        if (key := ahead.pop()) not in found:
            found.add(key)
            ahead += known[key].card["entries"]
    return {key for key in found if known[key].card["recipe"] == "network"}


@pytest.mark.slow
def test_tables_share_their_networks(rows):
    two, six = rows("table2"), rows("table6")
    new = sum(row["version"] == 2 for row in six) + 2 * (len(SETUP.sizes) - 1)  # the original and B of Table 2 are there already
    assert len(networks(two)) > 5 and 0 < len(networks(six) - networks(two)) <= new
    by_method = {row["method"]: row for row in six}
    named = {row["method"]: row for row in two}
    for method in ("CF-DARTS", "RF-DARTS"):
        assert by_method[f"{method}(1000)"]["genotype"] == named[method]["genotype"]
        assert by_method[f"{method}(1000)"]["severities"] == named[method]["severities"]


def test_the_paper_s_protocol_leaks_and_the_other_does_not(rows, smoke_outputs, tmp_path, monkeypatch):
    assert all(row["shared_base_images"] == row["leaked_base_images"] == 0 for row in rows("table2"))
    (tmp_path / "store").symlink_to(smoke_outputs / "store")  # computed once; no row of theirs is among the notebooks'
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    leaky = repair.run_table("table1", scale="smoke", protocol="paper", executor="serial")
    assert all(row["shared_base_images"] == SETUP.tests for row in leaky)
    assert all((row["leaked_base_images"] > 0) == (row["kind"] == "refined") for row in leaky)


def test_table4_says_which_data_set_it_is_of(rows):
    found = rows("table4")
    assert {row["dataset"] for row in found} == {f"shapes10 → {scales.OTHER_SHAPES}"}
    assert {row["corruption"] for row in found} == {None, *papers.GUIDES.values()}


def test_figure4_has_three_iterations_of_both():
    names = [trial.method for trial in repair_tables.TABLES["figure4"]({**_common(), "target": None, "setup": SETUP})]
    assert {f"{name}-{k}" for name in ("CF-DARTS", "CF-DARTSE") for k in (1, 2, 3)} < set(names)


def test_table7_adds_up(rows):
    hours, ratio = (next(row for row in rows("table7") if row["method"] == name) for name in ("CF-DARTS", "CF-DARTS: ratio (%)"))
    assert sum(hours[step] for step in ("selection", "search", "retraining")) == pytest.approx(hours["total"])
    assert ratio["total"] == pytest.approx(100) and ratio["search"] == pytest.approx(100 * hours["search"] / hours["total"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"table": "table9"}, "unknown table"),
        ({"protocol": "disjiont"}, "Did you mean 'disjoint'"),
        ({"corruption": "gausian_noise"}, "Did you mean 'gaussian_noise'"),
        ({"scale": "dmeo"}, "Did you mean 'demo'"),
    ],
)
def test_bad_names(arguments, message):
    with pytest.raises(ValueError, match=message):
        repair.run_table(**arguments)
