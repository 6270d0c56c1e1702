"""A corrupted data set on disk: every byte is corrupt()'s, in the published layouts."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from corrupted_sets import TYPES, N, content, expected, hidden, write
from encoded import ORIENTATION, oriented, png_of
from image_files import pictures, write_folder
from PIL import Image
from torchvision.datasets import ImageFolder

from rtalib import generate
from rtalib.cli import main as cli
from rtalib.corruptions import corrupt
from rtalib.corruptions.on_disk import inputs
from rtalib.data import bounds
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
    assert not (tmp_path / "out" / "fog" / "1" / "leer").exists(), "a folder without pictures is no class"
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


def test_photos_are_written_upright_whatever_sizes_lie_together(tmp_path):
    """Three pictures with one size in their headers; EXIF turns two of them, one by a chunk behind its pixels."""
    (tmp_path / "phone" / "a").mkdir(parents=True)
    image = pictures(1, 32)[0][:20]
    whole = oriented(image, "PNG", 6)
    at = whole.index(b"eXIf") - 4
    end = at + 12 + int.from_bytes(whole[at : at + 4], "big")
    behind = whole[:at] + whole[end:-12] + whole[at:end] + whole[-12:]
    for k, data in enumerate((oriented(image, "PNG", 1), whole, behind)):
        (tmp_path / "phone" / "a" / f"{k}.png").write_bytes(data)
    write(tmp_path / "phone", tmp_path / "out", corruptions=["brightness"], severities=[1], benchmark="cifar10-c")
    for k, turns in enumerate((0, 3, 3)):
        clean = torch.from_numpy(np.rot90(image, turns).copy()).permute(2, 0, 1)[None]
        with Image.open(tmp_path / "out" / "brightness" / "1" / "a" / f"{k}.png") as made:
            assert ORIENTATION not in made.getexif()
            assert np.array_equal(np.asarray(made), expected(clean, "brightness", 1, index=torch.tensor([k]))[0])


def test_a_picture_that_a_corruption_could_not_hold_is_named_before_work_begins(photos, tmp_path, monkeypatch):
    (photos / "hund nr 1" / "large.png").write_bytes(png_of(8191, 8192))  # below the limit for one picture
    monkeypatch.setattr(bounds, "memory", lambda: 5 * 10**9)
    with pytest.raises(ValueError, match=r"large.png: corrupting its 8191x8192 pixels takes 5.4 GB, and there are 5.0 GB"):
        generate.plan(photos, tmp_path / "out")
    (photos / "hund nr 1" / "large.png").write_bytes(png_of(8193, 8192))
    with pytest.raises(ValueError, match=r"large.png cannot be decoded as an image: its header says 8193x8192 pixels"):
        generate.plan(photos, tmp_path / "out")


def test_so_many_processes_as_memory_holds_the_largest_picture(photos, tmp_path, monkeypatch):
    (photos / "hund nr 1" / "large.png").write_bytes(png_of(4000, 2500))
    one = inputs.HELD_BYTES * 4000 * 2500
    monkeypatch.setattr(generate, "cores", lambda: 16)
    for there, workers in ((1.1 * one, 1), (3.5 * one, 3), (100 * one, 16)):
        monkeypatch.setattr(bounds, "memory", lambda there=there: there)
        assert generate.plan(photos, tmp_path / "out", device="cpu").workers == workers
    monkeypatch.setattr(bounds, "memory", lambda: 3.5 * one)
    with pytest.raises(ValueError, match=r"workers: 4, each with a picture of 10,000,000 pixels, takes .* GB, and there are"):
        generate.plan(photos, tmp_path / "out", workers=4)


def test_a_limited_copy_keeps_the_numbers_of_empty_classes(tmp_path):
    write_folder(tmp_path / "pets" / "train", pictures(9, 16), [0, 1, 2] * 3, "abc")
    write_folder(tmp_path / "pets" / "test", pictures(9, 16, seed=1), [0, 1, 2] * 3, "abc")
    write(tmp_path / "pets", tmp_path / "out", corruptions=["contrast"], severities=[5], limit=2)
    data = load_dataset(tmp_path / "out" / "contrast" / "5", "test")
    assert data.classes == tuple("abc") and len(set(data.labels.tolist())) == 2


@pytest.mark.filterwarnings("error")
def test_torchvision_reads_what_is_written(photos, tmp_path):
    (photos / "z.jpeg").unlink()
    with pytest.warns(UserWarning, match=r"left out: 1 empty folders \(leer\)"):
        write(photos, tmp_path / "out", corruptions=["contrast"], severities=[1])
    assert ImageFolder(tmp_path / "out" / "contrast" / "1").classes == sorted(["hund nr 1", "übergroß"])


def test_pictures_that_cannot_be_used_are_named(photos, tmp_path):
    small = photos / "hund nr 1" / "klein.png"
    Image.fromarray(pictures(1, 15)[0]).save(small)
    with pytest.raises(ValueError, match=r"klein\.png is 15x15 pixels; expected sides of at least 16"):
        generate.plan(photos, tmp_path / "out")
    small.write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"klein\.png cannot be decoded"):
        generate.plan(photos, tmp_path / "out")
    (photos / "übergroß" / "x.bmp").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"klein\.png cannot be decoded.*\(and 1 other pictures cannot be used: .*x\.bmp\)"):
        generate.plan(photos, tmp_path / "out")
    (photos / "übergroß" / "x.bmp").unlink()
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
        (["--severities", "1,x"], "'--severities': expected integers, comma-separated, got '1,x'"),
        (["--seed", "4"], "seed 3, not 4"),
    ):
        assert cli.main([*arguments, *extra]) == 2
        out, err = capsys.readouterr()
        assert words in err and err.count("\n") == 1 and out == ""
