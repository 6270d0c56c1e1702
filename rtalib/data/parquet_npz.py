"""Whole data sets in one kind of file: parquet as on Hugging Face, and NumPy's .npz and .npy. Errors name the file."""

import math
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rtalib.data.bounds import check_memory, class_names, in_range, numbered_classes, one_line, parse_json
from rtalib.data.decoding import Allocate, Encoded, Raw, cached, decode
from rtalib.data.folders import SPLIT_NAMES

IMAGE_COLUMNS = ("img", "image", "images")
LABEL_COLUMNS = ("label", "labels", "y")
NPZ_SPLITS = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))
NPZ_PAIRS = (("images", "labels"), ("x", "y"), ("data", "label"), ("data", "labels"))
PLACES = ("", "data", "plain_text", "default")  # where a snapshot of Hugging Face keeps its shards
ROWS = 64  # of a parquet file at a time
GROWTH = 4  # times: what encoded pictures take unpacked, and what reading one takes


# Parquet.


def parquet_files(folder: Path, split_names: tuple[str, ...]) -> list[Path]:
    """The shards of the first of these splits in `folder` (or its data/, ...), in order; empty if there is none.

    `train.parquet`, `train-00000-of-00002.parquet` with or without a hash behind it, `train-0.parquet`, `train_0.parquet` or
    `train/0000.parquet`. Raises FileNotFoundError if their numbers show that some are missing, ValueError if some are there twice.
    """
    for place in PLACES:
        for name in split_names:
            files = _shards(folder / place, name)
            if files:
                _check_shards(files)
                return files
    return []


def other_shards(folder: Path, split: str) -> list[Path]:
    """The files of the other split, complete or not, for the number of classes."""
    names = [name for other, names in SPLIT_NAMES.items() if other != split for name in names]
    return next((files for place in PLACES for name in names if (files := _shards(folder / place, name))), [])


def _shards(place: Path, name: str) -> list[Path]:
    if not place.is_dir():
        return []
    shard = re.compile(rf"{name}(-.+|[_.]\d+([-_.]of[-_.]\d+)?)?\.parquet", re.IGNORECASE)
    files = sorted(path for path in place.iterdir() if shard.fullmatch(path.name) and path.is_file())
    folder = next((path for path in sorted(place.iterdir()) if path.name.lower() == name and path.is_dir()), None)
    return files or (sorted(path for path in folder.glob("*.parquet") if path.name[0] != ".") if folder else [])


def _check_shards(files: list[Path]) -> None:
    """By the numbers in their names, as far as they have any: NNNNN-of-NNNNN counts from 0 or 1, and so does a plain number."""
    found = [re.search(r"(\d+)[-_.]of[-_.](\d+)", file.stem) or re.fullmatch(r"(?:\D*[-_.])?(\d+)()", file.stem) for file in files]
    place, first = files[0].parent, files[0].name
    if not any(found):
        if len(files) > 1 and any(file.stem.lower() in sum(SPLIT_NAMES.values(), ()) for file in files):
            raise ValueError(f"{place} holds {', '.join(file.name for file in files[:3])}: the same split twice? Keep one of them")
        return
    numbers, totals = [int(match[1]) for match in found if match], {match[2] for match in found if match}
    if not all(found) or len(totals) > 1 or len(set(numbers)) < len(numbers):
        raise ValueError(f"{place} holds shards of different sets of one split: {', '.join(file.name for file in files[:4])}; keep one set")
    total = int(totals.pop() or 0)
    if total and len(files) != total:
        raise FileNotFoundError(f"{place}: {first} is one of {total} files, but only {len(files)} are there")
    start = min(numbers)
    missing = set(range(start, start + len(numbers))) - set(numbers)
    if missing and start <= 1:
        raise FileNotFoundError(f"{place}: number {min(missing)} is missing among {first} ... {files[-1].name}")


def read_parquet(
    files: list[Path], classes: tuple[str, ...] | None = None, others: list[Path] | None = None, side: int | None = None
) -> Raw:
    """Image column `img`, `image` or `images` (encoded bytes, or a struct with them) and an integer column `label`, `labels` or `y`.

    Class names are `classes`, else those in the file's Hugging Face metadata, else the numbers 0 to the largest label in `files` and in
    `others`, the files of another split. side: as in decode.
    """
    others = others or []

    def build(allocate: Allocate) -> Raw:
        labels, named = _parquet_labels(files)
        names = classes or named or numbered_classes(_parquet_labels([*files, *others])[0], str(files[0]))
        labels = in_range(labels, len(names), str(files[0]))
        return decode(parquet_pictures(files), len(labels), allocate, side), labels, names

    return cached([*files, *others], f"{classes}{f' side {side}' if side else ''}", lambda allocate: _whole(files, build, allocate))


