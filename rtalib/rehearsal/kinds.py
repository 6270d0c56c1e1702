"""A kind of work, and its rehearsal: a few steps with the real network, batch and images, and its checkpoint written and read.

A unit is a step of a training or a search, an image predicted or corrupted, a gradient of an attack on an image, or a whole selection.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from rtalib import attacks, coreset, darts, models
from rtalib.corruptions import CORRUPTIONS, corrupt
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.experiments.repair.baselines import AUGMIX, BASELINES, CUTMIX, style_references
from rtalib.models.inference import BATCH, best_device, predict
from rtalib.rehearsal import memory
from rtalib.sources.heads import with_head
from rtalib.sources.train import CONTEXTS, objective
from rtalib.training.loop import train
from rtalib.training.mixing import AugMixLoss, CutMixLoss
from rtalib.training.recipes import Recipe

TRAINING, SEARCH, PREDICTION, ATTACK, CORRUPTION, SELECTION = "training", "search", "prediction", "attack", "corruption", "selection"
CELLS, SUPERNET = "network of cells", "supernet"  # networks that models.build does not know
STEPS = 2  # of a rehearsal; the last one counts, since the first also sets up
SMALL = 2  # images of a first, small rehearsal, from which time and memory of the real batch are foretold
SHARE = 0.8  # of the free memory that a rehearsal may take


@dataclass(frozen=True)
class Kind:
    """What takes equally long in every cell that needs it.

    network: a name of models.MODELS, CELLS or SUPERNET, whose `size` is (channels, layers) and whose `stem` is darts'. method: of a
    training an objective of sources.train or a baseline, of a search one of darts.METHODS, of corruptions a benchmark. batch: images of a
    step; of a selection the budget, and `size` is (failures, training images, width of the features). recipe: of a training, see
    unit_recipe. head, weights: as in sources.cards.Stage. steps: of an inner attack.
    """

    what: str
    network: str = ""
    method: str = ""
    batch: int = 0
    side: int = 32
    classes: int = 10
    size: tuple[int, ...] = ()
    stem: str = "cifar"
    order: int = 1
    recipe: Recipe | None = None
    head: str = ""
    weights: str = "all"
    steps: int = 10
    precision: str = "auto"

    def __str__(self) -> str:
        size = f" C{self.size[0]} L{self.size[1]}" if self.network in (CELLS, SUPERNET) else ""
        order = ", second order" if self.order == 2 else ""
        pixels = f", {self.side} px" if self.side != 32 else ""
        parts = {"all": ""}.get(self.weights, f", {self.weights}")
        if self.what == SELECTION:
            return f"selection of {self.batch:,} from {self.size[0]:,} beside {self.size[1]:,}, width {self.size[2]}"
        images = f", batch {self.batch}" if self.batch else ""
        return f"{self.what}: {self.network}{size} {self.method}".rstrip() + order + parts + images + pixels


@dataclass(frozen=True)
class Rehearsal:
    """A cell of the rehearsal. longest: seconds that a step may take; a larger batch is then measured in part, and its row says so."""

    kind: Kind
    dataset: str
    longest: float | None = None


@lru_cache(maxsize=256)
def unit_recipe(recipe: Recipe) -> Recipe:
    """The recipe as part of a Kind: trainings that differ in length or rates alone are of one kind."""
    return replace(recipe, epochs=STEPS, milestones=(), lr=0.01, weight_decay=1e-4, label_smoothing=0.0)


def build(kind: Kind) -> nn.Module:
    """The network of a kind."""
    if kind.network == CELLS:
        auxiliary = kind.recipe is not None and kind.recipe.auxiliary_weight > 0
        return darts.Network("darts_v2", *kind.size, kind.classes, auxiliary, stem=kind.stem)
    if kind.network == SUPERNET:
        partial = 4 if kind.method == "pc-darts" else 1
        return darts.FusedSupernet("no-none", *kind.size, kind.classes, partial=partial, stem=kind.stem)
    network = models.build(kind.network, kind.classes, side=models.LARGEST if kind.side > models.LARGEST else None)
    return with_head(network, kind.head, kind.classes) if kind.head else network


def rehearse(trial: Rehearsal) -> dict:
    """Measure a kind. Fields of the row: unit_seconds (of a unit at the real batch), measured (images of the steps that ran), memory (peak
    of the process or GPU with them, GiB), needed (GiB at the real batch, foretold if it did not run), checkpoint (MB), note."""
    kind = trial.kind
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # cells share the cores, a thread for each
    facts = {"name": str(kind), "measured": kind.batch, "checkpoint": 0.0, "note": ""}
    with tempfile.TemporaryDirectory() as folder:
        if kind.what in OTHERS:
            seconds, peak = memory.peak(lambda: OTHERS[kind.what](kind, trial.dataset))
            return facts | {"unit_seconds": seconds, "memory": round(peak, 3), "needed": round(peak, 3)}
        step = {TRAINING: _training, SEARCH: _search}[kind.what]
        resting, done = memory.resting(), [step(kind, trial.dataset, min(SMALL, kind.batch), Path(folder) / "0.pt")]
        batch, needed, note = _bearable(kind, done, resting, trial.longest)
        while batch >= 2 * done[-1].batch or done[-1].batch < batch == kind.batch:
            done.append(step(kind, trial.dataset, batch, Path(folder) / f"{len(done)}.pt"))
            batch, needed, note = _bearable(kind, done, resting, trial.longest)
    last = done[-1]
    own = {"unit_seconds": last.seconds * kind.batch / last.batch, "measured": last.batch, "checkpoint": round(last.size / 1e6, 2)}
    return facts | own | {"memory": round(last.peak, 3), "needed": round(needed, 3), "note": note}


@dataclass(frozen=True)
class _Step:
    """seconds of a step of so many images, the peak of memory until then (GiB), and bytes of the checkpoint."""

    batch: int
    seconds: float
    peak: float
    size: int


def _bearable(kind: Kind, done: list[_Step], resting: float, longest: float | None) -> tuple[int, float, str]:
    """(images of a batch that can be measured here, GiB that the real batch needs, why they are fewer), from the steps so far.

    resting: GiB in use before them. After a single step, all memory but what the weights take is thought to grow with the batch.
    """
    last = done[-1]
    if last.batch == kind.batch:
        return kind.batch, last.peak, ""
    if len(done) > 1:
        image = max(last.peak - done[0].peak, 1e-3) / (last.batch - done[0].batch)
    else:
        with torch.device("meta"):
            fixed = resting + 12 * models.count_parameters(build(kind)) / memory.GIB  # weights, gradients, momenta
        image = max(last.peak - fixed, 1e-3) / last.batch
    needed, room = last.peak + image * (kind.batch - last.batch), SHARE * memory.free()
    expected = last.seconds * kind.batch / last.batch
    fitting, note = last.batch + int(room / image), ""
    quick = kind.batch if longest is None else int(kind.batch * longest / expected)
    if fitting < kind.batch:
        note = f"the batch needs about {needed:.1f} GiB, {room:.1f} may be taken here; scaled from {last.batch} images"
    elif quick < kind.batch:
        note = f"a step takes about {expected:.0f} s here; scaled from {last.batch} images"
    return min(kind.batch, fitting, quick), needed, note


# --------------------------------------------------------------------------------------------------------------- steps


def _clock() -> float:
    """Seconds by the clock on a GPU; on a CPU those of this process, which other work on the machine does not prolong."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def _training(kind: Kind, dataset: str, batch: int, checkpoint: Path) -> _Step:
    """An update: an epoch is one batch, and a second network takes the checkpoint over."""
    memory.forget()
    data, marks = images(dataset, batch, kind.side, kind.classes), []
    recipe, aim = replace(kind.recipe, epochs=STEPS, batch_size=batch), _objective(kind, data)
    options = {"objective": aim, "checkpoint": checkpoint, "checkpoint_every": STEPS, "precision": kind.precision}
    if kind.method in BASELINES:
        recipe = replace(recipe, cutout=0, auxiliary_weight=0.0)
    ended = []
    for on_epoch in (lambda model, row: marks.append((_clock(), memory.most())), None):
        model = build(kind)
        with CONTEXTS[kind.weights](model):
            train(model, data, recipe, on_epoch=on_epoch, **options)
        ended.append({name: value.cpu() for name, value in model.state_dict().items()})
    _check_equal(*ended)
    return _step(batch, marks, getattr(aim, "replays", 1), checkpoint)


