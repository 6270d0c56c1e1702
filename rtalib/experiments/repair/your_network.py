"""Repair a network of your own: the failures that stand for all, and, for a network of DARTS cells, a refined and retrained one."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from rtalib import coreset, darts, scales
from rtalib.darts.space import EDGES
from rtalib.data.images import LabeledImages, concat
from rtalib.errors import unknown
from rtalib.experiments.repair.baselines import augmented_examples
from rtalib.experiments.repair.images import stratified_halves
from rtalib.experiments.repair.protocol import check_budget, correct
from rtalib.models.base import seeded
from rtalib.models.inference import evaluate, extract_features
from rtalib.training.loop import train as train_network

METHODS = ("rf", "au", "cf")  # random failures, augmented training images, core failures
NAMES = {"rf": "random failures", "au": "augmented training images", "cf": "core failures"}
HEAD_START = 1.0  # of the deployed architecture's operations among the alphas: softmax weight .28 where the others have .10


@dataclass(frozen=True)
class Repaired:
    """What `repair` found.

    core: the selected examples, in order of selection, and their rows in the given failures (None for 'au'). radius: the largest feature
    distance from a failure to the nearest training image or selected failure; None for 'au'. genotype, network (eval mode): refined and
    retrained; None where the network is not one of DARTS cells. before, after: accuracy in [0,1] on `failures` (those not selected) and,
    where given, on `test`; after is empty without a network. explanation: what was done, and what can be done next.
    """

    core: LabeledImages
    rows: torch.Tensor | None
    radius: float | None
    genotype: darts.Genotype | None
    network: nn.Module | None
    before: dict[str, float]
    after: dict[str, float]
    explanation: str


def repair(
    network: nn.Module,
    failures: LabeledImages,
    train: LabeledImages,
    *,
    method: str = "cf",
    extended: bool = False,
    iterations: int = 1,
    budget: int | None = None,
    test: LabeledImages | None = None,
    features: str | None = None,
    scale: str = "demo",
    seed: int = 0,
    on_step: Callable[[str], None] | None = None,
) -> Repaired:
    """Select failures of `network` and, where it is a darts.Network, refine its architecture with them and train the refined one.

    network: takes float32 (N,3,H,W) in [0,1] and normalises inside. failures: labelled images on which it may fail; those that it gets
    right are left out. train: the images it was trained on; they are fixed centres of the selection, and half of them is D_val.
    method: 'cf' core failures (k-center greedy), 'rf' random ones, 'au' augmented training images. extended: retrain on them, too (E).
    iterations: of refinement. budget: how many to select, default the scale's share of `train`, at most half of the failures.
    test: images for the accuracy before and after. features: name of the module whose output (averaged over its positions) is the feature,
    for a network without a method `features`. scale: of search and retraining. on_step(text): called before each step.

    Your network has no supernet of which the search could go on, so the search starts with its operations ahead of the others and with new
    weights, and takes as many epochs as a first search. Raises ValueError naming the argument: no failure at all, fewer than `budget`,
    features that cannot be found or are not finite, other classes. Failures of one class only are warned of.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if iterations < 1:
        raise ValueError(f"iterations: expected at least 1, got {iterations}")
    setup, tell = scales.get(scale).repair, on_step or (lambda text: None)
    for name, data in (("failures", failures), ("test", test)):
        if data is not None and data.classes != train.classes:
            raise ValueError(f"{name}: expected the classes of train, {train.classes}, got {data.classes}")
    tell("looking for the failures")
    wrong = _failing(network, failures)
    budget = budget or max(2, min(len(wrong) // 2, round(len(train) * setup.failures / setup.images)))
    check_budget(budget, len(wrong), failures.name)
    tell(f"selecting {budget} of {len(wrong)} failures: {NAMES[method]}")
    rows, radius, core = None, None, None
    if method == "au":
        core = augmented_examples(train, budget, seed)
    else:
        chosen, radius = _select(method, featured(network, features), failures.subset(wrong), train, budget, seed)
        rows = wrong[chosen]
        core = failures.subset(rows)
    left = failures if rows is None else failures.subset(_without(len(failures), rows))
    before = _accuracies(network, left, test)
    if not isinstance(network, darts.Network):
        return Repaired(core, rows, radius, None, None, before, {}, _advice(network, core, failures, len(wrong)))
    cells = _refined(network, train, core, setup, iterations, seed, tell)
    tell(f"training the refined network on {len(train) + extended * budget} images")
    repaired = _retrained(network, cells, concat([train, core], "train with failures") if extended else train, setup, seed)
    after = _accuracies(repaired, left, test)
    return Repaired(core, rows, radius, cells, repaired, before, after, _summary(before, after, method, extended, budget))


# ------------------------------------------------------------------------------------------------- failures and selection


def _failing(network: nn.Module, failures: LabeledImages) -> torch.Tensor:
    """Rows that the network gets wrong; warns where they are of a single class."""
    wrong = (~correct(network, failures)).nonzero().flatten()
    if not len(wrong):
        raise ValueError(f"failures: the network is right on all {len(failures)} images of {failures.name!r}, so it needs no repair")
    classes = failures.hard_labels[wrong].unique()
    if len(classes) == 1 < failures.num_classes:
        name = failures.classes[int(classes)]
        text = f"failures: all {len(wrong)} are of class {name!r}; a repair that they guide knows nothing of the other classes"
        warnings.warn(text, stacklevel=3)
    return wrong


class Tapped(nn.Module):
    """A network whose `features` are what one of its modules puts out: (N,C,H,W) averaged over positions, (N,L,C) over tokens."""

    def __init__(self, network: nn.Module, name: str):
        super().__init__()
        self.network, self.module = network, network.get_submodule(name)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        heard: list[torch.Tensor] = []
        handle = self.module.register_forward_hook(lambda module, inputs, output: heard.append(output))
        try:
            self.network(x)
        finally:
            handle.remove()
        output = heard[-1]
        return output.mean(dim=(2, 3)) if output.ndim == 4 else output.mean(dim=1) if output.ndim == 3 else output


def featured(network: nn.Module, name: str | None = None) -> nn.Module:
    """A network with a method `features`: the given one if it has it, else one that takes the output of the module `name`.

    ValueError that lists the modules where the network has no `features` and no name is given, or there is no module of that name.
    """
    modules = [known for known, _ in network.named_modules() if known]
    if name is not None:
        if name not in modules:
            raise unknown("module for features", name, modules)
        return Tapped(network, name)
    if callable(getattr(network, "features", None)) and not isinstance(network.features, nn.Module):
        return network
    raise ValueError(
        f"features: {type(network).__name__} has no method features(x), so its penultimate layer is unknown; name the module whose "
        f"output it is, the one before the classifier. The last modules are: {', '.join(modules[-8:]) or 'none'}"
    )


def _select(
    method: str, network: nn.Module, failing: LabeledImages, train: LabeledImages, budget: int, seed: int
) -> tuple[torch.Tensor, float]:
    """(indices into the failing images in order of selection, covering radius)."""
    candidates, centers = extract_features(network, failing.images), extract_features(network, train.images)
    for name, found in (("failures", candidates), ("train", centers)):
        bad = int((~torch.isfinite(found).all(dim=1)).sum())
        if bad:
            raise ValueError(
                f"network: its features are NaN or infinite on {bad} of the {len(found)} images of {name}; expected finite ones"
            )
    if method == "rf":
        chosen = coreset.random_selection(len(failing), budget, seed)
    else:
        chosen = coreset.k_center_greedy(candidates, centers, budget)
    return chosen, coreset.covering_radius(candidates, centers, chosen)


def _without(count: int, rows: torch.Tensor) -> torch.Tensor:
    keep = torch.ones(count, dtype=torch.bool)
    keep[rows] = False
    return keep if keep.any() else torch.ones(count, dtype=torch.bool)


# ------------------------------------------------------------------------------------------------ refinement, retraining


def alphas_of(genotype: darts.Genotype) -> dict[str, torch.Tensor]:
    """Architecture parameters (14, 8) in which the operations of a genotype are ahead by HEAD_START: a start for a search in 'darts'."""
    space = darts.SPACES["darts"]
    space.check(genotype)
    found = {}
    for kind in ("normal", "reduce"):
        offered = getattr(space, kind)
        found[f"alphas_{kind}"] = alphas = torch.zeros(len(EDGES), len(offered[0]))
        for position, (name, source) in enumerate(getattr(genotype, kind)):
            edge = EDGES.index((2 + position // 2, source))
            alphas[edge, offered[edge].index(name)] = HEAD_START
    return found


def _refined(
    network: darts.Network, train: LabeledImages, core: LabeledImages, setup: scales.RepairScale, iterations: int, seed: int, tell: Callable
) -> darts.Genotype:
    """The genotype that the search with the failures finds."""
    half = len(train) // 2
    first, second = stratified_halves(core.hard_labels, seed)
    parts = ((torch.arange(half), first), (torch.arange(half, len(train)), second))
    halves = [concat([train.subset(own), core.subset(added)], "with failures") for own, added in parts]
    settings = {"channels": setup.search_channels, "layers": setup.search_layers, "stem": setup.stem}
    settings |= {"batch_size": setup.search_batch, "lr": setup.search_lr, "arch_lr": setup.arch_lr, "order": setup.order}
    state, found = alphas_of(network.genotype), network.genotype
    for turn in range(iterations):
        tell(f"searching with the failures, iteration {turn + 1} of {iterations}")
        epochs = setup.refine_epochs if turn else setup.search_epochs
        steps = {"epochs": epochs, "steps_per_epoch": setup.steps_per_epoch}
        result = darts.search(*halves, init=state, seed=seed + 1000 * turn, **steps, **settings)
        state, found = result.state, result.genotype
    return found


def _retrained(network: darts.Network, cells: darts.Genotype, data: LabeledImages, setup: scales.RepairScale, seed: int) -> nn.Module:
    """The refined architecture at the deployed network's own size, trained from scratch by the scale's recipe."""
    classes = network.classifier.out_features
    recipe = replace(setup.recipe(data.images.shape[-1]), auxiliary_weight=0.0)
    repaired = seeded(lambda: darts.Network(cells, network.channels, len(network.cells), classes, stem=network.stem_name), 1 + seed)
    train_network(repaired, data, recipe, seed=1 + seed, precision=setup.precision)
    return repaired


# ---------------------------------------------------------------------------------------------------------- what is said


def _accuracies(network: nn.Module, failures: LabeledImages, test: LabeledImages | None) -> dict[str, float]:
    return {"failures": evaluate(network, failures)} | ({} if test is None else {"test": evaluate(network, test)})


def _summary(before: dict, after: dict, method: str, extended: bool, budget: int) -> str:
    gains = ", ".join(f"{name} {100 * before[name]:.1f} -> {100 * after[name]:.1f} %" for name in before)
    added = "and trained on them, too" if extended else "and trained on the training images alone"
    return (
        f"A refined architecture was searched with {budget} {NAMES[method]} {added}: {gains}. The deployed network has 0 % on its own "
        "failures by construction, and the same architecture trained again gets some of them right: compare with that before you call "
        "it a repair."
    )


def _advice(network: nn.Module, core: LabeledImages, failures: LabeledImages, wrong: int) -> str:
    return (
        f"{type(network).__name__} is not built of DARTS cells, so there is no architecture to refine. What you have: {len(core)} examples "
        f"that stand for the {wrong} failures among {len(failures)} images, far from the training images and from each other. Label and "
        "check these first; add them to the training set and train again (the E variant without the search); or train a darts.Network on "
        "your images and repair that."
    )
