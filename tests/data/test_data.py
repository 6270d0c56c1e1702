"""LabeledImages refuses what is wrong; load_dataset checks its arguments and draws balanced subsets."""

import os

import numpy as np
import pytest
import torch
from image_files import pictures, write_parquet

from rtalib.data.images import LabeledImages, concat
from rtalib.data.loading import load_dataset


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def small(count=6, classes=3):
    images = torch.from_numpy(pictures(count).transpose(0, 3, 1, 2).copy())
    return LabeledImages(images, torch.arange(count) % classes, tuple("abc"[:classes]), "small")


@pytest.mark.parametrize(
    ("images", "labels", "classes", "error", "words"),
    [
        (torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), "ab", TypeError, "images: expected dtype torch.uint8"),
        (torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.tensor([0, 1]), "ab", ValueError, "channels last"),
        (torch.zeros(0, 3, 4, 4, dtype=torch.uint8), torch.tensor([], dtype=torch.int64), "ab", ValueError, "empty"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 2]), "ab", ValueError, "labels: expected 0 to 1"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([-1, 0]), "ab", ValueError, "from -1 to 0"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 1]), "ab", ValueError, "labels: expected shape"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1], dtype=torch.int32), "ab", TypeError, "torch.int32"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([[0.5, 0.6], [0, 1]]), "ab", ValueError, "sum to one"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([[1.5, -0.5], [0, 1]]), "ab", ValueError, "not negative"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([[torch.nan, 1], [0, 1]]), "ab", ValueError, "finite"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([[0.5, 0.5, 0], [0, 1, 0]]), "ab", ValueError, "labels: expected shape"),
    ],
)
def test_wrong_fields_are_named(images, labels, classes, error, words):
    with pytest.raises(error, match=words):
        LabeledImages(images, labels, tuple(classes), "bad")


def test_subset_concat_and_soft_labels():
    data = small()
    assert data.subset([4, 1]).labels.tolist() == [1, 1]
    assert torch.equal(data.subset(data.labels == 2).images, data.images[[2, 5]])
    with pytest.raises(TypeError, match="indices"):
        data.subset([0.5])
    soft = LabeledImages(data.images, torch.tensor([[0.2, 0.7, 0.1]] * 6), data.classes, "soft")
    assert soft.hard_labels.tolist() == [1] * 6 and soft.num_classes == 3 and len(soft) == 6
    both = concat([data, soft], "both")
    assert both.labels.shape == (12, 3) and both.hard_labels.tolist() == [0, 1, 2, 0, 1, 2] + [1] * 6
    with pytest.raises(ValueError, match="other classes"):
        concat([data, LabeledImages(data.images, data.labels, ("x", "y", "z"), "other")], "bad")
    with pytest.raises(ValueError, match="holds images"):
        concat([data, data.with_images(data.images[:, :, :4], "cropped")], "bad")
    with pytest.raises(ValueError, match="labels: expected shape"):
        data.with_images(data.images[:3])


def test_digest_follows_content_and_not_name():
    data = small()
    assert data.digest == data.with_images(data.images.clone(), "renamed").digest == data.to("cpu").digest
    images = data.images.clone()
    images[3, 1, 2, 2] ^= 1
    labels = data.labels.clone()
    labels[0] = 1
    others = (
        data.with_images(images),
        LabeledImages(data.images, labels, data.classes, "small"),
        LabeledImages(data.images, data.labels, ("a", "b", "d"), "small"),
    )
    assert len({data.digest, *(other.digest for other in others)}) == 4 and len(data.digest) == 16


def test_names_and_arguments_are_checked(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'cifar10'"):
        load_dataset("cifar1O", "test", root=tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'train'"):
        load_dataset("cifar10", "trian", root=tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"(?s)name: no files of 'cifar10' found.*cifar-10-batches-py.*train-\*.parquet.*download=True"
    ):
        load_dataset("cifar10", "train", root=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"(?s)tiny-imagenet-32/valid-\*.parquet"):
        load_dataset("tiny-imagenet", "test", root=tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        load_dataset(tmp_path / "nothing.npz", "test")
    with pytest.raises(ValueError, match="expected a folder, a .npz or a .parquet"):
        load_dataset(__file__, "test")
    with pytest.raises(ValueError, match="download: only 'cifar10'"):
        load_dataset("shapes10", "test", download=True)
    with pytest.raises(ValueError, match="limit: expected at least 1"):
        load_dataset("shapes10", "test", limit=0)


def test_root_defaults_to_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_DATA", str(tmp_path))
    write_parquet(tmp_path / "cifar10" / "test.parquet", pictures(2, 32), [0, 1])
    assert len(load_dataset("cifar10", "test")) == 2


def test_limit_is_balanced_nested_and_seeded(tmp_path):
    labels = np.array([0] * 40 + [1] * 30 + [2] * 3)
    np.savez(tmp_path / "mine.npz", images=pictures(73), labels=labels)
    counts = {n: load_dataset(tmp_path / "mine.npz", "train", limit=n).labels.bincount(minlength=3).tolist() for n in (3, 9, 20, 73)}
    assert counts[3] == [1, 1, 1] and counts[9] == [3, 3, 3] and counts[73] == [40, 30, 3]
    assert counts[20][2] == 3 and abs(counts[20][0] - counts[20][1]) <= 1
    nine, twenty = (load_dataset(tmp_path / "mine.npz", "train", limit=n, seed=1).images for n in (9, 20))
    assert torch.equal(nine, twenty[:9])
    assert not torch.equal(nine, load_dataset(tmp_path / "mine.npz", "train", limit=9, seed=2).images)
    with pytest.raises(ValueError, match="limit: asked for 74 images, the split has 73"):
        load_dataset(tmp_path / "mine.npz", "train", limit=74)


@pytest.mark.skipif("RTALIB_DATA" not in os.environ, reason="needs CIFAR-10 under RTALIB_DATA")
def test_real_cifar10():
    """The published means of the training pixels and 1,000 test images per class."""
    try:
        data = load_dataset("cifar10", "test")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert data.images.shape == (10_000, 3, 32, 32) and data.labels.bincount().tolist() == [1000] * 10
    mean = data.images.double().mean(dim=(0, 2, 3)) / 255
    torch.testing.assert_close(mean, torch.tensor([0.4914, 0.4822, 0.4465]).double(), atol=0.005, rtol=0)
