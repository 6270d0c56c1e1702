"""Exports are read back equal, by load_dataset and by NumPy; a failed one leaves no half file; data.npy and label.npy are checked."""

import io
import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from image_files import Evil, pictures
from PIL import Image

from rtalib import export as module
from rtalib.data.export import KINDS, export
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "ROWS", 7)  # several parts, the last one shorter


def data(soft: bool = False, classes: tuple[str, ...] = ("ant", "bée", "cat", "dog")) -> LabeledImages:
    """23 pictures of 6x9 px; no image has the last class."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (23, 3, 6, 9), dtype=np.uint8))
    labels = torch.arange(23) % (len(classes) - 1)
    if soft:
        labels = torch.softmax(torch.randn(23, len(classes), generator=torch.Generator().manual_seed(1)), dim=1)
    return LabeledImages(images, labels, classes, "mine")


@pytest.mark.parametrize("kind, soft", [("npz", False), ("npz", True), ("parquet", False)])
@pytest.mark.parametrize("split", ["train", "test"])
def test_files_are_read_back_equal(tmp_path, kind, soft, split):
    mine = data(soft)
    (path,) = export(mine, tmp_path / "new" / "folder", (kind,))[kind]
    again = load_dataset(path, split)
    assert again.digest == mine.digest and again.classes == mine.classes
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("soft", [False, True])
def test_competition(tmp_path, soft):
    mine = data(soft)
    files = export(mine, tmp_path)["competition"]
    assert files == (tmp_path / "data.npy", tmp_path / "label.npy")
    images, labels = (np.load(file, allow_pickle=False) for file in files)
    assert images.dtype == np.uint8 and np.array_equal(images, mine.images.permute(0, 2, 3, 1).numpy())
    expected = mine.labels if soft else torch.nn.functional.one_hot(mine.labels, 4).float()
    assert labels.dtype == np.float32 and np.array_equal(labels, expected.numpy())
    again = load_dataset(tmp_path, "train")
    assert again.digest == LabeledImages(mine.images, expected, tuple("0123"), "").digest
    assert load_dataset(tmp_path, "test").digest == again.digest and again.name == tmp_path.name


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("amount", [0.1, 1.0])
def test_label_smoothing_is_of_the_competition_alone(tmp_path, soft, amount):
    mine = data(soft)
    files = export(mine, tmp_path, ("competition", "npz"), label_smoothing=amount)
    before = mine.labels if soft else torch.nn.functional.one_hot(mine.labels, 4)
    assert np.allclose(np.load(files["competition"][1]), (1 - amount) * before.numpy() + amount / 4, atol=1e-7)
    assert load_dataset(files["npz"][0], "train").digest == mine.digest


def test_parquet_is_what_hugging_face_writes(tmp_path):
    (path,) = export(data(), tmp_path, ("parquet",))["parquet"]
    table = pq.read_table(path)
    assert table.column_names == ["image", "label"] and table["label"].to_pylist() == data().labels.tolist()
    picture = np.asarray(Image.open(io.BytesIO(table["image"][11].as_py()["bytes"])))
    assert np.array_equal(picture, data().images[11].permute(1, 2, 0).numpy())
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"names": list(data().classes), "_type": "ClassLabel"}


def test_all_kinds_at_once_replace_what_was_there(tmp_path):
    names = {"data.npy", "label.npy", "data.npz", "data.parquet"}
    for mine in (data(), data().subset(range(9))):
        files = export(mine, tmp_path, KINDS)
        assert {file.name for file in tmp_path.iterdir()} - {"cache"} == names
        assert all(load_dataset(files[kind][0], "test").digest == mine.digest for kind in ("npz", "parquet"))
        assert len(load_dataset(tmp_path, "test")) == len(mine)


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_export_leaves_the_old_file_or_none(tmp_path, monkeypatch, kind):
    def failing(tensor):
        yield tensor[:3].numpy()
        raise OSError("no space left")

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_parts", failing)
        with pytest.raises(OSError, match="no space left"):
            export(data(), out, (kind,))
    assert list(out.iterdir()) == []
    files = export(data(), out, (kind,))[kind]
    before = [file.read_bytes() for file in files]
    monkeypatch.setattr(module, "_parts", failing)
    with pytest.raises(OSError, match="no space left"):
        export(data().subset(range(5)), out, (kind,))
    assert [file.read_bytes() for file in files] == before and len(list(out.iterdir())) == len(files)


def test_a_crash_between_the_two_names_leaves_no_mixture(tmp_path, monkeypatch):
    out = tmp_path / "out"
    export(data(), out)
    real, renamed = os.replace, []

    def crash_at_the_second(source, target):
        renamed.append(target)
        if len(renamed) == 2:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", crash_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        export(data().subset(range(5)), out)
    with pytest.raises(FileNotFoundError, match="label.npy is missing"):
        load_dataset(out, "train")


def test_a_part_of_the_images_is_in_memory_at_a_time(tmp_path, monkeypatch):
    """What is copied from the tensors comes in parts of at most ROWS images."""
    rows, real = [], module._parts

    def counting(tensor):
        for part in real(tensor):
            rows.append(len(part))
            yield part

    monkeypatch.setattr(module, "_parts", counting)
    export(data(), tmp_path, KINDS)
    assert max(rows) == 7 and sum(rows) == 6 * 23


@pytest.mark.parametrize(
    "soft, arguments, words",
    [
        (False, {"kinds": ("npzz",)}, "unknown kind 'npzz'. Did you mean 'npz'"),
        (False, {"kinds": ()}, "kinds: expected at least one"),
        (True, {"kinds": ("npz", "parquet")}, "kinds: 'parquet' holds hard labels"),
        (False, {"label_smoothing": -0.1}, "label_smoothing: expected 0 to 1, got -0.1"),
        (False, {"label_smoothing": 1.1}, "label_smoothing: .*1.1"),
        (False, {"kinds": ("npz",), "label_smoothing": 0.1}, "label_smoothing: only kind 'competition'"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_written(tmp_path, soft, arguments, words):
    with pytest.raises(ValueError, match=words):
        export(data(soft), tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


# data.npy and label.npy of others


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32])
def test_hard_labels(tmp_path, kind):
    images = pictures(5, 8)
    np.save(tmp_path / "data.npy", images)
    np.save(tmp_path / "label.npy", np.array([0, 2, 1, 2, 0], kind))
    found = load_dataset(tmp_path, "test", limit=3)
    assert found.classes == ("0", "1", "2") and sorted(found.labels.tolist()) == [0, 1, 2]
    whole = load_dataset(tmp_path, "train")
    assert whole.labels.dtype == torch.int64 and np.array_equal(whole.images.permute(0, 2, 3, 1).numpy(), images)
    assert whole.images.is_contiguous()


def test_soft_labels_of_double_precision(tmp_path):
    np.save(tmp_path / "data.npy", pictures(2))
    np.save(tmp_path / "label.npy", np.array([[0.25, 0.75], [1.0, 0.0]]))
    found = load_dataset(tmp_path, "train")
    assert found.labels.dtype == torch.float32 and found.labels.tolist() == [[0.25, 0.75], [1.0, 0.0]]


@pytest.mark.parametrize(
    "images, labels, error, words",
    [
        (pictures(3) / 255, np.arange(3), TypeError, "data.npy: expected uint8.*float64"),
        (pictures(3).transpose(0, 3, 1, 2), np.arange(3), ValueError, r"data.npy: expected shape \(N,H,W,3\), got \(3, 3, 8, 8\)"),
        (pictures(3)[0], np.arange(3), ValueError, r"data.npy: .*\(8, 8, 3\)"),
        (pictures(3), np.arange(4), ValueError, "label.npy: expected 3 labels.*got 4"),
        (pictures(3), np.arange(3.0), ValueError, r"label.npy: .*float64 \(3,\)"),
        (pictures(3), np.zeros((3, 1), np.int64), ValueError, r"label.npy: .*int64 \(3, 1\)"),
        (pictures(3), np.array([0, -1, 1]), ValueError, "label.npy: expected labels 0 to 1, got values from -1"),
        (pictures(3), np.full((3, 2), 0.4), ValueError, "labels: each soft label must sum to one"),
        (pictures(3), np.array(["a", "b", "c"]), ValueError, "label.npy: .*<U1"),
        (pictures(0), np.arange(0), ValueError, "is empty"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, images, labels, error, words):
    np.save(tmp_path / "data.npy", images)
    np.save(tmp_path / "label.npy", labels)
    with pytest.raises(error, match=words):
        load_dataset(tmp_path, "train")


def test_missing_truncated_and_pickled_arrays(tmp_path):
    np.save(tmp_path / "data.npy", pictures(3))
    with pytest.raises(FileNotFoundError, match="label.npy is missing"):
        load_dataset(tmp_path, "train")
    victim = tmp_path / "victim"
    np.save(tmp_path / "label.npy", np.array([Evil(victim.mkdir)] * 3, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="label.npy cannot be read as an array"):
        load_dataset(tmp_path, "train")
    assert not victim.exists()
    np.save(tmp_path / "label.npy", np.arange(3))
    content = (tmp_path / "data.npy").read_bytes()
    (tmp_path / "data.npy").write_bytes(content[:-50])
    with pytest.raises(ValueError, match="data.npy cannot be read as an array"):
        load_dataset(tmp_path, "train")
