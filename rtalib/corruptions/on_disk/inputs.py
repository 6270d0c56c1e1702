"""The clean images: a data set in memory, or a folder of picture files of any sizes that need not fit in memory.

Both offer the same: `index` int64 (N,), the number of each image in the whole data set, on which its random draws depend; `batches`;
`names` of files to write; `classes`. An image keeps its number when `limit` leaves others out, so a limited run is a part of the full one,
byte for byte.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from statistics import median

import numpy as np
import torch

from rtalib.corruptions.api import MIN_SIDE
from rtalib.data import folders, parquet_npz, pictures, readers
from rtalib.data.bounds import check_memory
from rtalib.data.decoding import decode_one
from rtalib.data.images import LabeledImages, balanced
from rtalib.data.loading import SPLITS, load_dataset, root_folder
from rtalib.errors import check_name

Batch = tuple[torch.Tensor, torch.Tensor]  # rows int64 (B,), images uint8 (B,3,H,W)
NAMED = ("shapes10", "cifar10", "tiny-imagenet")
HELD_BYTES = 80  # of one pixel while it is corrupted: at most 64 of a corruption (tests/corruptions/test_sizes.py), twice 3 of the picture


@dataclass(frozen=True, eq=False)
class Loaded:
    """A data set that load_dataset reads: all images of one size, in memory."""

    data: LabeledImages
    index: torch.Tensor
    arguments: tuple  # of `load`

    def __reduce__(self) -> tuple:
        return _load_once, self.arguments  # another process reads the images itself

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.classes

    @property
    def digest(self) -> str:
        return self.data.digest

    @property
    def side(self) -> int:
        return min(self.data.images.shape[2:])

    @property
    def largest(self) -> int:
        """Pixels of an image."""
        return self.data.images.shape[2] * self.data.images.shape[3]

    def __len__(self) -> int:
        return len(self.data)

    def batches(self, budget: int) -> Iterator[Batch]:
        """All images, about `budget` pixels at a time."""
        images = self.data.images
        for rows in torch.arange(len(images)).split(max(1, budget // (images.shape[2] * images.shape[3]))):
            yield rows, images[rows[0] : rows[-1] + 1]

    def names(self, format: str) -> list[str]:
        """class/NNNN.png or class/NNNN.JPEG, where NNNN is the image's number in its split."""
        for name in self.classes:
            if not name or name.startswith(".") or "/" in name or "\0" in name or len(os.fsencode(name)) > 255:
                raise ValueError(f"dataset: class name {name[:100]!r} cannot be the name of a folder")
        suffix, digits = ".JPEG" if format == "jpeg" else ".png", max(4, len(str(int(self.index.max()))))
        labels = self.data.labels.tolist()
        return [f"{self.classes[k]}/{number:0{digits}d}{suffix}" for k, number in zip(labels, self.index.tolist(), strict=True)]


def load(dataset: str, split: str, limit: int | None, root: str | None) -> Loaded:
    """The images of load_dataset with the same arguments. ValueError for soft labels and for images that are too small."""
    found = load_dataset(dataset, split, root=root)
    if found.labels.ndim == 2:
        raise ValueError(f"dataset: {dataset!r} has soft labels; a corrupted data set holds one class per image")
    height, width = found.images.shape[2:]
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"dataset: expected sides of at least {MIN_SIDE} px, the images of {dataset!r} are {width}x{height}")
    rows = torch.arange(len(found)) if limit is None else balanced(found.labels, found.num_classes, limit, seed=0)
    return Loaded(found if limit is None else found.subset(rows), rows, (dataset, split, limit, root))


@lru_cache(maxsize=1)
def _load_once(*arguments: str | int | None) -> Loaded:
    return load(*arguments)


