"""The CF-DARTS protocol at smoke scale: halves, leakage, failures, nested selections, warm starts, iterations, the second network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rtalib import coreset, darts, scales
from rtalib.corruptions import CORRUPTIONS
from rtalib.data.loading import load_dataset
from rtalib.experiments.repair import images as repair_study
from rtalib.experiments.repair import protocol as repair_protocol
from rtalib.experiments.repair import searches as repair_search
from rtalib.experiments.repair import tables as repair_tables
from rtalib.experiments.repair.images import Study
from rtalib.experiments.repair.rows import deployed_cell, evaluation, failing_rows, leakage, method_cell
from rtalib.models.inference import extract_features

SETUP = scales.get("smoke").repair
STUDY = Study("shapes10", "smoke", SETUP)
COMMON = {"seed": 0, "dataset": "shapes10", "corruption": "gaussian_noise", "protocol": "disjoint", "scale": "smoke", "setup": SETUP}
RF, CF, DEPLOYED = (method.cell(COMMON) for method in (repair_tables.RF, repair_tables.CF, repair_tables.DEPLOYED))


@pytest.fixture(scope="module", autouse=True)
def outputs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTALIB_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield


def test_stratified_halves_share_nothing_and_balance_every_class():
    labels = torch.arange(103) % 10
    first, second = repair_study.stratified_halves(labels, seed=3)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(103))
    counts = torch.stack([labels[half].bincount(minlength=10) for half in (first, second)])
    assert (counts[0] - counts[1]).abs().max() <= 1 and abs(len(first) - len(second)) <= 1
    assert not torch.equal(first, repair_study.stratified_halves(labels, seed=4)[0])


@pytest.mark.parametrize("protocol, shared", [("disjoint", 0), ("paper", SETUP.tests)])
def test_protocols_share_as_many_base_images_as_they_say(protocol, shared):
    base, test = (data.images.flatten(1) for data in repair_study.evaluation_split(STUDY, protocol))
    assert int((base[:, None] == test[None]).all(dim=2).any(dim=1).sum()) == shared
    assert deployed_cell(replace(DEPLOYED, protocol=protocol))["shared_base_images"] == shared


def test_leaked_base_images_are_those_of_the_selected_failures():
    assert leakage(CF) == {"shared_base_images": 0, "leaked_base_images": 0}
    leaky = replace(CF, protocol="paper")
    rows = repair_protocol.examples(leaky)[1]
    assert leakage(leaky)["leaked_base_images"] == len({int(row) % SETUP.tests for row in rows}) > 0
    assert leakage(replace(leaky, selection="augmented"))["leaked_base_images"] == 0


def test_corrupted_stacks_five_severities_of_each_base_image_and_is_stored():
    test = load_dataset("shapes10", "test", limit=10)
    data = repair_study.corrupted(test, "brightness")
    assert len(data) == 50 and torch.equal(data.labels, test.labels.repeat(5))
    change = (data.images.float() - test.images.repeat(5, 1, 1, 1).float()).view(5, -1).abs().mean(dim=1)
    assert (change.diff() > 0).all()
    assert repair_study.corrupted(test, "brightness").digest == data.digest


@pytest.mark.parametrize("protocol", repair_study.PROTOCOLS)
def test_selected_images_fail_and_are_not_evaluated_as_failing(protocol):
    network = repair_protocol.deployed(STUDY)[0]
    for cell in (RF, CF):
        cell = replace(cell, protocol=protocol)
        chosen, rows = repair_protocol.examples(cell)
        assert len(chosen) == len(rows.unique()) == SETUP.failures
        assert not repair_protocol.correct(network, chosen).any()
        failing, everything = failing_rows(cell, STUDY, rows), failing_rows(cell, STUDY, None)
        if protocol == "paper":
            assert not torch.isin(failing, rows).any()
        assert len(everything) - len(failing) == (SETUP.failures if protocol == "paper" else 0)


@pytest.mark.parametrize("cell", [RF, CF], ids=["random", "core"])
def test_budgets_are_nested(cell):
    rows = [repair_protocol.examples(replace(cell, budget=size))[1] for size in SETUP.sizes]
    assert [len(found) for found in rows] == list(SETUP.sizes)
    assert all(torch.equal(small, large[: len(small)]) for small, large in zip(rows, rows[1:], strict=False))
    entries = {repair_protocol.selected(replace(cell, budget=size))[0].key for size in SETUP.sizes[1:]}
    assert len(entries) == 1  # one pass for all of them


def test_core_selection_is_k_center_greedy_over_the_failures_with_the_training_images_as_centres():
    network = repair_protocol.deployed(STUDY)[0]
    entry, pool = repair_protocol.selected(CF)
    wrong = torch.from_numpy(np.load(entry.path / "failures.npy"))
    features = extract_features(network, pool.images[wrong])
    centers = extract_features(network, repair_study.training_images(STUDY).images)
    nearest = torch.cdist(features.double(), centers.double()).min(dim=1).values
    first = int(np.load(entry.path / "selected.npy")[0])
    assert first == int(wrong[nearest.argmax()])
    assert torch.equal(repair_protocol.examples(CF)[1], wrong[coreset.k_center_greedy(features, centers, SETUP.failures)])


def test_augmented_examples_are_training_images_and_no_failures():
    chosen, rows = repair_protocol.examples(replace(CF, selection="augmented"))
    assert len(chosen) == SETUP.failures and len(rows) == 0


def test_refinement_starts_from_the_deployed_supernet_and_sees_every_failure_once(monkeypatch):
    seen = []

    def spy(train, val, method, **figures):
        seen.append({"train": train, "val": val, **figures})
        state = {"x": torch.full((1,), float(len(seen)))}
        return darts.SearchResult(darts.GENOTYPES["darts_v1"], [], state)

    initial = repair_search.initial_search(STUDY)
    monkeypatch.setattr(darts, "search", spy)
    third = repair_protocol.refined_search(replace(RF, seed=7, iterations=3))
    chosen, _ = repair_protocol.examples(replace(RF, seed=7))
    half = SETUP.images // 2
    assert len(seen) == 3 and third.card["parameters"]["init"]
    for turn in seen:
        extra = torch.cat([turn["train"].images[half:], turn["val"].images[half:]])
        assert len(turn["train"]) == len(turn["val"]) == half + SETUP.failures // 2
        assert sorted(map(hash, map(bytes, extra.numpy()))) == sorted(map(hash, map(bytes, chosen.images.numpy())))
    assert any("alphas" in name for name in seen[0]["init"]) and initial.path.exists()
    assert [float(turn["init"]["x"]) for turn in seen[1:]] == [1.0, 2.0]
    assert len({turn["seed"] for turn in seen}) == 3


def test_the_second_network_is_the_best_of_further_searches_on_validation(monkeypatch):
    asked = []

    def choose(genotypes, train, val, choice, **options):
        asked.append((len(genotypes), len(train), len(val)))
        return len(genotypes) - 1, [0.0] * len(genotypes)

    monkeypatch.setattr(darts, "choose", choose)
    second = repair_search.initial_search(replace(STUDY, version=2))
    assert asked == [(SETUP.candidates, SETUP.images // 2, SETUP.images // 2)]
    assert second.card["parameters"]["seed"] == SETUP.candidates and second.key != repair_search.initial_search(STUDY).key


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
    settings = repair_search.search_settings(Study("cifar10", "paper", scales.get("paper").repair, search), refine=refine)
    assert settings == settings | expected
    assert ("lr" in settings) == (search == "darts")  # the others keep their own


def test_network_without_failures_needs_no_repair():
    data = load_dataset("shapes10", "test", limit=10)

    class Oracle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return torch.nn.functional.one_hot(data.labels, 10).float() + self.weight

    with pytest.raises(ValueError, match="needs no repair"):
        repair_protocol.failures(Oracle(), data)


def test_budget_above_the_failures_is_refused():
    with pytest.raises(ValueError, match="budget: 101 failures are to be selected, but the network fails on"):
        repair_protocol.examples(replace(RF, budget=101))


def test_evaluation_has_a_column_for_every_corruption_and_rows_say_what_they_are_of():
    network, entry, _ = repair_protocol.deployed(STUDY)
    test = repair_study.evaluation_split(STUDY, "disjoint")[1]
    clean, right = evaluation(test, network, entry)
    assert clean.shape == (SETUP.tests // 2,) and right.shape == (len(CORRUPTIONS), 5 * len(clean))
    row = method_cell(DEPLOYED)
    assert row["fail"] == 0.0 and row["n_fail"] == int((~right[0]).sum())
    assert row["gaussian_noise"] == pytest.approx(100 * float(right[0].float().mean()))
    assert row["n_train"] == SETUP.images and row["n_eval"] == len(clean)
