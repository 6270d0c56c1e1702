"""From a name of SOURCES to a network: the user's published weights if there are any, else a substitute trained by its plan."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch.nn.functional as F
from torch import nn

from rtalib import models
from rtalib.attacks import EPS, STEP
from rtalib.data.images import LabeledImages, concat
from rtalib.data.loading import load_dataset
from rtalib.data.readers import CIFAR10_CLASSES
from rtalib.errors import check_name, check_number, unknown
from rtalib.infra import store
from rtalib.models.inference import predict
from rtalib.scale_settings import PUBLISHED, RtaScale
from rtalib.sources import hydra, public_weights
from rtalib.sources.awp import AWP
from rtalib.sources.cards import SOURCES, Stage
from rtalib.sources.feature_scattering import feature_scattering
from rtalib.sources.heads import with_head
from rtalib.sources.objectives import FreeAT, WarmUp, at_he, fast_at, mmc, pgd_at, trades
from rtalib.training.artefacts import trained_network
from rtalib.training.loop import Objective
from rtalib.training.recipes import Recipe
from rtalib.training.validation import Validation, pgd_accuracy

HELD_OUT = "held-out"
HELD_BACK = 1000  # at most so many training images, and a tenth of them, choose the best epoch (Rice et al. 2020)
WATCHED = 128  # training images whose PGD-5 accuracy shows catastrophic overfitting (a minibatch in Wong et al. 2020)
CONTEXTS = {"all": nullcontext, "scores": hydra.scoring, "survivors": hydra.surviving}

Trained = tuple[nn.Module, store.Entry]


def source_network(name: str, dataset: str, setup: RtaScale) -> Trained:
    """The network of a source, in eval mode, and its store entry; `origin(entry)` says what it is. Trained once; a killed training resumes.

    name: one of SOURCES, or 'held-out', which the evaluation attacks and which is never a source. Raises ValueError for an unknown name,
    and for weights of the user that do not fit. Of images with more than 64 pixels a side, the network sees 64x64 pixels, and is trained on
    such: each is a mean of pixels of the image, so an attack within eps on the image is one within eps on what the network sees.
    """
    data = load_dataset(dataset, "train", limit=setup.source_images)
    side = models.side_for(data)
    data = models.seen(data, side)
    if name == HELD_OUT:
        return trained_network(
            lambda: models.build(setup.held_out, data.num_classes, side=side),
            lambda: data,
            setup.source_recipe(robust=False),
            parameters={"model": setup.held_out, "objective": "clean", "data": data.digest},
            seed=90_001,
            label=f"{name}-{setup.held_out}",
        )
    if name not in SOURCES:
        raise unknown("source", name, [*SOURCES, HELD_OUT])
    if path := _weights_of(name, data, setup):
        return public_weights.load(path), public_weights.entry(path)
    trained = None
    for number in range(len(SOURCES[name].plan)):
        trained = _train_stage(name, number, data, side, dataset, setup, trained)
    return trained


def shared_source(name: str, dataset: str, setup: RtaScale) -> Trained:
    """source_network, loaded once per process: to find a network, it has to read the training images."""
    return _shared_source(name, dataset, setup, store.outputs())


@store.cached(maxsize=len(SOURCES) + 1)
def _shared_source(name: str, dataset: str, setup: RtaScale, outputs: Path) -> Trained:
    return source_network(name, dataset, setup)


def origin(entry: store.Entry) -> str:
    """'weights FILE sha256 DIGEST' for a source with the user's weights, 'substitute' for one trained here."""
    facts = entry.card["parameters"]
    return f"weights {facts['file']} sha256 {facts['sha256']}" if entry.card["recipe"] == public_weights.RECIPE else "substitute"


