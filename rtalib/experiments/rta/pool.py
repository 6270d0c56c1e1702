"""The pool of iterative search: its images in pieces, and the candidates that RTA's operations make from each piece."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rtalib import augment, rng
from rtalib.corruptions import CORRUPTIONS
from rtalib.data.images import LabeledImages, balanced
from rtalib.infra import store
from rtalib.training.artefacts import frost_kind, network_digest

if TYPE_CHECKING:
    from rtalib.experiments.rta.iterative_search import Settings


@dataclass(frozen=True, eq=False)
class Pool:
    """`settings.size` images of `data` in `settings.pieces` pieces, which count from 0.

    A position in the pool is copy * len(data) + the number of the image; each copy has its own random numbers. ValueError for images of
    one class, fewer images of a class than pieces, and more operations offered than the bank has.
    """

    data: LabeledImages
    bank: augment.Bank
    settings: "Settings"
    seed: int

    def __post_init__(self) -> None:
        labels = self.data.hard_labels[self.positions % len(self.data)]
        counts = {name: count for name, count in zip(self.data.classes, labels.bincount().tolist(), strict=False) if count}
        if len(counts) < 2:
            raise ValueError("data: expected images of at least two classes; nothing can be misclassified otherwise")
        rarest = min(counts, key=counts.get)
        if counts[rarest] < self.settings.pieces:
            raise ValueError(
                f"pieces: {self.settings.pieces} pieces need as many images of every class; {rarest!r} has {counts[rarest]} in the pool. "
                "Give more images or a larger size, or fewer pieces."
            )
        if (self.settings.offered or 0) > len(self.bank.operations):
            raise ValueError(f"offered: asked for {self.settings.offered} operations, the bank has {len(self.bank.operations)}")

    @cached_property
    def positions(self) -> Tensor:
        """int64 (size,): all images as often as they fit, then a balanced part of them."""
        n = len(self.data)
        whole, rest = divmod(self.settings.size or n, n)
        part = balanced(self.data.hard_labels.cpu(), self.data.num_classes, rest, self.seed).sort().values if rest else torch.arange(0)
        return torch.cat([torch.arange(whole * n), whole * n + part])

    @cached_property
    def cuts(self) -> list[Tensor]:
        """The positions of each piece, int64, stratified.

        The images of a class go to the pieces copy by copy, within a copy in random order or as they come. If a class cannot be divided
        evenly, its parts differ by one image. Within a piece one class follows the other.
        """
        n, pieces = len(self.data), self.settings.pieces
        order = rng.uniform(self.seed, self.positions, rng.stream("iterative search", "order"), 1)[:, 0]
        rank = self.positions // n + (order if self.settings.shuffle else (self.positions % n) / n)
        positions = self.positions[rank.argsort(stable=True)]
        labels = self.data.hard_labels.cpu()[positions % n]
        parts = [torch.tensor([round(count * t / pieces) for t in range(pieces + 1)]).diff() for count in labels.bincount().tolist()]
        piece = torch.cat([torch.arange(pieces).repeat_interleave(part) for part in parts])
        by_class = positions[labels.argsort(stable=True)]
        return [by_class[piece == t] for t in range(pieces)]

    def drawn(self, t: int) -> tuple[Tensor, Tensor]:
        """Piece t after RTA's draw: uint8 (n,3,H,W), and each image's operation, int64 (n,)."""
        images, operation = self.empty(len(self.cuts[t])), torch.empty(len(self.cuts[t]), dtype=torch.int64)
        for copy, rows, image in self._copies(self.cuts[t]):
            made, names = self.bank.draw(self.data.subset(image), index=image, seed=self.seed, copy=copy)
            images[rows], operation[rows] = made.cpu(), torch.tensor([self.bank.operations.index(name) for name in names])
        return images, operation

    def offered(self, t: int) -> Tensor:
        """bool (n,O): which operations make the candidates of each image of piece t."""
        shape, count = (len(self.cuts[t]), len(self.bank.operations)), self.settings.offered
        if count is None:
            return torch.ones(shape, dtype=torch.bool)
        order = rng.uniform(self.seed, self.cuts[t], rng.stream("iterative search", "offered"), shape[1]).argsort(1)
        return torch.zeros(shape, dtype=torch.bool).scatter_(1, order[:, :count], True)

    def candidates(self, t: int, operation: str) -> store.Entry:
        """images.npy, uint8: those images of piece t that are offered the operation, in their order, after it."""
        positions = self.cuts[t][self.offered(t)[:, self.bank.operations.index(operation)]]

        def build(folder: Path) -> None:
            images = self.empty(len(positions))
            for copy, rows, image in self._copies(positions):
                key = augment.copy_seed(self.seed, copy)
                images[rows] = self.bank.apply(operation, self.data.subset(image), index=image, seed=key).cpu()
            np.save(folder / "images.npy", images.numpy())

        parameters = {"positions": store.content_digest(positions), "operation": operation, **self.origins[operation]}
        return store.make("rta-candidates", 1, parameters, build, label=f"{operation}-{t}-s{self.seed}")

    def candidate_images(self, t: int) -> dict[int, Tensor]:
        """{number of the operation: its candidates}, memory-mapped: at the paper's size those of a piece take more than a gigabyte."""
        numbers = self.offered(t).any(0).nonzero().squeeze(1).tolist()
        paths = {number: self.candidates(t, self.bank.operations[number]).path for number in numbers}
        return {number: torch.from_numpy(np.load(path / "images.npy", mmap_mode="c")) for number, path in paths.items()}

    @cached_property
    def origins(self) -> dict[str, dict]:
        """{operation: what determines its result}, for keys of the store."""
        bank, facts = self.bank, {"data": self.data.digest, "seed": self.seed}
        corruption = facts | {"severity": bank.severity, "benchmark": bank.benchmark}
        origins = {name: corruption | {"frost": frost_kind() if name == "frost" else ""} for name in CORRUPTIONS}
        for name, model in bank.sources.items():
            origins[name] = facts | {"attack": asdict(bank.recipe(name)), "source": network_digest(model)}
        return {name: origins.get(name, facts) for name in bank.operations}

    def empty(self, count: int) -> Tensor:
        """uint8 (count,3,H,W)."""
        return torch.empty(count, *self.data.images.shape[1:], dtype=torch.uint8)

    def _copies(self, positions: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For each copy of the data: its number, which of the positions belong to it, and the numbers of their images."""
        copies, image = positions // len(self.data), positions % len(self.data)
        for copy in copies.unique().tolist():
            rows = (copies == copy).nonzero().squeeze(1)
            yield copy, rows, image[rows]
