"""The cells of a card: a network on a block of images, under one corruption at all severities or one attack at all radii.

A block's results per image are an artefact of the store, so that a killed run resumes and a larger --limit computes the new blocks alone.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rtalib import attacks
from rtalib.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from rtalib.data.images import LabeledImages, balanced
from rtalib.data.loading import load_dataset
from rtalib.errors import check_name, check_number
from rtalib.infra import grid, store
from rtalib.models.inference import best_device, predict
from rtalib.training.artefacts import frost_kind, network_digest
from rtalib.yours.metrics import uncertainty
from rtalib.yours.networks import open_network

BLOCK = 500  # images
CLEAN = "clean"
ATTACKS: dict[str, attacks.Attack] = {  # in the store a name stands for its recipe: give a changed recipe a new name
    "pgd": attacks.PGD(steps=20, stop_on_success=True),
    "odi_pgd": attacks.ODIPGD(keep="first"),
    "apgd_ce": attacks.APGD(),
    "apgd_t": attacks.APGDT(),
}
RUN, RECIPE = "cards", "rtalib.card.cell"


@dataclass(frozen=True)
class NetworkSpec:
    """A network as a command line names it; see yours.networks.open_network."""

    network: str
    weights: str | None = None
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None
    size: int | None = None
    output: str | int | None = None

    @property
    def label(self) -> str:
        return self.network.rpartition(":")[2] if ":" in self.network else Path(self.network).stem

    def open(self, classes: int) -> nn.Module:
        given = asdict(self)
        network = open_network(given.pop("network"), **given, classes=classes)
        return network.to(best_device(network) if any(True for _ in network.parameters()) else "cpu", memory_format=torch.channels_last)


@dataclass(frozen=True)
class CellTrial:
    """`what` ('clean', a corruption or an attack) at its `levels` (severities, or eps in units of 1/255) on the images start..stop-1 of the
    test split in its balanced order."""

    network: NetworkSpec
    dataset: str
    side: int | None
    start: int
    stop: int
    what: str
    levels: tuple[float, ...]
    benchmark: str
    seed: int = 0


def images(dataset: str, side: int | None) -> LabeledImages:
    """The test split in a random order; every prefix is balanced over the classes."""
    return _shuffled(dataset, side)[0]


def numbers(dataset: str, side: int | None) -> Tensor:
    """int64 (N,): which images of the test split these are, as load_dataset counts them from 0."""
    return _shuffled(dataset, side)[1]


@lru_cache(maxsize=2)
def _shuffled(dataset: str, side: int | None) -> tuple[LabeledImages, Tensor]:
    whole = load_dataset(dataset, "test", side=side)
    order = balanced(whole.hard_labels, whole.num_classes, len(whole), 0)
    return whole.subset(order), order


@dataclass(frozen=True, eq=False)
class Opened:
    """A network, a faster stand-in with the same logits up to rounding, and what it is."""

    network: nn.Module
    fast: nn.Module
    identity: str


@lru_cache(maxsize=2)
def opened(spec: NetworkSpec, dataset: str, side: int | None) -> Opened:
    data = images(dataset, side)
    network = spec.open(data.num_classes)
    return Opened(network, stand_in(network), identity(spec, network, data))


def stand_in(network: nn.Module) -> nn.Module:
    """The network with BatchNorm folded, which takes a fifth less time; the network itself if torch.fx cannot trace it."""
    try:
        return attacks.prepared(network)
    except ValueError:
        return network


def cell(trial: CellTrial) -> dict:
    """One row: the key of the block's results, its seconds as a whole, and the accuracy at each level in percent."""
    rows = torch.arange(trial.start, trial.stop)
    part, used = images(trial.dataset, trial.side).subset(rows), opened(trial.network, trial.dataset, trial.side)
    parameters = {
        "network": used.identity,
        "images": part.digest,
        "frost": frost_kind(),
        **{name: value for name, value in asdict(trial).items() if name not in ("network", "dataset", "side", "stop")},
    }

    def build(folder: Path) -> None:
        found = _attacked(trial, used.network, part, rows) if trial.what in ATTACKS else _corrupted(trial, used.fast, part, rows)
        save_file(found, folder / "results.safetensors")

    entry = store.make("card-block", 1, parameters, build, label=trial.what)
    right = load_file(entry.path / "results.safetensors")["right"]
    return {"block": entry.key, "accuracy": (100 * right.double().mean(1)).tolist()}


def _corrupted(trial: CellTrial, network: nn.Module, part: LabeledImages, rows: Tensor) -> dict[str, Tensor]:
    """right bool, predicted int32 and uncertainty float32, each (levels, n)."""
    predicted, doubt = [], []
    for level in trial.levels or (0,):
        seen = part.images
        if level:
            seen = corrupt(seen, trial.what, int(level), seed=trial.seed, index=rows, benchmark=trial.benchmark)
        logits = finite(predict(network, seen))
        predicted.append(logits.argmax(1))
        doubt.append(uncertainty(logits))
    predicted = torch.stack(predicted)
    return {"right": predicted == part.hard_labels, "predicted": predicted.int(), "uncertainty": torch.stack(doubt)}


