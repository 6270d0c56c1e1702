"""CF-DARTS from top to bottom (Ren et al., Pattern Recognition 2022, section 3.4). Each step hands its result to the next:

    split = evaluation_split(study, protocol)
    deployed = deploy(study)                                    # phi_0: search, then training
    failures = find_failures(deployed, split.base, corruption)
    chosen = select(deployed, failures, rule, budget)           # C_fail: k-center | random | augmented
    genotype = refine(deployed, chosen, iterations)
    network = retrain(genotype, chosen if extended else None)   # phi_1
    row = measure(network, split.test, deployed, chosen)

The first is in images, the last in rows. Searches, weights and selections are stored. Networks are loaded, and predictions made, on first
use, so a stored row builds no network. Where the paper is silent or contradicts itself, the step says what we do.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rtalib import coreset, darts
from rtalib.corruptions import corrupt
from rtalib.data.images import LabeledImages, concat
from rtalib.errors import check_name
from rtalib.experiments.repair.baselines import Baseline, augmented_examples
from rtalib.experiments.repair.images import TEST_SEED, Study, constants_of, corrupted, evaluation_split, with_examples
from rtalib.infra import store
from rtalib.models.inference import extract_features, predict
from rtalib.scale_settings import RepairScale
from rtalib.training.artefacts import fit_network, load_network

RULES = {"k-center": "core", "random": "random", "augmented": "augmented"}  # rule: its name in rows and keys
CURVES = ("clean", "gaussian_noise", "shot_noise", "impulse_noise")  # Figure 2
WARM_UP = 0.3  # of the epochs of a first PC-DARTS search: 15 of 50 as published


@dataclass(frozen=True)
class Architecture:
    """alpha: a genotype, the study at whose size it is trained, and the search that found it (None for a drawn genotype)."""

    study: Study
    genotype: darts.Genotype
    search: store.Entry | None = None

    @property
    def trace(self) -> list[dict]:
        """The search epoch by epoch, as darts.search records it."""
        return json.loads((self.search.path / "trace.json").read_text())


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """phi(W, alpha): an architecture, the images it was trained on, the store entry of its weights, and what builds it."""

    architecture: Architecture
    data: LabeledImages
    entry: store.Entry
    build: partial = field(repr=False)

    @cached_property
    def model(self) -> nn.Module:
        """The network itself, in eval mode, on the GPU if there is one."""
        return load_network(self.build, self.entry)


@dataclass(frozen=True, eq=False)
class Failures:
    """D_fail: the errors of `network` on corrupted copies of the images `base`."""

    network: TrainedNetwork
    base: LabeledImages
    corruption: str

    @cached_property
    def pool(self) -> LabeledImages:
        """All 5 * len(base) corrupted copies; row severity * len(base) + i belongs to base image i."""
        return corrupted(self.base, self.corruption)

    @cached_property
    def rows(self) -> torch.Tensor:
        """Rows of the pool (int64, ascending) that are misclassified; ValueError if there is none."""
        wrong = (~correct(self.network.model, self.pool)).nonzero().flatten()
        if not len(wrong):
            raise ValueError(f"network: it makes no error on {self.pool.name!r}, so it needs no repair")
        return wrong


@dataclass(frozen=True, eq=False)
class Selection:
    """C_fail: examples with labels and, if they are failures, their rows in the pool (int64) in order of selection, and the store entry."""

    failures: Failures
    examples: LabeledImages | None = None
    rows: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    entry: store.Entry | None = None


# ------------------------------------------------------------------------------------------------------------- training


def builder(genotype: darts.Genotype, setup: RepairScale, data: LabeledImages) -> tuple[partial, dict]:
    """What makes the network of a genotype at this scale, and the facts that define it. Images of 64 pixels are halved first."""
    stem = "tiny-imagenet" if min(data.images.shape[-2:]) >= 64 else setup.stem
    facts = {"genotype": str(genotype), "channels": setup.channels, "layers": setup.layers, "stem": stem, "data": data.digest}
    return partial(darts.Network, genotype, setup.channels, setup.layers, data.num_classes, setup.auxiliary, stem=stem), facts


@cache
def parameter_count(genotype: darts.Genotype, *size: int, stem: str) -> int:
    """The parameters of darts.Network(genotype, *size, stem=stem), counted without memory for them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in darts.Network(genotype, *size, stem=stem).parameters())


def recorder(study: Study) -> Callable[[nn.Module], dict]:
    """Figure 2: percent on CURVES after an epoch, at severity 3, on a few test images that supply no failures under 'disjoint'."""

    @cache
    def shown() -> dict[str, LabeledImages]:  # made after the first epoch: a stored network needs none
        test = evaluation_split(study, "disjoint").test
        test, own = test.subset(torch.arange(min(study.setup.curve_images, len(test)))), constants_of(test)
        return {
            name: test if name == "clean" else test.with_images(corrupt(test.images, name, 3, seed=TEST_SEED, **own)) for name in CURVES
        }

    return lambda model: {name: percent(correct(model, data)) for name, data in shown().items()}


