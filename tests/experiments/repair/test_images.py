"""The images of a study: halves, the two protocols, corrupted copies."""

import pytest
import torch

from rtalib import corrupt, load_dataset, scales
from rtalib.experiments.repair import images

SETUP = scales.get("smoke").repair
STUDY = images.Study("shapes10", "smoke", SETUP)


def test_stratified_halves_share_nothing_and_balance_every_class():
    labels = torch.arange(103) % 10
    first, second = images.stratified_halves(labels, seed=3)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(103))
    counts = torch.stack([labels[half].bincount(minlength=10) for half in (first, second)])
    assert (counts[0] - counts[1]).abs().max() <= 1 and abs(len(first) - len(second)) <= 1
    assert not torch.equal(first, images.stratified_halves(labels, seed=4)[0])


def test_a_search_sees_every_training_image_and_every_example_once():
    examples = load_dataset("shapes10", "test", limit=SETUP.failures)
    found = images.with_examples(STUDY.halves, examples, seed=7)
    assert len(STUDY.data) == SETUP.images and [len(half) for half in found] == [(SETUP.images + SETUP.failures) // 2] * 2
    expected = torch.cat([STUDY.data.images, examples.images])
    assert sorted(map(bytes, torch.cat([half.images for half in found]).numpy())) == sorted(map(bytes, expected.numpy()))


@pytest.mark.parametrize("protocol, shared", [("disjoint", 0), ("paper", SETUP.tests)])
def test_protocols_share_as_many_base_images_as_they_say(protocol, shared):
    split = images.evaluation_split(STUDY, protocol)
    base, test = (data.images.flatten(1) for data in split)
    assert int((base[:, None] == test[None]).all(dim=2).any(dim=1).sum()) == images.shared_images(*split) == shared


def test_corrupted_stacks_five_severities_of_each_base_image_and_is_stored(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    test = load_dataset("shapes10", "test", limit=10)
    data = images.corrupted(test, "brightness")
    assert len(data) == 50 and torch.equal(data.labels, test.labels.repeat(5))
    change = (data.images.float() - test.images.repeat(5, 1, 1, 1).float()).view(5, -1).abs().mean(dim=1)
    assert (change.diff() > 0).all()
    assert images.corrupted(test, "brightness").digest == data.digest and len(list((tmp_path / "store" / "corrupted").glob("b*"))) == 1


def test_images_of_64_pixels_get_the_constants_of_their_benchmark(tmp_path, monkeypatch):
    """Tiny-ImageNet-C's noise goes up to 0.18, CIFAR-10-C's to 0.10; the bytes are those of `corrupt` with the right one."""
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    small = load_dataset("shapes10", "test", limit=2)
    large = load_dataset("shapes10", "test", limit=2, side=64)
    assert images.constants_of(small) == {} and images.constants_of(large) == {"benchmark": "tiny-imagenet-c"}
    found = images.corrupted(large, "contrast").images[-2:]
    wanted, other = (
        corrupt(large.images, "contrast", 5, seed=images.TEST_SEED, benchmark=name) for name in ("tiny-imagenet-c", "cifar10-c")
    )
    assert torch.equal(found, wanted) and not torch.equal(found, other)
