"""Sources are measured once each, what is crafted on one is shown to all, and paired differences carry an interval."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from rtalib import attacks, scales, store
from rtalib.cli import main as cli
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.experiments.rta import source_study
from rtalib.models.inference import evaluate
from rtalib.sources.cards import SOURCES
from rtalib.sources.train import source_network

PAIR = ("clean_resnet50", "rst")
SETUP = scales.get("smoke").rta


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """One store for the module: two sources are trained once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTALIB_OUTPUTS", str(tmp_path_factory.mktemp("study")))
        yield


@pytest.fixture(scope="module")
def study(outputs) -> list[dict]:
    return source_study.run_study("smoke", sources=PAIR, executor="serial")


@pytest.fixture(scope="module")
def transfer(study) -> list[dict]:
    return source_study.run_transfer("smoke", sources=PAIR, executor="serial")


def test_rows_hold_what_is_measured_by_hand(study):
    test = load_dataset("shapes10", "test", limit=SETUP.evaluated)
    assert [row["source"] for row in study] == list(PAIR)
    for row in study:
        network, entry = source_network(row["source"], "shapes10", SETUP)
        assert row["clean"] == pytest.approx(100 * evaluate(network, test))
        pgd, odi = attacks.PGD(steps=22), attacks.ODIPGD(restarts=1)
        fooled = [attacks.attack(recipe, network, test).success for recipe in (odi, pgd)]
        assert [row["odi22"], row["pgd22"]] == pytest.approx([100 - 100 * float(which.double().mean()) for which in fooled])
        assert row["all"] <= min(row[name] for name in source_study.ATTACKS)
        assert row["paired"]["pgd22"] == source_study.paired_counts(*fooled)
        assert (row["network"], row["origin"], row["n_eval"]) == (entry.key, "substitute", SETUP.evaluated)


def test_odi_and_its_rivals_spend_the_same_gradients():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    images, labels = torch.rand(3, 3, 2, 2), torch.tensor([0, 1, 2])
    for name in (source_study.ODI, *source_study.RIVALS):
        assert source_study.ATTACKS[name].record(model, images, labels).gradients.tolist() == [22] * 3


def test_training_time_is_that_of_all_stages(study):
    """rst has two, the first of which is the smaller part of it."""
    _, last = source_network("rst", "shapes10", SETUP)
    first = store.find("network", last.card["parameters"]["previous"])
    assert study[1]["trained_seconds"] == pytest.approx(first.card["seconds"] + last.card["seconds"], abs=0.11)


def test_stored_rows_are_shared_by_any_choice_of_sources(study, capsys):
    again = source_study.run_study("smoke", sources=PAIR[1:], executor="serial")
    assert again == study[1:]
    assert "1/1 cells were stored" in capsys.readouterr().out


def test_transfer_asks_every_target_about_the_images_of_every_source(transfer):
    test = load_dataset("shapes10", "test", limit=SETUP.evaluated)
    networks = [source_network(name, "shapes10", SETUP)[0] for name in PAIR]
    matrix = source_study.transfer_matrix(transfer)
    for i, network in enumerate(networks):
        crafted, gradients = source_study.examples(PAIR[i], "shapes10", SETUP)
        found = attacks.odi_bim_recipe(restarts=1, low_logits=True).record(network, test.images / 255, test.labels)
        assert transfer[i]["gradients"] == gradients == pytest.approx(float(found.gradients.double().mean()))
        assert matrix[i].tolist() == pytest.approx([100 * evaluate(other, crafted) for other in networks])


def test_what_is_crafted_fools_its_own_source_and_stays_in_the_ball(study, transfer):
    test = load_dataset("shapes10", "test", limit=SETUP.evaluated)
    for i, name in enumerate(PAIR):
        crafted, _ = source_study.examples(name, "shapes10", SETUP)
        assert (crafted.images.int() - test.images.int()).abs().max() <= 8
        assert transfer[i]["accuracy"][name] <= study[i]["clean"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sources": ["fast_att"]}, "unknown source 'fast_att'. Did you mean 'fast_at'"),
        ({"sources": []}, "sources: got none"),
        ({"scale": "smok"}, "Did you mean 'smoke'"),
        ({"executor": "proceses", "scale": "smoke"}, "Did you mean 'processes'"),
    ],
)
def test_bad_names_are_refused_before_anything_runs(outputs, arguments, message):
    for run in (source_study.run_study, source_study.run_transfer):
        with pytest.raises(ValueError, match=message.replace("?", r"\?")):
            run(**arguments)


# -------------------------------------------------------------------------------------------------------- pure functions


