"""Core or random: repairs of the last layer on frozen features, every selector x budget x corruption x split x network.

CF-DARTS' central question is whether failures picked by k-center greedy repair better than random ones. With whole searches it stays open:
five seeds give an interval of several points. A repair of the last layer takes a fraction of a second, so here are thousands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rtalib.corruptions import CORRUPTIONS, corrupt
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.experiments.repair.images import TEST_SEED, stratified_halves
from rtalib.infra import grid, store
from rtalib.models.inference import extract_features
from rtalib.training.artefacts import fingerprint, frost_kind, network_digest
from rtalib.yours.networks import open_network
from rtalib.yours.repair.rungs import fit_head
from rtalib.yours.repair.selectors import SELECTORS, Candidates

if TYPE_CHECKING:
    import pandas as pd

RUN, TABLE = "networks", "core-or-random"
VERSION = 2  # of the rows; 2: the last layer fitted to convergence
BUDGETS = (10, 30, 100, 300)
DRAWS = 4  # of random failures; their mean is compared
REPLAY = 500  # clean training images in every repair


@dataclass(frozen=True)
class Trial:
    """A network, a corruption, and a split of the test images into those that give failures and those that are measured."""

    network: str  # as yours.networks.open_network takes it
    digest: str  # of that network
    dataset: str
    corruption: str
    split: int
    tests: int = 2000
    severity: int = 3
    budgets: tuple[int, ...] = BUDGETS


def run(
    networks: Sequence[str], dataset: str, splits: Sequence[int], corruptions: Sequence[str] = CORRUPTIONS, **options: object
) -> list[dict]:
    """The rows of all trials; stored ones are not computed again. options: fields of Trial, and `executor`, `workers` of grid.run."""
    how = {name: options.pop(name) for name in ("executor", "workers") if name in options}
    digests = {network: network_digest(open_network(network)) for network in networks}
    trials = [
        Trial(network, digest, dataset, name, split, **options)
        for split in splits
        for network, digest in digests.items()
        for name in corruptions
    ]
    inputs = fingerprint(dataset)
    return grid.run(
        repairs,
        trials,
        recipe="rtalib.yours.core_or_random.repairs",
        run=RUN,
        table=TABLE,
        version=VERSION,
        inputs=inputs,
        ordered=True,
        **how,
    )


def repairs(trial: Trial) -> dict:
    """Accuracies in percent on the other half of the test images: corrupted and clean, before and by selector and budget.

    `gains` {selector: {budget: points}} on corrupted images, `clean_gains` on clean ones; of 'random' the mean of DRAWS draws.
    """
    clean, failing, own, labels, own_labels = _features(trial)
    weight, bias = _classifier(trial)
    first, second = stratified_halves(labels, trial.split)
    logits = failing[first] @ weight.T + bias
    wrong = first[logits.argmax(1) != labels[first]]
    found = Candidates(failing[wrong], failing[wrong] @ weight.T + bias, labels[wrong], own)

    def accuracies(layer: tuple[Tensor, Tensor]) -> np.ndarray:
        """Percent right on held corrupted and clean images."""
        return np.array(
            [100 * float((part[second] @ layer[0].T + layer[1]).argmax(1).eq(labels[second]).double().mean()) for part in (failing, clean)]
        )

    before, gains, clean_gains = accuracies((weight, bias)), {}, {}
    for name, rule in SELECTORS.items():
        for budget in (b for b in trial.budgets if b < len(wrong)):
            seeds = [1000 * trial.split + k for k in range(DRAWS if name == "random" else 1)]
            picks = [wrong[rule(found, budget, seed)] for seed in seeds]
            layers = [fit_head(weight, bias, own, failing[rows], own_labels, labels[rows]) for rows in picks]
            gain = np.mean([accuracies(layer) for layer in layers], axis=0) - before
            gains.setdefault(name, {})[budget], clean_gains.setdefault(name, {})[budget] = gain.tolist()
    measured = {"corrupted": before[0], "clean": before[1], "failures": len(wrong), "held": len(second)}
    return measured | {"gains": gains, "clean_gains": clean_gains}


def differences(rows: Sequence[dict], part: str = "gains") -> "pd.DataFrame":
    """Core minus every other selector, in points of accuracy: difference, low, high (95 %, Student), n, by selector and budget.

    n counts pairs of a network and a corruption: splits of a pair share their images, so they are averaged first. The budget 'all' is the
    mean over budgets. part: 'gains' (corrupted images) or 'clean_gains'.
    """
    import pandas as pd

    from rtalib.results.tables import interval

    cells = [
        {
            "selector": name,
            "budget": str(budget),
            "pair": (row["network"], row["corruption"]),
            "difference": row[part]["core"][budget] - gain,
        }
        for row in rows
        for name, gains in row[part].items()
        for budget, gain in gains.items()
        if name != "core"
    ]
    found = pd.DataFrame(cells)
    found = pd.concat([found, found.assign(budget="all")]).groupby(["selector", "budget", "pair"])["difference"].mean()
    table = found.groupby(["selector", "budget"]).agg(["mean", interval, "count"])
    table = table.set_axis(["difference", "half", "n"], axis=1)
    table = table.assign(low=table["difference"] - table["half"], high=table["difference"] + table["half"])
    budgets = [*sorted(table.index.unique("budget").drop("all"), key=int), "all"]
    order = [(name, budget) for name in SELECTORS for budget in budgets if (name, budget) in table.index]
    return table.loc[order, ["difference", "low", "high", "n"]]


def repair_count(rows: Sequence[dict]) -> int:
    """How many last layers were fitted for these rows."""
    return sum(len(gains) * (DRAWS if name == "random" else 1) for row in rows for name, gains in row["gains"].items())


def _features(trial: Trial) -> tuple[Tensor, ...]:
    """Features of clean and of corrupted test images, of clean training images, and the labels of the tests and the training images."""
    test, own = load_dataset(trial.dataset, "test", limit=trial.tests), load_dataset(trial.dataset, "train", limit=REPLAY)
    parts = {"clean": (test, None), "failing": (test, trial.corruption), "own": (own, None)}
    return (*(_stored(trial, *part) for part in parts.values()), test.hard_labels, own.hard_labels)


def _stored(trial: Trial, data: LabeledImages, corruption: str | None) -> Tensor:
    """Features float32 (N,D), kept in the store."""
    network = open_network(trial.network)

    def build(folder: Path) -> None:
        images = corrupt(data.images, corruption, trial.severity, seed=TEST_SEED) if corruption else data.images
        np.save(folder / "features.npy", extract_features(network, images).numpy())

    parameters = {"network": network_digest(network), "data": data.digest, "corruption": corruption, "frost": frost_kind()}
    parameters |= {"severity": trial.severity, "seed": TEST_SEED} if corruption else {}
    return torch.from_numpy(np.load(store.make("features", 1, parameters, build, label=corruption or "clean").path / "features.npy"))


def _classifier(trial: Trial) -> tuple[Tensor, Tensor]:
    network = open_network(trial.network)
    side = load_dataset(trial.dataset, "test", limit=1).images.shape[-1]
    network.features(torch.zeros(1, 3, side, side))  # an adapted network finds its last layer then
    return network.classifier.weight.detach(), network.classifier.bias.detach()
