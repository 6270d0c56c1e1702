"""What the CF-DARTS tables are about: one network, one corruption, one method and seed; and the images that belong to them.

Two protocols: 'paper' takes the failures from the very test images on which it then reports; 'disjoint' parts the test images first, so
that no base image of a failure is ever evaluated.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from rtalib.corruptions import SEVERITIES, corrupt
from rtalib.data import shapes10
from rtalib.data.images import LabeledImages, balanced, concat
from rtalib.data.loading import load_dataset
from rtalib.experiments import PROTOCOLS as PROTOCOLS
from rtalib.infra import store
from rtalib.scale_settings import OTHER_SHAPES, RepairScale
from rtalib.training.artefacts import frost_kind, load_images, save_images

TEST_SEED = 2_000_003  # of the corrupted test sets, which stand for the published files: the same for every cell


@dataclass(frozen=True)
class Study:
    """A deployed network phi_0: the search of its architecture, and which of the two initial networks it is."""

    dataset: str
    scale: str
    setup: RepairScale
    search: str = "darts"  # a name in darts.METHODS
    version: int = 1  # 2: the best of further searches (Table 6)


@dataclass(frozen=True)
class Cell:
    """One method with one seed; the seed drives selection, search and retraining, the deployed network stays the same.

    kind: 'deployed', 'retrained' (the same architecture again), 'random' (a drawn architecture), 'refined' (found with failures), or the
    name of a baseline. selection: 'random', 'core' or 'augmented' examples, `budget` of them; `extended` trains on them, too.
    target: another data set, on which the architecture is trained and measured (Table 4).
    """

    method: str
    seed: int
    dataset: str
    corruption: str | None
    protocol: str
    scale: str
    setup: RepairScale
    kind: str
    selection: str | None = None
    budget: int = 0
    extended: bool = False
    search: str = "darts"
    version: int = 1
    iterations: int = 1
    target: str | None = None

    @property
    def study(self) -> Study:
        return Study(self.dataset, self.scale, self.setup, self.search, self.version)


# -------------------------------------------------------------------------------------------------------------- images


@lru_cache(maxsize=8)  # the cells of a worker share them; run_table forgets them first, for a folder's content may change
def images(dataset: str, split: str, limit: int, classes: int = 0) -> LabeledImages:
    """`limit` images of a split, balanced; of the first `classes` classes only, where above 0."""
    if dataset == OTHER_SHAPES:
        index, labels = shapes10.numbers(split, limit)
        return LabeledImages(shapes10.render(index, labels, seed=1, size=24), labels, shapes10.CLASSES, OTHER_SHAPES)
    if not classes:
        return load_dataset(dataset, split, limit=limit)
    data = load_dataset(dataset, split)
    few = data.subset(data.hard_labels < classes)
    few = LabeledImages(few.images, few.hard_labels, data.classes[:classes], data.name)
    return few.subset(balanced(few.labels, classes, limit, seed=0))


def training_images(study: Study) -> LabeledImages:
    return images(study.dataset, "train", study.setup.images)


def training_halves(study: Study) -> tuple[LabeledImages, LabeledImages]:
    """D_train and D_val of the search (reference 6.4, point 10)."""
    data = training_images(study)
    half = len(data) // 2
    return data.subset(torch.arange(half)), data.subset(torch.arange(half, len(data)))


def stratified_halves(labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two ascending index sets (int64), as equal as can be in size and in every class; shuffled by `seed`."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]  # dealt out in turns, class after class
    return by_class[0::2].sort().values, by_class[1::2].sort().values


def evaluation_split(study: Study, protocol: str) -> tuple[LabeledImages, LabeledImages]:
    """(base images of failures, base images of the evaluation): the same set under 'paper', stratified halves under 'disjoint'."""
    test = images(study.dataset, "test", study.setup.tests)
    if protocol == "paper":
        return test, test
    first, second = stratified_halves(test.hard_labels, seed=0)
    return test.subset(first), test.subset(second)


def corrupted(test: LabeledImages, corruption: str) -> LabeledImages:
    """All five severities, stacked as in the published files: row severity * len(test) + i belongs to base image i.

    Made once, kept in the store, and memory-mapped.
    """

    def build(folder: Path) -> None:
        parts = [test.with_images(corrupt(test.images, corruption, severity, seed=TEST_SEED)) for severity in SEVERITIES]
        save_images(folder, concat(parts, f"{test.name}/{corruption}"))

    parameters = {"test": test.digest, "corruption": corruption, "seed": TEST_SEED, "frost": frost_kind()}
    return load_images(store.make("corrupted", 1, parameters, build, label=corruption).path)


def shared_images(base: LabeledImages, test: LabeledImages) -> int:
    """How many images of `test` are in `base`, byte for byte."""
    known = {image.numpy().tobytes() for image in base.images}
    return sum(image.numpy().tobytes() in known for image in test.images)


# ------------------------------------------------------------------------------------------------- the other data set


def target_images(cell: Cell, split: str) -> LabeledImages:
    """The training or the evaluation images of Table 4's data set; half as many tests as of the own one, for none supply failures."""
    setup = cell.setup
    limit = setup.transfer_images if split == "train" else setup.tests // 2
    return images(cell.target, split, limit, 0 if cell.target == OTHER_SHAPES else setup.transfer_classes)


def target_name(cell: Cell) -> str:
    """What the rows call it: its size and its number of classes stand there, for they may be less than the published set's."""
    data = target_images(cell, "test")
    return data.name if cell.target == OTHER_SHAPES else f"{data.name} ({data.images.shape[-1]} px, {data.num_classes} classes)"
