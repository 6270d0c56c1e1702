"""The steps of the CF-DARTS protocol at smoke scale: failures, nested selections, warm starts, iterations, the second network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rtalib import coreset, darts, load_dataset, repair, scales
from rtalib.experiments.repair import protocol
from rtalib.experiments.repair.images import Study
from rtalib.experiments.repair.protocol import Failures, TrainedNetwork, correct, deploy, find_failures, refine, retrain, select
from rtalib.experiments.repair.rows import method_row
from rtalib.experiments.repair.tables import CFE
from rtalib.training import extract_features

SETUP = scales.get("smoke").repair
STUDY = Study("shapes10", "smoke", SETUP)
B = SETUP.failures


@pytest.fixture(scope="module", autouse=True)
def outputs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTALIB_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield


@pytest.fixture(scope="module")
def deployed(outputs) -> TrainedNetwork:
    return deploy(STUDY)


@pytest.fixture(scope="module")
def failures(deployed) -> Failures:
    return find_failures(deployed, repair.evaluation_split(STUDY, "disjoint").base, "gaussian_noise")


def test_the_seven_steps_by_hand_give_the_row_of_the_table():
    study, budget = repair.Study("shapes10", "smoke", SETUP), B
    split = repair.evaluation_split(study, "disjoint")
    phi_0 = repair.deploy(study)
    failures = repair.find_failures(phi_0, split.base, "gaussian_noise")
    chosen = repair.select(phi_0, failures, "k-center", budget)
    genotype = repair.refine(phi_0, chosen, 1)
    network = repair.retrain(genotype, chosen)
    row = repair.measure(network, split.test, phi_0, chosen)
    common = {"seed": 0, "dataset": "shapes10", "corruption": "gaussian_noise", "protocol": "disjoint", "scale": "smoke", "setup": SETUP}
    assert row == method_row(CFE.trial(common)) and row["n_train"] == SETUP.images + B


@pytest.mark.parametrize("rule", ["random", "k-center"])
@pytest.mark.parametrize("name", repair.PROTOCOLS)
def test_selected_images_fail(deployed, name, rule):
    base = repair.evaluation_split(STUDY, name).base
    chosen = select(deployed, find_failures(deployed, base, "gaussian_noise"), rule, B)
    assert len(chosen.examples) == len(chosen.rows.unique()) == B
    assert not correct(deployed.model, chosen.examples).any()
    assert torch.equal(chosen.failures.pool.images[chosen.rows], chosen.examples.images)


@pytest.mark.parametrize("rule", ["random", "k-center"])
def test_budgets_are_nested(deployed, failures, rule):
    found = [select(deployed, failures, rule, size) for size in SETUP.sizes]
    rows = [chosen.rows for chosen in found]
    assert [len(few) for few in rows] == list(SETUP.sizes)
    assert all(torch.equal(small, large[: len(small)]) for small, large in zip(rows, rows[1:], strict=False))
    assert len({chosen.entry.key for chosen in found[1:]}) == 1  # one pass for all of them


def test_core_selection_is_k_center_greedy_over_the_failures_with_the_training_images_as_centers(deployed, failures):
    chosen = select(deployed, failures, "k-center", B)
    wrong = torch.from_numpy(np.load(chosen.entry.path / "failures.npy"))
    features = extract_features(deployed.model, failures.pool.images[wrong])
    centers = extract_features(deployed.model, STUDY.data.images)
    nearest = torch.cdist(features.double(), centers.double()).min(dim=1).values
    assert int(chosen.rows[0]) == int(wrong[nearest.argmax()]) and torch.equal(wrong, failures.rows)
    assert torch.equal(chosen.rows, wrong[coreset.k_center_greedy(features, centers, B)])


def test_the_seed_draws_random_failures_and_does_not_touch_core_ones(deployed, failures):
    first, second = (select(deployed, failures, "random", B, seed=seed).rows for seed in (0, 1))
    assert not torch.equal(first, second)
    assert select(deployed, failures, "k-center", B).entry.key == select(deployed, failures, "k-center", B, seed=1).entry.key


def test_augmented_examples_are_training_images_and_no_failures(deployed, failures):
    chosen = select(deployed, failures, "augmented", B)
    assert len(chosen.examples) == B and len(chosen.rows) == 0 and chosen.entry is None


def test_without_a_rule_nothing_is_selected_and_an_unknown_one_is_refused(deployed, failures):
    assert select(deployed, failures, None, 0).examples is None
    with pytest.raises(ValueError, match="unknown rule 'kcenter'. Did you mean 'k-center'"):
        select(deployed, failures, "kcenter", B)


def test_refinement_starts_from_the_deployed_supernet_and_sees_every_failure_once(monkeypatch, deployed, failures):
    seen = []

    def spy(train, val, method, **numbers):
        seen.append({"train": train, "val": val, **numbers})
        state = {"x": torch.full((1,), float(len(seen)))}
        return darts.SearchResult(darts.GENOTYPES["darts_v1"], [], state)

    monkeypatch.setattr(darts, "search", spy)
    chosen = select(deployed, failures, "random", B, seed=7)
    third = refine(deployed, chosen, 3, seed=7)
    half = SETUP.images // 2
    assert len(seen) == 3 and third.search.card["parameters"]["init"] and third.genotype == darts.GENOTYPES["darts_v1"]
    for turn in seen:
        extra = torch.cat([turn["train"].images[half:], turn["val"].images[half:]])
        assert len(turn["train"]) == len(turn["val"]) == half + B // 2
        assert sorted(map(hash, map(bytes, extra.numpy()))) == sorted(map(hash, map(bytes, chosen.examples.images.numpy())))
    assert any("alphas" in name for name in seen[0]["init"]) and seen[0]["preset"] == "refinement"
    assert [float(turn["init"]["x"]) for turn in seen[1:]] == [1.0, 2.0]
    assert len({turn["seed"] for turn in seen}) == 3


def test_retraining_adds_the_selected_examples_only_for_the_extended_variants(deployed, failures):
    chosen = select(deployed, failures, "random", B)
    alone, extended = retrain(deployed.architecture), retrain(deployed.architecture, chosen)
    assert len(alone.data) == SETUP.images and len(extended.data) == SETUP.images + B
    assert torch.equal(extended.data.images[SETUP.images :], chosen.examples.images)
    keys = {network.entry.key for network in (deployed, alone, extended, retrain(deployed.architecture, seed=1))}
    assert len(keys) == 4  # the same architecture, trained again


def test_a_stored_network_is_built_when_it_is_asked_for(monkeypatch, deployed):
    built = []
    monkeypatch.setattr(protocol, "load_network", lambda *arguments: built.append(arguments) or torch.nn.Identity())
    again = deploy(STUDY)
    assert again.entry == deployed.entry and built == []
    assert again.model is again.model and len(built) == 1


def test_parameters_are_counted_without_the_network(deployed):
    build = deployed.build
    assert protocol.parameter_count(*build.args, **build.keywords) == sum(p.numel() for p in deployed.model.parameters())


def test_the_second_network_is_the_best_of_further_searches_on_validation(monkeypatch, deployed):
    asked = []

    def choose(genotypes, train, val, choice, **options):
        asked.append((len(genotypes), len(train), len(val)))
        return len(genotypes) - 1, [0.0] * len(genotypes)

    monkeypatch.setattr(darts, "choose", choose)
    second = protocol.initial_search(replace(STUDY, version=2))
    assert asked == [(SETUP.candidates, SETUP.images // 2, SETUP.images // 2)]
    assert second.search.card["parameters"]["seed"] == SETUP.candidates and second.search.key != deployed.architecture.search.key


@pytest.mark.parametrize(
    ("search", "refine", "expected"),
    [
        ("darts", True, {"epochs": 20, "batch_size": 64, "order": 2}),
        ("pc-darts", False, {"epochs": 50, "warm_up": 15}),  # Xu et al.: 15 of 50
        ("pc-darts", True, {"epochs": 20}),  # no warm-up from a trained supernet
        ("darts-pt", False, {"projection": darts.Projection(5)}),
        ("darts-pt", True, {"projection": darts.Projection(2)}),
        ("robust-darts", True, {"grid": ((3e-4, 0.0), (9e-4, 0.0), (27e-4, 0.0), (81e-4, 0.0))}),
    ],
)
def test_settings_of_other_methods_at_paper_scale_are_the_published_ones(search, refine, expected):
    settings = protocol.search_settings(Study("cifar10", "paper", scales.get("paper").repair, search), refine=refine)
    assert settings == settings | expected
    assert ("lr" in settings) == (search == "darts")  # the others keep their own


def test_a_network_without_failures_needs_no_repair(deployed, monkeypatch):
    data = load_dataset("shapes10", "test", limit=10)

    class Oracle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return torch.nn.functional.one_hot(data.labels.repeat(5), 10).float() + self.weight

    monkeypatch.setattr(protocol, "load_network", lambda *arguments: Oracle())
    perfect = replace(deployed)
    with pytest.raises(ValueError, match="needs no repair"):
        find_failures(perfect, data, "brightness").rows  # noqa: B018


def test_a_budget_above_the_failures_is_refused(deployed, failures):
    with pytest.raises(ValueError, match="budget: 101 failures are to be selected, but the network fails on"):
        select(deployed, failures, "random", 101)
