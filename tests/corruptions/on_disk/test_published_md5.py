"""The comparison with the published CIFAR-10-C, on a forged list of MD5s."""

import hashlib
import io
import pickle

import numpy as np
import pytest
from image_files import pictures, png
from PIL import Image

from rtalib import generate
from rtalib.corruptions.on_disk import published_md5

TYPES = ["brightness", "contrast", "pixelate", "fog"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with a CIFAR-10 test batch of twenty images."""
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))
    batch = {b"data": pictures(20, 32).transpose(0, 3, 1, 2).reshape(20, -1), b"labels": [k % 10 for k in range(20)]}
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    return tmp_path


def padded(data: bytes, size: int) -> bytes:
    """The .npy file with its header padded to another size, as another NumPy would have written it."""
    text = data[10:128].rstrip()
    return data[:8] + (size - 10).to_bytes(2, "little") + text.ljust(size - 11) + b"\n" + data[128:]


def run(root, out, **options):
    manifest = generate.run(generate.plan("cifar10", out, corruptions=TYPES, root=root, device="cpu", workers=1, **options))
    return generate.report(out, manifest, root)


def test_files_are_recognised_behind_any_usual_header(root, monkeypatch):
    out = root / "out"
    run(root, out)
    files = {name: (out / f"{name}.npy").read_bytes() for name in (*TYPES, "labels")}
    sizes = {"labels": 80, "brightness": 96, "contrast": 128}
    forged = {name: hashlib.md5(padded(files[name], size)).hexdigest() for name, size in sizes.items()}
    monkeypatch.setattr(published_md5, "MD5", forged | {"pixelate": "0" * 32})
    lines = run(root, out)
    assert lines[1:4] == [
        "  equal: labels (header of 80 bytes), brightness (header of 96 bytes), contrast (header of 128 bytes)",
        "  differ: pixelate",
        "  random, cannot be equal: fog",
    ]
    assert len(lines) == 5 and lines[4].startswith(f"{out}: 4 of 15 types, 20 x 20 images of cifar10")
    assert lines[0].endswith("clean images: not known to be the original ones (test_batch has another MD5), so a difference may be theirs")


def test_one_other_byte_is_seen(root, monkeypatch):
    run(root, root / "out")
    path = root / "out" / "brightness.npy"
    md5 = hashlib.md5(padded(path.read_bytes(), 96)).hexdigest()
    assert published_md5.matching_header(path, md5) == 96
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert published_md5.matching_header(path, md5) is None


def test_headers_are_numpys_own():
    for shape in ((50_000,), (50_000, 32, 32, 3)):
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        assert published_md5.header(shape, 128) == stream.getvalue()
        assert all(len(found) == size for size in (80, 96) if (found := published_md5.header(shape, size)) is not None)
    assert published_md5.header((50_000,), 80) is not None
    assert published_md5.header((50_000, 32, 32, 3), 80) is None and published_md5.header((50_000, 32, 32, 3), 96) is not None


def test_labels_in_another_order_are_explained(root, monkeypatch):
    monkeypatch.setattr(published_md5, "MD5", {"labels": "0" * 32})
    assert run(root, root / "out")[-2] == "  as the labels differ, the clean images are in another order than the published ones"


@pytest.mark.parametrize("options", [{"limit": 10}, {"benchmark": "imagecorruptions"}, {"layout": "folders"}])
def test_what_cannot_be_equal_is_not_compared(root, options):
    lines = run(root, root / "out", **options)
    assert lines[:-1] == (["not compared with the published MD5s: they are of all images, these are 10"] if "limit" in options else [])


def test_the_clean_images_are_named_for_what_they_are(root, monkeypatch, tmp_path_factory):
    batch = (root / "cifar-10-batches-py" / "test_batch").read_bytes()
    monkeypatch.setattr(published_md5, "TEST_BATCH_MD5", hashlib.md5(batch).hexdigest())
    assert published_md5.cifar10_origin(root) == "the original ones, so a difference is an error"
    other = tmp_path_factory.mktemp("parquet")
    image = pictures(1, 32)[0]
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG")
    for encoded, words in ((png(image), "not known to be the original ones"), (stream.getvalue(), "JPEG-recompressed copies")):
        write_parquet(other / "cifar10" / "test.parquet", encoded)
        assert words in published_md5.cifar10_origin(other)
    monkeypatch.setattr(published_md5, "TAR_MD5", hashlib.md5(b"tar").hexdigest())
    third = tmp_path_factory.mktemp("tar")
    (third / "cifar-10-python.tar.gz").write_bytes(b"tar")
    assert published_md5.cifar10_origin(third).startswith("the original ones")


def write_parquet(path, encoded):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"img": [{"bytes": encoded, "path": None}], "label": [3]}), path)
