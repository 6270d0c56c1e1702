"""CIFAR-10 as published, folders of images and corruption benchmarks are read back exactly; no pickle executes anything."""

import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from image_files import Evil, pictures, png, same, write_folder, write_parquet
from PIL import Image

from rtalib.data.loading import load_dataset
from rtalib.data.readers import CIFAR10_CLASSES


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# CIFAR-10 as published


def cifar_batches(split_size=4):
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    images = {name: pictures(split_size, 32, seed=k) for k, name in enumerate(names)}
    flat = {n: i.transpose(0, 3, 1, 2).reshape(len(i), -1) for n, i in images.items()}
    # Protocol 2 with byte keys: what the published files hold.
    files = {n: pickle.dumps({b"data": flat[n], b"labels": [k % 10 for k in range(split_size)]}, protocol=2) for n in names}
    return images, files


def write_batches(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_cifar10_folder_and_tar(tmp_path):
    images, files = cifar_batches()
    write_batches(tmp_path / "a" / "cifar-10-batches-py", files)
    (tmp_path / "b").mkdir()
    with tarfile.open(tmp_path / "b" / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a" / "cifar-10-batches-py", "cifar-10-batches-py")
    train = np.concatenate([images[f"data_batch_{k}"] for k in range(1, 6)])
    for root in (tmp_path / "a", tmp_path / "b"):
        same(load_dataset("cifar10", "train", root=root), train, [0, 1, 2, 3] * 5)
        data = load_dataset("cifar10", "test", root=root)
        same(data, images["test_batch"], [0, 1, 2, 3])
        assert data.classes == CIFAR10_CLASSES and data.name == "cifar10"
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["cifar-10-python.tar.gz"]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_cifar10_of_any_protocol(tmp_path, protocol):
    images, files = cifar_batches()
    flat = images["test_batch"].transpose(0, 3, 1, 2).reshape(4, -1)
    files["test_batch"] = pickle.dumps({"data": np.ascontiguousarray(flat), "labels": [3, 2, 1, 0]}, protocol=protocol)
    write_batches(tmp_path / "cifar-10-batches-py", files)
    same(load_dataset("cifar10", "test", root=tmp_path), images["test_batch"], [3, 2, 1, 0])


@pytest.mark.parametrize("call", [os.system, eval, os.mkdir], ids=["system", "eval", "mkdir"])
@pytest.mark.parametrize("packed", [False, True])
def test_malicious_pickle_is_not_executed(tmp_path, call, packed):
    mark = tmp_path / "mark"
    argument = {os.system: f"touch {mark}", eval: f"open({str(mark)!r}, 'w')", os.mkdir: str(mark)}[call]
    evil = pickle.dumps({b"data": Evil(call, argument), b"labels": [0]}, protocol=2)
    pickle.loads(evil)
    assert mark.exists(), "the attack itself must work, or this test shows nothing"
    mark.rmdir() if mark.is_dir() else mark.unlink()
    write_batches(tmp_path / "cifar-10-batches-py", {"test_batch": evil})
    if packed:
        with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
        (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
        (tmp_path / "cifar-10-batches-py").rmdir()
    with pytest.raises(ValueError, match="test_batch is refused or damaged: .* is not allowed in a data file"):
        load_dataset("cifar10", "test", root=tmp_path)
    assert not mark.exists()


def test_damaged_batches_are_named(tmp_path):
    images, files = cifar_batches()
    folder = tmp_path / "cifar-10-batches-py"
    write_batches(folder, {"test_batch": files["test_batch"][:3000]})
    with pytest.raises(ValueError, match="test_batch is refused or damaged"):
        load_dataset("cifar10", "test", root=tmp_path)
    flat = images["test_batch"].reshape(4, -1)
    write_batches(folder, {"test_batch": pickle.dumps({b"data": flat, b"labels": [0, 1, 2, 10]}, protocol=2)})
    with pytest.raises(ValueError, match="test_batch: expected labels 0 to 9, got values from 0 to 10"):
        load_dataset("cifar10", "test", root=tmp_path)
    with pytest.raises(FileNotFoundError, match="data_batch_1 is missing"):
        load_dataset("cifar10", "train", root=tmp_path)
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b not a tar")
    with pytest.raises(ValueError, match="cannot be read as a tar file"):
        load_dataset("cifar10", "test", root=tmp_path / "t")


# Folders of images


def test_class_folders_with_split_folders(tmp_path):
    images, labels = pictures(8), [0, 0, 0, 1, 1, 2, 2, 2]
    write_folder(tmp_path / "train", images, labels, "abc")
    write_folder(tmp_path / "val", images[5:], [0, 2, 2], "abc")
    same(load_dataset(tmp_path, "train"), images, labels)
    data = load_dataset(str(tmp_path), "test")
    same(data, images[5:], [0, 2, 2])
    assert data.classes == ("a", "b", "c")
    write_folder(tmp_path / "val", images[:1], [0], "z")
    with pytest.raises(ValueError, match="class folders z are not in train/"):
        load_dataset(tmp_path, "test")


def test_class_folders_without_split_are_split_by_name(tmp_path):
    images, labels = pictures(100), [k % 2 for k in range(100)]
    write_folder(tmp_path, images, labels, ("train", "bus"))  # a class may be called train
    train, test = load_dataset(tmp_path, "train"), load_dataset(tmp_path, "test")
    assert len(train) + len(test) == 100 and 10 <= len(test) <= 30
    rows = {i.tobytes() for part in (train, test) for i in part.images.numpy()}
    assert len(rows) == 100
    assert train.classes == ("bus", "train")
    write_folder(tmp_path, pictures(101)[100:], [0], ("bus",))
    assert len(load_dataset(tmp_path, "train")) + len(load_dataset(tmp_path, "test")) >= 100


def test_cached_folder_follows_new_classes(tmp_path):
    """The pictures are the same files, but their class numbers move when a class is added before them."""
    write_folder(tmp_path / "train", pictures(4), [0, 0, 1, 1], "bc")
    write_folder(tmp_path / "test", pictures(4), [0, 0, 1, 1], "bc")
    assert load_dataset(tmp_path, "test").labels.tolist() == [0, 0, 1, 1]
    write_folder(tmp_path / "train", pictures(1), [0], "a")
    data = load_dataset(tmp_path, "test")
    assert data.labels.tolist() == [1, 1, 2, 2] and data.classes == ("a", "b", "c")


def test_images_of_other_size_or_content_are_named(tmp_path):
    write_folder(tmp_path / "train", pictures(3), [0, 0, 1], "ab")
    write_folder(tmp_path / "train", pictures(1, 9), [0], ["c"])
    with pytest.raises(ValueError, match=r"c/0000.png is 9x9 pixels, but .*a/0000.png is 8x8; all images must share one size"):
        load_dataset(tmp_path, "train")
    (tmp_path / "train" / "c" / "0000.png").write_bytes(png(pictures(1)[0])[:60])
    with pytest.raises(ValueError, match=r"c/0000.png cannot be decoded"):
        load_dataset(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="has train/ but no test/, valid/"):
        load_dataset(tmp_path, "test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image found"):
        load_dataset(tmp_path / "empty", "train")


def test_grey_and_palette_images_become_rgb(tmp_path):
    for k, mode in enumerate(("L", "P", "RGBA")):
        (tmp_path / "train" / f"c{k}").mkdir(parents=True)
        Image.fromarray(pictures(1)[0]).convert(mode).save(tmp_path / "train" / f"c{k}" / "x.png")
    images = load_dataset(tmp_path, "train").images
    assert torch.equal(images[0, 0], images[0, 1]) and torch.equal(images[2], torch.from_numpy(pictures(1)[0]).permute(2, 0, 1))


def test_tiny_imagenet_folder_and_parquet(tmp_path):
    images = pictures(6, 64)
    base = tmp_path / "a" / "tiny-imagenet-200"
    for k, wnid in enumerate(["n02", "n01", "n01"]):
        (base / "train" / wnid / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[k]).save(base / "train" / wnid / "images" / f"{wnid}_{k}.JPEG", "PNG")
        (base / "val" / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[3 + k]).save(base / "val" / "images" / f"val_{k}.JPEG", "PNG")
    table = base / "val" / "val_annotations.txt"
    table.write_text("val_0.JPEG\tn02\t0\t32\t44\t62\nval_1.JPEG\tn01\t1\t2\t3\t4\nval_2.JPEG\tn02\t1\t2\t3\t4\n")
    train = load_dataset("tiny-imagenet", "train", root=tmp_path / "a")
    same(train, images[[1, 2, 0]], [0, 0, 1])
    assert train.classes == ("n01", "n02")
    same(load_dataset("tiny-imagenet", "test", root=tmp_path / "a"), images[3:], [1, 0, 1])
    table.write_text("val_0.JPEG\tn99\t0\t32\t44\t62\n")
    with pytest.raises(ValueError, match="names no class of train/"):
        load_dataset("tiny-imagenet", "test", root=tmp_path / "a")
    write_parquet(tmp_path / "b" / "tiny-imagenet-32" / "valid-00000-of-00001.parquet", images, [0, 1, 1, 0, 2, 2], "abc", "image")
    same(load_dataset("tiny-imagenet", "test", root=tmp_path / "b"), images, [0, 1, 1, 0, 2, 2])


def tiny_imagenet(folder):
    for k in range(2):
        write_folder(folder / "train", pictures(2, 16, seed=k), [k, k], ("n01", "n02"))
    write_folder(folder / "val", pictures(3, 16, seed=2), [0, 0, 0], ["images"])
    (folder / "val" / "val_annotations.txt").write_text("0000.png\tn02\t0\n0001.png\tn01\t0\n0002.png\tn01\t0\n")
    return folder


@pytest.mark.parametrize("name", ["{outside}", "../../../secret.png", "../images/0000.png", "..", "", "a\0b"])
def test_annotations_name_no_file_outside_of_their_folder(tmp_path, name):
    (tmp_path / "secret.png").write_bytes(png(pictures(1, 16)[0]))
    base = tiny_imagenet(tmp_path / "tiny-imagenet-200")
    line = f"{name.format(outside=tmp_path / 'secret.png')}\tn01\t0\n"
    (base / "val" / "val_annotations.txt").write_text("0000.png\tn02\t0\n" + line)
    with pytest.raises(ValueError, match="val_annotations.txt: .* is no name of a file in .*val/images"):
        load_dataset("tiny-imagenet", "test", root=tmp_path)


def test_what_is_missing_in_tiny_imagenet_is_named(tmp_path):
    base = tiny_imagenet(tmp_path / "tiny-imagenet-200")
    assert load_dataset("tiny-imagenet", "test", root=tmp_path).labels.tolist() == [1, 0, 0]
    (base / "val" / "val_annotations.txt").write_text("0000.png\tn02\t0\n")
    with pytest.warns(UserWarning, match=r"2 pictures without a line in val_annotations.txt \(0001.png, 0002.png\)"):
        assert len(load_dataset("tiny-imagenet", "test", root=tmp_path)) == 1
    (base / "val" / "val_annotations.txt").write_text("0000.png\tn02\t0\n0009.png\tn02\t0\n")
    with pytest.raises(FileNotFoundError, match="0009.png is listed but missing"):
        with pytest.warns(UserWarning, match="0001.png"):
            load_dataset("tiny-imagenet", "test", root=tmp_path)
    (base / "val" / "val_annotations.txt").write_bytes(b"\xff\tn02")
    with pytest.raises(ValueError, match="val_annotations.txt is no UTF-8 text"):
        load_dataset("tiny-imagenet", "test", root=tmp_path)
    (base / "wnids.txt").write_text("n02\nn01\nn03\n")
    for split in ("train", "test"):
        with pytest.raises(FileNotFoundError, match=r"train lacks 1 of 3 classes \(n03\)"):
            load_dataset("tiny-imagenet", split, root=tmp_path)
    (base / "train" / "n03").mkdir()
    with pytest.raises(FileNotFoundError, match=r"train lacks 1 of 3 classes \(n03\)"):
        load_dataset("tiny-imagenet", "train", root=tmp_path)


def test_published_folders_are_known_by_what_they_hold(tmp_path):
    images, files = cifar_batches()
    write_batches(tmp_path / "here", files)
    same(load_dataset(tmp_path / "here", "test"), images["test_batch"], [0, 1, 2, 3])
    tiny_imagenet(tmp_path / "tiny")
    assert load_dataset(tmp_path / "tiny", "test").labels.tolist() == [1, 0, 0]
    assert load_dataset(tmp_path / "tiny", "train").classes == ("n01", "n02")


# Corruption benchmarks


def test_cifar10_c(tmp_path):
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    images, labels = pictures(20, 32), np.array([0, 3, 9, 1] * 5, np.uint8)
    np.save(folder / "fog.npy", images)
    np.save(folder / "labels.npy", labels)
    for severity in (1, 5):
        data = load_dataset(f"cifar10-c/fog/{severity}", "test", root=tmp_path)
        same(data, images[4 * severity - 4 : 4 * severity], [0, 3, 9, 1])
    assert data.name == "cifar10-c/fog/5"
    with pytest.raises(ValueError, match="Did you mean 'fog'"):
        load_dataset("cifar10-c/fogg/1", "test", root=tmp_path)
    with pytest.raises(ValueError, match="severity '6'"):
        load_dataset("cifar10-c/fog/6", "test", root=tmp_path)
    with pytest.raises(ValueError, match="<corruption>/<severity"):
        load_dataset("cifar10-c", "test", root=tmp_path)
    with pytest.raises(ValueError, match="'test' split only"):
        load_dataset("cifar10-c/fog/1", "train", root=tmp_path)
    (folder / "fog.npy").write_bytes((folder / "fog.npy").read_bytes()[:500])
    with pytest.raises(ValueError, match="fog.npy cannot be read as an array"):
        load_dataset("cifar10-c/fog/1", "test", root=tmp_path)


def test_cifar100_c(tmp_path):
    folder, images = tmp_path / "CIFAR-100-C", pictures(10, 32)
    folder.mkdir()
    np.save(folder / "fog.npy", images)
    np.save(folder / "labels.npy", np.array([7, 99] * 5))
    data = load_dataset("cifar100-c/fog/2", "test", root=tmp_path)
    assert data.num_classes == 100 and data.labels.tolist() == [7, 99]
    assert np.array_equal(data.images.permute(0, 2, 3, 1).numpy(), images[2:4])


def test_tiny_imagenet_c(tmp_path):
    images = pictures(4, 64)
    write_folder(tmp_path / "Tiny-ImageNet-C" / "fog" / "3", images, [0, 1, 1, 1], ("n01", "n02"))
    data = load_dataset("tiny-imagenet-c/fog/3", "test", root=tmp_path)
    same(data, images, [0, 1, 1, 1])
    with pytest.raises(FileNotFoundError, match="fog/4 is not a folder"):
        load_dataset("tiny-imagenet-c/fog/4", "test", root=tmp_path)
    write_folder(tmp_path / "Tiny-ImageNet-C" / "snow" / "1", images, [0, 1, 2, 1], ("n01", "n02", "n03"))
    with pytest.raises(FileNotFoundError, match=r"fog/3 lacks 1 of 3 classes \(n03\)"):  # or else later labels would move
        load_dataset("tiny-imagenet-c/fog/3", "test", root=tmp_path)
