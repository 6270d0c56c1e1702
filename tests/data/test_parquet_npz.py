"""Parquet and .npz are read back exactly; decoded images are kept in a cache that survives crashes and follows changes."""

import errno
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from image_files import Evil, pictures, png, same, write_parquet

from rtalib.data import decoding
from rtalib.data.loading import load_dataset
from rtalib.data.readers import CIFAR10_CLASSES


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# Parquet and the cache


@pytest.mark.parametrize("name", ["test-00000-of-00001.parquet", "test.parquet", "plain_text/test-00000-of-00001.parquet"])
def test_cifar10_parquet(tmp_path, name):
    images = pictures(7, 32)
    write_parquet(tmp_path / "cifar10" / name, images, [9, 8, 7, 6, 5, 4, 3])
    data = load_dataset("cifar10", "test", root=tmp_path)
    same(data, images, [9, 8, 7, 6, 5, 4, 3])
    assert data.classes == CIFAR10_CLASSES


def test_shards_join_and_a_missing_one_is_reported(tmp_path):
    images = pictures(6, 32)
    folder = tmp_path / "cifar10"
    write_parquet(folder / "train-00000-of-00002.parquet", images[:4], [0, 1, 2, 3])
    with pytest.raises(FileNotFoundError, match="one of 2 files, but only 1"):
        load_dataset("cifar10", "train", root=tmp_path)
    write_parquet(folder / "train-00001-of-00002.parquet", images[4:], [4, 5])
    same(load_dataset("cifar10", "train", root=tmp_path), images, [0, 1, 2, 3, 4, 5])


def test_second_load_does_not_decode_and_a_changed_file_does(tmp_path, monkeypatch):
    path = tmp_path / "mine.parquet"
    images = pictures(70)
    write_parquet(path, images, [k % 5 for k in range(70)], names="vwxyz", column="image")
    first = load_dataset(path, "test")
    same(first, images, [k % 5 for k in range(70)])
    assert first.classes == tuple("vwxyz") and first.name == "mine"
    decoded = []
    real = decoding.decode_one
    monkeypatch.setattr(decoding, "decode_one", lambda picture: decoded.append(1) or real(picture))
    assert load_dataset(path, "test").digest == first.digest and not decoded
    write_parquet(path, images[::-1], [0] * 70)
    same(load_dataset(path, "test"), images[::-1], [0] * 70)
    assert len(decoded) == 70


def test_writing_to_loaded_images_does_not_reach_the_cache(tmp_path):
    path = tmp_path / "mine.parquet"
    write_parquet(path, pictures(5), [0, 1, 0, 1, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_dataset(path, "test")
    digest = data.digest
    data.images.zero_()
    assert load_dataset(path, "test").digest == digest != replace(data).digest


def test_crash_while_decoding_leaves_no_entry(tmp_path, cache, monkeypatch):
    path = tmp_path / "mine.parquet"
    write_parquet(path, pictures(5), [0, 1, 0, 1, 0])

    def crash(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            load_dataset(path, "test")
    assert list(cache.iterdir()) == []
    assert len(load_dataset(path, "test")) == 5


def test_unwritable_cache_warns_and_still_loads(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "file" / "cache"))
    images = pictures(5)
    write_parquet(tmp_path / "mine.parquet", images, [0, 1, 0, 1, 0])
    with pytest.warns(RuntimeWarning, match="set RTALIB_CACHE"):
        same(load_dataset(tmp_path / "mine.parquet", "test"), images, [0, 1, 0, 1, 0])


def test_a_full_cache_warns_and_still_loads(tmp_path, cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    images = pictures(5)
    write_parquet(tmp_path / "mine.parquet", images, [0, 1, 0, 1, 0])
    with pytest.warns(RuntimeWarning, match="No space left on device.*free on the disk at.*set RTALIB_CACHE"):
        same(load_dataset(tmp_path / "mine.parquet", "test"), images, [0, 1, 0, 1, 0])
    assert list(cache.iterdir()) == []


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 16
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "classes.json", "sha256.json"])
@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(path.read_bytes()[:-1]), Path.unlink, flip], ids=["truncated", "missing", "flipped"]
)
def test_a_damaged_cache_entry_is_decoded_again(tmp_path, cache, name, damage):
    images = pictures(5)
    write_parquet(tmp_path / "mine.parquet", images, [0, 1, 0, 1, 0])
    load_dataset(tmp_path / "mine.parquet", "test")
    (entry,) = cache.iterdir()
    damage(entry / name)
    with pytest.warns(UserWarning, match=rf"{entry}: the decoded images are damaged .*set aside as \.corrupt-{entry.name}-\d+"):
        same(load_dataset(tmp_path / "mine.parquet", "test"), images, [0, 1, 0, 1, 0])
    same(load_dataset(tmp_path / "mine.parquet", "test"), images, [0, 1, 0, 1, 0])
    assert [path for path in cache.iterdir() if not path.name.startswith(".corrupt-")] == [entry]


