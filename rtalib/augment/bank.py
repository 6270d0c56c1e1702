"""RTA's bank of operations and its uniform draw.

Everything maps uint8 (N,3,H,W) to uint8 (N,3,H,W), one operation per image; labels, hard or soft, stay. The result for an image depends on
(seed, copy, its index) and on the operations in the bank, not on the images around it.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from rtalib import rng
from rtalib.attacks import EPS, ODIBIM, attack, has_low_logits, odi_bim_recipe
from rtalib.corruptions import BENCHMARKS, CORRUPTIONS, corrupt
from rtalib.data.images import LabeledImages
from rtalib.errors import LARGEST_SEED, check_index, check_kind, check_name, check_number, unknown
from rtalib.models.inference import batch_for, device_of

IDENTITY = "identity"
PROBED = 512  # images that decide whether a source has low logits


@dataclass(frozen=True)
class Bank:
    """RTA's operations: the 15 corruptions at one severity, and one ODI-BIM attack per source model.

    severity 2 and benchmark 'imagecorruptions' are what RTA's authors ran; preset, restarts and steps are those of attacks.odi_bim_recipe.
    low_logits: the sources that preset 'author' attacks on their logits; Bank.for_data finds them. batch_size: of the attacks.
    identity: whether leaving the image as it is counts as an operation (not in the paper; in one saved run of its authors).
    weights: how often an operation is drawn, relative to the others; 1 for those that are not named.
    extra: operations of your own by name, called as operation(images, seed=seed, index=index): uint8 (N,3,H,W) in and out, with random
    numbers from (seed, index) alone (see rng). In the store a name stands for its operation: give a changed operation a new name.
    """

    sources: Mapping[str, nn.Module] = field(default_factory=dict)
    severity: int = 2
    benchmark: str = "imagecorruptions"
    preset: str = "author"
    restarts: int | None = None
    steps: int | None = None
    eps: float = EPS
    low_logits: frozenset[str] = frozenset()
    batch_size: int | None = None
    identity: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("sources", "weights", "extra"):
            check_kind(name, getattr(self, name), Mapping, "a mapping by name")
        check_number("severity", self.severity, 1, 5, integer=True)
        check_name("benchmark", self.benchmark, BENCHMARKS)
        check_kind("identity", self.identity, bool, "True or False")
        check_kind("low_logits", self.low_logits, Set, "a set of names")
        if self.batch_size is not None:
            check_number("batch_size", self.batch_size, 1, integer=True)
        odi_bim_recipe(self.preset, eps=self.eps, restarts=self.restarts, steps=self.steps)
        shared = sorted(set(self.sources) & set(CORRUPTIONS))
        if shared:
            raise ValueError(f"sources: {shared} are names of corruptions; expected other names")
        taken = sorted(set(self.extra) & {*CORRUPTIONS, *self.sources, IDENTITY})
        if taken:
            raise ValueError(f"extra: {taken} are names of corruptions or sources; expected other names")
        for name, weight in self.weights.items():
            check_name("operation in weights", name, self.operations)
            check_number(f"weights[{name!r}]", weight, 0)
        if not any(self.weights.get(name, 1.0) for name in self.operations):
            raise ValueError("weights: all are zero; expected at least one operation that can be drawn")

    @classmethod
    def for_data(cls, data: LabeledImages, sources: Mapping[str, nn.Module], **settings: Any) -> Self:
        """The bank whose `low_logits`, if the preset asks for them, are the sources whose largest logit over up to 512 images, spread
        evenly over `data`, is below 3.2 (see attacks.has_low_logits)."""
        bank = cls(sources, **settings)
        if bank.preset != "author":
            return bank
        check_kind("data", data, LabeledImages, "LabeledImages")
        at = torch.linspace(0, len(data) - 1, min(PROBED, len(data))).round().long()
        return replace(bank, low_logits=frozenset(name for name, model in sources.items() if _low(model, data.images[at])))

    @property
    def operations(self) -> tuple[str, ...]:
        """Corruptions in the benchmark's order, the attacks by the names of their sources, your own, and the identity if asked for."""
        return (*CORRUPTIONS, *self.sources, *self.extra, *([IDENTITY] if self.identity else []))

    def recipe(self, source: str) -> ODIBIM:
        """The attack on one source."""
        low = source in self.low_logits
        return odi_bim_recipe(self.preset, eps=self.eps, low_logits=low, restarts=self.restarts, steps=self.steps)

    def apply(self, operation: str, data: LabeledImages, *, index: Tensor | None = None, seed: int = 0) -> Tensor:
        """uint8 (N,3,H,W) on the device of `data`: one operation on all images; index int64 (N,): see `draw`."""
        index = check_index(index, len(data), data.images.device)
        if operation == IDENTITY and self.identity:
            return data.images.clone()
        if operation in CORRUPTIONS:
            return corrupt(data.images, operation, self.severity, seed=seed, index=index, benchmark=self.benchmark)
        if operation in self.extra:
            return self.extra[operation](data.images, seed=seed, index=index)
        if operation not in self.sources:
            raise unknown("operation", operation, self.operations)
        return attack(self.recipe(operation), self.sources[operation], data, index=index, seed=seed, batch_size=self.batch_size).images

    def draw(self, data: LabeledImages, *, index: Tensor | None = None, seed: int = 0, copy: int = 0) -> tuple[Tensor, list[str]]:
        """(uint8 images, operation of each): one operation per image, by `weights`; only the drawn ones are computed.

        index: int64 (N,), the identity of each image for the random numbers, default 0..N-1.
        """
        index, key = check_index(index, len(data)), copy_seed(seed, copy)
        drawn = self._drawn(key, index)
        images = data.images.clone()
        for number in drawn.unique().tolist():
            at = (drawn == number).nonzero().squeeze(1)
            images[at] = self.apply(self.operations[number], data.subset(at), index=index[at], seed=key)
        return images, [self.operations[number] for number in drawn.tolist()]

    def _drawn(self, key: int, index: Tensor) -> Tensor:
        """int64 (N,): the number of each image's operation."""
        stream = rng.stream("rta operation")
        if not self.weights:
            return rng.integers(key, index, stream, 1, len(self.operations)).squeeze(1)
        shares = torch.tensor([self.weights.get(name, 1.0) for name in self.operations], dtype=torch.float64)
        bounds = (shares / shares.sum()).cumsum(0)
        drawn = torch.searchsorted(bounds, rng.uniform(key, index, stream, 1), right=True).squeeze(1)
        return drawn.clamp_max(int(shares.nonzero()[-1]))  # rounding may leave the last bound a little below one


