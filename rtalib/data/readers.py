"""Readers of image files, one for each format. Each returns (images, labels, class names) or raises an error naming the file.

No pickle is trusted: CIFAR-10's batches go through an unpickler that knows arrays, bytes and plain containers, and nothing else.
"""

import hashlib
import io
import json
import os
import pickle
import tarfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rtalib.data.decoding import Allocate, Raw, cached, decode, in_range
from rtalib.errors import unknown

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_BATCHES = {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"]}
CIFAR10_FOLDER = "cifar-10-batches-py"
SUFFIXES = {".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".gif"}
DATA_FILE, LABEL_FILE = "data.npy", "label.npy"
SPLIT_NAMES = {"train": ("train",), "test": ("test", "valid", "validation", "val")}


# CIFAR-10 as published: pickled batches, in a folder or in a tar file.


def _latin1(text: str, encoding: str) -> bytes:
    """How pickles of Python 2 spell bytes; any other codec is refused."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"codec {encoding!r} is not allowed")
    return text.encode("latin1")


class _ArraysOnly(pickle.Unpickler):
    """Unpickler that resolves no global but those that build numpy arrays."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np._core.multiarray._reconstruct
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return np._core.numeric._frombuffer
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a data file")


def read_cifar10_folder(folder: Path, split: str) -> Raw:
    """`cifar-10-batches-py` as torchvision unpacks it."""
    parts = []
    for batch in CIFAR10_BATCHES[split]:
        if not (folder / batch).is_file():
            raise FileNotFoundError(f"{folder / batch} is missing: {split} needs {', '.join(CIFAR10_BATCHES[split])}")
        with open(folder / batch, "rb") as stream:
            parts.append(_cifar10_batch(stream, str(folder / batch)))
    return _join_batches(parts)


def read_cifar10_tar(path: Path, split: str) -> Raw:
    """`cifar-10-python.tar.gz`: only the batches' own members are read, into memory; nothing is unpacked to disk."""
    wanted = {f"{CIFAR10_FOLDER}/{batch}": batch for batch in CIFAR10_BATCHES[split]}
    parts = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                batch = wanted.get(member.name.removeprefix("./"))
                if batch and member.isfile():
                    parts[batch] = _cifar10_batch(io.BytesIO(archive.extractfile(member).read()), f"{path}:{member.name}")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a tar file ({error}); it may be truncated") from error
    missing = [batch for batch in CIFAR10_BATCHES[split] if batch not in parts]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)} in {CIFAR10_FOLDER}/")
    return _join_batches([parts[batch] for batch in CIFAR10_BATCHES[split]])


def _cifar10_batch(stream: BinaryIO, where: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _ArraysOnly(stream, encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"{where} is refused or damaged: {error}") from error
    if not isinstance(batch, dict):
        raise ValueError(f"{where}: expected a dictionary, got {type(batch).__name__}")
    batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
    data, labels = batch.get("data"), np.asarray(batch.get("labels"))
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise ValueError(f"{where}: expected data as uint8 (N, 3072)")
    if labels.shape != (len(data),) or labels.dtype.kind not in "iu":
        raise ValueError(f"{where}: expected {len(data)} integer labels, got shape {labels.shape} of {labels.dtype}")
    return data.reshape(-1, 3, 32, 32), in_range(labels.astype(np.int64), 10, where)


def _join_batches(parts: list[tuple[np.ndarray, np.ndarray]]) -> Raw:
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), CIFAR10_CLASSES


# Corruption benchmarks: CIFAR-10-C (arrays) and Tiny-ImageNet-C (folders).


def read_cifar10_c(folder: Path, corruption: str, severity: int) -> Raw:
    """Rows of <corruption>.npy at one severity: the file holds five equal blocks, severity 1 first; labels.npy repeats the labels."""
    names = sorted(file.stem for file in folder.glob("*.npy") if file.stem != "labels")
    if corruption not in names:
        raise unknown("corruption", corruption, names)
    images, labels = _load_npy(folder / f"{corruption}.npy"), _load_npy(folder / "labels.npy")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) % 5:
        raise ValueError(f"{folder / corruption}.npy: expected uint8 (5 N, H, W, 3), got {images.dtype} {images.shape}")
    if labels.shape != (len(images),):
        raise ValueError(f"{folder}/labels.npy: expected {len(images)} labels, got shape {labels.shape}")
    count = len(images) // 5
    rows = slice((severity - 1) * count, severity * count)
    return _channels_first(images[rows]), in_range(labels[rows].astype(np.int64), 10, f"{folder}/labels.npy"), CIFAR10_CLASSES


def _load_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an array ({error}); it may be truncated") from error


def _channels_first(images: np.ndarray) -> np.ndarray:
    return np.array(images.transpose(0, 3, 1, 2), order="C")  # always a copy, as what comes may be a read-only map of the file


