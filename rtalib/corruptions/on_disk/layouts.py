"""What `python -m rtalib corrupt` writes: `<type>.npy` as in CIFAR-10-C, or `<type>/<severity>/<class>/<name>` as in Tiny-ImageNet-C.

A block is one severity of one type, and a cell of the grid. It is written in a hidden work folder; manifest.py renames finished parts.
"""

import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rtalib.corruptions import SEVERITIES, corrupt
from rtalib.corruptions.on_disk.inputs import Folder, Loaded
from rtalib.data.decoding import claimed
from rtalib.infra import store

LAYOUTS, FORMATS = ("arrays", "folders"), ("png", "jpeg")
LABELS = "labels.npy"
JPEG_OPTIONS = {"quality": 85, "optimize": True, "subsampling": "4:2:0"}  # what Tiny-ImageNet-C and ImageNet-C were saved with
BATCH_PIXELS = {"cpu": 2**20, "cuda": 2**24}


@dataclass(frozen=True)
class Block:
    """One severity of one type, and the part that it belongs to: the array `fog.npy` or the folder `fog/3`."""

    part: str
    type: str
    severity: int


@dataclass(frozen=True)
class Task:
    """A data set to write. parameters: what its bytes depend on."""

    out: Path
    source: Loaded | Folder
    layout: str
    format: str | None
    benchmark: str
    seed: int
    device: str
    workers: int
    blocks: tuple[Block, ...]
    parameters: dict

    @property
    def key(self) -> str:
        return store.key("generate", 1, self.parameters)

    @property
    def parts(self) -> list[str]:
        """Names of the files or folders to write, in order."""
        return [LABELS] * (self.layout == "arrays") + list(dict.fromkeys(block.part for block in self.blocks))

    @property
    def work(self) -> Path:
        """The hidden folder of unfinished parts, and of the grid's rows about finished blocks."""
        return self.out / ".work" / self.key


def blocks(layout: str, types: tuple[str, ...], severities: tuple[int, ...]) -> tuple[Block, ...]:
    part = "{}.npy" if layout == "arrays" else "{}/{}"
    return tuple(Block(part.format(name, severity), name, severity) for name in types for severity in severities)


def write(task: Task, block: Block) -> dict:
    """Compute one block in the work folder; returns its digest, of a folder also the size."""
    return (_write_array_block if task.layout == "arrays" else _write_folder)(task, block)


def _corrupted(task: Task, block: Block, waited: Counter) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    """(rows int64 (B,), corrupted images uint8 (B,H,W,3)), a batch at a time; a thread reads the next batch meanwhile."""
    batches = task.source.batches(BATCH_PIXELS[task.device])
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while batch := _awaited(coming, waited, "reading"):
            coming = reader.submit(next, batches, None)
            rows, images = batch
            options = {"seed": task.seed, "index": task.source.index[rows], "benchmark": task.benchmark}
            out = corrupt(images.to(task.device), block.type, block.severity, **options)
            yield rows, out.permute(0, 2, 3, 1).cpu().contiguous().numpy()


def _awaited(future: Future, waited: Counter, step: str) -> Any:
    """The result; `waited` gains the seconds until it is there."""
    began = time.perf_counter()
    result = future.result()
    waited[step] += time.perf_counter() - began
    return result


# Arrays: uint8 (5 N,H,W,3), severity 1 first.


def claim_arrays(task: Task, parts: list[str]) -> None:
    """Create the files of arrays that are not there, at their full sizes. OSError if the disk has no room for all of them."""
    new = [task.work / part for part in parts if not (task.work / part).exists()]
    count, _, height, width = task.source.data.images.shape
    try:
        for path in new:
            claimed(path, (len(SEVERITIES) * count, height, width, 3))
    except OSError:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def _write_array_block(task: Task, block: Block) -> dict:
    array = _part_of_array(task, block, "r+")
    for rows, images in _corrupted(task, block, Counter()):
        array[rows.numpy()] = images
    array.flush()
    return {"sha256": hashlib.sha256(array).hexdigest()}


def _part_of_array(task: Task, block: Block, mode: str) -> np.memmap:
    """The images of one severity in the array of a type, in the work folder."""
    start = SEVERITIES.index(block.severity) * len(task.source)
    return np.load(task.work / block.part, mmap_mode=mode)[start : start + len(task.source)]


def is_written(task: Task, block: Block, row: dict) -> bool:
    """Whether the work folder holds a finished block as it was written."""
    if not (task.work / block.part).exists():
        return False
    if task.layout == "folders":
        return folder_facts(task.work / block.part)["sha256"] == row["sha256"]
    return hashlib.sha256(_part_of_array(task, block, "r")).hexdigest() == row.get("sha256")


def write_labels(task: Task) -> None:
    """uint8 (5 N,): the labels repeated for each severity, as published; a wider type beyond 256 classes."""
    labels = task.source.data.labels.numpy().astype(np.min_scalar_type(len(task.source.classes) - 1))
    stream = BytesIO()
    np.save(stream, np.tile(labels, len(SEVERITIES)))
    store.write_atomic(task.work / LABELS, stream.getvalue())


# Folders.


def _write_folder(task: Task, block: Block) -> dict:
    """One picture file per image. 'sha256' is that of the folder's sorted list of digests, as sha256sum prints it:

    find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum

    'reading', 'corrupting', 'writing': seconds of each. While one batch is corrupted, threads read the next and write the one before.
    """
    began, waited = time.perf_counter(), Counter(reading=0.0, writing=0.0)
    folder, names, facts = task.work / block.part, task.source.names(task.format), {}
    shutil.rmtree(folder, ignore_errors=True)
    # every class, also one without images: class numbers come from the sorted names of these folders
    for name in {*task.source.classes, *map(os.path.dirname, names)}:
        (folder / name).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(torch.get_num_threads()) as writers:
        pending: list[Future] = []
        for rows, images in _corrupted(task, block, waited):
            facts |= [_awaited(file, waited, "writing") for file in pending]
            pending = [writers.submit(_save, folder, names[row], image, task.format) for row, image in zip(rows, images, strict=True)]
        facts |= [_awaited(file, waited, "writing") for file in pending]
    waited["corrupting"] = time.perf_counter() - began - waited.total()
    os.sync()  # once for all files instead of one fsync each
    return _sum(facts) | {step: round(seconds, 2) for step, seconds in waited.items()}


def folder_facts(folder: Path) -> dict:
    """Files, bytes and digest of a folder as it is on the disk, without the hidden files that desktops put there."""
    paths = [path for path in folder.rglob("[!.]*") if path.is_file()]
    return _sum({path.relative_to(folder).as_posix(): (path.stat().st_size, store.digest(path)) for path in paths})


def _sum(facts: dict[str, tuple[int, str]]) -> dict:
    """facts: size and SHA-256 of each file, by name."""
    lines = [os.fsencode(f"{facts[name][1]}  ./{name}\n") for name in sorted(facts, key=os.fsencode)]
    sha = hashlib.sha256(b"".join(lines)).hexdigest()
    return {"files": len(facts), "bytes": sum(size for size, _ in facts.values()), "sha256": sha}


def _save(folder: Path, name: str, image: np.ndarray, format: str) -> tuple[str, tuple[int, str]]:
    """Encode uint8 (H,W,3) and write it; returns the name, and size and SHA-256 of the file."""
    stream = BytesIO()
    Image.fromarray(image).save(stream, format, **(JPEG_OPTIONS if format == "jpeg" else {}))
    (folder / name).write_bytes(stream.getvalue())
    return name, (stream.tell(), hashlib.sha256(stream.getvalue()).hexdigest())
