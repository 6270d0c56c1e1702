"""The repair ladder on a small network trained here, against exact statistics, a direct optimizer and counts by hand."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from published_networks import copies, published_network
from safetensors.torch import load_file, save_file
from torch import nn

from rtalib import darts, models, repair, training
from rtalib.cli import main as cli
from rtalib.data import shapes10
from rtalib.data.images import LabeledImages, balanced
from rtalib.data.loading import load_dataset
from rtalib.models.base import seeded
from rtalib.models.inference import predict
from rtalib.training.test_time import minimize_entropy, reestimate_statistics
from rtalib.yours.repair import rungs
from rtalib.yours.repair.climb import change

TRAIN, TEST = load_dataset("shapes10", "train", limit=200), load_dataset("shapes10", "test", limit=80)
SETTINGS = repair.Settings(budget=10, replay=60, steps=4, batch_size=16, keep=100)


@pytest.fixture(scope="module")
def network():
    model = seeded(lambda: models.build("resnet8"), 0)
    training.train(model, TRAIN, training.Recipe(2, 32, 0.05, schedule="onecycle", crop_padding=2), seed=0, precision="fp32")
    return model


@pytest.fixture(scope="module")
def case():
    return repair.case_of_corruption(TRAIN, TEST, "gaussian_noise")


class Plain(nn.Module):
    """A small network without BatchNorm."""

    def __init__(self, classes=10):
        super().__init__()
        self.body, self.classifier = nn.Conv2d(3, 6, 3, 2), nn.Linear(6, classes)

    def features(self, x):
        return self.body(x).relu().mean(dim=(2, 3))

    def forward(self, x):
        return self.classifier(self.features(x))


# ------------------------------------------------------------------------------------------------------ without labels


def test_statistics_of_one_layer_are_the_exact_ones_mixed_by_the_prior():
    layer = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    with torch.no_grad():
        layer[0].running_mean.fill_(0.2)
    images = TEST.images[:50]
    x = images.double() / 255
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=1)
    found = reestimate_statistics(layer, images, prior=30, batch_size=50)[0]
    torch.testing.assert_close(found.running_mean.double(), (30 * 0.2 + 50 * mean) / 80, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.running_var.double(), (30 * 1.0 + 50 * variance) / 80, rtol=0, atol=1e-4)
    assert float(layer[0].running_mean[0]) == pytest.approx(0.2) and found.momentum == layer[0].momentum and not found.training


def test_own_images_bring_own_statistics_back(network):
    """Statistics spoiled by hand are those of the images again."""
    spoiled = reestimate_statistics(network, 255 - TRAIN.images)
    mended = reestimate_statistics(spoiled, TRAIN.images, prior=0)
    right = [float((predict(net, TRAIN.images).argmax(1) == TRAIN.labels).float().mean()) for net in (network, spoiled, mended)]
    assert right[2] > right[1] and abs(right[2] - right[0]) < 0.1


def test_own_images_of_the_drawn_set_are_those_of_the_whole_splits(monkeypatch):
    for own, split, count in zip(repair.climb.own_images("shapes10", 20), ("train", "test"), (40, 20), strict=True):
        index, labels = shapes10.numbers(split)
        rows = balanced(labels, 10, count, seed=0)
        assert torch.equal(own.images, shapes10.render(index[rows], labels[rows])) and torch.equal(own.labels, labels[rows])
    monkeypatch.setitem(shapes10.SIZES, "test", 15)
    assert len(repair.climb.own_images("shapes10", 20)[1]) == 15, "all there are"


def test_tent_lowers_the_entropy_and_changes_scales_and_shifts_alone(network, case):
    def entropy(net):
        logits = predict(net, case.pool.images)
        return float(-(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean())

    before, after = reestimate_statistics(network, case.pool.images), minimize_entropy(network, case.pool.images, epochs=4)
    assert entropy(after) < entropy(before)
    normed = {f"{name}.{part}" for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d) for part in ("weight", "bias")}
    given = dict(network.named_parameters())
    assert {name for name, value in after.named_parameters() if not torch.equal(value, given[name])} <= normed
    assert all(value.requires_grad for value in after.parameters())


# --------------------------------------------------------------------------------------------------------- with labels


def test_the_head_is_the_minimum_that_a_slow_optimizer_finds():
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(3, 4, generator=generator), torch.zeros(3)
    clean, failing = torch.rand(40, 4, generator=generator), torch.rand(15, 4, generator=generator)
    labels, wrong = torch.randint(3, (40,), generator=generator), torch.randint(3, (15,), generator=generator)
    unit = clean.square().mean().sqrt()

    def loss(w, b):
        distance = (unit * (w - weight)).square().sum() + (b - bias).square().sum()
        return F.cross_entropy(clean @ w.T + b, labels) + F.cross_entropy(failing @ w.T + b, wrong) + 0.02 * distance

    slow = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
    optimizer = torch.optim.Adam(slow, 0.05)
    for _ in range(600):
        optimizer.zero_grad()
        loss(*slow).backward()
        optimizer.step()
    slowly, found = float(loss(*slow).detach()), rungs.fit_head(weight, bias, clean, failing, labels, wrong)
    assert slowly - 1e-3 < float(loss(*found)) <= slowly + 1e-4


def test_interpolated_weights_are_between_and_end_at_the_given_ones(network):
    other = seeded(lambda: models.build("resnet8"), 1).eval()
    x = TEST.images[:8].float() / 255
    torch.testing.assert_close(rungs.interpolated(network, other, 1.0)(x), other(x))
    half = rungs.interpolated(network, other, 0.5).classifier.weight
    torch.testing.assert_close(half, (network.classifier.weight + other.classifier.weight) / 2)


@pytest.mark.parametrize("select", list(repair.SELECTORS))
def test_every_selector_picks_different_failures(network, case, select):
    picked = rungs.chosen_failures(network, case, replace(SETTINGS, select=select))
    assert len(picked) == SETTINGS.budget == len({image.numpy().tobytes() for image in picked.images})
    assert not (predict(network, picked.images).argmax(1) == picked.labels).any()


def test_changes_are_paired_and_copies_of_an_image_count_once():
    before, after = torch.tensor([1, 1, 0, 0, 0, 1, 0, 0]).bool(), torch.tensor([1, 0, 1, 1, 0, 1, 0, 1]).bool()
    mean, low, high = change(before, after)
    assert mean == pytest.approx(25) and (low + high) / 2 == pytest.approx(25)
    assert high - mean == pytest.approx(2.364624 * 100 * 0.7071068 / 8**0.5, rel=1e-4)  # t(7), standard deviation of the differences
    assert change(before.repeat(3), after.repeat(3), 3) == pytest.approx((mean, low, high))


# ------------------------------------------------------------------------------------------------------------ the climb


def test_a_climb_stops_at_the_goal_and_resumes_from_the_store(network, case, tmp_path):
    rows = []
    names = ("statistics", "entropy", "head", "finetune", "data")
    found = repair.ladder(network, case, goal=0.1, settings=SETTINGS, others=5, rungs=names, all_rungs=True, on_rung=rows.append)
    assert [row["rung"] for row in found.rows] == [row["rung"] for row in rows] == list(names)
    for row in found.rows:
        assert not row["applies"] or row["low"] <= row["gain"] <= row["high"] and row["after"] == pytest.approx(row["before"] + row["gain"])
    again = repair.ladder(network, case, goal=0.1, settings=SETTINGS, others=5, rungs=names, all_rungs=True)
    assert again.rows == found.rows  # seconds, too: nothing was computed again
    fog = repair.case_of_corruption(TRAIN, TEST, "fog")
    other = repair.ladder(network, fog, goal=0.1, settings=SETTINGS, others=0, rungs=("statistics", "data"), all_rungs=True)
    seconds = {row["rung"]: row["seconds"] for row in found.rows}
    same = [row["seconds"] == seconds[row["rung"]] for row in other.rows]
    assert same == [False, True], "robust data look at no failure, so they were not made again"
    reached = [row["rung"] for row in found.rows if row["reaches"]]
    stopped = repair.ladder(network, case, goal=0.1, settings=SETTINGS, others=5, rungs=names)
    assert reached and stopped.rung == reached[0] == stopped.rows[-1]["rung"]
    paths = {path.name for path in repair.save(stopped, tmp_path)}
    assert {"ladder.csv", "ladder.json", "ladder.png", "network.safetensors", "README.md"} <= paths
    same = models.build("resnet8").eval()
    same.load_state_dict(load_file(tmp_path / "network.safetensors"))
    assert torch.equal(predict(same, TEST.images[:20]), predict(stopped.network, TEST.images[:20]))
    assert json.loads((tmp_path / "ladder.json").read_text())["reached"] is True


def test_the_command_writes_a_network_that_its_readme_loads(network, tmp_path, capsys, monkeypatch):
    """Weights of a module, which models.adapt wraps because of --mean: their names have to be the module's own."""
    monkeypatch.chdir(tmp_path)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, "before.safetensors")
    arguments = ["repair", "resnet8", "--weights", "before.safetensors", "--mean", "0.5", "--std", "0.5", "--dataset", "shapes10"]
    arguments += ["--limit", "80", "--others", "0", "--goal", "0.1", "--rungs", "statistics,head,architecture", "--all", "--out", "mended"]
    assert cli.main([*arguments, "--budget", "5"]) == 2 and "give one of --corruption TYPE and --failures" in capsys.readouterr().err
    assert cli.main([*arguments, "--budget", "5", "--corruption", "gaussian_noise"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [text.split()[0] for text in printed[:3]] == ["statistics", "head", "architecture"] and "no architecture to refine" in printed[2]
    rows = pd.read_csv("mended/ladder.csv")
    assert rows["applies"].tolist() == [True, True, False] and rows["labels"][1] == 5
    names = {}
    exec(Path("mended/README.md").read_text().split("```python")[1].split("```")[0], names)
    case = repair.case_of_corruption(TRAIN, load_dataset("shapes10", "test", limit=80), "gaussian_noise")
    kept = json.loads(Path("mended/ladder.json").read_text())["rung"]
    right = (predict(names["network"], case.held.images).argmax(1) == case.held.labels).double().mean()
    assert 100 * float(right) == pytest.approx(rows.set_index("rung")["after"][kept])


def test_a_published_network_gains_twenty_points_on_noise_from_statistics_alone():
    """Recorded on 500 test images: 22.2 to 58.0 % (outputs/record/networks/ladders)."""
    found = repair.ladder(
        published_network("resnet20"),
        repair.case_of_corruption(None, copies(1000), "gaussian_noise"),
        goal=20,
        rungs=("statistics",),
        others=0,
    )
    row = found.rows[0]
    assert row["reaches"] and row["labels"] == 0 and row["low"] > 20 and row["before"] < 30
    assert row["clean"] < -20, "the price: it is then a network for noisy images alone"


def test_failures_without_labels_are_repaired_without_labels(network, case):
    with pytest.warns(UserWarning, match="no labels"):
        found = repair.ladder(network, replace(case, labeled=False), goal=5, settings=SETTINGS, others=0)
    applies = {row["rung"]: row["applies"] for row in found.rows}
    assert applies == {"statistics": True, "entropy": True, "head": False, "finetune": False, "data": True, "architecture": False}
    assert all(row["gain"] is None for row in found.rows) and found.rows[2]["note"] == "the failures have no labels"


def test_a_rung_that_does_not_apply_says_why(case):
    plain = seeded(Plain, 0)
    found = repair.ladder(plain, case, goal=50, settings=SETTINGS, others=0, rungs=("statistics", "entropy", "architecture"))
    notes = [row["note"] for row in found.rows]
    assert notes[0] == notes[1] == "it has no BatchNorm layer with running statistics" and "no architecture to refine" in notes[2]
    assert found.network is None and found.rung == ""


def test_a_network_whose_last_layer_is_a_convolution_still_climbs(case):
    """Its features are not known, so the rungs that select by them say how to name them; the others go on."""
    body = seeded(lambda: nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 0)
    rungs = ("head", "finetune", "data")
    found = repair.ladder(models.adapt(body), case, goal=50, settings=SETTINGS, others=0, rungs=rungs)
    assert [row["applies"] for row in found.rows] == [False, False, True]
    assert all(row["note"].startswith("no torch.nn.Linear of Sequential gives its logits") for row in found.rows[:2])
    named = repair.ladder(models.adapt(body, features="1"), case, goal=50, settings=SETTINGS, others=0, rungs=rungs)
    assert [row["applies"] for row in named.rows] == [False, True, True] and "last layer is not linear" in named.rows[0]["note"]


def test_cells_get_another_architecture_and_the_readme_loads_it(case, tmp_path):
    cells = seeded(lambda: darts.Network("darts_v1", 4, 2, 10, stem="tiny-imagenet"), 0).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = repair.ladder(cells, case, goal=1.0, settings=replace(SETTINGS, scale="smoke"), others=0, rungs=("architecture",))
    assert found.rows[0]["labels"] == 10 and found.network.genotype != cells.genotype
    repair.save(found, tmp_path)
    names = {}
    exec((tmp_path / "README.md").read_text().split("```python")[1].split("```")[0], names)
    assert torch.equal(predict(names["network"], case.held.images), predict(found.network, case.held.images))


@pytest.mark.parametrize(
    ("change_case", "network_of", "goal", "message"),
    [
        ({}, lambda: Plain(7), 1, "network: it gives 7 logits, but shapes10 has 10 classes"),
        ({}, Plain, 99.5, r"goal: at most .* points can be gained"),
        ({}, Plain, 0, "goal: expected above 0"),
        ({"held": TEST.with_images(TEST.images[:, :, :16, :16].contiguous())}, Plain, 1, "held: expected images of 32x32 px"),
        ({"pool": LabeledImages(TEST.images, TEST.labels, (*TEST.classes, "more"), "x")}, Plain, 1, "pool: expected 10 classes"),
    ],
)
def test_bad_input(case, change_case, network_of, goal, message):
    with pytest.raises(ValueError, match=message):
        repair.ladder(seeded(network_of, 0), replace(case, **change_case), goal=goal, others=0)


def test_a_folder_with_no_failure_and_failures_of_one_class(network, case):
    right = TRAIN.subset(predict(network, TRAIN.images).argmax(1) == TRAIN.labels)
    with pytest.raises(ValueError, match="right on all .* needs no repair"):
        repair.ladder(network, replace(case, pool=right, held=right), goal=1, others=0)
    wrong = case.held.subset((predict(network, case.held.images).argmax(1) != case.held.labels) & (case.held.labels == 1))
    with pytest.warns(UserWarning, match="all .* are of class 'square'"):
        repair.ladder(network, replace(case, held=wrong), goal=1, others=0, settings=SETTINGS, rungs=("statistics",))


def test_failures_that_are_not_there_or_of_other_classes(tmp_path):
    with pytest.raises(FileNotFoundError, match="^no such file or folder: .*none"):
        repair.read_failures(str(tmp_path / "none"), TEST)
    (tmp_path / "circel").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "circel" / "a.png")
    with pytest.raises(ValueError, match=f"unknown class folder of the failures in {tmp_path} 'circel'. Did you mean 'circle'"):
        repair.read_failures(tmp_path, TEST)


@pytest.mark.parametrize("wrong", [{"select": "cor"}, {"budget": 0}, {"keep": -1}, {"prior": -1}, {"lr": 0}])
def test_bad_settings(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)) if "select" not in wrong else "Did you mean 'core'"):
        repair.Settings(**wrong)