def _low(model: nn.Module, images: Tensor) -> bool:
    device, (height, width) = device_of(model), images.shape[2:]
    return all(has_low_logits(model, part.to(device).float() / 255) for part in images.split(batch_for(device, height, width)))


def copy_seed(seed: int, copy: int) -> int:
    """The seed of the copy-th augmented copy: the copy is the upper half of the random key, so copies never share numbers."""
    check_number("seed", seed, 0, LARGEST_SEED, integer=True)
    check_number("copy", copy, 0, 2**31 - 1, integer=True)
    return seed + (copy << 32)


def rta(
    data: LabeledImages, sources: Mapping[str, nn.Module], *, seed: int = 0, copy: int = 0, index: Tensor | None = None, **settings: Any
) -> tuple[LabeledImages, list[str]]:
    """Robust TrivialAugment: each image replaced by one of 15 corruptions or an attack on one of `sources`, drawn uniformly.

    Returns the images with their labels as they were, and each image's operation ('fog', ..., 'pgd_at', ...). Each `copy` is a
    fresh draw. index: int64 (N,), default 0..N-1; a slice of a data set gets the same images as the whole if it is given its indices (and,
    with preset 'author', if the slice agrees with the whole on which sources have low logits). No sources: the corruptions alone (Table
    1's 'Corruptions', and Stage II as released). settings: of the Bank (severity, benchmark, restarts, identity, weights, ...).
    """
    images, operations = Bank.for_data(data, sources, **settings).draw(data, index=index, seed=seed, copy=copy)
    return data.with_images(images, f"{data.name}-rta"), operations
