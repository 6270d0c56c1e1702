"""Readers of image files, one for each format. Each returns (images, labels, class names) or raises an error naming the file.

No pickle is executed: CIFAR-10's batches are read by `pickles`, which knows arrays, bytes and plain containers, and nothing else.
"""

import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from rtalib.data import pickles
from rtalib.data.bounds import in_range, numbered_classes, one_line, read_text
from rtalib.data.decoding import Allocate, Raw, cached, decode
from rtalib.data.folders import Labelled, LeftOut, class_files, class_folder_files, class_folders, pictures_in, warn_left_out
from rtalib.data.parquet_npz import channels_first, load_npy
from rtalib.errors import check_name

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_BATCHES = {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"]}
CIFAR10_FOLDER = "cifar-10-batches-py"
MAX_BATCH, MAX_MEMBERS = 2**26, 100  # bytes of a pickled batch, which has 31 MB as published; members of its tar file, which has 9
DATA_FILE, LABEL_FILE, ANNOTATIONS = "data.npy", "label.npy", "val_annotations.txt"


# CIFAR-10 as published: pickled batches, in a folder or in a tar file.


def read_cifar10_folder(folder: Path, split: str) -> Raw:
    """`cifar-10-batches-py` as torchvision unpacks it."""
    parts = []
    for batch in CIFAR10_BATCHES[split]:
        if not (folder / batch).is_file():
            raise FileNotFoundError(f"{folder / batch} is missing: {split} needs {', '.join(CIFAR10_BATCHES[split])}")
        with open(folder / batch, "rb") as stream:
            parts.append(_cifar10_batch(stream.read(MAX_BATCH + 1), str(folder / batch)))
    return _join_batches(parts)


def read_cifar10_tar(path: Path, split: str) -> Raw:
    """`cifar-10-python.tar.gz`: only the batches' own members are read, into memory; nothing is unpacked to disk."""
    wanted = {f"{CIFAR10_FOLDER}/{batch}": batch for batch in CIFAR10_BATCHES[split]}
    parts = {}
    try:
        with tarfile.open(path, tarinfo=_SmallMember) as archive:
            for member in islice(archive, MAX_MEMBERS):
                batch = wanted.get(member.name.removeprefix("./"))
                if batch and member.isfile():
                    parts[batch] = _cifar10_batch(archive.extractfile(member).read(MAX_BATCH + 1), f"{path}:{member.name}")
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a tar file ({one_line(error)}); it may be truncated") from error
    missing = [batch for batch in CIFAR10_BATCHES[split] if batch not in parts]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)} in {CIFAR10_FOLDER}/")
    return _join_batches([parts[batch] for batch in CIFAR10_BATCHES[split]])


class _SmallMember(tarfile.TarInfo):
    """Refuses members, and long names, beyond the size of a batch: tarfile would read or skip whatever a header says."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "_SmallMember":
        member = super().frombuf(buf, encoding, errors)
        if member.size > MAX_BATCH:
            raise tarfile.ReadError(f"{member.name} has {member.size:,} bytes, more than {MAX_BATCH:,}")
        return member


def _cifar10_batch(data: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    if len(data) > MAX_BATCH:
        raise ValueError(f"{where}: expected at most {MAX_BATCH:,} bytes")
    try:
        batch = pickles.load(data)
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"{where} is refused or damaged: {one_line(error)}") from error
    if not isinstance(batch, dict):
        raise ValueError(f"{where}: expected a dictionary, got {type(batch).__name__}")
    batch = {key.decode(errors="replace") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    images, labels = batch.get("data"), _flat_integers(batch.get("labels"), where)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3072:
        raise ValueError(f"{where}: expected data as uint8 (N, 3072)")
    if len(labels) != len(images):
        raise ValueError(f"{where}: expected {len(images)} integer labels, got {len(labels)}")
    return images.reshape(-1, 3, 32, 32), in_range(labels, 10, where)


def _flat_integers(values: Any, where: str) -> np.ndarray:
    """Integers (N,) of an array, or of a list or tuple of plain integers below 2^63."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return values
    if not isinstance(values, (list, tuple)) or not all(type(k) is int and abs(k) < 2**63 for k in values):
        raise ValueError(f"{where}: expected labels as a flat list of integers")
    return np.array(values, np.int64)


def _join_batches(parts: list[tuple[np.ndarray, np.ndarray]]) -> Raw:
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), CIFAR10_CLASSES


# Corruption benchmarks: CIFAR-10-C (arrays) and Tiny-ImageNet-C (folders).


def read_cifar_c(folder: Path, corruption: str, severity: int, classes: tuple[str, ...] = CIFAR10_CLASSES) -> Raw:
    """Rows of <corruption>.npy at one severity: the file holds five equal blocks, severity 1 first; labels.npy repeats the labels."""
    names = sorted(file.stem for file in folder.glob("*.npy") if file.stem != "labels")
    check_name("corruption", corruption, names)
    images, labels = load_npy(folder / f"{corruption}.npy"), load_npy(folder / "labels.npy")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) % 5:
        raise ValueError(f"{folder / corruption}.npy: expected uint8 (5 N, H, W, 3), got {images.dtype} {images.shape}")
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise ValueError(f"{folder}/labels.npy: expected {len(images)} integer labels, got {labels.dtype} {labels.shape}")
    count = len(images) // 5
    rows = slice((severity - 1) * count, severity * count)
    pixels = channels_first(images[rows], f"{folder / corruption}.npy")
    return pixels, in_range(labels[rows], len(classes), f"{folder}/labels.npy"), classes