def _step(batch: int, marks: list[tuple[float, float]], updates: int, checkpoint: Path) -> _Step:
    (before, _), (after, peak) = marks[-2:]
    return _Step(batch, (after - before) / updates, peak, checkpoint.stat().st_size)


def _search(kind: Kind, dataset: str, batch: int, checkpoint: Path) -> _Step:
    """A step of weights and architecture, likewise."""
    memory.forget()
    data, marks = images(dataset, 2 * batch, kind.side, kind.classes), []
    halves = data.subset(torch.arange(batch)), data.subset(torch.arange(batch, 2 * batch))
    changes = {"channels": kind.size[0], "layers": kind.size[1], "stem": kind.stem, "epochs": STEPS, "steps_per_epoch": 1, "warm_up": 0}
    changes |= {"batch_size": batch, "order": kind.order, "grid": (), "projection": None}
    ended = []
    for on_epoch in (lambda row: marks.append((_clock(), memory.most())), None):
        result = darts.search(*halves, kind.method, checkpoint=checkpoint, on_epoch=on_epoch, **changes)
        ended.append(result.state)
    _check_equal(*ended)
    return _step(batch, marks, 1, checkpoint)


def _check_equal(first: dict, second: dict) -> None:
    if any(not torch.equal(value, second[name]) for name, value in first.items()):
        raise RuntimeError("checkpoint: the network that was read back differs from the one that was written")