def test_two_processes_may_decode_the_same(tmp_path, cache):
    """The second one to finish finds the entry of the first, and both have the images."""
    files, images, labels = [tmp_path / "source"], pictures(5), np.zeros(5, np.int64)
    files[0].touch()

    def build(allocate, depth=0):
        if depth == 0:
            decoding.cached(files, "x", lambda allocate: build(allocate, 1))
        out = allocate(images.shape)
        out[:] = images
        return out, labels, ("a",)

    found = decoding.cached(files, "x", build)
    assert np.array_equal(found[0], images) and len(list(cache.iterdir())) == 1


def test_damaged_parquet_is_reported(tmp_path, cache):
    path = tmp_path / "mine.parquet"
    write_parquet(path, pictures(40), [0] * 40)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="mine.parquet cannot be read as parquet, it may be truncated or corrupted"):
        load_dataset(path, "train")
    path.write_bytes(whole[:100] + bytes(2000) + whole[2100:])
    with pytest.raises(ValueError, match="mine.parquet"):
        load_dataset(path, "train")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="mine.parquet"):
        load_dataset(path, "train")
    assert list(cache.iterdir()) == []


def test_wrong_parquet_content_is_reported(tmp_path):
    path = tmp_path / "mine.parquet"
    write_parquet(path, pictures(3), [0, 1, 2], column="photo")
    with pytest.raises(ValueError, match="expected a column named img or image or images, got columns photo, label"):
        load_dataset(path, "train")
    write_parquet(path, pictures(3), [0, 1, 2], label_column="target")
    with pytest.raises(ValueError, match="expected a column named label"):
        load_dataset(path, "train")
    write_parquet(path, pictures(3), ["0", "1", "2"])
    with pytest.raises(ValueError, match="expected integers in column 'label'"):
        load_dataset(path, "train")
    write_parquet(path, pictures(3), [0, 1, None])
    with pytest.raises(ValueError, match="lacks 1 labels"):
        load_dataset(path, "train")
    write_parquet(path, pictures(3), [0, 1, 2], names="ab")
    with pytest.raises(ValueError, match="expected labels 0 to 1, got values from 0 to 2"):
        load_dataset(path, "train")
    pq.write_table(pa.table({"img": [png(pictures(1)[0]), b"no picture"], "label": [0, 1]}), path)
    with pytest.raises(ValueError, match="mine.parquet, row 1 cannot be decoded"):
        load_dataset(path, "train")


# .npz


def test_npz(tmp_path):
    images, labels = pictures(5), np.array([0, 1, 2, 1, 0])
    for k, arrays in enumerate(
        (
            {"images": images, "labels": labels},
            {"x": images.transpose(0, 3, 1, 2), "y": labels.astype(np.uint8)},
            {"data": images, "label": labels[:, None]},
            {"x_test": images, "y_test": labels, "x_train": images[:2], "y_train": labels[:2]},
        )
    ):
        np.savez(tmp_path / f"{k}.npz", **arrays)
        same(load_dataset(tmp_path / f"{k}.npz", "test"), images, labels)
    assert len(load_dataset(tmp_path / "3.npz", "train")) == 2
    soft = np.full((5, 4), 0.25)
    np.savez(tmp_path / "soft.npz", images=images, labels=soft, classes=np.array(list("abcd")))
    data = load_dataset(tmp_path / "soft.npz", "test")
    assert data.labels.dtype == torch.float32 and data.labels.shape == (5, 4) and data.classes == tuple("abcd")


