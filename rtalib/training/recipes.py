"""Training recipes: every number of a training run, frozen and checked; the papers' own are in recipes.toml."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from rtalib.errors import check_name, check_number
from rtalib.infra.data_files import build, inherited, read_toml

if TYPE_CHECKING:
    import torch

FILE = "recipes.toml"
SCHEDULES = ("step", "cosine", "onecycle", "linear", "triangle")


@dataclass(frozen=True)
class Recipe:
    """How to train with SGD.

    schedule: 'step' multiplies lr by `gamma` at each epoch in `milestones` (counted from 0); 'cosine' falls to 0 over the epochs, one value
    per epoch, as in DARTS; 'onecycle' rises linearly from lr/5 over the first quarter of all steps and falls linearly to 0;
    'linear' falls to 0 from the first step; 'triangle' rises linearly from 0 over the first half of all steps and falls linearly to 0.
    label_smoothing a: labels become (1-a) y + a/K. cutout: side of the erased square in pixels (0: none). grad_clip: largest gradient norm.
    drop_path: probability reached at the end, rising linearly with the epoch. auxiliary_weight: weight of an auxiliary head's loss.
    """

    epochs: int
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: str = "step"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    label_smoothing: float = 0.0
    crop_padding: int = 4
    flip: bool = True
    cutout: int = 0
    grad_clip: float | None = None
    drop_path: float = 0.0
    auxiliary_weight: float = 0.0

    muon: ClassVar[bool] = False
    alternating_flip: ClassVar[bool] = False

    def __post_init__(self):
        check_number("epochs", self.epochs, 1, integer=True)
        check_number("batch_size", self.batch_size, 2, integer=True)
        check_number("lr", self.lr, 0, open_low=True)
        check_number("momentum", self.momentum, 0, 1)
        check_number("weight_decay", self.weight_decay, 0)
        check_number("gamma", self.gamma, 0, 1, open_low=True)
        check_number("label_smoothing", self.label_smoothing, 0, 1)
        check_number("crop_padding", self.crop_padding, 0, integer=True)
        check_number("cutout", self.cutout, 0, integer=True)
        check_number("drop_path", self.drop_path, 0, 1)
        check_number("auxiliary_weight", self.auxiliary_weight, 0)
        if self.grad_clip is not None:
            check_number("grad_clip", self.grad_clip, 0, open_low=True)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: needs momentum above 0, got momentum=0")
        check_name("schedule", self.schedule, SCHEDULES)
        object.__setattr__(self, "milestones", tuple(self.milestones))
        self._check_milestones()

    def _check_milestones(self) -> None:
        if self.milestones and self.schedule != "step":
            raise ValueError(f"milestones: only schedule='step' has them, got {self.milestones} with schedule={self.schedule!r}")
        for m in self.milestones:
            check_number("milestones", m, 1, integer=True)
        if list(self.milestones) != sorted(self.milestones) or (self.milestones and self.milestones[-1] >= self.epochs):
            raise ValueError(
                f"milestones: expected rising epochs below epochs={self.epochs}, got {self.milestones}. "
                "To shorten a recipe with its milestones in proportion use recipe.scaled(epochs)."
            )

    def scaled(self, epochs: int) -> Self:
        """The same recipe over `epochs` epochs, its milestones in proportion; those that would fall on the end are dropped."""
        moved = (max(1, m * epochs // self.epochs) for m in self.milestones)
        return replace(self, epochs=epochs, milestones=tuple(m for m in moved if m < epochs))

    def learning_rate(self, epoch: int, step: int = 0, steps: int = 1) -> float:
        """Learning rate in `step` (of `steps`) of `epoch`, both counted from 0."""
        if self.schedule == "step":
            return self.lr * self.gamma ** sum(epoch >= m for m in self.milestones)
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        done = (epoch + step / steps) / self.epochs
        if self.schedule == "linear":
            return self.lr * (1 - done)
        if self.schedule == "triangle":
            return self.lr * (1 - abs(2 * done - 1))
        return self.lr * (0.2 + 0.8 * done / 0.25 if done < 0.25 else (1 - done) / 0.75)


@dataclass(frozen=True)
class MuonRecipe(Recipe):
    """How to train with Muon, see training.muon: lr and momentum are those of the filters.

    A class of its own, so that the keys of stored networks, which hold the fields of their recipe, stay as they are. alternating_flip: a
    coin decides whether an image is mirrored in the first epoch; after that each epoch shows the other side (Jordan 2024).
    """

    muon: ClassVar[bool] = True
    alternating_flip: bool = True


def _recipes() -> dict[str, Recipe]:
    """The recipes of recipes.toml; the key `optimizer` of a table names its class."""
    kinds, tables = {"sgd": Recipe, "muon": MuonRecipe}, inherited(read_toml(__package__, FILE))
    return {name: build(kinds[table.pop("optimizer", "sgd")], table, f"{FILE}, {name}") for name, table in tables.items()}


RECIPES = _recipes()
PRECISIONS = ("auto", "fp32", "bf16")


def resolve_precision(precision: str, device: "torch.device") -> str:
    """'fp32' or 'bf16'; 'auto' is 'bf16' if `device` has bf16 arithmetic in hardware."""
    import torch

    check_name("precision", precision, PRECISIONS)
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "fp32"
