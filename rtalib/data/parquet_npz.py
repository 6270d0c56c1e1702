"""Whole data sets in one kind of file: parquet as on Hugging Face, and NumPy's .npz. Errors name the file."""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rtalib.data.decoding import Allocate, Encoded, Raw, cached, decode, in_range

IMAGE_COLUMNS = ("img", "image", "images")
LABEL_COLUMNS = ("label", "labels", "y")
NPZ_PAIRS = (("images", "labels"), ("x", "y"), ("data", "label"), ("data", "labels"))


def parquet_files(folder: Path, split_names: tuple[str, ...]) -> list[Path]:
    """The shards of the first of these splits in `folder` (or its data/ or plain_text/), in order; empty when there is none.

    Raises FileNotFoundError when names like `train-00000-of-00002.parquet` show that some are missing.
    """
    for place in (folder, folder / "data", folder / "plain_text"):
        for name in split_names:
            files = sorted([*place.glob(f"{name}-*.parquet"), *place.glob(f"{name}.parquet")])
            if files:
                total = re.search(r"-of-(\d+)\.parquet$", files[0].name)
                if total and int(total[1]) != len(files):
                    raise FileNotFoundError(f"{place}: {files[0].name} is one of {int(total[1])} files, but only {len(files)} are there")
                return files
    return []


def read_parquet(files: list[Path], classes: tuple[str, ...] | None = None) -> Raw:
    """Image column `img`, `image` or `images` (encoded bytes, or a struct with them) and an integer column `label`, `labels` or `y`.

    Class names are `classes`, else those in the file's Hugging Face metadata, else the numbers 0 to the largest label.
    """
    return cached(files, f"{classes}", lambda allocate: _decode_parquet(files, classes, allocate))


def _decode_parquet(files: list[Path], classes: tuple[str, ...] | None, allocate: Allocate) -> Raw:
    import pyarrow as pa

    try:
        labels, named = _parquet_labels(files)
        classes = classes or named or tuple(str(k) for k in range(int(labels.max(initial=0)) + 1))
        in_range(labels, len(classes), str(files[0]))
        return decode(parquet_pictures(files), len(labels), allocate), labels, classes
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's own error, not the file's content
        raise ValueError(f"{', '.join(map(str, files))} cannot be read as parquet, it may be truncated or corrupted: {error}") from error


def _parquet_labels(files: list[Path]) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """All labels, and the class names of the first file's metadata if it has any."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts, named = [], None
    for file in files:
        schema = pq.read_schema(file)
        column = _column(schema.names, LABEL_COLUMNS, file)
        if not pa.types.is_integer(schema.field(column).type):
            raise ValueError(f"{file}: expected integers in column {column!r}, got {schema.field(column).type}")
        labels = pq.read_table(file, columns=[column])[column]
        if labels.null_count:
            raise ValueError(f"{file}: column {column!r} lacks {labels.null_count} labels")
        parts.append(labels.to_numpy().astype(np.int64))
        named = named or _hugging_face_classes(schema.metadata, column)
    return np.concatenate(parts), named


def _hugging_face_classes(metadata: dict[bytes, bytes] | None, column: str) -> tuple[str, ...] | None:
    text = (metadata or {}).get(b"huggingface")
    if text is None:
        return None
    feature = json.loads(text).get("info", {}).get("features", {}).get(column, {})
    return tuple(feature["names"]) if feature.get("names") else None


def _column(names: list[str], expected: tuple[str, ...], file: Path) -> str:
    for name in expected:
        if name in names:
            return name
    raise ValueError(f"{file}: expected a column named {' or '.join(expected)}, got columns {', '.join(names)}")


def parquet_pictures(files: list[Path]) -> Iterator[Encoded]:
    """Every encoded picture in order, a batch of rows in memory at a time."""
    import pyarrow.parquet as pq

    for file in files:
        with pq.ParquetFile(file) as parquet:
            column = _column(parquet.schema_arrow.names, IMAGE_COLUMNS, file)
            row = 0
            for batch in parquet.iter_batches(2048, columns=[column]):
                for cell in batch.column(0).to_pylist():
                    data = cell.get("bytes") if isinstance(cell, dict) else cell
                    if not isinstance(data, bytes):
                        raise ValueError(f"{file}, row {row}: expected encoded bytes in column {column!r}, got {type(data).__name__}")
                    yield f"{file}, row {row}", data
                    row += 1


def read_npz(path: Path, split: str) -> Raw:
    """Arrays `<split>_images` and `<split>_labels`, or `x_<split>` and `y_<split>`, or, for any split, images/labels, x/y or data/label.

    Images are uint8 (N,H,W,3) or (N,3,H,W); labels are integers (N,) or (N,1), or soft floats (N,K).
    An array `classes` may name the classes.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = _npz_pair(path, archive.files, split)
            images, labels = archive[keys[0]], archive[keys[1]]
            names = archive["classes"] if "classes" in archive.files else None
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read as .npz, it may be truncated: {error}") from error
    except (ValueError, MemoryError) as error:  # a header can ask for any amount
        raise ValueError(f"{path}: {error}") from error
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.dtype.kind not in "iuf" or (labels.ndim, labels.dtype.kind == "f") not in ((1, False), (2, True)):
        raise ValueError(f"{path}: expected {keys[1]} as integers (N,) or soft floats (N,K), got {labels.dtype} {labels.shape}")
    count = labels.shape[1] if labels.ndim == 2 else int(labels.max(initial=0)) + 1
    classes = tuple(str(k) for k in (range(count) if names is None else names.tolist()))
    if labels.ndim == 1:
        return _npz_images(path, keys[0], images), in_range(labels.astype(np.int64), len(classes), str(path)), classes
    return _npz_images(path, keys[0], images), labels.astype(np.float32), classes


def _npz_pair(path: Path, keys: list[str], split: str) -> tuple[str, str]:
    pairs = ((f"{split}_images", f"{split}_labels"), (f"x_{split}", f"y_{split}"), *NPZ_PAIRS)
    for pair in pairs:
        if set(pair) <= set(keys):
            return pair
    raise ValueError(f"expected arrays {' or '.join('/'.join(pair) for pair in pairs)}, got {', '.join(keys) or 'none'}")


def _npz_images(path: Path, key: str, images: np.ndarray) -> np.ndarray:
    if images.dtype != np.uint8:
        raise TypeError(f"{path}: expected {key} as uint8 with values 0-255, got {images.dtype}")
    if images.ndim == 4 and images.shape[1] == 3:
        return images
    if images.ndim == 4 and images.shape[3] == 3:
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    raise ValueError(f"{path}: expected {key} of shape (N,H,W,3) or (N,3,H,W), got {images.shape}")
