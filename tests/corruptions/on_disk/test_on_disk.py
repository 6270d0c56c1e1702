"""A corrupted data set on disk: every byte is corrupt()'s, in the published layouts."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from corrupted_sets import TYPES, N, content, expected, hidden, write
from image_files import pictures, write_folder
from PIL import Image

from rtalib import generate
from rtalib.cli import main as cli
from rtalib.corruptions import corrupt
from rtalib.data.loading import load_dataset

# Layouts


def test_arrays_hold_five_blocks_of_what_corrupt_returns(shapes, tmp_path):
    manifest = write(shapes, tmp_path / "out", seed=7, benchmark="tiny-imagenet-c")
    data = load_dataset(shapes, "test")
    assert sorted(content(tmp_path / "out")) == ["brightness.npy", "fog.npy", "labels.npy"] and not hidden(tmp_path / "out")
    for name in TYPES:
        array = np.load(tmp_path / "out" / f"{name}.npy", allow_pickle=False)
        assert array.dtype == np.uint8 and array.shape == (5 * N, 32, 32, 3)
        for severity in range(1, 6):
            block = array[(severity - 1) * N : severity * N]
            assert np.array_equal(block, expected(data.images, name, severity, seed=7, benchmark="tiny-imagenet-c"))
    labels = np.load(tmp_path / "out" / "labels.npy", allow_pickle=False)
    assert labels.dtype == np.uint8 and labels.tolist() == data.labels.tolist() * 5
    command = ["sh", "-c", "sha256sum *.npy; md5sum *.npy"]
    sums = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=True).stdout.split()
    facts = manifest["files"]
    assert sums[::2] == [facts[name][kind] for kind in ("sha256", "md5") for name in sums[1:6:2]]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["files"] == facts
    assert manifest["parameters"]["seed"] == 7 and manifest["parameters"]["frost"] == "procedural"


def test_arrays_are_read_back_as_cifar10_c(shapes, tmp_path):
    write(shapes, tmp_path / "CIFAR-10-C")
    data = load_dataset(shapes, "test")
    for severity in (1, 4):
        copy = load_dataset(f"cifar10-c/fog/{severity}", "test", root=tmp_path)
        assert torch.equal(copy.images, corrupt(data.images, "fog", severity)) and torch.equal(copy.labels, data.labels)


def test_a_limited_run_is_a_part_of_the_full_one(shapes, tmp_path):
    write(shapes, tmp_path / "full" / "CIFAR-10-C")
    write(shapes, tmp_path / "part" / "CIFAR-10-C", limit=7)
    full = load_dataset("cifar10-c/fog/3", "test", root=tmp_path / "full", limit=7)
    part = load_dataset("cifar10-c/fog/3", "test", root=tmp_path / "part")
    assert len(part) == 7 and sorted(part.labels.bincount().tolist()) == [2, 2, 3]
    assert torch.equal(part.images, full.images) and torch.equal(part.labels, full.labels)


def test_labels_of_many_classes_are_not_cut(tmp_path):
    np.savez(tmp_path / "many.npz", images=pictures(3, 16), labels=np.array([0, 299, 256]))
    write(tmp_path / "many.npz", tmp_path / "out", corruptions=["contrast"])
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == [0, 299, 256] * 5


def test_folders_of_a_data_set_in_memory(shapes, tmp_path):
    write(shapes, tmp_path / "out", layout="folders", severities=[2], corruptions=["fog"])
    data = load_dataset(shapes, "test")
    names = [f"fog/2/{data.labels[k]}/{k:04d}.png" for k in range(N)]
    assert set(content(tmp_path / "out")) == set(names)
    for name, image in zip(names, expected(data.images, "fog", 2), strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / name)), image)
    copy = load_dataset(tmp_path / "out" / "fog" / "2", "test")
    assert len(copy) == N and copy.labels.tolist() == sorted(data.labels.tolist())
    with pytest.raises(ValueError, match="holds corrupted images of the 'test' split, got 'train'"):
        load_dataset(tmp_path / "out" / "fog" / "2", "train")


def test_jpeg_has_quality_85_and_half_the_colour(shapes, tmp_path):
    write(shapes, tmp_path / "out", layout="folders", format="jpeg", severities=[1], corruptions=["contrast"], limit=3)
    files = sorted((tmp_path / "out").rglob("*.JPEG"))
    assert len(files) == 3
    data = load_dataset(shapes, "test")
    with Image.open(files[0]) as image:
        sampling = [component[1:3] for component in image.layer]
        tables = image.quantization
        pixels = np.asarray(image)
    number = int(files[0].stem)
    Image.fromarray(expected(data.images[number : number + 1], "contrast", 1)[0]).save(tmp_path / "x.jpg", quality=85)
    with Image.open(tmp_path / "x.jpg") as image:
        assert tables == image.quantization and np.array_equal(pixels, np.asarray(image))
    assert sampling == [(2, 2), (1, 1), (1, 1)]


# A folder of one's own


def listing(base: Path) -> list[str]:
    files = (path for path in base.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp") and path.name[0] != ".")
    return sorted(str(path.relative_to(base)) for path in files)


def test_a_folder_of_any_sizes_keeps_its_names(photos, tmp_path):
    manifest = write(photos, tmp_path / "out", severities=[1, 4], benchmark="cifar10-c")
    files = listing(photos)
    assert len(files) == 7
    found = content(tmp_path / "out")
    renamed = [name if name.lower().endswith(".png") else name.rpartition(".")[0] + ".png" for name in files]
    assert set(found) == {f"{kind}/{severity}/{name}" for kind in TYPES for severity in (1, 4) for name in renamed}
    for number, (file, name) in enumerate(zip(files, renamed, strict=True)):
        clean = torch.from_numpy(np.asarray(Image.open(photos / file).convert("RGB")).transpose(2, 0, 1).copy())[None]
        for kind in TYPES:
            image = np.asarray(Image.open(tmp_path / "out" / kind / "4" / name))
            assert np.array_equal(image, expected(clean, kind, 4, index=torch.tensor([number]))[0])
    assert (tmp_path / "out" / "fog" / "1" / "leer").is_dir(), "class numbers come from the names of all folders"
    assert manifest["parameters"]["split"] is None and manifest["parameters"]["images"] == 7
    command = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    done = subprocess.run(command, shell=True, cwd=tmp_path / "out" / "fog" / "4", capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == manifest["files"]["fog/4"]["sha256"]


def test_a_limited_folder_is_a_part_of_the_full_one(photos, tmp_path):
    write(photos, tmp_path / "full", severities=[3])
    write(photos, tmp_path / "part", severities=[3], limit=4)
    full, part = content(tmp_path / "full"), content(tmp_path / "part")
    assert len(part) == 2 * 4 and {name: full[name] for name in part} == part
    folders = [name.split("/")[2:-1] for name in part if name.startswith("fog/")]
    assert len({"/".join(parents) for parents in folders}) == 4, "one of each folder"


def test_a_corrupted_copy_is_on_the_side_of_its_original(tmp_path):
    for k, image in enumerate(pictures(40, 16)):
        (tmp_path / "pets" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "pets" / "ab"[k % 2] / f"{k:02d}.bmp")
    write(tmp_path / "pets", tmp_path / "out", corruptions=["brightness"], severities=[2])
    sizes = []
    for split in ("train", "test"):
        clean, copy = load_dataset(tmp_path / "pets", split), load_dataset(tmp_path / "out" / "brightness" / "2", split)
        assert torch.equal(copy.images, corrupt(clean.images, "brightness", 2)) and torch.equal(copy.labels, clean.labels)
        sizes.append(len(copy))
    assert sum(sizes) == 40 and min(sizes) > 1


def test_of_a_folder_with_splits_the_split_is_taken_and_read_back_whole(tmp_path):
    write_folder(tmp_path / "pets" / "train", pictures(6, 16), [0, 1, 2] * 2, "abc")
    write_folder(tmp_path / "pets" / "val", pictures(5, 16, seed=1), [0, 2, 2, 0, 2], "abc")  # class b has no test image
    write(tmp_path / "pets", tmp_path / "out", corruptions=["contrast"], severities=[5])
    clean, copy = load_dataset(tmp_path / "pets", "test"), load_dataset(tmp_path / "out" / "contrast" / "5", "test")
    assert torch.equal(copy.images, corrupt(clean.images, "contrast", 5))
    assert copy.labels.tolist() == clean.labels.tolist() == [0, 0, 2, 2, 2] and copy.classes == clean.classes


def test_files_that_would_get_one_name_are_both_kept(tmp_path):
    (tmp_path / "pets" / "a").mkdir(parents=True)
    for name, image in zip(("x.jpg", "x.png", "y.jpg"), pictures(3, 16), strict=True):
        Image.fromarray(image).save(tmp_path / "pets" / "a" / name)
    options = {"corruptions": ["contrast"], "severities": [1]}
    write(tmp_path / "pets", tmp_path / "png", **options)
    assert sorted(content(tmp_path / "png")) == [f"contrast/1/a/{name}" for name in ("x.jpg.png", "x.png.png", "y.png")]
    write(tmp_path / "pets", tmp_path / "jpeg", format="jpeg", **options)
    assert sorted(content(tmp_path / "jpeg")) == [f"contrast/1/a/{name}" for name in ("x.jpg.jpg", "x.png.jpg", "y.jpg")]


def test_pictures_that_cannot_be_used_are_named(photos, tmp_path):
    small = photos / "hund nr 1" / "klein.png"
    Image.fromarray(pictures(1, 15)[0]).save(small)
    with pytest.raises(ValueError, match=r"klein\.png is 15x15 pixels; expected sides of at least 16"):
        generate.plan(photos, tmp_path / "out")
    small.write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"klein\.png cannot be decoded"):
        generate.plan(photos, tmp_path / "out")
    small.unlink()
    whole = photos / "hund nr 1" / "c.png"
    whole.write_bytes(whole.read_bytes()[:-400])  # the header is good
    with pytest.raises(OSError, match=r"c\.png cannot be decoded"):
        write(photos, tmp_path / "out")
    assert not content(tmp_path / "out")
    with pytest.raises(ValueError, match="lies in the data set itself"):
        generate.plan(photos, photos / "out")


@pytest.mark.parametrize(("side", "benchmark"), [(32, "cifar10-c"), (64, "tiny-imagenet-c"), (224, "imagecorruptions")])
def test_the_benchmark_goes_by_the_size_of_the_images(tmp_path, side, benchmark):
    write_folder(tmp_path / "pets", [*pictures(2, side), *pictures(1, 16)], [0, 1, 1], "ab")
    assert generate.plan(tmp_path / "pets", tmp_path / "out").parameters["benchmark"] == benchmark
    assert not (tmp_path / "out").exists(), "a plan writes nothing"


def test_data_sets_that_cannot_be_used(tmp_path):
    np.savez(tmp_path / "soft.npz", images=pictures(2, 16), labels=np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match="soft labels"):
        generate.plan(tmp_path / "soft.npz", tmp_path / "out")
    np.savez(tmp_path / "tiny.npz", images=pictures(2, 8), labels=np.arange(2))
    with pytest.raises(ValueError, match="sides of at least 16 px, the images of .* are 8x8"):
        generate.plan(tmp_path / "tiny.npz", tmp_path / "out")
    with pytest.raises(ValueError, match="dataset: expected a name or a path, got nothing"):
        generate.plan("", tmp_path / "out")


def test_the_command_writes_and_says_what_it_wrote(shapes, tmp_path, capsys):
    arguments = ["corrupt", "--dataset", str(shapes), "--out", str(tmp_path / "out"), "--device", "cpu", "--workers", "1"]
    assert cli.main([*arguments, "--corruptions", "fog,contrast", "--seed", "3"]) == 0
    out, err = capsys.readouterr()
    made = "(test, benchmark cifar10-c, seed 3, frost procedural)"
    assert out == f"{tmp_path / 'out'}: 2 of 15 types, 10 x 12 images of shapes.npz {made}, 0.4 MB\n"
    assert err.startswith("12 images, benchmark cifar10-c, 3 files to write to ") and "[blocks] 10/10 cells" in err
    assert np.array_equal(np.load(tmp_path / "out" / "fog.npy")[:N], expected(load_dataset(shapes, "test").images, "fog", 1, seed=3))
    for extra, words in (
        (["--corruptions", "fogg"], "Did you mean 'fog'"),
        (["--severities", "1,x"], "'x'"),
        (["--seed", "4"], "seed 3, not 4"),
    ):
        assert cli.main([*arguments, *extra]) == 2
        out, err = capsys.readouterr()
        assert words in err and err.count("\n") == 1 and out == ""
