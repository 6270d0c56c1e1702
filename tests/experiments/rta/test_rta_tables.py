"""Paper one's training sets, recipes and proxy suite; the tables at smoke scale are run by the notebooks' tests."""

import json
import warnings
from dataclasses import replace

import pytest
import torch

from rtalib import models, papers, rta, scales
from rtalib.corruptions import CORRUPTIONS
from rtalib.data.export import export
from rtalib.data.loading import load_dataset
from rtalib.experiments.rta import protocols
from rtalib.experiments.rta import score as rta_score
from rtalib.experiments.rta import search as rta_search
from rtalib.experiments.rta.unlike import UNLIKE
from rtalib.training.recipes import RECIPES

SETUP = scales.get("smoke").rta


@pytest.fixture(scope="module", autouse=True)
def outputs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTALIB_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield


@pytest.mark.parametrize("method", rta.TABLE1)
def test_training_sets_are_the_originals_and_four_copies(method):
    data, entry = rta.training_set(method, 0, "shapes10", "disjoint", SETUP)
    originals = load_dataset("shapes10", "train", limit=SETUP.originals, seed=0)
    copies = 1 if method == rta.BASELINE else 5
    assert len(data) == copies * SETUP.originals
    assert torch.equal(data.images[: SETUP.originals], originals.images)
    if method.endswith("CutMix"):
        assert torch.equal(data.labels[: SETUP.originals].argmax(1), originals.labels) and data.labels.sum(1).allclose(
            torch.ones(len(data))
        )
    else:
        assert torch.equal(data.labels, originals.labels.repeat(copies))
    assert rta.training_set(method, 0, "shapes10", "disjoint", SETUP)[1].path == entry.path


def test_rta_copies_are_fresh_draws_over_both_families():
    data, entry = rta.training_set(rta.OURS, 0, "shapes10", "disjoint", SETUP)
    drawn = json.loads((entry.path / "drawn.json").read_text())
    names = {name for copy in drawn for name in copy}
    assert len(drawn) == 4 and drawn[0] != drawn[1]
    assert names & set(CORRUPTIONS) and names & set(SETUP.sources) and names <= {*CORRUPTIONS, *SETUP.sources}
    assert not torch.equal(data.images[40:80], data.images[80:120])


def test_seed_changes_the_draw():
    first, second = (rta.training_set("10,000 Ori + 4 × 10,000 Ori with Cutout", seed, "shapes10", "disjoint", SETUP)[0] for seed in (0, 1))
    assert first.digest != second.digest


@pytest.mark.parametrize("protocol, split", [("disjoint", "train"), ("paper", "test")])
def test_protocol_names_the_split_of_the_originals(protocol, split):
    data, _ = rta.training_set(rta.BASELINE, 0, "shapes10", protocol, SETUP)
    assert torch.equal(data.images, load_dataset("shapes10", split, limit=SETUP.originals, seed=0).images)


def test_suite_parts_stay_in_their_bounds():
    suite = rta_score.proxy_suite("shapes10", SETUP)
    clean = suite["clean"].images.int()
    assert list(suite) == list(rta_score.PARTS)
    for part in ("transfer_fgsm", "transfer_bim", "transfer_pgd"):
        assert 0 < (suite[part].images.int() - clean).abs().max() <= 8
    moved = (suite["transfer_l2"].images.int() - clean).double().square().sum((1, 2, 3)).sqrt() / 255
    assert 0 < moved.max() <= 0.5 + 0.5 * 3072**0.5 / 255  # eps 0.5, and half a level of rounding per value
    counts = {"corruptions": 15, "held_out_severities": 30, "held_out_types": 6}
    assert {part: len(suite[part]) / len(clean) for part in counts} == counts


def test_score_is_the_mean_over_the_parts():
    network = models.build("tiny").eval()
    found = rta_score.measure(network, "shapes10", SETUP)
    assert found["score"] == pytest.approx(sum(found[part] for part in rta_score.PARTS) / len(rta_score.PARTS))
    assert list(found["unlike_types"]) == list(UNLIKE) and found["unlike"] == pytest.approx(sum(found["unlike_types"].values()) / 10)
    assert "hidden" not in found and found["n_eval"] == SETUP.evaluated * (1 + 15 + 30 + 6 + 4)


def test_released_arrays_are_scored_beside_the_suite(tmp_path, monkeypatch):
    data = load_dataset("shapes10", "test", limit=30)
    folder = tmp_path / rta_score.HIDDEN
    export(data, folder)
    monkeypatch.setenv("RTALIB_DATA", str(tmp_path))
    assert rta_score.has_hidden("cifar10") and not rta_score.has_hidden("shapes10")
    monkeypatch.setattr(rta_score, "proxy_suite", lambda dataset, setup: {"clean": data})
    found = rta_score.measure(models.build("tiny").eval(), "cifar10", SETUP)
    assert found["hidden"] == found["clean"] == found["score"]


def test_training_on_test_images_is_warned_of():
    with pytest.warns(UserWarning, match="training images are test images"):
        protocols.warn_of_leakage("paper")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        protocols.warn_of_leakage("disjoint")


def test_recipes_are_the_papers_at_paper_scale_and_in_proportion_elsewhere():
    paper = scales.get("paper").rta
    smoothing = {name: (r.label_smoothing, r.weight_decay, r.epochs) for name, (_, r) in rta.rows_of("table2", paper).items()}
    assert smoothing["LS 0, WD 1e-4"] == (0.0, 1e-4, 110) and smoothing["LS 0.1, WD 5e-4"] == (0.1, 5e-4, 110)
    assert paper.recipe() == RECIPES["table1"] and paper.final_recipe() == RECIPES["final"]
    schedules = [r for _, r in rta.rows_of("table3", paper).values()]
    assert [(r.epochs, r.milestones) for r in schedules] == list(rta.TABLE3.values())
    assert all((r.label_smoothing, r.weight_decay, r.momentum, r.batch_size) == (0.1, 5e-4, 0.9, 128) for r in schedules)
    assert replace(schedules[0], label_smoothing=0.1) == replace(rta.rows_of("table2", paper)["LS 0.1, WD 5e-4"][1])
    demo = [r for _, r in rta.rows_of("table3", scales.get("small").rta).values()]
    assert [r.epochs for r in demo] == [30, 41, 45, 49]
    for table in ("table1", "table2", "table3"):
        published = list(papers.RTA[table].rows)
        assert list(rta.rows_of(table, paper))[: len(published)] == published
    assert set(papers.RTA["table4"].rows) < set(rta_search.TABLE4)


def test_stages_of_table_4():
    paper = scales.get("paper").rta
    one, two = (rta_search.table4_spec(f"Stage{n}: RTA + Iterative search", 0, "cifar10", "paper", paper) for n in ("I", "II"))
    assert (one.split, one.limit, one.settings.size, one.attacks) == ("test", 10_000, 50_000, True)
    assert (two.split, two.limit, two.settings.size, two.attacks) == ("train", 50_000, 50_000, False)
    assert one.targets == ("resnet50", "densenet121") and two.targets == ("wide_resnet28_4", "preact_resnet18")
    assert one.settings.recipe == RECIPES["final"] and one.settings.search_recipe is None and one.settings.offered is None
    assert rta_search.table4_spec("StageI: RTA", 0, "cifar10", "disjoint", paper).split == "train"


def test_bad_names():
    with pytest.raises(ValueError, match="unknown table"):
        rta.run_table("table5")
    with pytest.raises(ValueError, match="Did you mean 'paper'"):
        rta.run_table(protocol="papr")
