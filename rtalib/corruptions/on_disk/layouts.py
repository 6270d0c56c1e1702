"""What `generate` writes: `<type>.npy` as in CIFAR-10-C, or `<type>/<severity>/<class>/<name>` as in Tiny-ImageNet-C.

A part is written under a hidden name beside its final one; the caller renames it when it is complete. An array notes each finished severity
in a record next to it, so that a killed run goes on behind the last of them; a folder of one severity is begun anew.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rtalib.corruptions import SEVERITIES, corrupt
from rtalib.corruptions.on_disk.inputs import Folder, Loaded
from rtalib.data.decoding import claimed
from rtalib.infra.store import write_atomic

LAYOUTS, FORMATS = ("arrays", "folders"), ("png", "jpeg")
JPEG_OPTIONS = {"quality": 85, "optimize": True, "subsampling": "4:2:0"}  # what Tiny-ImageNet-C and ImageNet-C were saved with
BATCH_PIXELS = {"cpu": 2**20, "cuda": 2**24}
Advance = Callable[[int], None]  # told how many images were written


@dataclass(frozen=True)
class Task:
    """All that the bytes depend on, besides the part; `key` stands for exactly these parameters."""

    out: Path
    source: Loaded | Folder
    layout: str
    format: str
    benchmark: str
    seed: int
    device: str
    key: str


@dataclass(frozen=True)
class Part:
    """One thing to write: `fog.npy` with all severities, `labels.npy` (of no type), or the folder `fog/3`."""

    name: str
    type: str
    severities: tuple[int, ...]

    def hidden(self, out: Path, suffix: str = "part") -> Path:
        """Where it lies while it is not complete."""
        final = out / self.name
        return final.with_name(f".{final.name}.{suffix}")


def parts(layout: str, types: tuple[str, ...], severities: tuple[int, ...]) -> list[Part]:
    """What a data set of this layout consists of."""
    if layout == "arrays":
        return [Part("labels.npy", "", ()), *(Part(f"{name}.npy", name, severities) for name in types)]
    return [Part(f"{name}/{severity}", name, (severity,)) for name in types for severity in severities]


def missing(task: Task, part: Part) -> int:
    """How many images are still to be computed."""
    return len(task.source) * (len(part.severities) - len(_finished(task, part)))


def write(task: Task, part: Part, advance: Advance) -> dict:
    """Compute what is missing of the part, under its hidden name; returns its size and digests for the manifest."""
    if not part.type:
        return _write_labels(task, part)
    return (_write_array if task.layout == "arrays" else _write_folder)(task, part, advance)


def _corrupted(task: Task, name: str, severity: int) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    """(rows int64 (B,), corrupted images uint8 (B,H,W,3)), a batch at a time."""
    index = task.source.index
    for rows, images in task.source.batches(BATCH_PIXELS[task.device]):
        out = corrupt(images.to(task.device), name, severity, seed=task.seed, index=index[rows], benchmark=task.benchmark)
        yield rows, out.permute(0, 2, 3, 1).cpu().contiguous().numpy()


# Arrays.


def _write_array(task: Task, part: Part, advance: Advance) -> dict:
    """uint8 (5 N,H,W,3), severity 1 first."""
    path, record, count = part.hidden(task.out), part.hidden(task.out, "progress"), len(task.source)
    finished = _finished(task, part)
    if finished:
        array = np.lib.format.open_memmap(path, mode="r+")
    else:
        record.unlink(missing_ok=True)
        _, _, height, width = task.source.data.images.shape
        array = _claimed(path, (len(part.severities) * count, height, width, 3))
    for block, severity in enumerate(part.severities):
        if severity in finished:
            continue
        for rows, images in _corrupted(task, part.type, severity):
            array[block * count + rows.numpy()] = images
            advance(len(rows))
        array.flush()
        finished.append(severity)
        write_atomic(record, json.dumps({"key": task.key, "finished": finished}))
    return _digests(path)


def _claimed(path: Path, shape: tuple[int, ...]) -> np.memmap:
    try:
        return claimed(path, shape)
    except OSError:
        path.unlink(missing_ok=True)  # gives back what a full disk had left
        raise


def _finished(task: Task, part: Part) -> list[int]:
    """Severities that an earlier run with the same parameters has completed."""
    path, record = part.hidden(task.out), part.hidden(task.out, "progress")
    if task.layout == "folders" or not (path.exists() and record.exists()):
        return []
    facts = json.loads(record.read_text())
    return facts["finished"] if facts["key"] == task.key else []


def _write_labels(task: Task, part: Part) -> dict:
    """uint8 (5 N,): the labels once for each severity, as published; a wider type beyond 256 classes."""
    labels = task.source.data.labels.numpy().astype(np.min_scalar_type(len(task.source.classes) - 1))
    stream = BytesIO()
    np.save(stream, np.tile(labels, len(SEVERITIES)))
    write_atomic(part.hidden(task.out), stream.getvalue())
    return _digests(part.hidden(task.out))


def _digests(path: Path) -> dict:
    """{'bytes', 'sha256', 'md5'} of a file, read once."""
    sha, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            size += len(chunk)
            sha.update(chunk)
            md5.update(chunk)
    return {"bytes": size, "sha256": sha.hexdigest(), "md5": md5.hexdigest()}


# Folders.


def _write_folder(task: Task, part: Part, advance: Advance) -> dict:
    """One picture file per image. 'sha256' is that of the folder's sorted list of digests, as sha256sum prints it:

    find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
    """
    folder, names = part.hidden(task.out), task.source.names(task.format)
    shutil.rmtree(folder, ignore_errors=True)
    # every class, also one without images: class numbers come from the sorted names of these folders
    for name in {*task.source.classes, *(os.path.dirname(name) for name in names)}:
        (folder / name).mkdir(parents=True, exist_ok=True)
    facts = {}
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for rows, images in _corrupted(task, part.type, part.severities[0]):
            chosen = [names[row] for row in rows]
            facts |= zip(chosen, pool.map(lambda name, image: _save(folder / name, image, task.format), chosen, images), strict=True)
            advance(len(rows))
    os.sync()  # once for all files, in the place of one fsync each
    lines = [os.fsencode(f"{facts[name][1]}  ./{name}\n") for name in sorted(facts, key=os.fsencode)]
    sha = hashlib.sha256(b"".join(lines)).hexdigest()
    return {"files": len(names), "bytes": sum(size for size, _ in facts.values()), "sha256": sha}


def _save(path: Path, image: np.ndarray, format: str) -> tuple[int, str]:
    """Encode uint8 (H,W,3) and write it; returns size and SHA-256 of the file."""
    stream = BytesIO()
    Image.fromarray(image).save(stream, format, **(JPEG_OPTIONS if format == "jpeg" else {}))
    data = stream.getvalue()
    path.write_bytes(data)
    return len(data), hashlib.sha256(data).hexdigest()