def train(
    architecture: Architecture, data: LabeledImages, *, seed: int, curves: bool = True, baseline: Baseline | None = None
) -> TrainedNetwork:
    """W: the architecture trained from scratch on `data` by the scale's recipe, or as a baseline does; with `curves`, Figure 2's accuracies
    after each epoch."""
    study, setup, recipe = architecture.study, architecture.study.setup, architecture.study.setup.recipe(data.images.shape[-1])
    build, facts = builder(architecture.genotype, setup, data)
    parameters = {**facts, "curves": setup.curve_images if curves else 0}
    own = {"seed": seed, "precision": setup.precision, "label": f"darts-s{seed}", "record": recorder(study) if curves else None}
    begin = build
    if baseline is not None:
        recipe = replace(recipe, cutout=0, auxiliary_weight=0.0)  # the objective computes the whole loss
        parameters |= baseline.facts
        own |= {"label": f"{baseline.name}-s{seed}", "objective": baseline.objective}
        begin = build if baseline.begin is None else partial(copy.deepcopy, baseline.begin)
    entry = fit_network(begin, lambda: data, recipe, parameters=parameters, **own)
    return TrainedNetwork(architecture, data, entry, build)


# ------------------------------------------------------------------------------------------------------ deployed network


def deploy(study: Study) -> TrainedNetwork:
    """phi_0 (section 3.4): DARTS on the two halves of the training images, then its genotype trained from scratch on all of them."""
    return train(initial_search(study), study.data, seed=study.seed)


def initial_search(study: Study) -> Architecture:
    """alpha_0. Version 2 (section 4.6) is the best of further searches by validation accuracy; the paper does not say by what."""
    if study.version == 1:
        return search(study, *study.halves, seed=study.seed)
    found = [search(study, *study.halves, seed=seed) for seed in range(1, 1 + study.setup.candidates)]

    def build(folder: Path) -> None:
        chosen, scores = darts.choose([candidate.genotype for candidate in found], *study.halves, choice(study.setup))
        (folder / "choice.json").write_text(json.dumps({"chosen": chosen, "accuracy": scores}))

    parameters = {"searches": [candidate.search.key for candidate in found], "choice": choice(study.setup)}
    entry = store.make("choice", 1, parameters, build, label="v2")
    return found[json.loads((entry.path / "choice.json").read_text())["chosen"]]


def search(study: Study, train: LabeledImages, val: LabeledImages, *, seed: int, init: store.Entry | None = None) -> Architecture:
    """A stored search (section 3.1, Eqs. 1 and 2); with `init`, a refinement that starts from the supernet of that search.

    The paper refines phi_0, but its weights are those of the retrained network and fit no supernet; the search's own supernet does.
    """
    settings, own = search_settings(study, refine=init is not None), {"preset": "refinement" if init else "published", "seed": seed}

    def build(folder: Path) -> None:
        state = load_file(init.path / "state.safetensors") if init else None
        result = darts.search(train, val, study.search, init=state, checkpoint=folder / "checkpoint.pt", **own, **settings)
        (folder / "genotype.json").write_text(result.genotype.to_json())
        (folder / "trace.json").write_text(json.dumps(result.trace, indent=1))
        save_file({name: value.contiguous() for name, value in result.state.items()}, folder / "state.safetensors")

    data = {"train": train.digest, "val": val.digest, "init": init.key if init else None}
    entry = store.make("search", 3, {"method": study.search, "settings": settings, **own, **data}, build, label=f"{study.search}-s{seed}")
    return Architecture(study, darts.Genotype(**json.loads((entry.path / "genotype.json").read_text())), entry)


def search_settings(study: Study, *, refine: bool) -> dict:
    """What a search changes in its preset. At full size, methods other than DARTS keep their published rates and batches.

    The paper's text reads as first order, its 12 hours are those of second order; the scale decides.
    """
    setup = study.setup
    epochs = setup.refine_epochs if refine else setup.search_epochs
    settings = {"channels": setup.search_channels, "layers": setup.search_layers, "stem": setup.stem}
    own = setup.published_searches and study.search != "darts"  # its batch and rates, and as many steps as its half has batches
    settings |= {"epochs": epochs, "steps_per_epoch": None if own else setup.steps_per_epoch}
    if not own:
        settings |= {"batch_size": setup.search_batch, "lr": setup.search_lr, "arch_lr": setup.arch_lr, "order": setup.order}
    if study.arch_weight_decay is not None:
        settings["arch_weight_decay"] = study.arch_weight_decay
    if study.search == "pc-darts" and not refine:
        settings["warm_up"] = round(WARM_UP * epochs)
    if study.search == "darts-pt":
        settings["steps_per_epoch"] = setup.pt_steps or settings["steps_per_epoch"]
        interval = setup.pt_interval if refine else setup.pt_first_interval
        criterion = "loss" if setup.pt_images else "accuracy"  # on few images, removing most operations costs the same accuracy: none
        settings["projection"] = darts.Projection(interval, criterion=criterion, images=setup.pt_images)
    if study.search == "robust-darts":
        settings["order"] = 2  # the method's own; in first order, short searches end with DARTS' genotypes
        settings["grid"] = tuple((weight_decay, 0.0) for weight_decay in setup.robust_grid)
        settings["choice"] = choice(setup)
    return settings


