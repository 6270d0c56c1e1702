"""Which images a training set begins from, and how many of its copies an attack leaves as they were."""

from dataclasses import replace

import pytest
import torch

from rtalib import load_dataset, rta, scales
from rtalib.data import loading, shapes10
from rtalib.data.images import LabeledImages, concat
from rtalib.experiments.rta.protocols import originals, unmodified
from rtalib.experiments.rta.tables import SetTrial, set_trial

SETUP = scales.get("smoke").rta


@pytest.fixture
def _few_training_images(monkeypatch):
    """600 instead of 20,000, since 'apart' draws all of them."""
    monkeypatch.setitem(shapes10.SIZES, "train", 600)
    loading._drawn.cache_clear()
    yield
    loading._drawn.cache_clear()


def as_bytes(data: LabeledImages) -> set[bytes]:
    return set(map(bytes, data.images.numpy()))


@pytest.mark.usefixtures("_few_training_images")
@pytest.mark.parametrize("seed", [0, 3])
def test_originals_apart_are_no_image_of_a_source(seed):
    """Pre-training takes further images of the same data set, which count as seen."""
    seen = load_dataset("shapes10", "train", limit=2 * SETUP.source_images)
    found = originals("shapes10", "apart", seed, SETUP)
    assert len(found) == SETUP.originals and not as_bytes(found) & as_bytes(seen)
    assert found.labels.bincount().tolist() == [SETUP.originals // 10] * 10


def test_originals_of_protocol_disjoint_may_be_images_of_the_sources():
    """Why there is 'apart': for seed 0 both sets begin with the same images."""
    sources = load_dataset("shapes10", "train", limit=SETUP.source_images)
    assert as_bytes(originals("shapes10", "disjoint", 0, SETUP)) <= as_bytes(sources)


@pytest.mark.usefixtures("_few_training_images")
def test_too_few_images_apart_are_refused():
    with pytest.raises(ValueError, match=r"'apart': expected 40 training images that no source has seen, got 0"):
        originals("shapes10", "apart", 0, replace(SETUP, source_images=300))


def test_other_protocols_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'apart'"):
        rta.run_table(protocol="appart")


def test_unmodified_counts_copies_that_are_their_original():
    data = load_dataset("shapes10", "test", limit=4)
    changed = data.images.clone()
    changed[1:3, 0, 0, 0] ^= 1
    made = concat([data, data.with_images(changed), data], "made")
    drawn = [["fog", "fog", "pgd_at", "pgd_at"], ["pgd_at", "fog", "fog", "fog"]]
    assert unmodified(made, drawn) == {"fog": 4, "pgd_at": 2}
    assert unmodified(data, []) == {}


def test_a_row_of_a_set_says_what_was_left_as_it_was(tmp_path, monkeypatch):
    """Checked against the attacks themselves: an image is left alone by 'author' if its source gets it wrong."""
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    row = set_trial(SetTrial(rta.OURS, 0, "shapes10", "disjoint", SETUP))
    data, made = rta.training_set(rta.OURS, 0, "shapes10", "disjoint", SETUP)
    first, drawn = rta.originals("shapes10", "disjoint", 0, SETUP), rta.drawn_operations(made)
    for name, (network, _) in rta.sources(rta.OURS, "shapes10", SETUP).items():
        with torch.no_grad():
            wrong = network(first.images.float() / 255).argmax(1) != first.labels
        least = sum(int(wrong[at]) for copy in drawn for at, operation in enumerate(copy) if operation == name)
        assert least <= row["unmodified"][name] <= row["drawn"][name]
    assert row["unmodified"]["gaussian_noise"] == 0 and len(data) == row["n_train"]
