"""The baselines of CF-DARTS' Table 2: AU-DARTS' examples, DeepRepair's references, and one short training of each."""

import pytest
import torch

from rtalib import darts, shapes10
from rtalib.augment.augmix import augmix
from rtalib.corruptions import corrupt
from rtalib.data.images import LabeledImages
from rtalib.experiments.repair import baselines
from rtalib.experiments.repair.baselines import BASELINES, augmented_examples, fit_baseline, style_references
from rtalib.models import seeded
from rtalib.training import artefacts
from rtalib.training.recipes import Recipe

DATA = shapes10.make("train", 48)
FAILURES = DATA.subset(range(30)).with_images(corrupt(DATA.images[:30], "gaussian_noise", 5))
CELL = darts.GENOTYPES["darts_v1"]


def build(channels: int = 4, auxiliary: bool = False) -> darts.Network:
    return darts.Network(CELL, channels, 3, DATA.num_classes, auxiliary)


def test_augmented_examples_are_training_images_after_augmix() -> None:
    found = augmented_examples(DATA, 20, seed=3)
    again = augmented_examples(DATA, 20, seed=3)
    assert found.digest == again.digest and found.digest != augmented_examples(DATA, 20, seed=4).digest
    assert len(found) == 20 and found.classes == DATA.classes and not torch.equal(found.images, DATA.images[:20])
    rows = torch.arange(len(DATA))
    every = augmix(DATA.images, seed=3, index=rows, severity=3, posterize=False)
    at = [(every == image).flatten(1).all(1).nonzero().flatten() for image in found.images]
    assert len({int(row[0]) for row in at}) == 20
    assert all(DATA.labels[row[0]] == label for row, label in zip(at, found.labels, strict=True))
    assert augmented_examples(DATA, 20, seed=3, posterize=True).digest != found.digest
    with pytest.raises(ValueError, match="budget: expected 1 to 48 .*got 49"):
        augmented_examples(DATA, 49, seed=0)


def test_references_are_failures_five_for_each_class_that_has_as_many() -> None:
    images = shapes10.make("train", 60).images
    labels = torch.tensor([0] * 40 + [1] * 4 + [2] * 16)
    failures = LabeledImages(images, labels, DATA.classes, "failures")
    failures.images[44:] = failures.images[44]  # class 2: one picture, sixteen times
    found = style_references(failures)
    places = [(failures.images == image).flatten(1).all(1).nonzero()[0].item() for image in found]
    assert labels[places].bincount(minlength=3).tolist() == [5, 4, 1] and len(set(places)) == 10
    assert torch.equal(style_references(failures), found)
    one = style_references(failures.subset([7]))
    assert torch.equal(one, failures.images[7:8])


def fit(name: str, auxiliary: bool = False, **changed):
    recipe = Recipe(1, 16, 0.05, schedule="cosine", cutout=16, drop_path=0.2, auxiliary_weight=0.4 * auxiliary)
    deployed = seeded(lambda: build(auxiliary=auxiliary), 5)
    common = {"deployed": deployed, "failures": FAILURES, "parameters": {"genotype": str(CELL), "auxiliary": auxiliary}, "seed": 0}
    make = changed.pop("build", lambda: build(auxiliary=auxiliary))
    return fit_baseline(name, make, DATA, recipe, precision="fp32", label="test", **common | changed)


@pytest.mark.parametrize("name, auxiliary", [*((name, False) for name in BASELINES), ("AugMix", True), ("CutMix", True)])
def test_a_baseline_trains_and_is_stored(tmp_path, monkeypatch, name: str, auxiliary: bool) -> None:
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    entry = fit(name, auxiliary, record=lambda model: {"seen": 1})
    row = artefacts.history(entry)[0]
    assert row["epoch"] == 1 and row["seen"] == 1 and row["loss"] > 0
    assert entry.card["parameters"]["baseline"][0] == name and entry.card["parameters"]["auxiliary_weight"] == 0.4 * auxiliary
    network = artefacts.load_network(lambda: build(auxiliary=auxiliary), entry)
    start = seeded(lambda: build(auxiliary=auxiliary), 0).state_dict()
    assert any(not torch.equal(value.cpu(), start[key]) for key, value in network.state_dict().items())
    assert fit(name, auxiliary).path == entry.path


def test_keys_tell_methods_failures_and_deployed_networks_apart(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    keys = []
    monkeypatch.setattr(baselines, "fit_network", lambda *_, **options: keys.append(str(options["parameters"])))
    others = {"failures": FAILURES.subset(range(9)), "deployed": seeded(build, 6)}
    for name in BASELINES:
        fit(name)
    assert len(set(keys)) == 3
    for changed in others.items():
        fit("DeepRepair", **dict([changed]))
        fit("AugMix", **dict([changed]))
    assert len(set(keys)) == 5  # failures and weights are DeepRepair's alone


def test_deep_repair_continues_from_the_deployed_network(monkeypatch) -> None:
    made = []
    monkeypatch.setattr(baselines, "fit_network", lambda build, *_, **options: made.append((build(), options["objective"])))
    deployed = seeded(build, 5)
    for name in BASELINES:
        fit(name, deployed=deployed)
    same = [all(torch.equal(a, b) for a, b in zip(n.state_dict().values(), deployed.state_dict().values(), strict=True)) for n, _ in made]
    assert same == [True, False, False]
    assert torch.equal(made[0][1].references, style_references(FAILURES)) and made[1][1].references is None


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="unknown baseline 'Augmix'. Did you mean 'AugMix'"):
        fit("Augmix")
    with pytest.raises(ValueError, match="deployed: expected the architecture built; .* the first is"):
        fit("DeepRepair", build=lambda: build(8))
    small = LabeledImages(FAILURES.images[:, :, :16, :16], FAILURES.labels, FAILURES.classes, "small")
    with pytest.raises(ValueError, match=r"failures: expected images \(3, 32, 32\)"):
        fit("DeepRepair", failures=small)