def test_paired_counts():
    first, second = torch.tensor([1, 1, 0, 0, 1]).bool(), torch.tensor([1, 0, 1, 0, 0]).bool()
    assert source_study.paired_counts(first, second) == {"both": 1, "only_odi": 2, "only_pgd": 1, "n": 5}
    with pytest.raises(ValueError, match="second: expected bool"):
        source_study.paired_counts(first, second[:4])


def test_paired_difference_by_hand():
    difference, low, high = source_study.paired_difference({"both": 50, "only_odi": 12, "only_pgd": 3, "n": 98})
    half = 1.959964 * math.sqrt((0.13 + 0.04 - 0.09**2) / 100)
    assert difference == pytest.approx(100 * 9 / 98)
    assert (low, high) == pytest.approx((100 * (0.09 - half), 100 * (0.09 + half)))


@pytest.mark.parametrize("counts", [(0, 0, 5), (5, 0, 5), (0, 5, 5), (2, 1, 160)])
def test_interval_holds_the_difference_and_turns_with_the_sign(counts):
    first, second, n = counts
    value, low, high = source_study.paired_difference({"both": 0, "only_odi": first, "only_pgd": second, "n": n})
    turned = source_study.paired_difference({"both": 0, "only_odi": second, "only_pgd": first, "n": n})
    assert -100 <= low < high <= 100 and low <= value <= high
    assert turned == pytest.approx((-value, -high, -low))


def test_interval_covers_the_truth_in_about_95_of_100_samples():
    kinds = np.random.default_rng(0).multinomial(160, [0.06, 0.02, 0.92], size=2000)
    found = [source_study.paired_difference({"both": 0, "only_odi": int(a), "only_pgd": int(b), "n": 160}) for a, b, _ in kinds]
    assert 0.935 < np.mean([low <= 4 <= high for _, low, high in found]) < 0.985


def test_impossible_counts_are_refused():
    for counts in ((3, 3, 5), (0, 0, 0)):
        with pytest.raises(ValueError, match="counts: expected"):
            source_study.paired_difference(dict(zip(("only_odi", "only_pgd", "n"), counts, strict=True)))


def test_an_image_that_all_classify_right_is_found():
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 2, 2).contiguous()
    data = LabeledImages(images, torch.tensor([0, 1, 0, 1]), ("a", "b"), "toy")

    class Says(nn.Module):
        def __init__(self, answers):
            super().__init__()
            self.answers = nn.Parameter(torch.eye(2)[torch.tensor(answers)])

        def forward(self, x):
            return self.answers[(255 * x[:, 0, 0, 0]).round().long()]

    assert source_study.right_everywhere([Says([1, 1, 0, 0]), Says([0, 0, 0, 1])], data) == 2
    assert source_study.right_everywhere([Says([1, 0, 1, 0]), Says([1, 0, 1, 1])], data) == 3


def test_cards_are_those_of_the_sources():
    cards = source_study.cards()
    assert list(cards.index) == list(SOURCES)
    assert cards.loc["rst", ["clean", "AutoAttack"]].tolist() == [89.69, 59.53]
    assert cards.loc["feature_scatter", "PGD-10"] == pytest.approx(75.2) and cards.loc["label_smoothing"].isna()["clean"]


# --------------------------------------------------------------------------------------------------------- command line


def test_command_prints_a_line_per_source_and_the_table(study, capsys):
    assert cli.main(["sources", "--scale", "smoke", "--sources", "clean_resnet50,rst", "--executor", "serial"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[source-study] 2/2 cells were stored"
    assert lines[2] == "accuracy in percent on 20 test images of shapes10, scale smoke, attacks at 8/255"
    assert [line.split()[:2] for line in lines[4:]] == [*([name, "substitute"] for name in PAIR), ["'all", "attacks'"]]
    assert "89.7" in lines[5] and "59.5" in lines[5] and "NaN" not in lines[4]


def test_finished_sources_are_named_at_once(outputs, capsys):
    assert cli.main(["sources", "--scale", "smoke", "--sources", "clean_wideresnet", "--executor", "serial"]) == 0
    assert ": clean_wideresnet (substitute, trained in " in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("arguments", ["--sources fast_att", "--scale smok", "--dataset no/such/folder", "--executor x"])
def test_command_refuses_what_it_does_not_know(outputs, capsys, arguments):
    assert cli.main(["sources", "--scale", "smoke", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("rtalib: ") and err.count("\n") == 1


def test_a_failed_source_is_an_exit_status_of_1(outputs, capsys, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no such weights")

    monkeypatch.setattr(source_study, "source_network", fail)
    assert cli.main(["sources", "--scale", "smoke", "--sources", "hydra", "--executor", "serial"]) == 1
    assert "no such weights" in capsys.readouterr().err