def test_bad_npz_is_reported(tmp_path):
    path, images, labels = tmp_path / "mine.npz", pictures(5), np.arange(5)
    mark = tmp_path / "mark"
    for arrays, words in (
        ({"images": images / 255, "labels": labels}, "expected images as uint8"),
        ({"images": images[..., :2], "labels": labels}, "expected images of shape"),
        ({"images": images, "labels": labels / 2}, "expected labels as integers"),
        ({"images": images, "labels": labels[:4]}, "labels: expected shape"),
        ({"images": images, "labels": labels - 1}, "got values from -1"),
        ({"pixels": images, "labels": labels}, "expected arrays .*images/labels.*, got pixels, labels"),
        ({"images": images, "labels": np.array([Evil(os.mkdir, str(mark))] * 5)}, "allow_pickle=False"),
    ):
        np.savez(path, **arrays)
        with pytest.raises((ValueError, TypeError), match=words):
            load_dataset(path, "train")
    assert not mark.exists()
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="cannot be read as .npz"):
        load_dataset(path, "train")


# Shards, by whatever their names say


def shards(folder, *names):
    for k, name in enumerate(names):
        write_parquet(folder / name, pictures(2, 16, seed=k), [0, 1])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["train-00000-of-00002-6f3344faa23e9b0a.parquet"], "is one of 2 files, but only 1 are there"),
        (["train_00001_of_00003.parquet", "train_00002_of_00003.parquet"], "is one of 3 files, but only 2 are there"),
        (["Train-00001-of-00002.parquet"], "is one of 2 files, but only 1 are there"),
        (["train-0.parquet", "train-2.parquet"], "number 1 is missing among train-0.parquet ... train-2.parquet"),
        (["train_1.parquet", "train_2.parquet", "train_5.parquet"], "number 3 is missing"),
        (["train/0000.parquet", "train/0002.parquet"], "number 1 is missing"),
        (["default/train/0001.parquet", "default/train/0003.parquet"], "number 2 is missing"),
        (["data/train-00000-of-00003.parquet"], "is one of 3 files, but only 1 are there"),
    ],
)
def test_missing_shards_are_named(tmp_path, names, words):
    shards(tmp_path, *names)
    with pytest.raises(FileNotFoundError, match=words):
        load_dataset(tmp_path, "train")


@pytest.mark.parametrize(
    "names",
    [
        ["train.parquet", "train-00000-of-00001.parquet"],
        ["train-00000-of-00001.parquet", "train-00000-of-00001-6f3344faa23e9b0a.parquet"],
        ["train-00000-of-00002.parquet", "train-00001-of-00003.parquet"],
        ["train.parquet", "Train.parquet"],
    ],
)
def test_two_copies_of_one_split_are_refused(tmp_path, names):
    shards(tmp_path, *names)
    with pytest.raises(ValueError, match="of one split: .*keep one set|the same split twice"):
        load_dataset(tmp_path, "train")


@pytest.mark.parametrize(
    "names",
    [
        ["train-00000-of-00002-aa11.parquet", "train-00001-of-00002-bb22.parquet"],
        ["train-00001-of-00002.parquet", "train-00002-of-00002.parquet"],
        ["train-0.parquet", "train-1.parquet"],
        ["TRAIN_1.parquet", "TRAIN_2.parquet"],
        ["train/0000.parquet", "train/0001.parquet"],
        ["plain_text/train/0000.parquet", "plain_text/train/0001.parquet"],
        ["train-cats.parquet", "train-dogs.parquet"],
    ],
)
def test_whole_sets_are_read_in_order(tmp_path, names):
    shards(tmp_path, *names)
    (tmp_path / "train-notes.txt").write_text("not a shard")
    same(load_dataset(tmp_path, "train"), np.concatenate([pictures(2, 16, seed=k) for k in range(2)]), [0, 1, 0, 1])


