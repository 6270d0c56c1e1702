"""The factorial's training sets and steps, what is shared with the papers' tables, and the five questions at scale smoke."""

from dataclasses import replace

import pytest
import torch

from rtalib import load_dataset, scales, store
from rtalib.cli import plan
from rtalib.experiments.repair import together
from rtalib.experiments.repair.images import evaluation_split, shared_images
from rtalib.experiments.repair.rows import method_row
from rtalib.experiments.repair.tables import TABLES, table_trials
from rtalib.experiments.repair.together import METHODS, TogetherTrial, training_set
from rtalib.experiments.rta.score import proxy_suite
from rtalib.results.claims import CLAIMS
from rtalib.results.contrasts import with_contrasts
from rtalib.results.tables import verdicts

SMOKE = scales.get("smoke")
GAIN_METHODS = [method.name for method in together.gain_parts.METHODS]


@pytest.fixture(autouse=True)
def outputs(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path_factory.getbasetemp() / "together"))


def trial(method: str, seed: int = 0) -> TogetherTrial:
    return TogetherTrial(method, seed, "shapes10", "gaussian_noise", "disjoint", "smoke", SMOKE.repair, SMOKE.rta)


def test_all_sets_have_the_same_number_of_images_and_failures_count_as_often_as_originals():
    failing = load_dataset("shapes10", "test", limit=SMOKE.repair.failures)
    sets = {data: training_set(trial(f"Deployed cell, {data}"), failing) for data in together.SETS}
    count, times = SMOKE.rta.originals, 1 + SMOKE.rta.copies
    assert {len(data) for data in sets.values()} == {count * times}
    originals = sets["originals"].images[:count]
    assert torch.equal(sets["originals"].images, originals.repeat(times, 1, 1, 1)) and torch.equal(sets["RTA"].images[:count], originals)
    for data, base in (("failures", "originals"), ("RTA + failures", "RTA")):
        kept = count * times - len(failing) * times
        assert torch.equal(sets[data].images[:kept], sets[base].images[:kept])
        assert torch.equal(sets[data].images[kept:], failing.images.repeat(times, 1, 1, 1))
        assert torch.equal(sets[data].labels[kept:], failing.labels.repeat(times))


@pytest.mark.parametrize("scale", scales.SCALES)
def test_steps_are_as_near_to_cf_darts_as_whole_epochs_allow(scale):
    settings = scales.get(scale)
    count = settings.rta.originals * (1 + settings.rta.copies)
    epochs, wanted = together.epochs(settings.repair, count), settings.repair.images * settings.repair.budget[1]
    assert epochs == 1 or abs(epochs * count - wanted) <= min(abs((epochs + change) * count - wanted) for change in (-1, 1))
    assert settings.repair.failures * (1 + settings.rta.copies) < settings.rta.originals * settings.rta.copies
    assert max(settings.together.copies) <= settings.rta.copies


def test_adversarial_examples_are_of_images_that_supply_no_failures():
    pool, test = evaluation_split(trial("CF-DARTS cell, RTA").study, "disjoint")
    together.run_sources("smoke", "shapes10", SMOKE.rta, {"run": "smoke", "executor": "serial"})
    made = together.transfer_set(test, "shapes10", SMOKE.rta)
    away = (made.images.int() - test.images.int()).abs().amax()
    assert torch.equal(made.labels, test.labels) and 0 < int(away) <= 9 and shared_images(pool, test) == 0
    assert "transfer_pgd" in proxy_suite("shapes10", SMOKE.rta)


def test_interaction_is_a_difference_of_differences():
    rows = [
        {
            "method": name,
            "seed": seed,
            "scale": "smoke",
            "gaussian_noise": 40.0 + 3 * k + seed + (5 + seed) * (name == "CF-DARTS cell, RTA"),
        }
        for k, name in enumerate(METHODS)
        for seed in (0, 1, 2)
    ]
    claim = next(claim for claim in CLAIMS["ours-together"] if "interaction" in claim.text)
    line = verdicts(with_contrasts(rows, together.CONTRASTS), [claim]).iloc[0]
    assert line.difference == pytest.approx(6.0) and line.seeds == 3 and line.verdict == "reproduced"