def weights_in_use(dataset: str, setup: RtaScale) -> dict[str, dict[str, str]]:
    """{'weights': {source: SHA-256}} of the user's weights that replace substitutes; {} if there are none. Part of the rows' keys."""
    if not setup.user_weights or not public_weights.files():
        return {}
    data = load_dataset(dataset, "train", limit=setup.source_images)
    found = {name: path for name in setup.sources if (path := _weights_of(name, data, setup))}
    return {"weights": {name: store.digest(path) for name, path in found.items()}} if found else {}


def _weights_of(name: str, data: LabeledImages, setup: RtaScale) -> Path | None:
    """Published weights are for CIFAR-10's classes at 32 pixels, and for the scales that ask for them."""
    fits = setup.user_weights and data.classes == CIFAR10_CLASSES and data.images.shape[2:] == (32, 32)
    return public_weights.files().get(SOURCES[name].robustbench) if fits else None


# ----------------------------------------------------------------------------------------------------------- objectives


def objective(name: str, *, steps: int = 10, warm_up: int = 0) -> Objective | None:
    """A stage's training objective by its name; None for standard training.

    steps: inner steps of PGD-AT, TRADES and the methods built on them; fewer than 10 are proportionally longer, so that they reach
    as far. warm_up: first epochs, in which the attack grows, see WarmUp, and AWP does not perturb weights.
    """
    check_number("steps", steps, 1, integer=True)
    longer = 10 / min(steps, 10)
    at, kl = {"step_size": longer * STEP, "steps": steps}, {"step_size": longer * 0.007, "steps": steps}
    objectives = {
        "clean": lambda: None,
        "pgd_at": lambda: WarmUp(pgd_at(**at), warm_up),
        "trades": lambda: WarmUp(trades(**kl), warm_up),
        "fast_at": lambda: WarmUp(fast_at(), warm_up),
        "label_smoothing": lambda: WarmUp(pgd_at(**at, label_smoothing=0.1), warm_up),
        "feature_scatter": lambda: feature_scattering(),
        "at_he": lambda: WarmUp(at_he(**at), warm_up),
        "mmc": lambda: WarmUp(mmc(**at), warm_up),
        "free_at": lambda: FreeAT(EPS),
        "trades_awp": lambda: AWP(WarmUp(trades(**kl), warm_up), gamma=0.005, warm_up=warm_up),
    }
    check_name("objective", name, objectives)
    return objectives[name]()


# --------------------------------------------------------------------------------------------------------------- stages


@dataclass(frozen=True)
class _Images:
    """The images of a stage: a digest for its key, a function that makes them, and training.train's `n_labeled`."""

    digest: str
    classes: int
    make: Callable[[], LabeledImages]
    n_labeled: int = 0


def _train_stage(
    name: str, number: int, data: LabeledImages, side: int | None, dataset: str, setup: RtaScale, previous: Trained | None
) -> Trained:
    """One stage of a plan, an artefact of its own, so that a killed plan resumes in the stage where it stopped."""
    stage, last = SOURCES[name].plan[number], number + 1 == len(SOURCES[name].plan)
    model, recipe, warm_up = schedule(name, number, setup)
    if stage.budget == "plan":
        method = {"stage": asdict(stage), "steps": setup.attack_steps, "warm_up": warm_up}
        method |= {"previous": previous[1].key} if previous else {}
    else:
        method = {"objective": [name, setup.attack_steps, *([warm_up] if warm_up else [])] if stage.objective != "clean" else "clean"}
    method |= {"collapse": "ends the training"} if stage.validation == "collapse" else {}
    images, validation = _validated(stage, _images(stage, data, dataset, setup, previous), setup)
    return trained_network(
        lambda: _network(model, stage, images.classes, side, previous and previous[0]),
        images.make,
        recipe,
        parameters={"model": model, "data": images.digest, **method},
        objective=objective(stage.objective, steps=setup.attack_steps, warm_up=warm_up),
        seed=list(SOURCES).index(name),
        label=f"{name}-{model}" if last else f"{name}-{number + 1}-{model}",
        context=CONTEXTS[stage.weights],
        validation=validation,
        n_labeled=images.n_labeled,
    )


