"""What a hostile file may try: code in a pickle, names that lead out of a folder, headers that ask for all memory.

CIFAR-10's pickled batches have theirs in test_readers.py.
"""

import io
import os
import resource
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from image_files import Evil, pictures, write_folder, write_parquet
from torch import nn

from rtalib import darts, generate
from rtalib.data.decoding import MAX_PIXELS
from rtalib.data.loading import load_dataset
from rtalib.scales import run_name
from rtalib.sources import public_weights
from rtalib.training import checkpoints


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))


# ------------------------------------------------------------------------------------------------------------- pickles


def npz(folder, evil):
    np.savez(folder / "evil.npz", images=np.array([evil], dtype=object), labels=np.array([0]))
    load_dataset(folder / "evil.npz", "train")


def npz_labels(folder, evil):
    np.savez(folder / "evil.npz", images=np.zeros((1, 3, 4, 4), np.uint8), labels=np.array([evil], dtype=object))
    load_dataset(folder / "evil.npz", "train")


def data_label(folder, evil):
    np.save(folder / "data.npy", np.array([evil], dtype=object))
    np.save(folder / "label.npy", np.zeros((1, 10), np.float32))
    load_dataset(folder, "train")


def corrupted_arrays(folder, evil):
    (folder / "CIFAR-10-C").mkdir()
    for name in ("fog", "labels"):
        np.save(folder / "CIFAR-10-C" / f"{name}.npy", np.array([evil], dtype=object))
    load_dataset("cifar10-c/fog/1", "test", root=folder)


def published_weights(folder, evil):
    torch.save({"state_dict": evil}, folder / "Wong2020Fast.pt")
    public_weights.load(folder / "Wong2020Fast.pt")


def own_weights(folder, evil):
    torch.save({"weight": evil}, folder / "weights.safetensors")
    darts.load_network(folder / "weights.safetensors", darts.random_genotype(0))


def checkpoint(folder, evil):
    torch.save({"model": evil}, folder / "training.pt")
    model = nn.Linear(1, 1)
    with pytest.warns(UserWarning, match="set aside"):  # set aside, and begun anew
        assert checkpoints.load(folder / "training.pt", model, torch.optim.SGD(model.parameters()), {}) == []
    raise ValueError("set aside")


@pytest.mark.parametrize("way", [npz, npz_labels, data_label, corrupted_arrays, published_weights, own_weights, checkpoint])
def test_no_pickle_is_executed(tmp_path, way):
    with pytest.raises(ValueError):
        way(tmp_path, Evil(os.mkdir, str(tmp_path / "executed")))
    assert not (tmp_path / "executed").exists()


def test_the_pickle_would_act(tmp_path):
    torch.save({"a": Evil(os.mkdir, str(tmp_path / "executed"))}, tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("text", ["__import__('os').mkdir('executed')", "Genotype(normal=__import__('os').mkdir('executed'))"])
def test_a_genotype_is_parsed_and_not_evaluated(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="genotype"):
        darts.load_network(tmp_path / "weights.safetensors", text)
    assert not (tmp_path / "executed").exists()


# --------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name", ["cifar10-c/../1", "cifar10-c/../../secret/1", "cifar10-c/fog/../1", "tiny-imagenet-c/../1", "cifar10/../secret"]
)
def test_a_data_set_s_name_leads_nowhere_else(tmp_path, name):
    (tmp_path / "root" / "CIFAR-10-C").mkdir(parents=True)
    (tmp_path / "root" / "Tiny-ImageNet-C").mkdir()
    write_folder(tmp_path / "secret", pictures(4), [0, 1, 0, 1], "ab")
    with pytest.raises((ValueError, FileNotFoundError)):
        load_dataset(name, "test", root=tmp_path / "root")


@pytest.mark.parametrize("dataset", ["..", "../../x", "/etc", "a/../../b", "~"])
def test_a_run_s_folder_is_one_name_below_outputs(dataset):
    assert "/" not in run_name("demo", dataset) and run_name("demo", dataset) not in (".", "..")


def test_two_data_sets_have_two_run_folders(tmp_path, monkeypatch):
    places = [tmp_path / "a" / "b", tmp_path / "a_b", tmp_path / "c" / "a_b", tmp_path / "root" / "photos"]
    for place in places:
        place.mkdir(parents=True)
    monkeypatch.setenv("RTALIB_DATA", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    found = [run_name("smoke", name) for name in ("a/b", "a_b", "c/a_b", "photos", "x" * 300)]
    assert len(set(found)) == 5 and max(map(len, found)) < 100
    assert run_name("smoke", "a/b") == run_name("smoke", "./a/b/") == run_name("smoke", str(places[0]))
    monkeypatch.chdir(tmp_path / "c")
    assert run_name("smoke", "a_b") == found[2] and run_name("smoke", "photos") == found[3]
    assert run_name("night", "cifar10") == "night-cifar10" and run_name("smoke", "cifar10-c/fog/3") == "smoke-cifar10-c_fog_3"


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..", ".hidden", "", "a\0b", "é" * 128])
def test_a_class_name_is_no_path(tmp_path, name):
    write_parquet(tmp_path / "evil.parquet", pictures(4, size=32), [0, 1, 0, 1], ["good", name])
    with pytest.raises(ValueError, match="cannot be the name of a folder"):
        generate.plan(tmp_path / "evil.parquet", tmp_path / "out" / "c", layout="folders")
    assert not (tmp_path / "evil").exists() and not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------------------- headers


def png_of(width: int, height: int) -> bytes:
    """A PNG of some bytes whose header promises an image of that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [int(MAX_PIXELS**0.5) + 1, 12_000, 60_000, 2**31 - 1])
def test_a_picture_s_header_is_not_believed(tmp_path, side):
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "huge.png").write_bytes(png_of(side, side))
    before = peak()
    with pytest.raises(ValueError, match="huge.png cannot be decoded as an image: .*pixels"):
        load_dataset(tmp_path / "data", "train")
    assert peak() - before < 50


def npy_of(shape: tuple[int, ...], kind: str) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(100)


def test_an_array_s_header_is_not_believed(tmp_path):
    images, labels = npy_of((10**9, 3, 1000, 1000), "|u1"), npy_of((10**9, 10), "<f4")
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("images.npy", images)
        archive.writestr("labels.npy", labels)
    (tmp_path / "data.npy").write_bytes(images)
    (tmp_path / "label.npy").write_bytes(labels)
    before = peak()
    with pytest.raises(ValueError, match="huge.npz"):
        load_dataset(tmp_path / "huge.npz", "train")
    with pytest.raises(ValueError, match="data.npy"):
        load_dataset(tmp_path, "train")
    assert peak() - before < 50


def peak() -> float:
    """MiB of this process at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
