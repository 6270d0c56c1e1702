"""load_dataset, the one place that reads image files."""

import math
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rtalib.data import decoding, parquet_npz, pictures, readers
from rtalib.data.bounds import check_memory
from rtalib.data.folders import NAMES, SPLIT_NAMES, places, root_folder
from rtalib.data.images import LabeledImages, balanced
from rtalib.errors import check_name, check_number, unknown
from rtalib.infra import download as archives

SPLITS = ("train", "test")
C_FOLDERS = {
    "cifar10-c": ("CIFAR-10-C", "cifar10-c"),
    "cifar100-c": ("CIFAR-100-C", "cifar100-c"),  # its arrays name no classes
    "tiny-imagenet-c": ("Tiny-ImageNet-C", "tiny-imagenet-c"),
}
CIFAR10_TAR = "cifar-10-python.tar.gz"
MAX_SIDE = 8192


def load_dataset(
    name: str | Path,
    split: str,
    *,
    root: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    side: int | None = None,
    download: bool = False,
) -> LabeledImages:
    """Images and labels of one split, 'train' or 'test', from any source.

    name: 'shapes10' (drawn, needs no file); 'cifar10' (torchvision's folder, its tar file, or parquet); 'tiny-imagenet' (the published
    folder, or parquet; 'test' is its labelled validation split); 'cifar10-c/<corruption>/<severity>', and likewise 'cifar100-c' and
    'tiny-imagenet-c' ('test' only); or a path to a folder of class folders, a .npz or a .parquet. A folder may hold
    train/ and test/ (or val/), else one file in five is a test image; a file is taken whole, unless a .npz names its arrays by split.
    A folder that holds data.npy and label.npy (see readers.read_data_label) is taken whole, too. Pictures are turned upright by their EXIF
    orientation, transparent pixels are composed over white, 16-bit levels become 8-bit (see pictures.read). Grey images become RGB.
    root: where named data sets are looked for; default $RTALIB_DATA, else ~/.cache/rtalib.
    limit: keep that many images, classes balanced as far as they reach, chosen by `seed`; every prefix is balanced too.
    side: images become side x side pixels, the longer side cropped around the middle; without it, all must have one size.
    download: fetch cifar10 or tiny-imagenet when it is not there (see download.py); no other data set can be fetched.

    Raises ValueError (bad name, split, limit or content), TypeError (dtype) or FileNotFoundError (what was looked for, and where). Nothing
    in a file is executed. What a folder holds and is left out is named in one warning.
    """
    name = str(name)
    if not name:  # an unset variable of a shell script; as a path it would be the working folder
        raise ValueError("name: expected a data set or a path, got nothing")
    check_name("split", split, SPLITS)
    check_number("seed", seed, -math.inf, integer=True)
    if limit is not None:
        check_number("limit", limit, 1, integer=True, unit=" image")
    if side is not None:
        check_number("side", side, 1, MAX_SIDE, integer=True, unit=" pixels")
    if download and name not in archives.ARCHIVES:
        raise ValueError(f"download: only 'cifar10' and 'tiny-imagenet' can be downloaded, not {name!r}")
    if name == "shapes10":
        data = _shapes10(split, limit, seed)
    else:
        if download:
            fetch(name, root)
        data = _read(name, split, root, side)
        data = data if limit is None else data.subset(balanced(data.hard_labels, data.num_classes, limit, seed))
    return data if side is None or data.images.shape[2:] == (side, side) else _scaled(data, side)


def _scaled(data: LabeledImages, side: int) -> LabeledImages:
    """Of arrays: pictures in files are scaled as they are decoded, since their sizes may differ."""
    check_memory(3 * side**2 * len(data), f"side: {len(data):,} images of {side}x{side}")
    images = torch.empty(len(data), 3, side, side, dtype=torch.uint8)
    for image, scaled in zip(data.images, images, strict=True):
        scaled.copy_(torch.from_numpy(np.array(pictures.fitted(Image.fromarray(image.permute(1, 2, 0).numpy()), side))).permute(2, 0, 1))
    return data.with_images(images)


