"""Folders of class folders as people have them: splits in capitals, links, hidden and empty folders; nothing is left out without a word."""

import os
import warnings

import pytest
import torch
from image_files import pictures, png, write_folder
from PIL import Image
from torchvision.datasets import ImageFolder

from rtalib.corruptions.on_disk.inputs import find
from rtalib.data import folders
from rtalib.data.loading import load_dataset


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path_factory.mktemp("cache")))


def put(*paths):
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pictures(1, 16, seed=number)[0]))


def counts(folder, split="train"):
    data = load_dataset(folder, split)
    return data.classes, data.labels.bincount(minlength=data.num_classes).tolist()


def quietly(function, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return function(*arguments)


# ------------------------------------------------------------------------------------------------------- links


def test_linked_folders_are_followed_as_torchvision_does(tmp_path):
    put(tmp_path / "pets/train/dogs/0.png", *(tmp_path / f"disk/deep/{k}.png" for k in range(5)))
    (tmp_path / "pets/train/cats").mkdir()
    (tmp_path / "pets/train/cats/more").symlink_to(tmp_path / "disk")
    (tmp_path / "pets/train/birds").symlink_to(tmp_path / "disk")
    assert quietly(counts, tmp_path / "pets") == (("birds", "cats", "dogs"), [5, 5, 1])
    peer = torch.tensor([label for _, label in ImageFolder(tmp_path / "pets/train").samples])
    assert peer.bincount().tolist() == [5, 5, 1]
    listed = find(str(tmp_path / "pets"), "train", None, None, None)[0]
    linked = [file for file in listed.files if file.startswith("cats/more/deep/")]
    assert listed.classes == ("birds", "cats", "dogs") and len(linked) == 5 and len(listed) == 11


def test_circles_of_links_end(tmp_path):
    put(tmp_path / "pets/train/a/0.png", tmp_path / "pets/train/a/b/1.png", tmp_path / "pets/train/c/2.png")
    for place, target in (("a/up", ".."), ("a/b/self", "."), ("c/over", "../a"), ("c/again", "../a/b")):
        (tmp_path / "pets/train" / place).symlink_to(target)
    for k in range(12):  # each folder links to all others: 12! ways
        put(tmp_path / f"many/{k}/x.png")
        for other in range(12):
            (tmp_path / f"many/{k}/{other}").symlink_to(f"../{other}")
    (tmp_path / "pets/train/d").symlink_to(tmp_path / "many")
    classes, found = counts(tmp_path / "pets")
    assert classes == ("a", "c", "d") and found == [2, 3, 12]  # a/up, which holds the pictures of c, is left out


def test_a_real_folder_comes_before_a_link_to_it(tmp_path):
    put(tmp_path / "pets/a/x/0.png")
    (tmp_path / "pets/a/before").symlink_to("x")
    assert folders.pictures_below(tmp_path / "pets/a") == [tmp_path / "pets/a/x/0.png"]


# ------------------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize(("train", "test"), [("Train", "Val"), ("TRAIN", "TEST"), ("training", "testing"), ("train", "Validation")])
def test_names_of_splits(tmp_path, train, test):
    write_folder(tmp_path / train, pictures(4, 16), [0, 0, 1, 1], "ab")
    write_folder(tmp_path / test, pictures(3, 16), [0, 1, 1], "ab")
    assert quietly(counts, tmp_path) == (("a", "b"), [2, 2]) and counts(tmp_path, "test") == (("a", "b"), [1, 2])
    assert len(find(str(tmp_path), "test", None, None, None)[0]) == 3


def test_an_unlabelled_test_folder_does_not_hide_val(tmp_path):
    write_folder(tmp_path / "train", pictures(4), [0, 0, 1, 1], "ab")
    put(tmp_path / "test/0.png")
    for read in (lambda: load_dataset(tmp_path, "test"), lambda: find(str(tmp_path), "test", None, None, None)):
        with pytest.raises(FileNotFoundError, match="with class folders"):
            read()
    write_folder(tmp_path / "val", pictures(3), [0, 1, 1], "ab")
    assert counts(tmp_path, "test") == (("a", "b"), [1, 2])


def test_two_train_folders_are_refused(tmp_path):
    for name in ("train", "Train"):
        write_folder(tmp_path / name, pictures(2), [0, 1], "ab")
    with pytest.raises(ValueError, match="holds both Train/ and train/; which of them is the train split"):
        load_dataset(tmp_path, "train")


# ------------------------------------------------------------------------------------------------------- what is left out


def test_what_is_left_out_is_named_in_one_warning(tmp_path):
    train = tmp_path / "pets/train"
    write_folder(train, pictures(4, 16), [0, 0, 1, 1], "ab")
    put(train / "a/.ipynb_checkpoints/0000-checkpoint.png", train / ".thumbs/x/y.png", train / "loose.png")
    for name in ("__MACOSX", "notes", ".git"):
        (train / name).mkdir()
    (train / "__MACOSX/._0.png").write_bytes(b"what a Mac leaves in archives")
    (train / "notes/boxes.txt").write_text("1 2 3 4")
    (train / "a/gone.png").symlink_to("/nowhere/x.png")
    for name in ("x.HEIC", "y.psd"):
        (train / "b" / name).write_bytes(b"x")
    with pytest.warns(UserWarning) as found:
        assert counts(tmp_path / "pets") == (("a", "b"), [2, 2])
    (text,) = [str(warning.message) for warning in found]
    for words in (
        r"pets/train: left out: ",
        r"2 empty class folders (__MACOSX, notes)",
        r"2 hidden folders (.thumbs, a/.ipynb_checkpoints)",
        r"1 links that lead to no file (a/gone.png)",
        r"2 pictures of formats that are not read (b/x.HEIC, b/y.psd)",
        r"1 pictures outside of class folders (loose.png)",
    ):
        assert words in text
    with pytest.warns(UserWarning, match="left out.*empty folders"):
        listed = find(str(tmp_path / "pets"), "train", None, None, None)[0]
    assert listed.classes == ("a", "b") and len(listed) == 5  # the loose one has a place in the copy


def test_a_class_that_only_the_test_folder_fills_is_named(tmp_path):
    write_folder(tmp_path / "train", pictures(2), [0, 1], "ab")
    write_folder(tmp_path / "test", pictures(3), [0, 1, 2], "abc")
    (tmp_path / "train/c").mkdir()
    with pytest.warns(UserWarning, match="1 empty class folders"):
        with pytest.raises(ValueError, match="class folders c are not in train/, or are empty"):
            load_dataset(tmp_path, "test")


def test_suffixes_of_the_formats_are_read(tmp_path):
    image = Image.fromarray(pictures(1, 16)[0])
    (tmp_path / "train/a").mkdir(parents=True)
    for name, format in (("a.jfif", "JPEG"), ("b.pgm", "PPM"), ("c.PNM", "PPM"), ("d.TIF", "TIFF"), ("e.gif", "GIF")):
        image.convert("L").save(tmp_path / "train/a" / name, format)
    assert quietly(counts, tmp_path) == (("a",), [5])


def test_names_that_are_no_utf8_are_read(tmp_path):
    put(tmp_path / "x.png", tmp_path / "y.png", tmp_path / "train/b/z.png")
    os.makedirs(os.fsencode(tmp_path) + b"/train/caf\xe9")
    os.rename(tmp_path / "x.png", os.fsencode(tmp_path) + b"/train/caf\xe9/\xff.png")
    os.rename(tmp_path / "y.png", os.fsencode(tmp_path) + b"/train/caf\xe9/y.png")
    classes, found = counts(tmp_path)
    assert classes == ("b", "caf\udce9") and found == [1, 2] and len(load_dataset(tmp_path, "train").digest) == 16


def test_a_folder_that_cannot_be_entered_is_an_error(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root enters every folder")
    put(tmp_path / "train/a/0.png", tmp_path / "train/a/closed/1.png")
    (tmp_path / "train/a/closed").chmod(0)
    with pytest.raises(PermissionError, match="closed"):
        load_dataset(tmp_path, "train")


def test_a_manifest_of_any_content_is_no_error(tmp_path):
    write_folder(tmp_path / "fog/3", pictures(20), [0, 1] * 10, "ab")
    made = '"made_by": "rtalib corrupt"'
    for text in ("[" * 100_000, "[]", "{" + made + "}", "{" + made + ', "parameters": {"split": []}}', "\xff"):
        (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
        assert len(load_dataset(tmp_path / "fog/3", "train")) + len(load_dataset(tmp_path / "fog/3", "test")) == 20