def _whole(files: list[Path], build: Callable[[Allocate], Raw], allocate: Allocate) -> Raw:
    import pyarrow as pa

    try:
        return build(allocate)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's own error, not the file's content
        names = ", ".join(map(str, files))
        raise ValueError(f"{names} cannot be read as parquet, it may be truncated or corrupted: {one_line(error)}") from error


def _parquet_labels(files: list[Path]) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """All labels, int64 (N,), and the class names of the first file's metadata if it has any."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts, named = [], None
    for file in files:
        with pq.ParquetFile(file) as parquet:
            schema = parquet.schema_arrow
            column = _column(schema.names, LABEL_COLUMNS, file)
            if not pa.types.is_integer(schema.field(column).type):
                raise ValueError(f"{file}: expected integers in column {column!r}, got {schema.field(column).type}")
            check_memory(8 * parquet.metadata.num_rows, f"{file}: labels of {parquet.metadata.num_rows:,} rows")
            labels = parquet.read(columns=[column])[column]
        if labels.null_count:
            raise ValueError(f"{file}: column {column!r} lacks {labels.null_count} labels")
        labels = labels.to_numpy()
        if len(labels) and labels.max() >= 2**63:
            raise ValueError(f"{file}: expected labels below 2^63 in column {column!r}, got {labels.max()}")
        parts.append(labels.astype(np.int64))
        named = named or _hugging_face_classes(schema.metadata, column, file)
    return np.concatenate(parts), named


def _hugging_face_classes(metadata: dict[bytes, bytes] | None, column: str, file: Path) -> tuple[str, ...] | None:
    """The names that `datasets` keeps as JSON: info, features, the column, names."""
    text = (metadata or {}).get(b"huggingface")
    if text is None:
        return None
    facts = parse_json(text, f"{file}: its Hugging Face metadata")
    for key in ("info", "features", column, "names"):
        if not isinstance(facts, dict):
            raise ValueError(f"{file}: expected Hugging Face metadata with an object that holds {key!r}, got {type(facts).__name__}")
        if key not in facts:
            return None
        facts = facts[key]
    return class_names(facts, str(file)) or None


def _column(names: list[str], expected: tuple[str, ...], file: Path) -> str:
    for name in expected:
        if name in names:
            return name
    raise ValueError(f"{file}: expected a column named {' or '.join(expected)}, got columns {', '.join(names)}")


def parquet_pictures(files: list[Path]) -> Iterator[Encoded]:
    """Every encoded picture in order, a few rows in memory at a time."""
    import pyarrow.parquet as pq

    for file in files:
        with pq.ParquetFile(file) as parquet:
            column = _column(parquet.schema_arrow.names, IMAGE_COLUMNS, file)
            _check_unpacked(parquet.metadata, file)
            row = 0
            for batch in parquet.iter_batches(ROWS, columns=[column]):
                for cell in batch.column(0).to_pylist():
                    data = cell.get("bytes") if isinstance(cell, dict) else cell
                    if not isinstance(data, bytes):
                        raise ValueError(f"{file}, row {row}: expected encoded bytes in column {column!r}, got {type(data).__name__}")
                    yield f"{file}, row {row}", data
                    row += 1


def _check_unpacked(metadata: Any, file: Path) -> None:
    """Encoded pictures hardly shrink, so a group of rows is read in parts. One that grows much may be a single picture of its size.

    The sizes of single columns would say more, but where they are damaged, pyarrow 26 ends the process instead of raising an error.
    """
    packed, unpacked = file.stat().st_size, max((metadata.row_group(k).total_byte_size for k in range(metadata.num_row_groups)), default=0)
    if unpacked > GROWTH * packed:
        check_memory(GROWTH * unpacked, f"{file}: unpacking its pictures from {packed:,} bytes")


# NumPy.


def load_npy(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped into memory and not yet read; ValueError naming the file if it is none."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # a damaged header can raise nearly anything
        raise ValueError(f"{path} cannot be read as an array ({one_line(error)}); it may be truncated") from error


def channels_first(images: np.ndarray, where: str, key: str | None = None) -> np.ndarray:
    """uint8 (N,3,H,W) from (N,H,W,3), or (N,1,H,W) of grey images from (N,H,W,1) or (N,H,W); a copy in memory.

    key: the array's name in a .npz; there it may also have its channels first. TypeError or ValueError naming the file `where`.
    """
    shape = images.shape
    if images.dtype != np.uint8:
        raise TypeError(f"{where}: expected {f'{key} as ' if key else ''}uint8 with values 0-255, got {images.dtype}")
    if images.ndim == 3 and shape[2] not in (1, 3, 4):  # not one image in color
        images = images[..., None]
    elif key and images.ndim == 4 and (shape[1] == 3 or (shape[1] == 1 and shape[3] != 3)):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in shape[1:]:
        wanted = f"{key} of shape (N,H,W,3) or (N,3,H,W)" if key else "shape (N,H,W,3)"
        raise ValueError(f"{where}: expected {wanted}, got {shape}; grey images are (N,H,W)")
    check_memory(2 * images.nbytes, f"{where}: rearranging its images")
    return np.array(images.transpose(0, 3, 1, 2), order="C")


def read_npz(path: Path, split: str) -> Raw:
    """Arrays `<split>_images` and `<split>_labels`, or `x_<split>` and `y_<split>`, or, for any split, images/labels, x/y or data/label.

    Images are uint8 (N,H,W,3), (N,3,H,W), or grey (N,H,W); labels are integers (N,) or (N,1), or soft floats (N,K). An array `classes` may
    name the classes; else they are numbered to the largest label of all splits. For 'test', names with `val` or `valid` will do, too.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            image_key, label_key, other_keys = _npz_keys(keys, split)
            labels = _flat(_member(archive, label_key))
            others = [_flat(_member(archive, key)) for key in other_keys]
            names = _member(archive, "classes") if "classes" in keys else None
            images = _member(archive, image_key)
    except (ValueError, MemoryError) as error:  # a header can ask for any amount
        raise ValueError(f"{path}: {one_line(error)}") from error
    except Exception as error:  # a damaged archive can raise nearly anything
        raise ValueError(f"{path} cannot be read as .npz, it may be truncated: {one_line(error)}") from error
    if labels.dtype.kind not in "iuf" or (labels.ndim, labels.dtype.kind == "f") not in ((1, False), (2, True)):
        raise ValueError(f"{path}: expected {label_key} as integers (N,) or soft floats (N,K), got {labels.dtype} {labels.shape}")
    classes = _npz_classes(names, labels, others, str(path))
    images = channels_first(images, str(path), image_key)
    return images, labels.astype(np.float32) if labels.ndim == 2 else in_range(labels, len(classes), str(path)), classes