def choice(setup: RepairScale) -> darts.Choice:
    """How one of several genotypes is chosen: by accuracy on D_val, after a short training on D_train."""
    recipe, epochs = setup.choice
    return darts.Choice(epochs, recipe, setup.choice_channels, setup.choice_layers, setup.stem)


def correct(network: nn.Module, data: LabeledImages) -> torch.Tensor:
    """bool (N,): whether the network is right."""
    return predict(network, data.images).argmax(dim=1) == data.hard_labels


def percent(right: torch.Tensor) -> float:
    return 100 * float(right.float().mean())


def find_failures(deployed: TrainedNetwork, base: LabeledImages, corruption: str) -> Failures:
    """D_fail (section 3.4): the errors of phi_0 at all five severities; the paper's 30,000 are more than the 10,000 test images."""
    return Failures(deployed, base, corruption)


def check_budget(budget: int, wrong: int, pool: str) -> None:
    """ValueError if there are fewer failures than the budget."""
    if wrong < budget:
        raise ValueError(f"budget: {budget} failures are to be selected, but the network fails on {wrong} images of {pool!r} only")


def select(deployed: TrainedNetwork, failures: Failures, rule: str | None, budget: int, *, seed: int = 0) -> Selection:
    """C_fail (section 3.3): `budget` examples that stand for all failures. ValueError if there are fewer failures.

    rule: 'k-center', greedily on features before the classifier, the training images being fixed centers (Eq. 6; see coreset for the
    reading); 'random' failures (RF, section 4.1); 'augmented' training images instead of failures (AU); None selects nothing.
    """
    if rule is None:
        return Selection(failures)
    check_name("rule", rule, RULES)
    if rule == "augmented":
        return Selection(failures, augmented_examples(deployed.architecture.study.data, budget, seed))
    entry = _stored_selection(deployed, failures, rule, budget, seed)
    rows = torch.from_numpy(np.load(entry.path / "selected.npy"))
    check_budget(budget, len(rows), failures.pool.name)
    return Selection(failures, failures.pool.subset(rows[:budget]), rows[:budget], entry)


def _stored_selection(deployed: TrainedNetwork, failures: Failures, rule: str, budget: int, seed: int) -> store.Entry:
    """selected.npy, rows of the pool in order of selection, and failures.npy, all failures.

    Both rules are nested in the budget, so one pass to the largest budget of the scale serves all above the first.
    """
    study = deployed.architecture.study
    depth = budget if budget <= study.setup.failures else max(*study.setup.sizes, budget)

    def build(folder: Path) -> None:
        wrong, pool = failures.rows, failures.pool
        check_budget(budget, len(wrong), pool.name)
        if rule == "random":
            chosen = coreset.random_selection(len(wrong), min(depth, len(wrong)), seed)
        else:
            features = [extract_features(deployed.model, images) for images in (pool.images[wrong], study.data.images)]
            chosen = coreset.k_center_greedy(*features, min(depth, len(wrong)))
        np.save(folder / "selected.npy", wrong[chosen].numpy())
        np.save(folder / "failures.npy", wrong.numpy())

    parameters = {"network": deployed.entry.key, "pool": failures.pool.digest, "selection": RULES[rule], "depth": depth}
    parameters |= {"seed": seed} if rule == "random" else {}
    return store.make("selection", 2, parameters, build, label=f"{RULES[rule]}-{failures.corruption}")


def refine(deployed: TrainedNetwork, chosen: Selection, iterations: int = 1, *, seed: int = 0) -> Architecture:
    """alpha_1 (section 3.3, Eqs. 4 and 5): the search continues, with half of C_fail in D_train and the other half in D_val.

    Each further iteration (section 4.7) starts from the supernet of the previous one, with the same C_fail: the paper refines W_1 and
    alpha_1 and mentions no new failures.
    """
    architecture = deployed.architecture
    halves = with_examples(architecture.study.halves, chosen.examples, seed)
    for iteration in range(iterations):  # each sees other batches
        architecture = search(architecture.study, *halves, seed=seed + 1000 * iteration, init=architecture.search)
    return architecture


def retrain(architecture: Architecture, chosen: Selection | None = None, *, seed: int = 0) -> TrainedNetwork:
    """phi_1 (section 3.4): the architecture trained from scratch on D_train (CF-DARTS), or on D_train and C_fail (CF-DARTSE).

    Weights start from seed 1 + `seed`, because phi_0's start from 0.
    """
    data = architecture.study.data
    data = data if chosen is None else concat([data, chosen.examples], "train with failures")
    return train(architecture, data, seed=1 + seed)