def schedule(name: str, number: int, setup: RtaScale) -> tuple[str, Recipe, int]:
    """The network of a source (a name of models.MODELS), and the recipe and epochs of warm-up of a stage of its plan, at a scale."""
    card = SOURCES[name]
    stage, model = card.plan[number], setup.source_model(name)
    if model == PUBLISHED:
        published = card.schedules[number]
        model, recipe, least = card.network, published.scaled(min(published.epochs, setup.robust_epochs)), 0
    elif stage.budget == "plan":
        recipe, least = setup.plan_recipe(stage.epochs, stage.lr), setup.plan_warm_up
    else:
        recipe = setup.source_recipe(robust=stage.budget == "robust")
        least = recipe.epochs // 2 if setup.source_budget[0] == "warmed" else 0
    return model, recipe, max(least, int(stage.warm_up * recipe.epochs)) if stage.begin == "fresh" else 0


def _network(model: str, stage: Stage, classes: int, side: int | None, previous: nn.Module | None) -> nn.Module:
    """The network of a stage with its initial weights."""
    network = models.build(model, classes, side=side)
    if stage.head:
        with_head(network, stage.head, classes)
    if stage.begin != "fresh":
        weights = previous.state_dict()
        if stage.begin == "new head":
            weights = {name: value for name, value in weights.items() if not name.startswith("classifier.")}
        network.load_state_dict(weights, strict=stage.begin != "new head")
    return network


def _images(stage: Stage, data: LabeledImages, dataset: str, setup: RtaScale, previous: Trained | None) -> _Images:
    if stage.data == "other":
        other = _other(dataset, setup.pretraining, setup.source_images, tuple(data.images.shape[2:]))
        return _Images(other.digest, other.num_classes, lambda: other)
    if stage.data == "train":
        return _Images(data.digest, data.num_classes, lambda: data)
    labeled, unlabeled = data, None
    if setup.unlabelled:
        unlabeled = load_dataset(setup.unlabelled, "train")
    else:
        middle = len(data) // 2
        labeled, unlabeled = data.subset(range(middle)), data.subset(range(middle, len(data)))
    if stage.data == "half":
        return _Images(labeled.digest, data.num_classes, lambda: labeled)

    def mixed() -> LabeledImages:
        guessed = predict(previous[0], unlabeled.images).argmax(1)
        return concat([labeled, LabeledImages(unlabeled.images, guessed, data.classes, "pseudo-labelled")], "mixed")

    return _Images(f"{labeled.digest}+{unlabeled.digest}", data.num_classes, mixed, n_labeled=len(labeled))


@lru_cache(maxsize=1)  # every trial that attacks the source needs its key, and so these images
def _other(dataset: str, name: str, count: int, size: tuple[int, int]) -> LabeledImages:
    """`count` images of the data set `name` at `size`; of `dataset` itself those after the ones that sources are trained on."""
    if name == dataset:
        return load_dataset(name, "train", limit=2 * count).subset(range(count, 2 * count))
    data = load_dataset(name, "train", limit=count)
    if tuple(data.images.shape[2:]) == size:
        return data
    return data.with_images(F.interpolate(data.images.float(), size=size, mode="area").round().byte())


def _validated(stage: Stage, images: _Images, setup: RtaScale) -> tuple[_Images, Validation | None]:
    """The remaining training images, and the validation on the others."""
    if not stage.validation:
        return images, None
    data = images.make()
    if stage.validation == "collapse":
        return images, Validation(pgd_accuracy(data.subset(range(min(WATCHED, len(data)))), steps=5), fall=0.2)
    rest = len(data) - min(HELD_BACK, len(data) // 10)
    score = pgd_accuracy(data.subset(range(rest, len(data))), steps=setup.attack_steps)
    kept = _Images(images.digest, images.classes, lambda: data.subset(range(rest)))
    return kept, Validation(score, keep_best=True)