def read_tiny_imagenet_c(folder: Path, corruption: str, severity: int) -> Raw:
    """JPEG files in <corruption>/<severity>/<class>/; the classes are those of all corruptions and severities that are there."""
    names = class_folders(folder)
    check_name("corruption", corruption, names)
    place = folder / corruption / str(severity)
    if not place.is_dir():
        raise FileNotFoundError(f"{place} is not a folder")
    levels = [path for name in names for path in (folder / name).iterdir() if path.name in tuple("12345") and path.is_dir()]
    classes = tuple(sorted({name for level in levels for name in class_folders(level)}))
    _check_classes(place, classes, class_folders(place))
    return _read_labelled(class_files(place, classes))


def _check_classes(place: Path, expected: tuple[str, ...], found: Iterable[str]) -> None:
    missing = sorted(set(expected) - set(found))
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if missing[3:] else "")
        raise FileNotFoundError(f"{place} lacks {len(missing)} of {len(expected)} classes ({shown})")


# Two arrays in a folder: the layout of the AAAI 2022 contest on data-centric robust learning.


def read_data_label(folder: Path) -> Raw:
    """data.npy, uint8 (N,H,W,3) or grey, and label.npy, integers (N,) or soft floats (N,K); the classes are named '0' to 'K-1'.

    Of integer labels K is the largest label plus one. Raises FileNotFoundError where label.npy is missing, TypeError for other images
    than uint8, and ValueError for other shapes or labels.
    """
    data, label = folder / DATA_FILE, folder / LABEL_FILE
    if not label.is_file():
        raise FileNotFoundError(f"{label} is missing: {data} needs its labels")
    images, labels = channels_first(load_npy(data), str(data)), load_npy(label)
    if (labels.ndim, labels.dtype.kind) not in ((1, "i"), (1, "u"), (2, "f")):
        raise ValueError(f"{label}: expected integers (N,) or soft floats (N,K), got {labels.dtype} {labels.shape}")
    if len(labels) != len(images):
        raise ValueError(f"{label}: expected {len(images)} labels, one for each image of {DATA_FILE}, got {len(labels)}")
    classes = numbered_classes(labels, str(label))
    return images, labels.astype(np.float32) if labels.ndim == 2 else in_range(labels, len(classes), str(label)), classes


# Folders of image files.


def read_tiny_imagenet_folder(folder: Path, split: str) -> Raw:
    """`tiny-imagenet-200` as published: train/<class>/images/*.JPEG; 'test' is val/, whose labels are in val_annotations.txt.

    A class of wnids.txt without pictures in train/ is an error, a picture of val/ without a label is named in a warning.
    """
    classes, listed = class_folders(folder / "train"), folder / "wnids.txt"
    if listed.is_file():
        _check_classes(folder / "train", tuple(read_text(listed).split()), classes)
    if split == "train":
        files, _ = class_files(folder / "train", classes)
        _check_classes(folder / "train", classes, {classes[k] for _, k in files})
        return _read_labelled((files, classes))
    table, images = folder / "val" / ANNOTATIONS, folder / "val" / "images"
    rows = [line.split("\t") for line in read_text(table).splitlines() if line.strip()]
    number = {name: k for k, name in enumerate(classes)}
    files = []
    for row in rows:
        if len(row) < 2 or row[1] not in number:
            raise ValueError(f"{table}: line {' '.join(row)[:100]!r} names no class of train/")
        if "/" in row[0] or row[0] in ("", ".", "..") or "\0" in row[0]:
            raise ValueError(f"{table}: {row[0][:100]!r} is no name of a file in {images}")
        files.append((images / row[0], number[row[1]]))
    if images.is_dir():
        left_out = LeftOut(list)
        left_out[f"pictures without a line in {table.name}"] = sorted(set(pictures_in(images, left_out)) - {file for file, _ in files})
        warn_left_out(images, left_out)
    return _read_labelled((files, classes))


def read_class_folders(folder: Path, split: str, side: int | None = None) -> Raw:
    """The images of class_folder_files, all of one size, or scaled and cropped to `side`."""
    return _read_labelled(class_folder_files(folder, split), side)


def _read_labelled(listing: Labelled, side: int | None = None) -> Raw:
    files, classes = listing
    paths, labels = [file for file, _ in files], np.array([k for _, k in files], np.int64)
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise FileNotFoundError(f"{missing} is listed but missing")

    def build(allocate: Allocate) -> Raw:
        return decode(((str(path), path) for path in paths), len(paths), allocate, side), labels, classes

    scaled = f" side {side}" if side else ""
    return cached(paths, f"{classes} {hashlib.sha256(labels.tobytes()).hexdigest()}{scaled}", build)
