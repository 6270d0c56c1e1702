"""A study of CF-DARTS, and its images: training images and halves, the split of the test images, corrupted copies, Table 4's data set.

There are two protocols. Under 'paper', failures are collected from the test images on which the tables report. Under 'disjoint', the test
images are split first, so that no base image of a failure is evaluated.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from rtalib.corruptions import SEVERITIES, benchmark_for, corrupt
from rtalib.data import shapes10
from rtalib.data.images import LabeledImages, balanced, concat
from rtalib.data.loading import load_dataset
from rtalib.infra import store
from rtalib.scale_settings import OTHER_SHAPES, RepairScale
from rtalib.training.artefacts import frost_kind, load_images, save_images

TEST_SEED = 2_000_003  # of all corrupted test sets: they stand for the published files, so every trial sees the same


@dataclass(frozen=True)
class Study:
    """A deployed network phi_0: data set and scale, the method that searched its architecture, and which of the two networks it is."""

    dataset: str
    scale: str
    setup: RepairScale
    search: str = "darts"  # a name in darts.METHODS
    version: int = 1  # 2: the best of further searches (Table 6)
    seed: int = 0  # of phi_0's search and training
    arch_weight_decay: float | None = None  # of its searches; default the preset's

    @cached_property
    def data(self) -> LabeledImages:
        """All training images. Retraining sees all of them, and they are the fixed centers of the selection."""
        return images(self.dataset, "train", self.setup.images)

    @cached_property
    def halves(self) -> tuple[LabeledImages, LabeledImages]:
        """D_train and D_val of a search. The paper gives D_train all 50,000 images and yet names a D_val; DARTS halves them."""
        return halves(self.data)


@lru_cache(maxsize=8)  # shared by the trials of a worker; run_table clears it, because the content of a folder may have changed
def images(dataset: str, split: str, limit: int, classes: int = 0) -> LabeledImages:
    """`limit` images of a split, balanced over the classes; only the first `classes` classes if above 0."""
    if dataset == OTHER_SHAPES:
        index, labels = shapes10.numbers(split, limit)
        return LabeledImages(shapes10.render(index, labels, seed=1, size=24), labels, shapes10.CLASSES, OTHER_SHAPES)
    if not classes:
        return load_dataset(dataset, split, limit=limit)
    data = load_dataset(dataset, split)
    few = data.subset(data.hard_labels < classes)
    few = LabeledImages(few.images, few.hard_labels, data.classes[:classes], data.name)
    return few.subset(balanced(few.labels, classes, limit, seed=0))


def halves(data: LabeledImages) -> tuple[LabeledImages, LabeledImages]:
    rows = torch.arange(len(data))
    return data.subset(rows[: len(data) // 2]), data.subset(rows[len(data) // 2 :])


def stratified_halves(labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two ascending index sets (int64), shuffled by `seed`, whose sizes differ by at most one, in total and in every class."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]  # dealt out in turns, class after class
    return by_class[0::2].sort().values, by_class[1::2].sort().values


def with_examples(data: tuple[LabeledImages, LabeledImages], examples: LabeledImages, seed: int) -> list[LabeledImages]:
    """D_train and D_val with half of the examples each (Eqs. 4 and 5). The paper does not say how to halve; we balance the classes."""
    parts = zip(data, stratified_halves(examples.hard_labels, seed), strict=True)
    return [concat([half, examples.subset(rows)], f"{half.name} with examples") for half, rows in parts]


class Split(NamedTuple):
    """The test images, split: failures are corrupted copies of `base`, accuracy is measured on `test`."""

    base: LabeledImages
    test: LabeledImages


def evaluation_split(study: Study, protocol: str) -> Split:
    """All test images twice under 'paper' (section 3.4: failures are test images), two stratified halves under 'disjoint'."""
    test = images(study.dataset, "test", study.setup.tests)
    return Split(test, test) if protocol == "paper" else Split(*map(test.subset, stratified_halves(test.hard_labels, seed=0)))


def constants_of(data: LabeledImages) -> dict[str, str]:
    """The argument `benchmark` of `corrupt` that suits the size of the images, for keys, too: nothing for CIFAR-10-C's, the default."""
    benchmark = benchmark_for(min(data.images.shape[-2:]))
    return {} if benchmark == "cifar10-c" else {"benchmark": benchmark}


def corrupted(test: LabeledImages, corruption: str) -> LabeledImages:
    """All five severities, stacked as in the published files: row severity * len(test) + i belongs to base image i.

    With the constants of the benchmark that is made for images of this size. Kept in the store and memory-mapped.
    """

    def build(folder: Path) -> None:
        parts = [
            test.with_images(corrupt(test.images, corruption, severity, seed=TEST_SEED, **constants_of(test))) for severity in SEVERITIES
        ]
        save_images(folder, concat(parts, f"{test.name}/{corruption}"))

    parameters = {"test": test.digest, "corruption": corruption, "seed": TEST_SEED, "frost": frost_kind(), **constants_of(test)}
    return load_images(store.make("corrupted", 1, parameters, build, label=corruption).path)


def shared_images(base: LabeledImages, test: LabeledImages) -> int:
    """How many images of `test` are in `base`, byte for byte."""
    known = {image.numpy().tobytes() for image in base.images}
    return sum(image.numpy().tobytes() in known for image in test.images)


def target_images(target: str, split: str, setup: RepairScale) -> LabeledImages:
    """Images of Table 4's data set, for training or evaluation; of tests only half as many, because none of them supplies failures."""
    limit = setup.transfer_images if split == "train" else setup.tests // 2
    return images(target, split, limit, 0 if target == OTHER_SHAPES else setup.transfer_classes)


def target_name(data: LabeledImages) -> str:
    """What rows call a target: with its size and number of classes, because they may be below those of the published set."""
    return data.name if data.name == OTHER_SHAPES else f"{data.name} ({data.images.shape[-1]} px, {data.num_classes} classes)"