def test_classes_are_counted_over_all_splits(tmp_path):
    write_parquet(tmp_path / "p" / "train.parquet", pictures(4), [0, 1, 2, 3])
    write_parquet(tmp_path / "p" / "test.parquet", pictures(2), [0, 1])
    assert load_dataset(tmp_path / "p", "test").classes == load_dataset(tmp_path / "p", "train").classes == tuple("0123")
    np.savez(tmp_path / "k.npz", x_train=pictures(10), y_train=np.arange(10), x_test=pictures(3), y_test=np.arange(3))
    assert load_dataset(tmp_path / "k.npz", "test").num_classes == 10


# Metadata of Hugging Face


@pytest.mark.parametrize(
    "metadata",
    [
        "{x",
        "[]",
        "7",
        '{"info": null}',
        '{"info": []}',
        '{"info": {"features": []}}',
        '{"info": {"features": {"label": null}}}',
        '{"info": {"features": {"label": {"names": 7}}}}',
        '{"info": {"features": {"label": {"names": "ab"}}}}',
        '{"info": {"features": {"label": {"names": [["a"], null]}}}}',
        '{"info": {"features": {"label": {"names": ["a", "\\ud800"]}}}}',
        "[" * 100_000,
        '{"info":' * 50_000,
    ],
)
def test_metadata_is_not_believed(tmp_path, metadata):
    write_parquet(tmp_path / "mine.parquet", pictures(4), [0, 1, 0, 1])
    table = pq.read_table(tmp_path / "mine.parquet").replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "mine.parquet")
    with pytest.raises(ValueError, match="mine.parquet"):
        load_dataset(tmp_path / "mine.parquet", "train")


@pytest.mark.parametrize("metadata", ["{}", '{"info": {}}', '{"info": {"features": {"label": {"dtype": "int64", "_type": "Value"}}}}'])
def test_metadata_without_names_number_the_classes(tmp_path, metadata):
    write_parquet(tmp_path / "mine.parquet", pictures(4), [0, 1, 0, 1])
    table = pq.read_table(tmp_path / "mine.parquet").replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "mine.parquet")
    assert load_dataset(tmp_path / "mine.parquet", "train").classes == ("0", "1")


# One channel, and other forms of .npz


@pytest.mark.parametrize("form", ["NHW", "NHW1", "N1HW"])
def test_grey_images_become_rgb_by_repetition(tmp_path, form):
    grey = pictures(4, 28)[..., 0]
    shaped = {"NHW": grey, "NHW1": grey[..., None], "N1HW": grey[:, None]}[form]
    np.savez(tmp_path / "medmnist.npz", train_images=shaped, train_labels=np.arange(4)[:, None].astype(np.uint8))
    data = load_dataset(tmp_path / "medmnist.npz", "train")
    same(data, np.repeat(grey[..., None], 3, axis=3), [0, 1, 2, 3])
    if form != "N1HW":
        (tmp_path / "folder").mkdir()
        np.save(tmp_path / "folder" / "data.npy", shaped)
        np.save(tmp_path / "folder" / "label.npy", np.arange(4))
        assert torch.equal(load_dataset(tmp_path / "folder", "train").images, data.images)


def test_names_in_capitals_and_val_are_taken(tmp_path):
    np.savez(tmp_path / "a.npz", X_train=pictures(2), Y_train=np.arange(2), X_val=pictures(1, seed=1), Y_val=np.zeros(1, int))
    same(load_dataset(tmp_path / "a.npz", "test"), pictures(1, seed=1), [0])
    np.savez(tmp_path / "b.npz", images=pictures(2), labels=np.arange(2), classes=np.array([b"caf\xc3\xa9", b"tea"]))
    assert load_dataset(tmp_path / "b.npz", "test").classes == ("café", "tea")


def test_a_damaged_member_is_named(tmp_path):
    np.savez_compressed(tmp_path / "mine.npz", images=np.zeros((50, 8, 8, 3), np.uint8), labels=np.zeros(50, int))
    whole = (tmp_path / "mine.npz").read_bytes()
    for at in range(30, len(whole) - 200, 7):
        (tmp_path / "mine.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            load_dataset(tmp_path / "mine.npz", "train")
        except (ValueError, TypeError) as error:
            assert "mine.npz" in str(error)