@pytest.mark.parametrize("question", together.QUESTIONS)
def test_every_claim_names_methods_that_there_are(question):
    from rtalib import report
    from rtalib.experiments.rta import search as rta_search
    from rtalib.experiments.rta import severity_budget

    demo = scales.get("demo")
    names = {
        "together": {*METHODS, *together.CONTRASTS},
        "gain-parts": {*GAIN_METHODS, *together.gain_parts.CONTRASTS},
        "own-starts": {"Org. DNN", *GAIN_METHODS},
        "severity-budget": {severity_budget.name_of(*budget) for budget in severity_budget.budgets(demo.rta, demo.together)},
        "coverage": set(rta_search.COVERAGE),
        "neighbours": {f"{name}: {where}" for name in ("CF-DARTS", "CF-DARTSE") for where in ("same family", "other families")},
    }[question]
    claims = CLAIMS[f"ours-{question}"]
    assert claims and {name for claim in claims for name in (claim.better, claim.worse)} <= names
    assert question in report.CLAIMS and question in report.TITLES and question in plan.runners()


@pytest.mark.slow
def test_the_parts_of_the_gain_use_the_tables_of_the_papers(monkeypatch, tmp_path):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    rows = together.run_table("gain-parts", scale="smoke", executor="serial")
    assert {row["protocol"] for row in rows} == {"disjoint", "paper"}
    lines = plan.collect(["gain-parts"], scale="smoke", dataset="shapes10").lines
    assert (16, 16) in [(line.cells, line.stored) for line in lines]
    made = sorted((tmp_path / "store").glob("*/*"))
    common = {**trial("CF-DARTS cell, RTA").common, "seed": 0}
    table = {found.method: method_row(found) for found in TABLES["table2"](common) if found.method in GAIN_METHODS}
    assert sorted((tmp_path / "store").glob("*/*")) == made  # Table 2 finds all that it shares with the parts, and the other way round
    assert {row["method"]: row["fail"] for row in rows if row["protocol"] == "disjoint"} == {
        name: row["fail"] for name, row in table.items()
    }
    assert store.read_plan("smoke", "rta-sets") == [] == store.read_plan("smoke", "rta-table4")
    same = together.run_table("own-starts", scale="smoke", executor="serial")  # of seed 0: the same deployed network
    assert sorted((tmp_path / "store").glob("*/*")) == made
    assert all(row["fail"] == table[row["method"]]["fail"] for row in same if row["method"] in table)
    other = together.run_table("own-starts", scale="smoke", seeds=(1,), executor="serial")
    starts = {row["seed"]: row for row in [*same, *other] if row["method"] == "Org. DNN"}
    assert starts[0]["history"] != starts[1]["history"] and starts[1]["fail"] == 0
    assert {row["start"] for row in other} == {1}


def test_unknown_question():
    with pytest.raises(ValueError, match="Did you mean 'neighbours'"):
        together.run_table("neighbors")


def test_sizes_of_ours_are_in_no_key_of_the_papers():
    common = {"dataset": "cifar10", "corruption": "gaussian_noise", "protocol": "disjoint", "scale": "cpu"}
    setup = scales.get("cpu").repair
    assert "together" not in str(store.plain(table_trials("table2", (0,), setup, **common)[0]))
    assert replace(scales.get("cpu"), together=scales.TogetherScale(copies=(1,))).repair == setup


def test_too_few_originals_are_refused_before_any_training(monkeypatch):
    settings = scales.get("smoke")
    few = replace(settings, rta=replace(settings.rta, originals=settings.repair.failures))
    monkeypatch.setattr(together.scales, "get", lambda name: few)
    monkeypatch.setattr(together, "_make_sets", None)
    with pytest.raises(ValueError, match="scale 'smoke': expected more originals than failures"):
        together.run_table("together", scale="smoke")
