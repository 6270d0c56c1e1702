"""The CF-DARTS protocol, step by step, each kept in the store: deployed network, failures, selection, refinement, retraining.

Followed as the paper's section 3.4 states it, with its gaps filled as noted beside each step (points of the reference's section 6.4).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rtalib import coreset, darts
from rtalib.corruptions import corrupt
from rtalib.data.images import LabeledImages, concat
from rtalib.experiments.repair.baselines import augmented_examples
from rtalib.experiments.repair.images import (
    TEST_SEED,
    Cell,
    Study,
    corrupted,
    evaluation_split,
    stratified_halves,
    training_halves,
    training_images,
)
from rtalib.experiments.repair.searches import genotype, initial_search, searched
from rtalib.infra import store
from rtalib.models.inference import extract_features, predict
from rtalib.scale_settings import RepairScale
from rtalib.training.artefacts import trained_network

CURVES = ("clean", "gaussian_noise", "shot_noise", "impulse_noise")  # Figure 2

# ------------------------------------------------------------------------------------------------------------ networks


def builder(cell: darts.Genotype, setup: RepairScale, data: LabeledImages) -> tuple[Callable[[], nn.Module], dict]:
    """What makes the network of a genotype at this scale, and the facts that define it. Images of 64 pixels are halved first."""
    stem = "tiny-imagenet" if min(data.images.shape[-2:]) >= 64 else setup.stem
    facts = {"genotype": str(cell), "channels": setup.channels, "layers": setup.layers, "stem": stem, "data": data.digest}
    classes = data.num_classes
    return lambda: darts.Network(cell, setup.channels, setup.layers, classes, setup.auxiliary, stem=stem), facts


def recorder(study: Study) -> Callable[[nn.Module], dict]:
    """Accuracy in percent on CURVES after an epoch, at severity 3 on a few test images that supply no failures under 'disjoint'."""

    @cache
    def shown() -> dict[str, LabeledImages]:  # made when the first epoch is over: a network that is stored needs none
        test = evaluation_split(study, "disjoint")[1]
        test = test.subset(torch.arange(min(study.setup.curve_images, len(test))))
        return {name: test if name == "clean" else test.with_images(corrupt(test.images, name, 3, seed=TEST_SEED)) for name in CURVES}

    return lambda model: {name: 100 * float(correct(model, data).float().mean()) for name, data in shown().items()}


def retrained(study: Study, cell: darts.Genotype, data: LabeledImages, *, seed: int, curves: bool = True) -> tuple[nn.Module, store.Entry]:
    """The architecture trained from scratch on `data`, with the accuracy along the way for Figure 2."""
    setup = study.setup
    build, facts = builder(cell, setup, data)
    parameters = {**facts, "curves": setup.curve_images if curves else 0}
    own = {"seed": seed, "precision": setup.precision, "label": f"darts-s{seed}", "record": recorder(study) if curves else None}
    return trained_network(build, lambda: data, setup.recipe(data.images.shape[-1]), parameters=parameters, **own)


def deployed(study: Study) -> tuple[nn.Module, store.Entry, store.Entry]:
    """phi_0 with its weights' entry and its search's entry."""
    search = initial_search(study)
    network, entry = retrained(study, genotype(search), training_images(study), seed=0)
    return network, entry, search


# ------------------------------------------------------------------------------------------------- failures and selection


def correct(network: nn.Module, data: LabeledImages) -> torch.Tensor:
    """bool (N,): whether the network is right."""
    return predict(network, data.images).argmax(dim=1) == data.hard_labels


def failures(network: nn.Module, pool: LabeledImages) -> torch.Tensor:
    """Indices (int64, ascending) of the misclassified images of `pool`; ValueError if there is none."""
    wrong = (~correct(network, pool)).nonzero().flatten()
    if not len(wrong):
        raise ValueError(f"network: it makes no error on {pool.name!r}, so it needs no repair")
    return wrong


def check_budget(budget: int, wrong: int, pool: str) -> None:
    if wrong < budget:
        raise ValueError(f"budget: {budget} failures are to be selected, but the network fails on {wrong} images of {pool!r} only")


def selected(cell: Cell) -> tuple[store.Entry, LabeledImages]:
    """The stored selection (selected.npy: rows of the pool in order of selection, at least cell.budget of them) and the pool.

    'core': k-center greedy on penultimate features, the training images as fixed centres (Eq. 6 in the reading of reference 4.2);
    'random': failures uniformly. Both are nested in the budget: one pass to the largest serves all budgets above the first.
    ValueError when there are fewer failures than cell.budget.
    """
    network, entry, _ = deployed(cell.study)
    pool = corrupted(evaluation_split(cell.study, cell.protocol)[0], cell.corruption)
    sizes = cell.setup.sizes
    depth = cell.budget if cell.budget <= sizes[0] else max(*sizes, cell.budget)

    def build(folder: Path) -> None:
        wrong = failures(network, pool)
        check_budget(cell.budget, len(wrong), pool.name)
        most = min(depth, len(wrong))
        if cell.selection == "random":
            chosen = coreset.random_selection(len(wrong), most, cell.seed)
        else:
            centers = extract_features(network, training_images(cell.study).images)
            chosen = coreset.k_center_greedy(extract_features(network, pool.images[wrong]), centers, most)
        np.save(folder / "selected.npy", wrong[chosen].numpy())
        np.save(folder / "failures.npy", wrong.numpy())

    parameters = {"network": entry.key, "pool": pool.digest, "selection": cell.selection, "depth": depth}
    parameters |= {"seed": cell.seed} if cell.selection == "random" else {}
    return store.make("selection", 2, parameters, build, label=f"{cell.selection}-{cell.corruption}"), pool


def examples(cell: Cell) -> tuple[LabeledImages, torch.Tensor]:
    """C_fail with labels, and its rows in the pool of failures (none for augmented training images, which stand in for it)."""
    if cell.selection == "augmented":
        return augmented_examples(training_images(cell.study), cell.budget, cell.seed), torch.empty(0, dtype=torch.int64)
    entry, pool = selected(cell)
    rows = torch.from_numpy(np.load(entry.path / "selected.npy"))
    check_budget(cell.budget, len(rows), pool.name)
    return pool.subset(rows[: cell.budget]), rows[: cell.budget]


def refined_search(cell: Cell) -> store.Entry:
    """The refinement search of Eqs. 4 and 5: warm from phi_0's supernet, half of C_fail on either side (points 13 and 15).

    A further iteration goes on from the supernet of the one before with the same C_fail: section 3.4 refines W_1 and alpha_1 and says
    nothing of new failures.
    """
    chosen, _ = examples(cell)
    first, second = stratified_halves(chosen.hard_labels, cell.seed)
    train, val = training_halves(cell.study)
    before = refined_search(replace(cell, iterations=cell.iterations - 1)) if cell.iterations > 1 else initial_search(cell.study)
    return searched(
        cell.study,
        concat([train, chosen.subset(first)], "train with failures"),
        concat([val, chosen.subset(second)], "val with failures"),
        seed=cell.seed + 1000 * (cell.iterations - 1),  # other batches than in the iteration before
        refine=True,
        init=before,
    )
