"""LabeledImages refuses what is wrong; load_dataset checks its arguments and draws balanced subsets."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from image_files import pictures, png, same, write_folder, write_parquet
from PIL import Image, ImageOps

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
    with pytest.raises(ValueError, match="download: only 'cifar10' and 'tiny-imagenet'"):
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


# Sizes, broken pictures, and how a set shows itself


def test_side_scales_photographs_and_arrays(tmp_path):
    photos = [pictures(1, 40)[0][:30], pictures(1, 33, seed=1)[0], pictures(1, 24, seed=2)[0][:, :20]]
    expected = [np.asarray(ImageOps.fit(Image.fromarray(photo), (12, 12), Image.Resampling.BOX)) for photo in photos]
    write_folder(tmp_path / "set" / "train", photos, [0, 1, 1], "ab")
    table = pa.table({"image": [png(photo) for photo in photos], "label": [0, 1, 1]})
    pq.write_table(table, tmp_path / "set.parquet")
    for path in (tmp_path / "set", tmp_path / "set.parquet"):
        same(load_dataset(path, "train", side=12), np.stack(expected), [0, 1, 1])
        with pytest.raises(ValueError, match="all images must share one size, which side= gives them"):
            load_dataset(path, "train")
        assert load_dataset(path, "train", side=16).images.shape == (3, 3, 16, 16)
    np.savez(tmp_path / "wide.npz", images=photos[0][None], labels=np.zeros(1, int))
    same(load_dataset(tmp_path / "wide.npz", "train", side=12), expected[0][None], [0])
    assert load_dataset("shapes10", "test", limit=5, side=28).images.shape == (5, 3, 28, 28)
    plain = load_dataset("shapes10", "test", limit=5)
    assert load_dataset("shapes10", "test", limit=5, side=32).digest == plain.digest
    for side, error in ((0, ValueError), (10**6, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="^side: expected"):
            load_dataset("shapes10", "test", limit=5, side=side)


def test_all_broken_pictures_are_named_at_once(tmp_path):
    write_folder(tmp_path / "train", pictures(30), [0] * 30, "a")
    good = (tmp_path / "train/a/0000.png").read_bytes()
    for name, data in (("0000", b""), ("0007", good[:50]), ("0019", b"no picture"), ("0023", png(pictures(1, 9)[0]))):
        (tmp_path / "train" / "a" / f"{name}.png").write_bytes(data)
    with pytest.raises(ValueError) as error:
        load_dataset(tmp_path, "train")
    assert "a/0000.png cannot be decoded as an image" in str(error.value) and "(and 3 other pictures cannot be used: " in str(error.value)
    assert all(f"a/{name}.png" in str(error.value) for name in ("0007", "0019", "0023")) and "0001" not in str(error.value)
    for k in range(30):
        (tmp_path / "train" / "a" / f"{k:04d}.png").write_bytes(b"")
    with pytest.raises(ValueError, match="and 19 or more other pictures cannot be used"):
        load_dataset(tmp_path, "train")


def test_a_set_shows_itself_in_one_line():
    assert repr(small()) == "LabeledImages('small': 6 images of 8x8 px, 3 classes)"
    soft = LabeledImages(small().images, torch.full((6, 3), 1 / 3), tuple("abc"), "soft")
    assert repr(soft) == "LabeledImages('soft': 6 images of 8x8 px, 3 classes, soft labels)"
