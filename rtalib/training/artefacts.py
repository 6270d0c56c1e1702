"""The expensive artefacts that tables share, kept in the store: trained networks and data sets."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rtalib.corruptions import frost_source
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.infra import store
from rtalib.models.base import seeded
from rtalib.models.inference import best_device
from rtalib.training.loop import train
from rtalib.training.recipes import Recipe, resolve_precision


def fit_network(
    build: Callable[[], nn.Module],
    data: Callable[[], LabeledImages],
    recipe: Recipe,
    *,
    parameters: dict,
    seed: int,
    label: str,
    precision: str = "auto",
    record: Callable[[nn.Module], dict] | None = None,
    context: Callable[[nn.Module], AbstractContextManager] = nullcontext,
    **options: Any,
) -> store.Entry:
    """The store entry of a trained network: its weights and its history. Training resumes from its last checkpoint.

    precision: as in training.train; the key has what 'auto' means on this device.
    parameters: everything that defines the result besides recipe, seed and precision: the architecture, the objective's name and
    numbers, the key or digest of the data, and what the options do. build and data are called only when needed.
    record(model): fields to add to an epoch's line of the history. context(model): a context around the training, after which the network
    has the parts that it was built with. options: objective, validation and n_labeled of training.train.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # where `train` takes what is built on the CPU
    parameters = {**parameters, "recipe": asdict(recipe), "seed": seed, "precision": resolve_precision(precision, device)}

    def fit(folder: Path) -> None:
        model = seeded(build, seed)
        options["on_epoch"] = (lambda model, row: record(model)) if record else None
        with context(model):
            history = train(model, data(), recipe, seed=seed, precision=precision, checkpoint=folder / "checkpoint.pt", **options)
        save_file({name: value.contiguous() for name, value in model.cpu().state_dict().items()}, folder / "weights.safetensors")
        (folder / "history.json").write_text(json.dumps(history, indent=1))

    return store.make("network", 1, parameters, fit, label=label)


def load_network(build: Callable[[], nn.Module], entry: store.Entry) -> nn.Module:
    """A stored network, built and given its weights: in eval mode, on the GPU if there is one."""
    model = build()
    model.load_state_dict(load_file(entry.path / "weights.safetensors"))
    return model.eval().to(best_device(model), memory_format=torch.channels_last)


def trained_network(build: Callable[[], nn.Module], *arguments: Any, **options: Any) -> tuple[nn.Module, store.Entry]:
    """The trained network and its store entry; arguments as in `fit_network`."""
    entry = fit_network(build, *arguments, **options)
    return load_network(build, entry), entry


def fingerprint(dataset: str) -> dict[str, str]:
    """The inputs of results on a data set besides its name: digests of its two splits, and the frost textures in use.

    For shapes10, which the library draws, a sample stands for all images.
    """
    limit = 500 if dataset == "shapes10" else None
    digests = {split: load_dataset(dataset, split, limit=limit).digest for split in ("train", "test")}
    return digests | {"frost": frost_kind()}


def frost_kind() -> str:
    """'procedural' or 'files': the published photographs are checked by their hashes, so their folder does not matter."""
    return frost_source().partition(":")[0]


def network_digest(model: nn.Module) -> str:
    """16 hex digits of the SHA-256 over the names and values of a network's state; the memory format of its weights does not count."""
    parts = [getattr(model, "digest_name", type(model).__name__)]
    for name, value in sorted(model.state_dict().items()):
        parts += [f"{name} {value.dtype} {tuple(value.shape)}", value]
    return store.content_digest(*parts)


def history(entry: store.Entry) -> list[dict]:
    """Per-epoch records of a trained network."""
    return json.loads((entry.path / "history.json").read_text())


def save_images(folder: Path, data: LabeledImages) -> None:
    """Write a data set as images.npy (uint8 NCHW), labels.npy and data.json."""
    np.save(folder / "images.npy", data.images.cpu().numpy())
    np.save(folder / "labels.npy", data.labels.cpu().numpy())
    (folder / "data.json").write_text(json.dumps({"classes": data.classes, "name": data.name}))


def load_images(folder: Path) -> LabeledImages:
    """Read a data set written by `save_images`; the images are memory-mapped, copy-on-write."""
    facts = json.loads((folder / "data.json").read_text())
    images = torch.from_numpy(np.load(folder / "images.npy", mmap_mode="c"))
    labels = torch.from_numpy(np.load(folder / "labels.npy"))
    return LabeledImages(images, labels, tuple(facts["classes"]), facts["name"])
