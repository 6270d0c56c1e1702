"""The CF-DARTS protocol: halves, leakage, failures, selection; the table itself at smoke scale is run by the notebook's test."""

from dataclasses import replace

import pytest
import torch

from rtalib import darts, repair, scales
from rtalib.corruptions import CORRUPTIONS
from rtalib.data import load_dataset

SETUP = scales.get("smoke").repair
STUDY = repair.Study("shapes10", "gaussian_noise", "disjoint", "smoke", SETUP)


@pytest.fixture(scope="module", autouse=True)
def outputs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTALIB_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield


def test_stratified_halves_share_nothing_and_balance_every_class():
    labels = torch.arange(103) % 10
    first, second = repair.stratified_halves(labels, seed=3)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(103))
    counts = torch.stack([labels[half].bincount(minlength=10) for half in (first, second)])
    assert (counts[0] - counts[1]).abs().max() <= 1 and abs(len(first) - len(second)) <= 1
    assert not torch.equal(first, repair.stratified_halves(labels, seed=4)[0])


@pytest.mark.parametrize("protocol, shared", [("disjoint", 0), ("paper", SETUP.tests)])
def test_protocols_share_as_many_base_images_as_they_say(protocol, shared):
    study = replace(STUDY, protocol=protocol)
    base, test = (data.images.flatten(1) for data in repair.evaluation_split(study))
    assert int((base[:, None] == test[None]).all(dim=2).any(dim=1).sum()) == shared
    assert repair.deployed_cell(study)["shared_base_images"] == shared


def test_corrupted_stacks_five_severities_of_each_base_image():
    test = load_dataset("shapes10", "test", limit=10)
    data = repair.corrupted(test, "brightness")
    assert len(data) == 50 and torch.equal(data.labels, test.labels.repeat(5))
    change = (data.images.float() - test.images.repeat(5, 1, 1, 1).float()).view(5, -1).abs().mean(dim=1)
    assert (change.diff() > 0).all()


@pytest.mark.parametrize("protocol", repair.PROTOCOLS)
def test_selected_images_fail_and_are_not_evaluated_as_failing(protocol):
    study = replace(STUDY, protocol=protocol)
    network, _, _ = repair.deployed(study)
    for selection in ("random", "core"):
        chosen, rows = repair.select(study, selection, seed=0)
        assert len(chosen) == len(rows.unique()) == SETUP.failures
        assert not repair._correct(network, chosen).any()
        failing = repair.failing_rows(study, rows)
        if protocol == "paper":
            assert not torch.isin(failing, rows).any()
        everything = repair.failing_rows(study, None)
        assert len(everything) - len(failing) == (SETUP.failures if protocol == "paper" else 0)


def test_refinement_starts_from_the_deployed_supernet_and_sees_every_failure_once(monkeypatch):
    seen = {}

    def spy(train, val, **figures):
        seen.update(train=train, val=val, init=figures["init"])
        return darts.SearchResult(darts.GENOTYPES["darts_v1"], [], {"x": torch.zeros(1)})

    repair.initial_search(STUDY)
    monkeypatch.setattr(darts, "search", spy)
    repair.refined_search(STUDY, "random", seed=7)
    chosen, _ = repair.select(STUDY, "random", seed=7)
    half = SETUP.images // 2
    extra = torch.cat([seen["train"].images[half:], seen["val"].images[half:]])
    assert len(seen["train"]) == len(seen["val"]) == half + SETUP.failures // 2
    assert sorted(map(hash, map(bytes, extra.numpy()))) == sorted(map(hash, map(bytes, chosen.images.numpy())))
    assert any(name.startswith("alphas") or "alphas" in name for name in seen["init"])


def test_network_without_failures_needs_no_repair():
    data = load_dataset("shapes10", "test", limit=10)

    class Oracle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return torch.nn.functional.one_hot(data.labels, 10).float() + self.weight

    with pytest.raises(ValueError, match="nothing to repair"):
        repair.failures(Oracle(), data)


def test_budget_above_the_failures_is_refused():
    study = replace(STUDY, setup=replace(SETUP, failures=101))
    with pytest.raises(ValueError, match="failures: 101 are to be selected, but"):
        repair.select(study, "random", seed=0)


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


def test_evaluation_has_a_column_for_every_corruption():
    network, entry, _ = repair.deployed(STUDY)
    clean, right = repair.evaluation(STUDY, network, entry)
    assert clean.shape == (SETUP.tests // 2,) and right.shape == (len(CORRUPTIONS), 5 * len(clean))