def _shapes10(split: str, limit: int | None, seed: int) -> LabeledImages:
    """Only the chosen images are drawn."""
    from rtalib.data import shapes10

    images, labels = _drawn(split, limit, 0 if limit is None else seed)
    return LabeledImages(images.clone(), labels.clone(), shapes10.CLASSES, "shapes10")


@lru_cache(maxsize=8)  # cells of a grid ask for the same few sets again and again, and drawing 20,000 takes 7 CPU seconds
def _drawn(split: str, limit: int | None, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    from rtalib.data import shapes10

    index, labels = shapes10.numbers(split)
    chosen = slice(None) if limit is None else balanced(labels, len(shapes10.CLASSES), limit, seed)
    return shapes10.render(index[chosen], labels[chosen]), labels[chosen]


def _read(name: str, split: str, root: str | Path | None, side: int | None) -> LabeledImages:
    base = root_folder(root)
    family, *rest = name.split("/")
    if family in C_FOLDERS:
        if len(rest) != 2:
            raise ValueError(f"name: expected {family}/<corruption>/<severity 1 to 5>, got {name!r}")
        raw, label = _read_corrupted(family, rest[0], rest[1], split, base), name
    elif name == "cifar10":
        raw, label = _read_cifar10(base, split), name
    elif name == "tiny-imagenet":
        raw, label = _read_tiny_imagenet(base, split), name
    else:
        path = existing(name, base)
        raw, label = _read_path(path, split, side), path.stem
    images, labels, classes = raw
    return LabeledImages(torch.from_numpy(images), torch.from_numpy(labels), classes, label)


def _read_cifar10(base: Path, split: str) -> decoding.Raw:
    kind, files = find_cifar10(base, split)
    if kind == "folder":
        return readers.read_cifar10_folder(files[0], split)
    if kind == "parquet":
        return parquet_npz.read_parquet(files, readers.CIFAR10_CLASSES)
    if kind == "tar":
        return readers.read_cifar10_tar(files[0], split)
    wanted = [str(p / f) for p in (base, base / "cifar10") for f in (f"{readers.CIFAR10_FOLDER}/", CIFAR10_TAR)]
    raise _missing("cifar10", [*wanted, str(base / "cifar10" / f"{split}-*.parquet")])


def find_cifar10(base: Path, split: str) -> tuple[str, list[Path]]:
    """('folder', 'parquet' or 'tar', its paths) of the CIFAR-10 that is read from below `base`; ('', []) if there is none."""
    places = (base, base / "cifar10")
    folders = [place / readers.CIFAR10_FOLDER for place in places if (place / readers.CIFAR10_FOLDER).is_dir()]
    if folders:
        return "folder", folders[:1]
    if files := parquet_npz.parquet_files(base / "cifar10", (split,)):
        return "parquet", files
    tars = [place / CIFAR10_TAR for place in places if (place / CIFAR10_TAR).is_file()]
    return ("tar", tars[:1]) if tars else ("", [])


def _read_tiny_imagenet(base: Path, split: str) -> decoding.Raw:
    kind, files, wanted = find_tiny_imagenet(base, split)
    if kind == "folder":
        return readers.read_tiny_imagenet_folder(files[0], split)
    if kind == "parquet":
        return parquet_npz.read_parquet(files)
    raise _missing("tiny-imagenet", wanted)


def find_tiny_imagenet(base: Path, split: str) -> tuple[str, list[Path], list[str]]:
    """('folder' or 'parquet', its paths, []) of the Tiny-ImageNet that is read from below `base`; ('', [], what was looked for) if there
    is none."""
    wanted = []
    for place in (base / "tiny-imagenet", base / "tiny-imagenet-200", base / "tiny-imagenet-32"):
        for folder in (place, place / "tiny-imagenet-200"):
            if (folder / "val" / readers.ANNOTATIONS).is_file() and (folder / "train").is_dir():
                return "folder", [folder], []
        names = ("train",) if split == "train" else ("valid", "validation", "val", "test")
        if files := parquet_npz.parquet_files(place, names):
            return "parquet", files, []
        wanted += [f"{place}/val/{readers.ANNOTATIONS}", f"{place}/{names[0]}-*.parquet"]
    return "", [], wanted


def fetch(name: str, root: str | Path | None = None) -> Path | None:
    """Download a data set of download.ARCHIVES unless it can be read without; returns where it is then. Errors as of download.fetch."""
    base = root_folder(root)
    kind = (find_cifar10 if name == "cifar10" else find_tiny_imagenet)(base, "train")[0]
    return None if kind in ("folder", "parquet") else archives.fetch(name, base)


def _read_corrupted(family: str, corruption: str, severity: str, split: str, base: Path) -> decoding.Raw:
    if split != "test":
        raise ValueError(f"split: {family} has a 'test' split only, got {split!r}")
    if severity not in ("1", "2", "3", "4", "5"):
        raise ValueError(f"name: expected {family}/<corruption>/<severity 1 to 5>, got severity {severity!r}")
    folder = next((base / f for f in C_FOLDERS[family] if (base / f).is_dir()), None)
    if folder is None:
        raise _missing(family, [f"{base / f}/" for f in C_FOLDERS[family]])
    if family == "tiny-imagenet-c":
        return readers.read_tiny_imagenet_c(folder, corruption, int(severity))
    classes = readers.CIFAR10_CLASSES if family == "cifar10-c" else tuple(map(str, range(100)))
    return readers.read_cifar_c(folder, corruption, int(severity), classes)


def existing(name: str, base: Path) -> Path:
    """The path of a data set, as given or below `base`; otherwise the error that helps most."""
    for path in places(name, base):
        if os.path.exists(path):  # False, not an error, for names that are too long
            return path
    if not (os.sep in name or Path(name).suffix in (".npz", ".parquet")):
        raise unknown("data set", name, [*NAMES, "a path to a folder, a .npz or a .parquet"])
    raise FileNotFoundError(f"no such file or folder: {name!r} (looked in {Path.cwd()} and {base})")


def _read_path(path: Path, split: str, side: int | None) -> decoding.Raw:
    if path.is_dir():
        if read := _reader_of_folder(path):
            return read(path, split)
        files = parquet_npz.parquet_files(path, SPLIT_NAMES[split])
        if files:
            return parquet_npz.read_parquet(files, others=parquet_npz.other_shards(path, split), side=side)
        return readers.read_class_folders(path, split, side)
    if path.suffix == ".npz":
        return parquet_npz.read_npz(path, split)
    if path.suffix == ".parquet":
        return parquet_npz.read_parquet([path], side=side)
    raise ValueError(f"name: expected a folder, a .npz or a .parquet, got {str(path)!r}")


def _reader_of_folder(path: Path) -> Callable[[Path, str], decoding.Raw] | None:
    """Of a folder that holds arrays, or that is published CIFAR-10 or Tiny-ImageNet under any name."""
    if (path / readers.DATA_FILE).is_file():
        return lambda path, split: readers.read_data_label(path)
    if any((path / batch).is_file() for batches in readers.CIFAR10_BATCHES.values() for batch in batches):
        return readers.read_cifar10_folder
    if (path / "val" / readers.ANNOTATIONS).is_file() and (path / "train").is_dir():
        return readers.read_tiny_imagenet_folder
    return None


def _missing(name: str, wanted: list[str]) -> FileNotFoundError:
    places = "\n  ".join(wanted)
    also = "; --download fetches it (in Python: download=True)" if name in archives.ARCHIVES else ""
    return FileNotFoundError(f"name: no files of {name!r} found. Looked for\n  {places}\nSet root= or RTALIB_DATA to where they are{also}.")
