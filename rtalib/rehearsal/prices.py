"""Seconds of a unit of each kind: as rehearsed on this machine, else a guess from recorded rows of other scales, by operations."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rtalib.infra import store
from rtalib.infra.grid.cell import environment
from rtalib.rehearsal import kinds
from rtalib.rehearsal.kinds import CELLS, Kind
from rtalib.rehearsal.rows import text_of
from rtalib.training.recipes import RECIPES, Recipe

RECORD = Path(__file__).absolute().parents[2] / "outputs" / "record"  # in a clone
# Operations of a step in those of a forward pass; an inner step is a forward pass and a backward pass to the image.
PASSES = {"fast_at": 5, "feature_scatter": 7, "AugMix": 9, "DeepRepair": 9}
INNER = {"pgd_at": 3, "label_smoothing": 3, "at_he": 3, "mmc": 3, "trades": 7, "trades_awp": 13}  # besides two for each inner step
SEARCHING = {1: 6, 2: 15}  # by order: two passes, or five (Liu et al. 2019, equation 8)
CORRUPTING = 1000  # operations for a value of an image


@dataclass(frozen=True)
class Prices:
    """rehearsed: {kind as text: row}; rate: seconds of an operation where nothing was rehearsed, and `origin`, what it was measured on."""

    rehearsed: Mapping[str, dict] = field(default_factory=dict)
    rate: float = 0.0
    origin: str = ""

    def of(self, kind: Kind) -> tuple[float, bool]:
        """(seconds of a unit, whether they are a guess)."""
        row = self.rehearsed.get(text_of(kind))
        return (row["unit_seconds"], False) if row else (self.rate * operations(kind), True)


@lru_cache(maxsize=1024)
def operations(kind: Kind) -> float:
    """Floating-point operations of a unit, multiplications and additions."""
    if kind.what == kinds.CORRUPTION:
        return CORRUPTING * 3.0 * kind.side**2
    if kind.what == kinds.SELECTION:
        failures, count, width = kind.size
        return 2.0 * failures * width * (count + kind.batch)
    once = forward(kind.network, kind.method == "pc-darts", kind.side, kind.classes, kind.size, kind.stem)
    if kind.what == kinds.TRAINING:
        passes = INNER[kind.method] + 2 * kind.steps if kind.method in INNER else PASSES.get(kind.method, 3)
        return once * kind.batch * passes
    return once * {kinds.SEARCH: SEARCHING[kind.order] * kind.batch, kinds.PREDICTION: 1, kinds.ATTACK: 2}[kind.what]


@lru_cache(maxsize=256)
def forward(network: str, partial: bool, side: int, classes: int, size: tuple[int, ...], stem: str) -> float:
    """Operations of a forward pass of one image, counted by torch on the meta device; normalization has none of weight. partial: whether a
    supernet mixes a part of its channels, as PC-DARTS."""
    kind = Kind(kinds.PREDICTION, network, "pc-darts" if partial else "", side=side, classes=classes, size=size, stem=stem)
    with torch.device("meta"), torch.no_grad():
        model = kinds.build(kind).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.forward = nn.Identity().forward  # its meta implementation takes most of the time
        with FlopCounterMode(display=False) as counted:
            model(torch.zeros(1, 3, side, side))
    return float(counted.get_total_flops())


# --------------------------------------------------------------------------------------------------------------- guesses


def guessed(rehearsed: Mapping[str, dict]) -> tuple[float, str]:
    """(seconds of an operation, where that was measured): the median over the rehearsed trainings; without any, over those that stored rows
    describe, first of this machine's runs, then of the record in the clone; else of a small network here and now."""
    trained = [row for row in rehearsed.values() if row["kind"]["what"] == kinds.TRAINING]
    if trained:
        return median(row["unit_seconds"] / operations(kind_of(row["kind"])) for row in trained), "its rehearsed trainings"
    for home in dict.fromkeys((store.outputs(), RECORD)):
        with environment(RTALIB_OUTPUTS=str(home)):
            rows = list(_trained())
        if rows:
            devices = {str(row["stamp"].get("gpu") or f"a core of {row['stamp'].get('cpu')}") for row in rows}
            return median(map(rate, rows)), " and ".join(sorted(devices))
    kind = Kind(kinds.TRAINING, "convnet", "clean", 64, recipe=kinds.unit_recipe(RECIPES["fast"]))
    return kinds.rehearse(kinds.Rehearsal(kind, "shapes10"))["unit_seconds"] / operations(kind), "this machine, a small network"


def kind_of(facts: Mapping) -> Kind:
    """The kind that a row describes."""
    recipe = facts["recipe"] and Recipe(**facts["recipe"])
    return Kind(**{**facts, "size": tuple(facts["size"]), "recipe": recipe})


def _trained() -> Iterable[dict]:
    """The rows of CF-DARTS' tables in the store, which hold the history of their network's training."""
    for run in sorted(path.parent.name for path in store.outputs().glob("*/plans") if os.path.isdir(path)):
        for table in store.tables(run):
            if table.startswith("cf-table"):
                yield from (row for row in store.rows(run, table) if row.get("history") and row.get("recipe") and "setup" in row)


def rate(row: Mapping) -> float:
    """Seconds of an operation in the training that a row describes: images x epochs x operations of an image."""
    setup = row["setup"]
    once = forward(CELLS, False, 32, 10, (setup["channels"], setup["layers"]), setup["stem"])
    return sum(epoch["seconds"] for epoch in row["history"]) / (3 * once * row["n_train"] * row["recipe"]["epochs"])
