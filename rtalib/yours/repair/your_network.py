"""Repair a network of your own: read it, select the failures that stand for all, refine and retrain it if it is built of DARTS cells."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rtalib import coreset, darts, scales
from rtalib.darts.space import EDGES
from rtalib.data.images import LabeledImages, concat
from rtalib.errors import check_kind, check_name, check_number
from rtalib.experiments.repair.baselines import augmented_examples
from rtalib.experiments.repair.images import Study, halves, with_examples
from rtalib.experiments.repair.protocol import check_budget, correct, deploy, search_settings
from rtalib.models.adapt import adapt
from rtalib.models.base import seeded
from rtalib.models.inference import evaluate, extract_features
from rtalib.training.loop import train as train_network

METHODS = {"rf": "random failures", "au": "augmented training images", "cf": "core failures"}
HEAD_START = 1.0  # of the deployed architecture's operations among the alphas: softmax weight .28, the others .10


@dataclass(frozen=True)
class RepairResult:
    """What `repair` returns.

    core: the selected examples, in order of selection, and their rows in the given failures (None for 'au'). radius: the largest feature
    distance from a failure to the nearest training image or selected failure; None for 'au'. genotype, network (eval mode): refined and
    retrained; None if the network is not built of DARTS cells. before, after: accuracy in [0,1] on `failures` (those not selected) and,
    if given, on `test`; after is empty without a network. explanation: what was done, and what you can do next.
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
) -> RepairResult:
    """Select failures of `network` and, if it is a darts.Network, refine its architecture with them and train the refined one.

    network: takes float32 (N,3,H,W) in [0,1] and normalizes inside. failures: labeled images on which it may fail; those that it gets right
    are ignored. train: the images it was trained on; they are fixed centers of the selection, and half of them is D_val.
    method: 'cf' core failures (k-center greedy), 'rf' random ones, 'au' augmented training images. extended: retrain on them, too (E).
    iterations: of refinement. budget: how many to select, default the scale's share of `train`, at most half of the failures.
    test: images for the accuracy before and after. features: see models.adapt, for a network without a method `features`. scale: of search
    and retraining. on_step(text): called before each step.

    Your network has no supernet from which the search could continue. The search starts with new weights and a head start for your
    operations, and takes as many epochs as a first search. ValueError naming the argument: no failure at all, fewer than `budget`,
    features that cannot be found or are not finite, other classes. Warns if all failures belong to one class.
    """
    check_kind("network", network, nn.Module, "a torch.nn.Module")
    check_name("method", method, METHODS)
    check_kind("extended", extended, bool, "True or False")
    check_number("iterations", iterations, 1, integer=True)
    if budget is not None:
        check_number("budget", budget, 1, integer=True)
    check_kind("features", features, (str, type(None)), "the name of a module or None")
    check_number("seed", seed, 0, integer=True)
    check_kind("on_step", on_step, (Callable, type(None)), "a function or None")
    setup, tell = scales.get(scale).repair, on_step or (lambda text: None)
    for name, data in (("train", train), ("failures", failures), ("test", failures if test is None else test)):
        check_kind(name, data, LabeledImages, "LabeledImages")
        if data.classes != train.classes:
            raise ValueError(f"{name}: expected the classes of train, {train.classes}, got {data.classes}")
    tell("looking for the failures")
    failing = ~correct(network, failures)
    check_failing(failing, failures)
    wrong = failing.nonzero().flatten()
    if budget is None:
        budget = min(len(wrong), max(2, min(len(wrong) // 2, round(len(train) * setup.failures / setup.images))))
    check_budget(budget, len(wrong), failures.name)
    tell(f"selecting {budget} of {len(wrong)} failures: {METHODS[method]}")
    rows, radius, core, left = None, None, None, failures
    if method == "au":
        core = augmented_examples(train, budget, seed)
    else:
        chosen, radius = _select(method, featured(network, features), failures.subset(wrong), train, budget, seed)
        rows = wrong[chosen]
        core, left = failures.subset(rows), _without(failures, rows)
    before = _accuracies(network, left, test)
    if not isinstance(network, darts.Network):
        return RepairResult(core, rows, radius, None, None, before, {}, _advice(network, core, failures, len(wrong)))
    genotype = _refined(network, train, core, scale, iterations, seed, tell)
    tell(f"training the refined network on {len(train) + extended * budget} images")
    repaired = _retrained(network, genotype, concat([train, core], "train with failures") if extended else train, setup, seed)
    after = _accuracies(repaired, left, test)
    return RepairResult(core, rows, radius, genotype, repaired, before, after, _summary(before, after, method, extended, budget))


# ------------------------------------------------------------------------------------------------- failures and selection


def check_failing(wrong: torch.Tensor, failures: LabeledImages) -> None:
    """ValueError unless the network is wrong, bool (N,), on some of the images; warns if all that it fails on are of one class."""
    if not wrong.any():
        raise ValueError(f"failures: the network is right on all {len(failures)} images of {failures.name!r}, so it needs no repair")
    classes = failures.hard_labels[wrong].unique()
    if len(classes) == 1 < failures.num_classes:
        name = failures.classes[int(classes)]
        text = f"failures: all {int(wrong.sum())} are of class {name!r}; a repair guided by them knows nothing of the other classes"
        warnings.warn(text, stacklevel=3)


def featured(network: nn.Module, name: str | None = None) -> nn.Module:
    """A network with a method `features`: the given one if it has it and no module is named, else an adapted one (models.adapt)."""
    if name is None and callable(getattr(network, "features", None)) and not isinstance(network.features, nn.Module):
        return network
    return adapt(network, features=name)


def _select(
    method: str, network: nn.Module, failing: LabeledImages, train: LabeledImages, budget: int, seed: int
) -> tuple[torch.Tensor, float]:
    """(indices into the failing images in order of selection, covering radius)."""
    candidates, centers = extract_features(network, failing.images), extract_features(network, train.images)
    for name, found in (("failures", candidates), ("train", centers)):
        if bad := int((~torch.isfinite(found).all(dim=1)).sum()):
            counts = f"{bad} of the {len(found)} images of {name}"
            raise ValueError(f"network: its features are NaN or infinite on {counts}; expected finite ones")
    if method == "rf":
        chosen = coreset.random_selection(len(failing), budget, seed)
    else:
        chosen = coreset.k_center_greedy(candidates, centers, budget)
    return chosen, coreset.covering_radius(candidates, centers, chosen)


def _without(data: LabeledImages, rows: torch.Tensor) -> LabeledImages:
    """The images that are not in `rows`; all of them if none would be left."""
    keep = torch.ones(len(data), dtype=torch.bool)
    keep[rows] = False
    return data.subset(keep) if keep.any() else data


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
    network: darts.Network, train: LabeledImages, core: LabeledImages, scale: str, iterations: int, seed: int, tell: Callable
) -> darts.Genotype:
    """The genotype that the search with the failures finds."""
    study, data = Study(train.name, scale, scales.get(scale).repair), with_examples(halves(train), core, seed)
    state, found = alphas_of(network.genotype), network.genotype
    for turn in range(iterations):
        tell(f"searching with the failures, iteration {turn + 1} of {iterations}")
        result = darts.search(*data, init=state, seed=seed + 1000 * turn, **search_settings(study, refine=turn > 0))
        state, found = result.state, result.genotype
    return found


def _retrained(network: darts.Network, genotype: darts.Genotype, data: LabeledImages, setup: scales.RepairScale, seed: int) -> nn.Module:
    """The refined architecture at the deployed network's own size, trained from scratch by the scale's recipe."""
    recipe = replace(setup.recipe(data.images.shape[-1]), auxiliary_weight=0.0)
    repaired = seeded(lambda: resized(network, genotype), 1 + seed)
    train_network(repaired, data, recipe, seed=1 + seed, precision=setup.precision)
    return repaired


def resized(network: darts.Network, genotype: darts.Genotype) -> darts.Network:
    """Another genotype at the size of a network, with new weights."""
    return darts.Network(genotype, network.channels, len(network.cells), network.classifier.out_features, stem=network.stem_name)


def _accuracies(network: nn.Module, failures: LabeledImages, test: LabeledImages | None) -> dict[str, float]:
    return {"failures": evaluate(network, failures)} | ({} if test is None else {"test": evaluate(network, test)})


def _summary(before: dict, after: dict, method: str, extended: bool, budget: int) -> str:
    gains = ", ".join(f"{name} {100 * before[name]:.1f} -> {100 * after[name]:.1f} %" for name in before)
    added = "and trained on them, too" if extended else "and trained on the training images alone"
    return (
        f"A refined architecture was searched with {budget} {METHODS[method]} {added}: {gains}. The deployed network has 0 % on its own "
        "failures by construction, and the same architecture trained again gets some of them right: compare with that before you call "
        "it a repair."
    )


def _advice(network: nn.Module, core: LabeledImages, failures: LabeledImages, wrong: int) -> str:
    return (
        f"{type(network).__name__} is not built of DARTS cells, so there is no architecture to refine. You have {len(core)} examples that "
        f"stand for the {wrong} failures among {len(failures)} images, far from the training images and from each other. Label and check "
        "these first; `python -m rtalib repair` (repair.ladder) trains this network with them and says what it gained on failures that it "
        "has not seen; or train a darts.Network on your images and repair that."
    )


# ------------------------------------------------------------------------------------------------- reading and writing


def stand_in(study: Study) -> nn.Module:
    """The deployed network of the tables, if you have none at hand."""
    return deploy(study).model


def save(found: RepairResult, folder: Path | str) -> Sequence[Path]:
    """Write core.npy (rows of the selected failures; their images if they are augmented), genotype.json and weights.safetensors."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "core.npy", (found.core.images if found.rows is None else found.rows).numpy())
    if found.network is None:
        return [folder / "core.npy"]
    (folder / "genotype.json").write_text(found.genotype.to_json())
    darts.save_network(found.network, folder / "weights.safetensors")
    return [folder / name for name in ("core.npy", "genotype.json", "weights.safetensors")]
