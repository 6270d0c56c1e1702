"""Encoded pictures (JPEG, PNG, ...) to one uint8 array (N,3,H,W), decoded once and kept in a memory-mapped cache.

The cache folder is $RTALIB_CACHE, else ~/.cache/rtalib/decoded. An entry is a folder named after the paths, sizes and modification times of
its source files; it is built under a temporary name and renamed when complete, so a crash never leaves half an entry.
"""

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rtalib.data import pictures
from rtalib.data.bounds import check_memory, memory
from rtalib.data.pictures import MAX_PIXELS
from rtalib.infra.store.files import digest, replacing, set_aside

Raw = tuple[np.ndarray, np.ndarray, tuple[str, ...]]  # images uint8 (N,3,H,W), labels int64 (N,) or float32 (N,K), class names
Encoded = tuple[str, pictures.Source]  # what to call the picture in an error, and its file or its bytes
Allocate = Callable[[tuple[int, ...]], np.ndarray]

BATCH, BATCH_BYTES = 2048, 2**26  # encoded pictures in memory at a time
ORPHAN_SECONDS = 86_400
FILES = ("images.npy", "labels.npy", "classes.json")
VERSION = 2  # part of every key: raise it when decoding changes. 2: EXIF orientation, 16-bit levels, transparency


def cache_folder() -> Path:
    """Where decoded images are kept: $RTALIB_CACHE, else ~/.cache/rtalib/decoded."""
    return Path(os.environ.get("RTALIB_CACHE") or Path.home() / ".cache" / "rtalib" / "decoded").expanduser()


def cached(files: list[Path], reading: str, build: Callable[[Allocate], Raw]) -> Raw:
    """What `build` returns for these source files, from the cache if they were decoded before.

    `reading` says what else the result depends on, such as class names. `build` receives a function that allocates the image array.
    Arrays from the cache are memory-mapped copy-on-write: writing to them changes neither the cache nor another reader. A damaged entry is
    set aside and decoded again. If the cache cannot be written, a warning says so and nothing is kept.
    """
    entry = cache_folder() / _key(files, reading)
    if entry.is_dir():
        try:
            return _read(entry)
        except (OSError, ValueError, EOFError) as error:
            with contextlib.suppress(OSError):  # of a folder that cannot be written: the next attempt says so
                set_aside(entry, f"the decoded images are damaged ({error})")
    try:
        _remove_orphans(entry.parent)
        with replacing(entry) as (work,):
            _write(work, build)
    except OSError as error:
        with contextlib.suppress(OSError, ValueError, EOFError):
            return _read(entry)  # another process has written the same
        warnings.warn(f"decoded images cannot be kept: {error}; set RTALIB_CACHE to a writable folder", RuntimeWarning, stacklevel=2)
        return build(lambda shape: np.empty(shape, np.uint8))
    return _read(entry)


def _key(files: list[Path], reading: str) -> str:
    state = hashlib.sha256(f"decoded {VERSION} {reading}".encode())
    for file in files:
        stat = file.stat()
        state.update(os.fsencode(f"\n{file.absolute()} {stat.st_size} {stat.st_mtime_ns}"))
    return state.hexdigest()[:24]