@dataclass(frozen=True)
class Folder:
    """Picture files below a folder, at any depth and of any sizes. An image's number is its position in the sorted listing of all."""

    base: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]  # relative to base
    numbers: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]  # width, height
    digest: str  # of names, sizes and times: reading all content would take as long as decoding it

    @property
    def index(self) -> torch.Tensor:
        return torch.tensor(self.numbers)

    @property
    def side(self) -> int:
        return int(median(min(size) for size in self.sizes))

    @property
    def largest(self) -> int:
        """Pixels of the largest image."""
        return max(width * height for width, height in self.sizes)

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, budget: int) -> Iterator[Batch]:
        """All images, those of one size together, about `budget` pixels at a time. OSError naming a file that cannot be decoded."""
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for (width, height), group in groupby(sorted(range(len(self)), key=self.sizes.__getitem__), key=self.sizes.__getitem__):
                for rows in torch.tensor(list(group)).split(max(1, budget // (width * height))):
                    decoded = list(pool.map(_decoded, [self.base / self.files[row] for row in rows]))
                    for shape in dict.fromkeys(image.shape for image in decoded):  # the header's size is that before EXIF's turn
                        same = [k for k, image in enumerate(decoded) if image.shape == shape]
                        yield rows[same], torch.from_numpy(np.stack([decoded[k] for k in same]))

    def names(self, format: str) -> list[str]:
        """The files' own names with the suffix of the format. If two names would become one (a.jpg and a.bmp), it is added: a.jpg.png."""
        own = (".jpg", ".jpeg") if format == "jpeg" else (".png",)
        names = [file if file.lower().endswith(own) else os.path.splitext(file)[0] + own[0] for file in self.files]
        count = Counter(names)
        names = [name if count[name] == 1 else file + own[0] for name, file in zip(names, self.files, strict=True)]
        name, times = Counter(names).most_common(1)[0]
        if times > 1:
            raise ValueError(f"dataset: two files of {self.base} would both be written as {name}; rename one of them")
        return names


def find(dataset: str, split: str, limit: int | None, root: str | Path | None, layout: str | None) -> tuple[Loaded | Folder, str | None]:
    """The images of `dataset`, and their split (None: a folder without train/ and test/, taken whole).

    A folder of pictures is a Folder unless the layout is 'arrays'; load_dataset reads everything else. Raises ValueError, TypeError or
    FileNotFoundError that name the argument or the file.
    """
    check_name("split", split, SPLITS)
    if limit is not None and limit < 1:
        raise ValueError(f"limit: expected at least 1 image, got {limit}")
    folder = None if layout == "arrays" or dataset in NAMED else _picture_folder(dataset, split, root)
    if folder is None:
        return load(dataset, split, limit, None if root is None else str(root)), split
    parts = folders.split_folders(folder)
    if not parts:
        return _listed(folder, None, limit), None
    if parts[split] is None:
        names = "/, ".join(folders.SPLIT_NAMES["test"])
        raise FileNotFoundError(f"split: {folder} has train/, but no {names}/ folder with class folders")
    return _listed(parts[split], None if split == "train" else folders.class_files(parts["train"])[1], limit), split


def _picture_folder(dataset: str, split: str, root: str | Path | None) -> Path | None:
    for path in folders.places(dataset, root_folder(root)):
        if os.path.isdir(path):
            arrays = (path / readers.DATA_FILE).is_file() or parquet_npz.parquet_files(path, folders.SPLIT_NAMES[split])
            return None if arrays else path
    return None


def _listed(base: Path, classes: tuple[str, ...] | None, limit: int | None) -> Folder:
    """Every picture below `base`, as folders.all_pictures finds them. Classes are the folders that hold pictures, unless given.

    ValueError for a file that is no picture or too small, by its header.
    """
    found, named = folders.all_pictures(base)
    files = sorted(str(path.relative_to(base)) for path in found)
    if not files:
        raise ValueError(f"dataset: no picture found in {base}; expected {', '.join(sorted(pictures.SUFFIXES))} files")
    numbers = list(range(len(files))) if limit is None else _balanced_choice(files, limit)
    files = [files[k] for k in numbers]
    sizes = tuple(_sizes([base / file for file in files]))
    state = hashlib.sha256()
    for file, number in zip(files, numbers, strict=True):
        stat = (base / file).stat()
        state.update(os.fsencode(f"{number} {file} {stat.st_size} {stat.st_mtime_ns}\n"))
    classes = named if classes is None else classes
    return Folder(base.absolute(), classes, tuple(files), tuple(numbers), sizes, state.hexdigest()[:16])


def _balanced_choice(files: list[str], limit: int) -> list[int]:
    """Positions of the files that a limit keeps: equally many of each folder as far as they reach, in the order of the listing."""
    parents = [os.path.dirname(file) for file in files]
    number = {name: k for k, name in enumerate(sorted(set(parents)))}
    return sorted(balanced(torch.tensor([number[name] for name in parents]), len(number), limit, seed=0).tolist())


def _decoded(path: Path) -> np.ndarray:
    """uint8 (3,H,W). The header was read when the files were listed, so an error here is the file's, not the argument's."""
    try:
        return decode_one((str(path), path))
    except ValueError as error:
        raise OSError(str(error)) from error


def _sizes(paths: list[Path]) -> list[tuple[int, int]]:
    """Of all pictures, by their headers. ValueError naming all that cannot be used."""
    errors: list[tuple[str, str]] = []

    def size(path: Path) -> tuple[int, int]:
        try:
            return _size(path)
        except ValueError as error:
            errors.append((str(path), str(error)))
            return 0, 0

    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(size, paths))
    if errors:
        raise pictures.all_errors(sorted(errors))
    return sizes


def _size(path: Path) -> tuple[int, int]:
    width, height = pictures.size(str(path), path)
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{path} is {width}x{height} pixels; expected sides of at least {MIN_SIDE}")
    check_memory(HELD_BYTES * width * height, f"{path}: corrupting its {width}x{height} pixels")
    return width, height
