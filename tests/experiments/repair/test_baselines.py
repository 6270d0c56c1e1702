"""The baselines of CF-DARTS' Table 2: AU-DARTS' examples, DeepRepair's references, and one short training of each."""

from dataclasses import replace

import pytest
import torch

from rtalib import darts, scales, shapes10
from rtalib.augment.augmix import augmix
from rtalib.corruptions import corrupt
from rtalib.data.images import LabeledImages
from rtalib.experiments.repair import protocol
from rtalib.experiments.repair.baselines import BASELINES, augmented_examples, baseline, style_references
from rtalib.experiments.repair.images import Study
from rtalib.models import seeded
from rtalib.training import artefacts

DATA = shapes10.make("train", 48)
FAILURES = DATA.subset(range(30)).with_images(corrupt(DATA.images[:30], "gaussian_noise", 5))
CELL = darts.GENOTYPES["darts_v1"]
SETUP = scales.get("smoke").repair


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


def own(name: str, weight: float = 0.0, deployed: darts.Network | None = None, failures: LabeledImages = FAILURES):
    return baseline(name, 0, weight, deployed or seeded(build, 5), failures)


@pytest.mark.parametrize("name, auxiliary", [*((name, False) for name in BASELINES), ("AugMix", True), ("CutMix", True)])
def test_a_baseline_trains_and_is_stored(tmp_path, monkeypatch, name: str, auxiliary: bool) -> None:
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    setup = replace(SETUP, channels=4, layers=3, stem="cifar", auxiliary=auxiliary, budget=("darts", 1))
    architecture = protocol.Architecture(Study("shapes10", "smoke", setup), CELL)
    made = own(name, 0.4 * auxiliary, seeded(lambda: build(auxiliary=auxiliary), 5))
    network = protocol.train(architecture, DATA, seed=0, curves=False, baseline=made)
    row, parameters = artefacts.history(network.entry)[0], network.entry.card["parameters"]
    assert row["epoch"] == 1 and row["loss"] > 0 and parameters["recipe"]["cutout"] == parameters["recipe"]["auxiliary_weight"] == 0
    assert parameters["baseline"][0] == name and parameters["auxiliary_weight"] == 0.4 * auxiliary
    start = seeded(lambda: build(auxiliary=auxiliary), 0).state_dict()
    assert any(not torch.equal(value.cpu(), start[key]) for key, value in network.model.state_dict().items())
    assert protocol.train(architecture, DATA, seed=0, curves=False, baseline=made).entry.path == network.entry.path
    assert protocol.train(architecture, DATA, seed=0, curves=False).entry.path != network.entry.path


def test_facts_tell_methods_failures_and_deployed_networks_apart() -> None:
    keys = [str(own(name).facts) for name in BASELINES]
    assert len(set(keys)) == 3
    for changed in ({"failures": FAILURES.subset(range(9))}, {"deployed": seeded(build, 6)}):
        keys += [str(own(name, **changed).facts) for name in ("DeepRepair", "AugMix")]
    assert len(set(keys)) == 5  # failures and weights are DeepRepair's alone


def test_deep_repair_continues_from_the_deployed_network() -> None:
    deployed = seeded(build, 5)
    found = [own(name, deployed=deployed) for name in BASELINES]
    assert [each.begin for each in found] == [deployed, None, None]
    assert torch.equal(found[0].objective.references, style_references(FAILURES)) and found[1].objective.references is None


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="unknown baseline 'Augmix'. Did you mean 'AugMix'"):
        own("Augmix")
