"""A corrupted data set on disk: every byte is corrupt()'s, in the published layouts, whatever interrupts the run."""

import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import pictures, write_folder
from PIL import Image

from rtalib import cli, generate, generate_layouts, generate_run, shapes10
from rtalib.corruptions import CORRUPTIONS, corrupt
from rtalib.data import load_dataset

N = 12
TYPES = ("brightness", "fog")


@pytest.fixture(autouse=True)
def _small(tmp_path, monkeypatch):
    """Three batches in every block of twelve images; decoded pictures are kept in the test's own folder."""
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(generate_layouts.BATCH_PIXELS, "cpu", 4 * 32 * 32)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A data set of twelve images of three classes."""
    data = shapes10.make("test", N)
    np.savez(tmp_path / "shapes.npz", images=data.images.numpy(), labels=data.labels.numpy() % 3)
    return tmp_path / "shapes.npz"


def write(dataset, out, **options) -> dict:
    options = {"corruptions": TYPES, "workers": 1, "device": "cpu"} | options
    return generate.run(generate.plan(dataset, out, **options))


def content(folder: Path) -> dict[str, bytes]:
    """Every file that is not hidden, without the manifest, which holds times."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if "/." not in str(path.relative_to(folder.parent))}


def hidden(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob(".*")}