def _write(work: Path, build: Callable[[Allocate], Raw]) -> None:
    work.mkdir()
    images, labels, classes = build(lambda shape: claimed(work / "images.npy", shape))
    images.flush()
    np.save(work / "labels.npy", labels)
    (work / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
    (work / "sha256.json").write_text(json.dumps({name: digest(work / name) for name in FILES}))


def claimed(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new uint8 .npy file of that shape, memory-mapped. Its space is claimed now: a full disk is an OSError here, no bus error later."""
    size, free = math.prod(shape), shutil.disk_usage(path.parent).free
    if size > free:  # before anything is taken: some file systems give all they have before they fail
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {size:,} bytes needed, {free:,} free", str(path))
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, images.offset + images.nbytes)
    return images


def _read(entry: Path) -> Raw:
    """ValueError or OSError if a file is not what was written, compared once in a process unless somebody touches it."""
    expected = json.loads((entry / "sha256.json").read_bytes())
    for name in FILES:
        facts = (entry / name).stat()
        if _digest(entry / name, facts.st_size, facts.st_mtime_ns) != expected[name]:
            raise ValueError(f"{name} has changed since it was written")
    images = np.load(entry / "images.npy", mmap_mode="c", allow_pickle=False)
    labels = np.load(entry / "labels.npy", allow_pickle=False)
    return images, labels, tuple(json.loads((entry / "classes.json").read_text(encoding="utf-8")))


@functools.lru_cache(maxsize=1024)
def _digest(path: Path, size: int, modified: int) -> str:
    return digest(path)


def _remove_orphans(folder: Path) -> None:
    """Delete what killed processes left behind, and damaged entries after a day."""
    for work in (*folder.glob("*.tmp"), *folder.glob(".corrupt-*")):
        if work.exists() and time.time() - work.stat().st_mtime > ORPHAN_SECONDS:
            shutil.rmtree(work, ignore_errors=True)


def decode(encoded: Iterable[Encoded], count: int, allocate: Allocate, side: int | None = None) -> np.ndarray:
    """uint8 (count,3,H,W) of `count` encoded pictures, all of one size, or scaled and cropped to `side`; see pictures.read and square.

    Raises ValueError naming all pictures that cannot be decoded or whose size differs from the first (20 at most), or if memory does not
    hold them all.
    """
    encoded, errors = iter(encoded), []
    first, pixels = _first_decoded(encoded, side, errors)
    images = _allocated(allocate, (count, *pixels.shape), f"{count:,} pictures as large as {first}")
    images[len(errors)] = pixels
    form = side or (first, pixels.shape[:0:-1])

    def work(job: tuple[int, list[Encoded]]) -> int:
        start, batch = job
        for k, picture in enumerate(batch):
            try:
                images[start + k] = decode_one((*picture, form))
            except ValueError as error:
                errors.append((picture[0], str(error)))
        return len(batch)

    done = len(errors) + 1
    most = MAX_PIXELS // pixels[0].size if side is None else memory() // (64 * MAX_PIXELS)  # of one largest picture; a quarter of memory
    with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1, most))) as pool:
        for rows in _batches(encoded):
            jobs = [(done + k, rows[k : k + 64]) for k in range(0, len(rows), 64)]
            done += sum(pool.map(work, jobs))
            if len(errors) >= pictures.SHOWN:
                break
    if errors:
        raise pictures.all_errors(sorted(errors))
    if done != count:
        raise ValueError(f"expected {count} images, got {done}")
    return images


def _first_decoded(encoded: Iterator[Encoded], side: int | None, errors: list[tuple[str, str]]) -> tuple[str, np.ndarray]:
    """(label, pixels) of the first picture that can be decoded; what is wrong with those before it is added to `errors`."""
    for picture in encoded:
        try:
            return picture[0], decode_one((*picture, side))
        except ValueError as error:
            errors.append((picture[0], str(error)))
            if len(errors) >= pictures.SHOWN:
                break
    raise pictures.all_errors(errors) if errors else ValueError("expected at least one image, got none")


def _batches(encoded: Iterator[Encoded]) -> Iterator[list[Encoded]]:
    """At most BATCH pictures and, of those in memory, about BATCH_BYTES at a time."""
    rows: list[Encoded] = []
    held = 0
    for label, source in encoded:
        rows.append((label, source))
        held += len(source) if isinstance(source, bytes) else 0
        if len(rows) == BATCH or held >= BATCH_BYTES:
            yield rows
            rows, held = [], 0
    if rows:
        yield rows


def decode_one(picture: tuple[str, pictures.Source] | tuple[str, pictures.Source, pictures.Like | int | None]) -> np.ndarray:
    """uint8 (3,H,W): pictures.read of (label, source, like), or pictures.square of (label, source, side). ValueError naming the picture."""
    read = pictures.square if isinstance(picture[-1], int) else pictures.read
    return np.asarray(read(*picture)).transpose(2, 0, 1)


def _allocated(allocate: Allocate, shape: tuple[int, ...], what: str) -> np.ndarray:
    """ValueError if an array in memory cannot be held; on disk, the space is claimed already."""
    try:
        images = allocate(shape)
    except MemoryError as error:
        raise ValueError(f"{what}: {error}") from error
    if not isinstance(images, np.memmap):
        check_memory(images.nbytes, what)
    return images
