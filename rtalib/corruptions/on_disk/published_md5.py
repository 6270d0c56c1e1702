"""The published CIFAR-10-C (Hendrycks and Dietterich, Zenodo record 2535967) by its MD5s: does a generated file equal the published one?

Only the types without random draws can. A file is a NumPy header and the pixels; how far the header is padded depends on the NumPy version
that wrote it, so the pixels are tried behind each usual header.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rtalib.data.loading import find_cifar10, root_folder
from rtalib.data.parquet_npz import parquet_pictures
from rtalib.infra import store

# MD5s of the files <name>.npy in that record's archive, as torch-uncertainty checks them (datasets/classification/cifar/cifar_c.py)
MD5 = {
    "labels": "c439b113295ed5254878798ffe28fd54",
    "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
    "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
    "brightness": "0a81ef75e0b523c3383219c330a85d48",
    "contrast": "3c8262171c51307f916c30a3308235a8",
    "pixelate": "0f14f7e2db14288304e1de10df16832f",
    "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
}
# sizes in bytes of NumPy's header: padded to a multiple of 16 (before NumPy 1.14) or of 64
HEADERS = (80, 96, 128)
# the clean data: MD5s that torchvision (torchvision/datasets/cifar.py) checks
TEST_BATCH_MD5, TAR_MD5 = "40351d587109b95175f43aff81a1287e", "c58f30108f718f92721af3b95e74349a"


def header(shape: tuple[int, ...], size: int) -> bytes | None:
    """The header of a uint8 .npy file (format 1.0), padded to `size` bytes in all; None if it does not fit."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    if len(text) + 11 > size:  # magic, version and length before it, a newline behind
        return None
    return b"\x93NUMPY\x01\x00" + (size - 10).to_bytes(2, "little") + text.ljust(size - 11).encode() + b"\n"


def matching_header(path: Path, md5: str) -> int | None:
    """The header size with which the uint8 array in `path` has this MD5; None if it has it with none."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    states = {}
    for size in HEADERS:
        if (start := header(array.shape, size)) is not None:
            states[size] = hashlib.md5(start, usedforsecurity=False)
    for rows in np.array_split(array, max(1, array.nbytes // 2**24)):
        for state in states.values():
            state.update(np.ascontiguousarray(rows))
    return next((size for size, state in states.items() if state.hexdigest() == md5), None)


def report(folder: Path, names: Iterable[str], origin: str) -> list[str]:
    """Lines that say which of the files `<name>.npy` in `folder` equal the published ones; `origin`: what is known of the clean images."""
    names = list(names)
    found = {name: matching_header(folder / f"{name}.npy", MD5[name]) for name in names if name in MD5}
    equal = [f"{name} (header of {size} bytes)" for name, size in found.items() if size]
    groups = {
        "equal": equal,
        "differ": [name for name, size in found.items() if not size],
        "random, cannot be equal": [name for name in names if name not in MD5],
    }
    lines = [f"against the MD5s of the published CIFAR-10-C; clean images: {origin}"]
    lines += [f"  {verdict}: {', '.join(members)}" for verdict, members in groups.items() if members]
    if "labels" in groups["differ"]:
        lines.append("  as the labels differ, the clean images are in another order than the published ones")
    return lines


def cifar10_origin(root: str | Path | None) -> str:
    """What is known of the CIFAR-10 test images that load_dataset reads: the original ones, recompressed ones, or not known."""
    kind, files = find_cifar10(root_folder(root), "test")
    if kind == "parquet":
        encoded = next(parquet_pictures(files))[1]
        if encoded.startswith(b"\xff\xd8"):
            return "JPEG-recompressed copies (parquet), so every type is expected to differ"
        return "from parquet, not known to be the original ones"
    file, wanted = (files[0] / "test_batch", TEST_BATCH_MD5) if kind == "folder" else (files[0], TAR_MD5)
    if store.digest(file, "md5") == wanted:
        return "the original ones, so a difference is an error"
    return f"not known to be the original ones ({file.name} has another MD5), so a difference may be theirs"
