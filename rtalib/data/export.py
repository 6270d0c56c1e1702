"""export(): a data set written for other programs, and for load_dataset: two .npy files, a .npz, a .parquet.

Each file is written under a temporary name, a part of the images in memory at a time, and renamed when whole.
"""

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from rtalib.data.images import LabeledImages
from rtalib.data.readers import DATA_FILE, LABEL_FILE
from rtalib.errors import check_kind, check_name, check_number
from rtalib.infra.store.files import replacing

KINDS = ("competition", "npz", "parquet")
NPZ_FILE, PARQUET_FILE = "data.npz", "data.parquet"
ROWS = 1024  # images in memory at a time


def export(
    data: LabeledImages, folder: str | Path, kinds: Sequence[str] = ("competition",), label_smoothing: float = 0.0
) -> dict[str, tuple[Path, ...]]:
    """Write `data` into `folder`, which is made where missing, in each of `kinds`; returns the files of each kind.

    'competition': data.npy, uint8 (N,H,W,3), and label.npy, float32 (N,K), the layout of the AAAI 2022 contest on data-centric robust
    learning; hard labels become one-hot. load_dataset(folder, split) reads them, with the classes '0' to 'K-1'.
    'npz': data.npz with images uint8 (N,3,H,W), labels as they are, and classes. 'parquet': data.parquet with PNG bytes in `image`, hard
    labels in `label`, and the class names where Hugging Face's `datasets` keeps them. load_dataset(file, split) reads both back equal.
    label_smoothing: a in 0..1; the labels of 'competition', and of no other kind, become (1 - a) y + a / K.

    A file of that name is replaced at once; a killed export leaves the old file, or none, but never a part. Raises ValueError for an
    unknown kind, for soft labels in 'parquet' and for a label_smoothing out of range or without 'competition'; OSError of the disk.
    """
    check_kind("data", data, LabeledImages, "LabeledImages")
    check_kind("folder", folder, (str, Path), "a path")
    check_kind("kinds", kinds, (list, tuple), "a list of names")
    for kind in kinds:
        check_name("kind", kind, KINDS)
    kinds = tuple(dict.fromkeys(kinds))
    if not kinds:
        raise ValueError(f"kinds: expected at least one of {', '.join(KINDS)}")
    check_number("label_smoothing", label_smoothing, 0, 1)
    if label_smoothing and "competition" not in kinds:
        raise ValueError(f"label_smoothing: only kind 'competition' smooths its labels, got kinds {', '.join(kinds)}")
    if "parquet" in kinds and data.labels.ndim == 2:
        raise ValueError("kinds: 'parquet' holds hard labels, and these are soft; write 'npz' or 'competition'")
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for kind in kinds:
        if kind == "competition":
            files[kind] = _write_competition(data, folder, label_smoothing)
        elif kind == "npz":
            files[kind] = _write_npz(data, folder)
        else:
            files[kind] = _write_parquet(data, folder)
    return files


def _write_competition(data: LabeledImages, folder: Path, smoothing: float) -> tuple[Path, ...]:
    n, _, height, width = data.images.shape
    files = (folder / DATA_FILE, folder / LABEL_FILE)

    def soft() -> Iterator[np.ndarray]:
        for labels in _parts(data.labels):
            labels = labels if labels.ndim == 2 else np.eye(data.num_classes, dtype=np.float32)[labels]
            yield ((1 - smoothing) * labels + smoothing / data.num_classes).astype(np.float32)

    with replacing(*files) as (data_path, label_path), open(data_path, "wb") as images, open(label_path, "wb") as labels:
        _write_npy(images, (part.transpose(0, 2, 3, 1) for part in _parts(data.images)), (n, height, width, 3), np.uint8)
        _write_npy(labels, soft(), (n, data.num_classes), np.float32)
    return files


def _write_npz(data: LabeledImages, folder: Path) -> tuple[Path, ...]:
    classes = np.array(data.classes, dtype=np.str_)
    arrays = {
        "images": (_parts(data.images), tuple(data.images.shape), np.uint8),
        "labels": (_parts(data.labels), tuple(data.labels.shape), np.int64 if data.labels.ndim == 1 else np.float32),
        "classes": (iter([classes]), classes.shape, classes.dtype),
    }
    path = folder / NPZ_FILE
    with replacing(path) as (temporary,), zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, (parts, shape, kind) in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                _write_npy(member, parts, shape, kind)
    return (path,)


def _write_parquet(data: LabeledImages, folder: Path) -> tuple[Path, ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = {"image": {"_type": "Image"}, "label": {"names": list(data.classes), "_type": "ClassLabel"}}
    schema = pa.schema(
        {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64()},
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    path = folder / PARQUET_FILE
    with replacing(path) as (temporary,), pq.ParquetWriter(temporary, schema) as writer:
        for images, labels in zip(_parts(data.images), _parts(data.labels), strict=True):
            cells = [{"bytes": _png(image), "path": None} for image in images.transpose(0, 2, 3, 1)]
            writer.write_table(pa.table({"image": cells, "label": labels}, schema=schema))
    return (path,)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG")
    return stream.getvalue()


def _parts(tensor: torch.Tensor) -> Iterator[np.ndarray]:
    return (part.cpu().numpy() for part in tensor.split(ROWS))


def _write_npy(file: BinaryIO, parts: Iterator[np.ndarray], shape: tuple[int, ...], kind: np.dtype | type) -> None:
    """An array of that shape and dtype from its parts along the first axis, in NumPy's format.

    By plain writes, since a memory map reports a full disk by a signal that ends the process.
    """
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(kind)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for part in parts:
        file.write(part.tobytes())