def _objective(kind: Kind, data: LabeledImages) -> Callable | None:
    """The loss of a training."""
    own = {"auxiliary_weight": kind.recipe.auxiliary_weight}
    if kind.method == "CutMix":
        return CutMixLoss(0, **own, **CUTMIX)
    if kind.method in ("AugMix", "DeepRepair"):
        return AugMixLoss(0, **own, references=style_references(data) if kind.method == "DeepRepair" else None, **AUGMIX)
    return objective(kind.method or "clean", steps=kind.steps)


# -------------------------------------------------------------------------------------------------------------- others


def _timed(work: Callable[[], object], units: int) -> float:
    """Seconds of a unit, the second time."""
    work()
    started = _clock()
    work()
    return (_clock() - started) / units


def _ready(kind: Kind, dataset: str) -> tuple[nn.Module, LabeledImages]:
    """A network in eval mode on its device, and as many images as fill its batches."""
    network = build(kind).eval()
    device = best_device(network)
    return network.to(device, memory_format=torch.channels_last), images(dataset, BATCH[device.type], kind.side, kind.classes)


def _prediction(kind: Kind, dataset: str) -> float:
    network, data = _ready(kind, dataset)
    return _timed(lambda: predict(network, data.images), len(data))


def _attack(kind: Kind, dataset: str) -> float:
    network, data = _ready(kind, dataset)
    few = data.subset(torch.arange(min(8, len(data)))) if best_device(network).type == "cpu" else data
    return _timed(lambda: attacks.attack(attacks.PGD(steps=2), attacks.prepared(network), few), 2 * len(few))


def _corruption(kind: Kind, dataset: str) -> float:
    """The mean over the fifteen."""
    data = images(dataset, 64, kind.side, kind.classes)
    return _timed(lambda: [corrupt(data.images, name, 2, benchmark=kind.method) for name in CORRUPTIONS], 15 * len(data))


def _selection(kind: Kind, dataset: str) -> float:
    """k-center greedy on features drawn at random: what it costs does not depend on them."""
    failures, count, width = kind.size
    generator = torch.Generator().manual_seed(0)
    features = (torch.randn(rows, width, generator=generator) for rows in (failures, count))
    candidates, centers = features
    started = _clock()
    coreset.k_center_greedy(candidates, centers, kind.batch)
    return _clock() - started


OTHERS = {PREDICTION: _prediction, ATTACK: _attack, CORRUPTION: _corruption, SELECTION: _selection}


@lru_cache(maxsize=4)
def _read(dataset: str) -> LabeledImages:
    return load_dataset(dataset, "train", limit=2048)


def images(dataset: str, count: int, side: int, classes: int) -> LabeledImages:
    """The first `count` training images at a size; labels are folded into the number of classes. What a step costs depends on no more."""
    data = _read(dataset)
    rows = torch.arange(count) % len(data)
    pictures, labels = data.images[rows], data.hard_labels[rows]
    if tuple(pictures.shape[2:]) != (side, side):
        pictures = F.interpolate(pictures.float(), size=(side, side)).byte()
    names = tuple(f"class {number}" for number in range(classes))
    return LabeledImages(pictures, (labels + 10 * rows) % classes, names, data.name)
