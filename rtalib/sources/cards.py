"""The fifteen source models that RTA attacks, from sources.toml: their cards, and how a substitute of any size is trained.

The contest (CVPR 2021 AML-CV, ARES platform) had 13 CIFAR-10 defenses; RTA attacks them and two clean models. A plan lists the trainings
of a substitute as plain data; sources/train.py carries them out, sources/public_weights.py reads the published weights instead.
"""

from dataclasses import dataclass, replace

from rtalib.infra.data_files import build, read_toml
from rtalib.training.recipes import Recipe


@dataclass(frozen=True)
class Stage:
    """One training of a plan; its network is the next stage's previous one, and that of the last stage is the source.

    objective: a name of sources.train.objective. budget: which epochs and labels of the scale it has: those of 'clean' training, of
    'robust' training, or of a 'plan', whose labels are never smoothed by the recipe. epochs, lr: shares of the plan's epochs and of the
    recipe's learning rate. data: the images, 'train', 'half' of them, 'mixed' (that half, and the other half with the labels that the
    previous network gives it) or 'other' (another data set). begin: 'fresh', or the weights of the 'previous' network, with a 'new head'
    or without. head: a name of models.heads.HEADS, or the network's own. weights: train 'all', pruning 'scores' over them, or the
    'survivors'. validation: 'best' ends with the weights of the best PGD accuracy on held-back images, 'collapse' watches for a fall.
    warm_up: share of its epochs that are the method's own warm-up.
    """

    objective: str
    budget: str = "plan"
    epochs: float = 1.0
    lr: float = 1.0
    data: str = "train"
    begin: str = "fresh"
    head: str = ""
    weights: str = "all"
    validation: str = ""
    warm_up: float = 0.0


@dataclass(frozen=True)
class Source:
    """One card. Accuracies are published ones in percent, at 8/255 unless `note` says otherwise; None if there is none.

    clean_accuracy, robust_accuracy (the authors' own attack), autoattack; starter_score: fraction misclassified under the contest's PGD-10;
    robustbench: the id of the same weights there; plan: what trains its substitute here, on the network that the scale names.
    network, schedules: a name of models.MODELS, and the recipe of each stage of the plan, as published, for scales that ask for them; the
    clean sources have none.
    """

    name: str
    architecture: str
    method: str
    paper: str
    plan: tuple[Stage, ...]
    clean_accuracy: float | None = None
    robust_accuracy: float | None = None
    autoattack: float | None = None
    starter_score: float | None = None
    robustbench: str | None = None
    note: str = ""
    network: str = ""
    schedules: tuple[Recipe, ...] = ()


FILE = "sources.toml"


def _load() -> dict[str, Source]:
    """The cards of sources.toml in its order. ValueError that names file, source and key if a key is unknown or missing."""
    cards = {}
    for name, table in read_toml(__package__, FILE).items():
        place = f"{FILE}, {name}"
        card = build(Source, {"name": name} | table, place)
        plan = tuple(build(Stage, stage, f"{place}.plan") for stage in card.plan)
        schedules = tuple(build(Recipe, recipe, f"{place}.schedules") for recipe in card.schedules)
        cards[name] = replace(card, plan=plan, schedules=schedules)
    return cards


SOURCES = _load()
