"""Every reader of files, the exceptions by which it refuses one, and whole files to begin from, each of some hundred bytes."""

import io
import json
import pickle
import tarfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from encoded import encode
from safetensors.torch import save
from torch import nn

from rtalib import load_dataset, store
from rtalib.corruptions.on_disk import manifest
from rtalib.darts import GENOTYPES, Genotype
from rtalib.data import pictures
from rtalib.infra import nb
from rtalib.infra.store import entries
from rtalib.models import weights
from rtalib.training import checkpoints

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(6) % 3
ROW = {
    "method": "RTA",
    "seed": 1,
    "score": 10.229166666666668,
    "key": "0123456789abcdef",
    "seconds": 1.5,
    "entries": [],
    "stamp": {"git": "x"},
}


@dataclass(frozen=True)
class Reader:
    """name: the file's name in a folder of its own; read(path): what a command does with it; refuses: its errors for bad content.

    stated(data): bytes of memory that an honest file with this header takes.
    """

    name: str
    read: Callable[[Path], object]
    whole: Callable[[], list[bytes]]
    refuses: tuple[type[Exception], ...] = (ValueError,)
    stated: Callable[[bytes], int] = lambda data: 0


def written(write: Callable) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def dataset(name: str = "") -> Callable[[Path], object]:
    def read(path: Path) -> object:
        data = load_dataset(name or path, "test", root=path.parents[1] if name else None)
        assert data.images.dtype == torch.uint8 and data.images.shape[1] == 3 and data.hard_labels.max() < data.num_classes
        return data

    return read


def decoded(data: bytes) -> int:
    """Bytes of the picture that a header states, four for a pixel, as decoders hold it; 0 if it states none."""
    try:
        width, height = pictures.size("it", data)
    except ValueError:
        return 0
    return 4 * width * height


def parquet() -> list[bytes]:
    table = pa.table({"image": [{"bytes": encode(image, "PNG"), "path": None} for image in PIXELS], "label": LABELS})
    names = {"huggingface": '{"info": {"features": {"label": {"names": ["x", "y", "z"]}}}}'}
    return [written(partial(pq.write_table, found)) for found in (table, table.replace_schema_metadata(names))]


def batches() -> list[bytes]:
    content = {b"data": PIXELS.reshape(-1)[:1152].repeat(16).reshape(6, 3072), b"labels": LABELS.tolist()}
    return [pickle.dumps(content, protocol) for protocol in (2, 4)]


def tar() -> list[bytes]:
    def write(stream: io.BytesIO) -> None:
        with tarfile.open(fileobj=stream, mode="w:gz") as archive:
            member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
            member.size = len(batches()[0])
            archive.addfile(member, io.BytesIO(batches()[0]))

    return [written(write)]


def network() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 2)
    return model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)


def checkpoint() -> list[bytes]:
    state = {"model": network()[0].state_dict(), "optimizer": network()[1].state_dict(), "history": [], "made_for": {}, "format": 1}
    return [written(lambda stream: torch.save(state, stream))]


def resumed(path: Path) -> object:
    return checkpoints.load(path, *network(), {})


def card() -> list[bytes]:
    facts = {
        "key": "0123456789abcdef",
        "recipe": "network",
        "version": 1,
        "parameters": {"seed": 0},
        "seconds": 1.0,
        "entries": [],
        "files": {},
    }
    return [store.seal(facts).encode(), json.dumps(facts).encode()]


READERS = {
    "picture": Reader(
        "1.png", lambda path: pictures.read("it", path), lambda: [encode(PIXELS[0], kind) for kind in pictures.FORMATS], stated=decoded
    ),
    "npz": Reader(
        "a.npz", dataset(), lambda: [written(partial(how, images=PIXELS, labels=LABELS)) for how in (np.savez, np.savez_compressed)]
    ),
    "parquet": Reader("a.parquet", dataset(), parquet),
    "batch": Reader("cifar-10-batches-py/test_batch", dataset("cifar10"), batches),
    "tar": Reader(
        "x/cifar-10-python.tar.gz", lambda path: load_dataset("cifar10", "test", root=path.parent), tar, (ValueError, FileNotFoundError)
    ),
    "row": Reader("a.json", store.check_row, lambda: [store.seal(ROW).encode(), json.dumps(ROW).encode()]),
    "plan": Reader("t.json", store.check_plan, lambda: [store.seal({"keys": ["0123456789abcdef"]}).encode(), b'["0123456789abcdef"]']),
    "card": Reader("a-0123456789abcdef/card.json", lambda path: entries.read_card(path.parent), card, (entries.Corrupt,)),
    "manifest": Reader(
        "manifest.json",
        manifest.read,
        lambda: [b'{"made_by": "rtalib corrupt", "parameters": {"seed": 0}, "files": {"fog.npy": {"bytes": 1, "sha256": "00"}}}'],
    ),
    "checkpoint": Reader("checkpoint.pt", resumed, checkpoint),
    "published-weights": Reader("w.pt", weights.read, lambda: [written(lambda s: torch.save({"state_dict": {"a": torch.zeros(3)}}, s))]),
    "safetensors": Reader(
        "w.safetensors", lambda path: your_tensors(path), lambda: [save({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)})]
    ),
    "genotype": Reader("g.txt", lambda path: Genotype.parse(path.read_text("latin-1")), lambda: [str(GENOTYPES["darts_v2"]).encode()]),
    "genotype-json": Reader(
        "g.json", lambda path: Genotype.parse(path.read_text("latin-1")), lambda: [GENOTYPES["darts_v2"].to_json().encode()]
    ),
    "notebook-record": Reader(
        "n.json",
        lambda path: nb.status(path.with_suffix(".ipynb")),
        lambda: [store.seal({"notebook": "n", "status": "ok", "seconds": 1.0, "error": ""}).encode()],
    ),
}


def your_tensors(path: Path) -> object:
    from rtalib.yours.networks import load_weights

    model = network()[0]
    load_weights(model, path)
    return model


def attempt(reader: Reader, folder: Path, data: bytes) -> str:
    """How a reader meets these bytes: 'read', or the words of its refusal in one line. Any other exception is a fault."""
    path = folder / reader.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    with warnings.catch_warnings(action="ignore"):
        try:
            reader.read(path)
        except reader.refuses as error:
            return f"{type(error).__name__}: {' '.join(str(error).replace(str(folder), '').split())}"
    return "read"
