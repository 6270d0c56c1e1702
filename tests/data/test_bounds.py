"""What a file, an argument or a variable asks for is compared with what there is, before memory or disk is taken."""

import errno
import io
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from encoded import encode
from image_files import pictures, write_folder
from PIL import Image

from rtalib import shapes10
from rtalib.data import bounds, decoding, readers
from rtalib.data.decoding import claimed
from rtalib.data.loading import load_dataset


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def small():
    """The memory of this process may grow by 150 MB in any test of this file."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 150


# ------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize("label", [100_000, 3 * 10**8, 2**62])
def test_labels_are_no_number_of_classes(tmp_path, label):
    labels = np.array([0, label])
    np.savez(tmp_path / "m.npz", images=pictures(2), labels=labels)
    np.save(tmp_path / "data.npy", pictures(2))
    np.save(tmp_path / "label.npy", labels)
    pq.write_table(pa.table({"image": [encode(image, "PNG") for image in pictures(2)], "label": labels}), tmp_path / "m.parquet")
    for place, name in (("m.npz", "m.npz"), (".", "label.npy"), ("m.parquet", "m.parquet")):
        with pytest.raises(ValueError, match=f"{name}: expected at most 100,000 classes where none are named, got"):
            load_dataset(tmp_path / place, "train")


def test_named_classes_and_the_largest_label_allowed(tmp_path):
    np.savez(tmp_path / "m.npz", images=pictures(2), labels=np.array([0, 99_999]))
    assert load_dataset(tmp_path / "m.npz", "train").num_classes == 100_000
    np.savez(tmp_path / "soft.npz", images=pictures(2), labels=np.full((2, 100_001), 1e-5, np.float32))
    with pytest.raises(ValueError, match="soft.npz: expected at most 100,000 classes"):
        load_dataset(tmp_path / "soft.npz", "train")


@pytest.mark.parametrize("label", [2**63, 2**64 - 1])
def test_labels_beyond_int64_are_named_as_they_are(tmp_path, label):
    labels = np.array([0, label], np.uint64)
    pq.write_table(pa.table({"image": [encode(image, "PNG") for image in pictures(2)], "label": labels}), tmp_path / "m.parquet")
    with pytest.raises(ValueError, match=str(label)):
        load_dataset(tmp_path / "m.parquet", "train")
    np.savez(tmp_path / "m.npz", images=pictures(2), labels=labels)
    with pytest.raises(ValueError, match="m.npz: expected at most 100,000 classes"):
        load_dataset(tmp_path / "m.npz", "train")


# ------------------------------------------------------------------------------------------------------- sizes


def test_memory_is_the_lowest_limit_there_is(tmp_path, monkeypatch):
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**28 < bounds.memory() <= machine
    (tmp_path / "memory.max").write_text("123456789\n")
    (tmp_path / "unlimited").write_text("max\n")
    monkeypatch.setattr(bounds, "_CGROUPS", (tmp_path / "unlimited", tmp_path / "none", tmp_path / "memory.max"))
    assert bounds.memory() == 123456789
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9)); from rtalib.data import bounds; print(bounds.memory())"
    assert int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=os.environ).stdout) <= 10**9


def test_arrays_beyond_memory_are_refused_by_their_headers(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "m.npz", images=np.zeros((300, 32, 32, 3), np.uint8), labels=np.zeros(300, int))
    np.save(tmp_path / "data.npy", np.zeros((300, 32, 32, 3), np.uint8))
    np.save(tmp_path / "label.npy", np.zeros(300, int))
    monkeypatch.setattr(bounds, "memory", lambda: 500_000)
    with pytest.raises(ValueError, match="m.npz: images takes 0.0 GB, and there are 0.0 GB of memory"):
        load_dataset(tmp_path / "m.npz", "train")
    with pytest.raises(ValueError, match="data.npy: rearranging its images takes"):
        load_dataset(tmp_path, "train")


def test_a_small_parquet_that_unpacks_to_more_than_memory_is_refused(tmp_path, monkeypatch):
    cells = [encode(pictures(1)[0], "PNG"), bytes(10_000_000)]
    pq.write_table(pa.table({"image": cells, "label": [0, 1]}), tmp_path / "m.parquet", compression="zstd")
    with pytest.raises(ValueError, match="row 1 cannot be decoded as an image"):
        load_dataset(tmp_path / "m.parquet", "train")
    monkeypatch.setattr(bounds, "memory", lambda: 30_000_000)
    with pytest.raises(ValueError, match=r"m.parquet: unpacking its pictures from [\d,]+ bytes takes 0.0 GB"):
        load_dataset(tmp_path / "m.parquet", "train")


def test_a_header_that_promises_more_than_there_is(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (1000, 32, 32, 3)})
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("images.npy", stream.getvalue() + bytes(100))
        labels = io.BytesIO()
        np.save(labels, np.zeros(1000, int))
        archive.writestr("labels.npy", labels.getvalue())
    with pytest.raises(ValueError, match=r"m.npz: images: its header says .* 3,072,000 bytes, but 228 are there"):
        load_dataset(tmp_path / "m.npz", "train")


def test_more_pictures_than_disk_and_memory_hold(tmp_path, monkeypatch):
    """A file of some kilobytes whose 20,000 rows are one large picture."""
    large = encode(Image.new("1", (8000, 8000)), "PNG")
    rows = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array([large]))
    pq.write_table(pa.table({"image": rows, "label": np.zeros(20_000, np.int64)}), tmp_path / "m.parquet")
    assert (tmp_path / "m.parquet").stat().st_size < 100_000
    monkeypatch.setattr(decoding.pictures, "read", lambda *picture: Image.new("RGB", (16, 16)))  # the sizes are those of a small one
    monkeypatch.setattr(decoding, "decode_one", lambda picture: np.broadcast_to(np.zeros((3, 1, 1), np.uint8), (3, 8000, 8000)))
    with pytest.raises((ValueError, OSError), match="20,000 pictures as large as|No space left on device|memory"):
        load_dataset(tmp_path / "m.parquet", "train")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_space_on_disk_is_asked_for_first(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(OSError, match="bytes needed, .* free") as error:
        claimed(tmp_path / "images.npy", (free // 3072 + 2**20, 3, 32, 32))
    assert error.value.errno == errno.ENOSPC and not (tmp_path / "images.npy").exists()


def test_an_array_in_memory_is_bounded_too(tmp_path, monkeypatch):
    """Where the cache cannot be written."""
    write_folder(tmp_path / "train", pictures(4, 32), [0, 1, 0, 1], "ab")
    with pytest.raises(ValueError, match=r"4 pictures as large as .*takes"):
        monkeypatch.setattr(bounds, "memory", lambda: 10_000)
        decoding.decode(((str(path), path) for path in sorted(tmp_path.rglob("*.png"))), 4, lambda shape: np.empty(shape, np.uint8))
    with pytest.raises(ValueError, match="4 pictures as large as .*: no"):
        decoding.decode(((str(path), path) for path in sorted(tmp_path.rglob("*.png"))), 4, refuse)


def refuse(shape):
    raise MemoryError("no")


def test_a_tar_file_s_members_are_small(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_BATCH", 10_000)
    for name, size in (("cifar-10-batches-py/test_batch", 10_001), ("x" * 20_000, 0)):  # the second needs a long header
        with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as archive:
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, io.BytesIO(bytes(size)))
        with pytest.raises(ValueError, match="cifar-10-python.tar.gz cannot be read as a tar file .*bytes, more than 10,000"):
            load_dataset("cifar10", "test", root=tmp_path)
    (tmp_path / "cifar-10-python.tar.gz").unlink()
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(bytes(10_001))
    with pytest.raises(ValueError, match="test_batch: expected at most 10,000 bytes"):
        load_dataset("cifar10", "test", root=tmp_path)


def test_texts_are_short(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_TEXT", 1000)
    (tmp_path / "x.json").write_text(" " * 1001)
    with pytest.raises(ValueError, match="x.json: expected at most 1,000 bytes"):
        bounds.read_text(tmp_path / "x.json")
    with pytest.raises(ValueError, match="here: expected at most 1,000 bytes of JSON, got 1,001"):
        bounds.parse_json(" " * 1001, "here")
    (tmp_path / "x.json").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="x.json is no UTF-8"):
        bounds.read_text(tmp_path / "x.json")


# ------------------------------------------------------------------------------------------------------- arguments and variables


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"name": ""}, ValueError, "^name: expected a data set or a path, got nothing"),
        ({"name": "a" * 300}, ValueError, "^unknown data set 'aaa"),
        ({"name": "a/" + "b" * 300}, FileNotFoundError, "^no such file or folder"),
        ({"name": "~nobody-here/x"}, FileNotFoundError, "^no such file or folder"),
        ({"name": "a\0b/c"}, FileNotFoundError, "^no such file or folder"),
        ({"limit": 2.5}, TypeError, "^limit: expected an integer, got 2.5"),
        ({"limit": True}, TypeError, "^limit: expected an integer, got True"),
        ({"limit": "3"}, TypeError, "^limit: expected an integer, got '3'"),
        ({"limit": -1}, ValueError, "^limit: expected at least 1"),
        ({"limit": 2, "seed": 1.5}, TypeError, "^seed: expected an integer, got 1.5"),
        ({"limit": 10**30}, ValueError, "^limit: asked for"),
        ({"name": "cifar10", "root": "x" * 5000}, ValueError, "^root: File name too long"),
    ],
)
def test_arguments_are_named(tmp_path, monkeypatch, arguments, error, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words) as found:
        load_dataset(**({"name": "shapes10", "split": "test"} | arguments))
    assert "\n" not in str(found.value)


def test_variables_are_named(monkeypatch):
    monkeypatch.setenv("RTALIB_DATA", "x" * 5000)
    with pytest.raises(ValueError, match="^RTALIB_DATA: File name too long: xxx"):
        load_dataset("cifar10", "test")


def test_numbers_of_numpy_are_integers():
    assert len(load_dataset("shapes10", "test", limit=np.int64(3), seed=np.int32(5))) == 3


def test_drawn_images_fit_into_memory():
    with pytest.raises(ValueError, match="^n: numbering 1,000,000,000 images takes 16.0 GB|^index: drawing"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bounds, "memory", lambda: 10**9)
            shapes10.make("train", 10**9)
    index, labels = shapes10.numbers("train", 2)
    with pytest.raises(ValueError, match="^index: drawing 2 images of 1000000x1000000 takes 6,000.0 GB"):
        shapes10.render(index, labels, size=10**6)