def read_tiny_imagenet_c(folder: Path, corruption: str, severity: int) -> Raw:
    """JPEG files in <corruption>/<severity>/<class>/."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if corruption not in names:
        raise unknown("corruption", corruption, names)
    return _read_labelled(_class_files(folder / corruption / str(severity)))


# Two arrays in a folder: the layout of the AAAI 2022 contest on data-centric robust learning.


def read_data_label(folder: Path) -> Raw:
    """data.npy, uint8 (N,H,W,3), and label.npy, integers (N,) or soft floats (N,K); the classes are named '0' to 'K-1'.

    Of integer labels K is the largest label plus one. Raises FileNotFoundError where label.npy is missing, TypeError for other images
    than uint8, and ValueError for other shapes or labels.
    """
    data, label = folder / DATA_FILE, folder / LABEL_FILE
    if not label.is_file():
        raise FileNotFoundError(f"{label} is missing: {data} needs its labels")
    images, labels = _load_npy(data), _load_npy(label)
    if images.dtype != np.uint8:
        raise TypeError(f"{data}: expected uint8 with values 0-255, got {images.dtype}")
    if images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"{data}: expected shape (N,H,W,3), got {images.shape}")
    if (labels.ndim, labels.dtype.kind) not in ((1, "i"), (1, "u"), (2, "f")):
        raise ValueError(f"{label}: expected integers (N,) or soft floats (N,K), got {labels.dtype} {labels.shape}")
    if len(labels) != len(images):
        raise ValueError(f"{label}: expected {len(images)} labels, one for each image of {DATA_FILE}, got {len(labels)}")
    count = labels.shape[1] if labels.ndim == 2 else int(labels.max(initial=0)) + 1
    labels = labels.astype(np.float32) if labels.ndim == 2 else in_range(labels.astype(np.int64), count, str(label))
    return _channels_first(images), labels, tuple(str(k) for k in range(count))


# Folders of image files.


def read_tiny_imagenet_folder(folder: Path, split: str) -> Raw:
    """`tiny-imagenet-200` as published: train/<class>/images/*.JPEG; 'test' is val/, whose labels are in val_annotations.txt."""
    classes = tuple(sorted(path.name for path in (folder / "train").iterdir() if path.is_dir()))
    if split == "train":
        return _read_labelled(_class_files(folder / "train"))
    table = folder / "val" / "val_annotations.txt"
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    number = {name: k for k, name in enumerate(classes)}
    strange = next((row for row in rows if len(row) < 2 or row[1] not in number), None)
    if strange is not None:
        raise ValueError(f"{table}: line {' '.join(strange)!r} names no class of train/")
    return _read_labelled(([(folder / "val" / "images" / row[0], number[row[1]]) for row in rows], classes))


def read_class_folders(folder: Path, split: str) -> Raw:
    """The images of class_folder_files, all of one size."""
    return _read_labelled(class_folder_files(folder, split))


def class_folder_files(folder: Path, split: str) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """([(file, class)], class names) of a folder of class folders, or of train/ and test/ (or val/, valid/, validation/) that hold such.

    Without split folders one file in five, chosen by the hash of its class and name, is a test image: adding files never moves others.
    What `python -m rtalib corrupt` wrote of one split is that split, whole.
    """
    made_of = _split_of_corrupted(folder)
    if made_of is not None:
        if made_of != split:
            raise ValueError(f"split: {folder} holds corrupted images of the {made_of!r} split, got {split!r}")
        return _class_files(folder)
    found = split_folders(folder)
    if not found:
        files, classes = _class_files(folder)
        files = [(file, k) for file, k in files if _is_test(file, classes[k]) == (split == "test")]
        if not files:
            raise ValueError(f"{folder}: too few images for a {split} split by file name; make train/ and test/ folders")
        return files, classes
    if found[split] is None:
        raise FileNotFoundError(f"{folder} has train/ but no {'/, '.join(SPLIT_NAMES['test'])}/ folder for split={split!r}")
    classes = _class_files(found["train"])[1]
    return _class_files(found[split], classes)


def split_folders(folder: Path) -> dict[str, Path | None]:
    """{'train': folder or None, 'test': folder or None}; empty where there is no train/ with class folders in it."""
    found = {part: next((folder / n for n in names if (folder / n).is_dir()), None) for part, names in SPLIT_NAMES.items()}
    if found["train"] is None or not any(path.is_dir() for path in found["train"].iterdir()):  # `train` may be a class
        return {}
    return found


def _is_test(file: Path, class_name: str) -> bool:
    """By the name without suffix, so that a corrupted copy, which may be of another format, is on the side of its original."""
    name = file.name
    while Path(name).suffix.lower() in SUFFIXES:
        name = Path(name).stem
    return hashlib.sha256(os.fsencode(f"{class_name}/{name}")).digest()[0] % 5 == 0


def _split_of_corrupted(folder: Path) -> str | None:
    """The split that DIR/<type>/<severity> was made of, by DIR/manifest.json; None where it was no split, or for any other folder."""
    try:
        facts = json.loads((folder.absolute().parent.parent / "manifest.json").read_text(encoding="utf-8"))
        return facts["parameters"]["split"] if facts["made_by"] == "rtalib corrupt" else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _class_files(folder: Path, classes: tuple[str, ...] | None = None) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """Every image file below each class folder with its class number; classes are the sorted folder names unless given."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    classes = tuple(names) if classes is None else classes
    strange = set(names) - set(classes)
    if strange:
        raise ValueError(f"{folder}: class folders {', '.join(sorted(strange))} are not in train/")
    files = []
    for k, name in enumerate(classes):
        found = sorted((folder / name).rglob("*"))
        files += [(f, k) for f in found if f.suffix.lower() in SUFFIXES and not f.name.startswith(".") and f.is_file()]
    if not files:
        raise ValueError(f"{folder}: no image found; expected class folders that hold {', '.join(sorted(SUFFIXES))} files")
    return files, classes


def _read_labelled(listing: tuple[list[tuple[Path, int]], tuple[str, ...]]) -> Raw:
    files, classes = listing
    paths, labels = [file for file, _ in files], np.array([k for _, k in files], np.int64)
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise FileNotFoundError(f"{missing} is listed but missing")

    def build(allocate: Allocate) -> Raw:
        return decode(((str(path), path) for path in paths), len(paths), allocate), labels, classes

    return cached(paths, f"{classes} {hashlib.sha256(labels.tobytes()).hexdigest()}", build)
