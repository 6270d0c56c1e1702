"""Encoded pictures (JPEG, PNG, ...) to one uint8 array (N,3,H,W), decoded once and kept in a memory-mapped cache.

The cache folder is $RTALIB_CACHE, else ~/.cache/rtalib/decoded. An entry is a folder named after the paths, sizes and modification times of
its source files; it is built under a temporary name and renamed when complete, so a crash never leaves half an entry.
"""

import hashlib
import io
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from rtalib.infra.store.files import remove, replacing

Raw = tuple[np.ndarray, np.ndarray, tuple[str, ...]]  # images uint8 (N,3,H,W), labels int64 (N,) or float32 (N,K), class names
Encoded = tuple[str, Path | bytes]  # what to call the picture in an error, and its file or its bytes
Allocate = Callable[[tuple[int, ...]], np.ndarray]

BATCH = 2048
MAX_PIXELS = 2**26  # of one picture, refused by its header alone; Pillow only warns below 2.7 times as many
ORPHAN_SECONDS = 86_400
VERSION = 1  # part of every key: raise it when decoding changes


def cache_folder() -> Path:
    """Where decoded images are kept: $RTALIB_CACHE, else ~/.cache/rtalib/decoded."""
    return Path(os.environ.get("RTALIB_CACHE") or Path.home() / ".cache" / "rtalib" / "decoded").expanduser()


def cached(files: list[Path], reading: str, build: Callable[[Allocate], Raw]) -> Raw:
    """What `build` returns for these source files, from the cache if they were decoded before.

    `reading` says what else the result depends on, such as class names. `build` receives a function that allocates the image array.
    Arrays from the cache are memory-mapped copy-on-write: writing to them changes neither the cache nor another reader. A damaged entry is
    decoded again. If the cache cannot be written, a warning says so and nothing is kept.
    """
    entry = cache_folder() / _key(files, reading)
    if entry.is_dir():
        try:
            return _read(entry)
        except (OSError, ValueError, EOFError) as error:
            warnings.warn(f"the decoded images in {entry} are damaged ({error}); they are decoded again", RuntimeWarning, stacklevel=2)
            remove(entry)
    try:
        _remove_orphans(entry.parent)
        with replacing(entry) as (work,):
            _write(work, build)
    except OSError as error:
        if not entry.is_dir():  # otherwise another process has written the same
            warnings.warn(f"decoded images cannot be kept: {error}; set RTALIB_CACHE to a writable folder", RuntimeWarning, stacklevel=2)
            return build(lambda shape: np.empty(shape, np.uint8))
    return _read(entry)


def _key(files: list[Path], reading: str) -> str:
    state = hashlib.sha256(f"decoded {VERSION} {reading}".encode())
    for file in files:
        stat = file.stat()
        state.update(f"\n{file.absolute()} {stat.st_size} {stat.st_mtime_ns}".encode())
    return state.hexdigest()[:24]


def _write(work: Path, build: Callable[[Allocate], Raw]) -> None:
    work.mkdir()
    images, labels, classes = build(lambda shape: claimed(work / "images.npy", shape))
    images.flush()
    np.save(work / "labels.npy", labels)
    (work / "classes.json").write_text(json.dumps(classes), encoding="utf-8")


def claimed(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new uint8 .npy file of that shape, memory-mapped. Its space is claimed now: a full disk is an OSError here, no bus error later."""
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, images.offset + images.nbytes)
    return images


def _read(entry: Path) -> Raw:
    images = np.load(entry / "images.npy", mmap_mode="c", allow_pickle=False)
    labels = np.load(entry / "labels.npy", allow_pickle=False)
    return images, labels, tuple(json.loads((entry / "classes.json").read_text(encoding="utf-8")))


def _remove_orphans(folder: Path) -> None:
    """Delete what killed processes left behind."""
    for work in folder.glob("*.tmp"):
        if work.exists() and time.time() - work.stat().st_mtime > ORPHAN_SECONDS:
            shutil.rmtree(work, ignore_errors=True)


def decode(pictures: Iterable[Encoded], count: int, allocate: Allocate) -> np.ndarray:
    """uint8 (count,3,H,W) of `count` encoded pictures, all of one size, grey or palette ones turned to RGB.

    Raises ValueError naming the picture that cannot be decoded or whose size differs from the first.
    """
    pictures = iter(pictures)
    first = next(pictures, None)
    if first is None:
        raise ValueError("expected at least one image, got none")
    pixels = decode_one(first)
    images = allocate((count, *pixels.shape))
    images[0] = pixels

    def work(job: tuple[int, list[Encoded]]) -> int:
        start, batch = job
        for k, picture in enumerate(batch):
            pixels = decode_one(picture)
            if pixels.shape != images.shape[1:]:
                sizes = f"{picture[0]} is {_size(pixels.shape)} pixels, but {first[0]} is {_size(images.shape[1:])}"
                raise ValueError(f"{sizes}; all images must share one size")
            images[start + k] = pixels
        return len(batch)

    done = 1
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while rows := list(islice(pictures, BATCH)):
            jobs = [(done + k, rows[k : k + 64]) for k in range(0, len(rows), 64)]
            done += sum(pool.map(work, jobs))
    if done != count:
        raise ValueError(f"expected {count} images, got {done}")
    return images


def decode_one(picture: Encoded) -> np.ndarray:
    """uint8 (3,H,W) of one encoded picture, grey or palette ones turned to RGB; ValueError naming the picture that cannot be decoded."""
    label, source = picture
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"its header says {image.width}x{image.height} pixels, more than {MAX_PIXELS:,} in all")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise ValueError(f"{label} cannot be decoded as an image: {error}") from error


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]}"


def in_range(labels: np.ndarray, classes: int, where: str) -> np.ndarray:
    """The labels, if all lie in 0 to classes - 1; otherwise ValueError naming the file `where`."""
    if len(labels) and not (0 <= labels.min() and labels.max() < classes):
        raise ValueError(f"{where}: expected labels 0 to {classes - 1}, got values from {labels.min()} to {labels.max()}")
    return labels