def _npz_keys(keys: list[str], split: str) -> tuple[str, str, list[str]]:
    """Names of the images, of their labels, and of the labels of other splits; capitals do not matter."""
    lower = {key.lower(): key for key in reversed(keys)}
    for name in SPLIT_NAMES[split]:
        for images, labels in NPZ_SPLITS:
            if {images.format(name), labels.format(name)} <= set(lower):
                others = [labels.format(other) for names in SPLIT_NAMES.values() for other in names if other != name]
                return lower[images.format(name)], lower[labels.format(name)], [lower[key] for key in others if key in lower]
    for images, labels in NPZ_PAIRS:
        if {images, labels} <= set(lower):
            return lower[images], lower[labels], []
    pairs = [*((images.format(split), labels.format(split)) for images, labels in NPZ_SPLITS), *NPZ_PAIRS]
    raise ValueError(f"expected arrays {' or '.join('/'.join(pair) for pair in pairs)}, got {', '.join(keys) or 'none'}")


def _member(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    """One array, after a check of its header: no memory is taken for what is not in the file, or is more than there is."""
    with archive.open(f"{key}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError(f"{key}: object arrays hold pickles, and are read with allow_pickle=False")
    size, there = math.prod(shape) * dtype.itemsize, archive.getinfo(f"{key}.npy").file_size
    if size > there:
        raise ValueError(f"{key}: its header says {shape} of {dtype}, {size:,} bytes, but {there:,} are there; it may be truncated")
    check_memory(size, key)
    with archive.open(f"{key}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _flat(labels: np.ndarray) -> np.ndarray:
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _npz_classes(names: np.ndarray | None, labels: np.ndarray, others: list[np.ndarray], where: str) -> tuple[str, ...]:
    if names is None:
        others = [other for other in others if other.ndim == 1 and other.dtype.kind in "iu"] if labels.ndim == 1 else []
        return numbered_classes(np.concatenate([labels, *others]), where)
    if names.ndim != 1 or names.dtype.kind not in "USiu":
        raise ValueError(f"{where}: expected classes as texts (K,), got {names.dtype} {names.shape}")
    try:
        names = np.char.decode(names, "utf-8") if names.dtype.kind == "S" else names
        return class_names([str(name) for name in names.tolist()], where)
    except ValueError as error:  # bytes and numbers that are no letters
        raise ValueError(f"{where}: classes: {one_line(error)}") from error