def _attacked(trial: CellTrial, network: nn.Module, part: LabeledImages, rows: Tensor) -> dict[str, Tensor]:
    """right bool (levels, n): an image that falls at one radius falls at every larger one, so only those that stand are attacked."""
    standing, found = torch.ones(len(rows), dtype=torch.bool), []
    device = next(network.parameters()).device
    for eps in sorted(trial.levels):
        recipe = attacks.with_eps(ATTACKS[trial.what], eps / 255)
        for at in standing.nonzero()[:, 0].split(128) if standing.any() else ():
            clean, truth = part.images[at].to(device).float() / 255, part.hard_labels[at].to(device)
            standing[at] = ~recipe.record(network, clean, truth, index=rows[at].to(device), seed=trial.seed).success.cpu()
        found.append(standing.clone())
    return {"right": torch.stack(found)}


def finite(logits: Tensor) -> Tensor:
    if not logits.isfinite().all():
        raise ValueError("network: its logits contain NaN or infinity")
    return logits


def identity(spec: NetworkSpec, network: nn.Module, data: LabeledImages) -> str:
    """What the network is: its weights and form, the source of FILE.py, and what it answers for 64 images."""
    file = Path(spec.network.rpartition(":")[0])
    source = hashlib.sha256(file.read_bytes()).hexdigest() if file.suffix == ".py" else ""
    answers = predict(network, data.images[:64]).argmax(1)
    return store.content_digest(network_digest(network), source, answers)


def answers(network: nn.Module, data: LabeledImages) -> Tensor:
    """Logits of the first eight images; ValueError in one line unless they are finite and of the data's classes."""
    few = data.images[:8]
    height, width = few.shape[2:]
    try:
        logits = predict(network, few)
    except RuntimeError as error:
        text = str(error).strip().partition("\n")[0]
        raise ValueError(f"network: it cannot take images of {width}x{height} px ({text}); if it is the size, --resize PX") from error
    if logits.shape[1] != data.num_classes:
        raise ValueError(f"network: it gives {logits.shape[1]} logits, but {data.name} has {data.num_classes} classes")
    return finite(logits)


def examine(network: nn.Module, data: LabeledImages) -> None:
    """ValueError in one line unless the network gives finite logits of the data's classes, the same for the same image each time."""
    few = data.images[:8]
    first = answers(network, data)
    if not torch.equal(first, predict(network, few)):
        raise ValueError("network: its logits for the same images differ from one call to the next; expected no random parts in eval mode")
    alone = torch.cat([predict(network, few[i : i + 1]) for i in range(2)])
    if not torch.allclose(alone, first[:2], rtol=1e-2, atol=1e-2 * float(first.abs().max())):
        raise ValueError("network: an image's logits depend on the others of its batch; expected BatchNorm with stored statistics")


def trials(
    network: NetworkSpec, dataset: str, side: int | None, count: int, kinds: Mapping[str, Sequence[float]], benchmark: str, seed: int
) -> list[CellTrial]:
    """One cell for each block of the first `count` images and each of `kinds`, {what: levels}."""
    common = {"network": network, "dataset": dataset, "side": side, "benchmark": benchmark, "seed": seed}
    return [
        CellTrial(start=start, stop=min(start + BLOCK, count), what=what, levels=tuple(levels), **common)
        for start in range(0, count, BLOCK)
        for what, levels in kinds.items()
    ]


def kinds_of(corruptions: Sequence[str] | None, attacked: Sequence[str], eps: Sequence[float]) -> tuple[dict, dict]:
    """({clean and corruptions: severities}, {attack: radii}), checked."""
    chosen = CORRUPTIONS if corruptions is None else corruptions
    if not chosen:
        raise ValueError(f"corruptions: expected at least one of {', '.join(CORRUPTIONS)}")
    for name in chosen:
        check_name("corruption", name, CORRUPTIONS)
    for name in attacked:
        check_name("attack", name, ATTACKS)
    for radius in eps:
        check_number("eps", radius, 0, 255, open_low=True, unit=" in units of 1/255")
    return {CLEAN: ()} | dict.fromkeys(chosen, SEVERITIES), dict.fromkeys(attacked, tuple(sorted(eps)))


def run(cells: Sequence[CellTrial], table: str, **grid_options: Any) -> list[dict]:
    """The rows of cells, in their order."""
    where = cells[0].dataset, cells[0].side
    inputs = {"network": opened(cells[0].network, *where).identity, "frost": frost_kind(), "images": images(*where).digest}
    return grid.run(cell, cells, recipe=RECIPE, run=RUN, table=table, inputs=inputs, **grid_options)


def gather(cells: Sequence[CellTrial], rows: Sequence[dict]) -> dict[str, dict[str, np.ndarray]]:
    """{what: {'right', 'predicted', 'uncertainty'}}, each (levels, N), the blocks joined in their order."""
    parts: dict[str, list[dict[str, Tensor]]] = {}
    for trial, row in zip(cells, rows, strict=True):
        entry = store.find("card-block", row["block"])
        if entry is None:
            raise store.StoreError(
                f"the results {row['block']} of {trial.what} are gone from {store.outputs()}; remove {RUN}/rows and run again"
            )
        parts.setdefault(trial.what, []).append(load_file(entry.path / "results.safetensors"))
    return {what: {name: torch.cat([part[name] for part in found], 1).numpy() for name in found[0]} for what, found in parts.items()}


def absolute(spec: NetworkSpec) -> NetworkSpec:
    """With the paths of files made absolute, as workers elsewhere need them."""
    path, colon, name = spec.network.rpartition(":")
    if path.endswith(".py"):
        return replace(spec, network=f"{Path(path).expanduser().absolute()}{colon}{name}")
    if Path(spec.network).suffix in (".onnx", ".pt2"):
        return replace(spec, network=str(Path(spec.network).expanduser().absolute()))
    return spec