def expected(images: torch.Tensor, name: str, severity: int, **options) -> np.ndarray:
    return corrupt(images, name, severity, **options).permute(0, 2, 3, 1).numpy()


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


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures of three sizes and formats, in folders with spaces and umlauts, below folders, and directly in the base."""
    base, sizes = tmp_path / "my photos", [(32, 20), (17, 40), (64, 48)]
    names = [
        "hund nr 1/a b.jpg",
        "hund nr 1/ä.PNG",
        "übergroß/x.bmp",
        "übergroß/tief/日本.png",
        "z.jpeg",
        "hund nr 1/c.png",
        "übergroß/y.png",
    ]
    for k, name in enumerate(names):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        width, height = sizes[k % 3]
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(base / name)
    (base / "leer").mkdir()
    (base / "hund nr 1" / ".hidden.png").write_bytes(b"no picture")
    (base / "notes.txt").write_text("no picture either")
    return base


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


# Interruptions


def die(out: Path, dataset: Path, layout: str, where: str, calls: int) -> None:
    """Runs in a child: kills itself at the start of that call."""
    module = generate_layouts if where == "corrupt" else generate_run.os
    real, left = getattr(module, where), [calls]

    def call(*arguments, **options):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(module, where, call)
    write(dataset, out, layout=layout)


def kill(out: Path, dataset: Path, layout: str, where: str, calls: int) -> None:
    process = multiprocessing.get_context("fork").Process(target=die, args=(out, dataset, layout, where, calls))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("layout", "where", "calls", "repeated"),
    # of two types in five blocks of three batches: killed in the middle of a block, in the very first, and before a rename
    [("arrays", "corrupt", 23, 9), ("arrays", "corrupt", 2, 30), ("arrays", "replace", 11, 15), ("folders", "corrupt", 23, 9)],
)
def test_a_killed_run_goes_on_and_repeats_at_most_one_block(shapes, tmp_path, monkeypatch, layout, where, calls, repeated):
    write(shapes, tmp_path / "calm", layout=layout)
    kill(tmp_path / "killed", shapes, layout, where, calls)
    calm, found = content(tmp_path / "calm"), content(tmp_path / "killed")
    assert len(found) < len(calm) and all(calm[name] == data for name, data in found.items()), "what has its final name is whole"
    assert hidden(tmp_path / "killed")
    real, computed = generate_layouts.corrupt, []
    monkeypatch.setattr(generate_layouts, "corrupt", lambda *a, **k: computed.append(1) or real(*a, **k))
    manifest = write(shapes, tmp_path / "killed", layout=layout)
    assert content(tmp_path / "killed") == calm and not hidden(tmp_path / "killed")
    assert len(computed) == repeated
    assert write(shapes, tmp_path / "killed", layout=layout)["files"] == manifest["files"]
    assert len(computed) == repeated, "a finished set is not computed again"


@pytest.mark.parametrize(("layout", "change"), [("arrays", {"seed": 1}), ("folders", {"format": "jpeg"})])
def test_what_a_run_with_other_parameters_left_is_not_used(shapes, tmp_path, layout, change):
    kill(tmp_path / "out", shapes, layout, "corrupt", 23)
    (tmp_path / "out" / "manifest.json").unlink()
    for name in content(tmp_path / "out"):
        (tmp_path / "out" / name).unlink()
    for folder in (tmp_path / "out").glob("*/[0-9]"):
        shutil.rmtree(folder)
    assert hidden(tmp_path / "out") >= ({".fog.npy.progress"} if layout == "arrays" else {".3.part"})
    write(shapes, tmp_path / "out", layout=layout, **change)
    write(shapes, tmp_path / "calm", layout=layout, **change)
    assert content(tmp_path / "out") == content(tmp_path / "calm")


def test_progress_of_a_lost_file_is_not_used(shapes, tmp_path):
    kill(tmp_path / "out", shapes, "arrays", "corrupt", 23)
    (tmp_path / "out" / ".fog.npy.part").unlink()
    kill(tmp_path / "out", shapes, "arrays", "corrupt", 2)  # a new file lies beside the record of the lost one
    write(shapes, tmp_path / "out")
    write(shapes, tmp_path / "calm")
    assert content(tmp_path / "out") == content(tmp_path / "calm")


def test_a_full_disk_leaves_nothing_half_written(shapes, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space left"):
            write(shapes, tmp_path / "arrays")
        assert set(content(tmp_path / "arrays")) == {"labels.npy"} and not hidden(tmp_path / "arrays")
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            write(shapes, tmp_path / "folders", layout="folders")
        assert not content(tmp_path / "folders") and not (tmp_path / "folders" / "brightness" / "1").exists()
    for layout in ("arrays", "folders"):
        write(shapes, tmp_path / layout, layout=layout)
        write(shapes, tmp_path / "calm" / layout, layout=layout)
        assert content(tmp_path / layout) == content(tmp_path / "calm" / layout)


def test_more_types_are_added_to_what_is_there(shapes, tmp_path, monkeypatch):
    write(shapes, tmp_path / "out", corruptions=["fog"])
    before = (tmp_path / "out" / "fog.npy").stat().st_mtime_ns
    computed, real = [], generate_layouts.corrupt
    monkeypatch.setattr(generate_layouts, "corrupt", lambda images, name, *a, **k: computed.append(name) or real(images, name, *a, **k))
    manifest = write(shapes, tmp_path / "out", corruptions=["contrast", "fog", "contrast"])
    assert set(computed) == {"contrast"} and (tmp_path / "out" / "fog.npy").stat().st_mtime_ns == before
    assert set(manifest["files"]) == {"labels.npy", "fog.npy", "contrast.npy"}
    (tmp_path / "out" / "fog.npy").write_bytes(b"cut short by hand")
    write(shapes, tmp_path / "out")
    assert np.load(tmp_path / "out" / "fog.npy").shape == (5 * N, 32, 32, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"benchmark": "imagecorruptions"}, "benchmark 'cifar10-c', not 'imagecorruptions'"),
        ({"limit": 6}, "limit None, not 6; images 12, not 6; digest "),
        ({"layout": "folders"}, "layout 'arrays', not 'folders'; format None, not 'png'"),
        ({"split": "train"}, "split 'test', not 'train'"),
    ],
)
def test_other_parameters_are_refused(shapes, tmp_path, change, words):
    write(shapes, tmp_path / "out", corruptions=["contrast"])
    before = content(tmp_path / "out"), (tmp_path / "out" / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match=re.escape(f"out: {tmp_path / 'out'} was made with other parameters: {words}")):
        generate.plan(shapes, tmp_path / "out", **change)
    assert before == (content(tmp_path / "out"), (tmp_path / "out" / "manifest.json").read_bytes())


def test_other_images_and_other_frost_are_refused(shapes, tmp_path, monkeypatch):
    write(shapes, tmp_path / "out", corruptions=["contrast"])
    with monkeypatch.context() as patch:
        patch.setenv("RTALIB_FROST", str(tmp_path))
        with pytest.raises(ValueError, match="other parameters: frost 'procedural', not 'files'"):
            generate.plan(shapes, tmp_path / "out")
    data = np.load(shapes)
    np.savez(shapes, images=255 - data["images"], labels=data["labels"])
    with pytest.raises(ValueError, match="other parameters: digest '"):
        generate.plan(shapes, tmp_path / "out")


def test_files_of_others_are_not_touched(shapes, tmp_path):
    (tmp_path / "CIFAR-10-C").mkdir()
    np.save(tmp_path / "CIFAR-10-C" / "fog.npy", np.zeros(3))
    before = content(tmp_path / "CIFAR-10-C")
    with pytest.raises(ValueError, match=r"fog\.npy was not made by this command"):
        generate.plan(shapes, tmp_path / "CIFAR-10-C")
    (tmp_path / "CIFAR-10-C" / "manifest.json").write_text('{"made_by": "another tool", "parameters": {"seed": 0}}')
    with pytest.raises(ValueError, match=r"manifest\.json was not written by this command"):
        generate.plan(shapes, tmp_path / "CIFAR-10-C", corruptions=["contrast"])
    assert content(tmp_path / "CIFAR-10-C") == before


# Arguments and the command line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"corruptions": ["fogg"]}, "unknown corruption 'fogg'. Did you mean 'fog'?"),
        ({"corruptions": []}, "corruptions: expected at least one"),
        ({"severities": [0]}, "severities: expected some of 1 to 5, got 0"),
        ({"severities": [3]}, "severities: an array holds all five"),
        ({"benchmark": "cifar-c"}, "unknown benchmark 'cifar-c'. Did you mean 'cifar10-c'?"),
        ({"layout": "folder"}, "unknown layout 'folder'. Did you mean 'folders'?"),
        ({"format": "png"}, "format: arrays hold raw pixels"),
        ({"layout": "folders", "format": "jpg"}, "unknown format 'jpg'. Did you mean 'jpeg'?"),
        ({"split": "tset"}, "unknown split 'tset'. Did you mean 'test'?"),
        ({"limit": 0}, "limit: expected at least 1 image, got 0"),
        ({"limit": 13}, "limit: asked for 13 images, the split has 12"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"workers": 0}, "workers: expected at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_written(shapes, tmp_path, options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        generate.plan(shapes, tmp_path / "out", **({"device": "cpu"} | options))
    assert not (tmp_path / "out").exists()


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
    assert err.startswith("12 images, benchmark cifar10-c, 3 files to write to ") and "100 %  120 of 120 images" in err
    assert np.array_equal(np.load(tmp_path / "out" / "fog.npy")[:N], expected(load_dataset(shapes, "test").images, "fog", 1, seed=3))
    for extra, words in (
        (["--corruptions", "fogg"], "Did you mean 'fog'"),
        (["--severities", "1,x"], "'x'"),
        (["--seed", "4"], "seed 3, not 4"),
    ):
        assert cli.main([*arguments, *extra]) == 2
        out, err = capsys.readouterr()
        assert words in err and err.count("\n") == 1 and out == ""


def test_a_failing_disk_is_one_line_and_exit_status_1(shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generate_run.os, "replace", lambda *paths: exec("raise OSError(28, 'No space left on device')"))
    assert cli.main(["corrupt", "--dataset", str(shapes), "--out", str(tmp_path / "out"), "--device", "cpu", "--workers", "1"]) == 1
    error = capsys.readouterr().err
    assert "No space left on device: " in error and "; what is finished is kept" in error and error.count("\n") == 1


@pytest.mark.slow
def test_processes_write_what_one_process_writes(shapes, photos, tmp_path):
    for dataset in (shapes, photos):
        out = tmp_path / f"of {dataset.name}"
        write(dataset, out / "one", corruptions=CORRUPTIONS[:6])
        write(dataset, out / "two", corruptions=CORRUPTIONS[:6], workers=2)
        one, two = content(out / "one"), content(out / "two")
        assert one == two and len(one) > 6


@pytest.mark.slow
def test_an_interrupted_command_stops_at_once_and_goes_on(tmp_path):
    command = [sys.executable, "-m", "rtalib", "corrupt", "--dataset", "shapes10", "--out", str(tmp_path / "out"), "--workers", "2"]
    process = subprocess.Popen([*command, "--device", "cpu"], stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/.*.progress")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it, too
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - started < 20
    assert "Traceback" not in err and err.splitlines()[-1].startswith("interrupted; what is finished is kept")
    finished = set(json.loads((tmp_path / "out" / "manifest.json").read_text())["files"])
    assert set(content(tmp_path / "out")) <= finished and len(finished) < 16
