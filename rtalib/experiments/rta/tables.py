"""Paper one's Tables 1 to 3, from the sources to the score. One row by hand:

    networks    = sources(method, dataset, setup)
    images      = originals(dataset, protocol, seed, setup)
    data, made  = augmented(method, images, networks, seed, setup)
    network, _  = train_target(model, data, made.key, recipe, seed)
    row         = score.measure(network, dataset, setup)

`run_table` makes the same calls in the trials of a grid, which share sources, sets and networks through the store.
"""

import json
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from rtalib import attacks, augment, models, scales
from rtalib.data.images import LabeledImages, concat
from rtalib.experiments.arguments import checked
from rtalib.experiments.rta import score, search
from rtalib.experiments.rta.protocols import PROTOCOLS, originals, unmodified, warn_of_leakage
from rtalib.experiments.rta.source_study import run_sources
from rtalib.infra import grid, store
from rtalib.infra.data_files import read_toml
from rtalib.scale_settings import RtaScale
from rtalib.sources.train import Trained, shared_source, weights_in_use
from rtalib.training.artefacts import fingerprint, frost_kind, load_images, save_images, trained_network
from rtalib.training.recipes import Recipe

BASELINE = "10,000 Ori(baseline)"
OURS = "10,000 Ori + 4 × 10,000 Ori with RTA(Ours)"
METHODS = read_toml(__package__, "tables.toml")
TABLE1 = {method: kind or None for method, kind in METHODS["table1"].items()}  # {method: kind of augmentation}
TABLE2 = METHODS["table2"]  # {method: (label smoothing, weight decay)}, on the RTA set of Table 1, like TABLE3
TABLE3 = {method: (epochs, tuple(milestones)) for method, (epochs, milestones) in METHODS["table3"].items()}
TABLES = ("table1", "table2", "table3", "table4")
CLEAN_SOURCE = "clean_resnet50"
ATTACKS = {"fgsm": attacks.FGSM(), "i_fgsm": attacks.BIM()}
PER_IMAGE = {name: getattr(augment, name) for name in ("trivial_augment", "cutout", "augmix", "prime", "pixmix")}


# ------------------------------------------------------------------------------------------------ one row, from top to bottom


def sources(method: str, dataset: str, setup: RtaScale) -> dict[str, Trained]:
    """The networks that a method of TABLE1 attacks: all sources for RTA, the clean ResNet-50 for FGSM and I-FGSM, else none."""
    kind = TABLE1[method]
    names = setup.sources if kind == "rta" else (CLEAN_SOURCE,) if kind in ATTACKS else ()
    return {name: shared_source(name, dataset, setup) for name in names}


def augmented(
    method: str, images: LabeledImages, networks: Mapping[str, Trained], seed: int, setup: RtaScale
) -> tuple[LabeledImages, store.Entry]:
    """A training set of Table 1, the originals and then `setup.copies` augmented copies of all of them, and its store entry."""
    kind = TABLE1[method]
    parameters = {"kind": kind, "seed": seed, "data": images.digest, "copies": setup.copies, "severity": setup.severity}
    parameters |= {"frost": frost_kind(), "restarts": setup.restarts, "sources": {name: entry.key for name, (_, entry) in networks.items()}}

    def build(folder: Path) -> None:
        fast = {name: attacks.prepared(network) for name, (network, _) in networks.items()}
        copies = [_copy(kind, images, fast, seed, copy, setup) for copy in range(setup.copies if kind else 0)]
        save_images(folder, concat([images, *(data for data, _ in copies)], f"{images.name}-{kind or 'baseline'}"))
        (folder / "drawn.json").write_text(json.dumps([drawn for _, drawn in copies]))

    entry = store.make("rta-set", 2, parameters, build, label=f"{kind or 'baseline'}-s{seed}")
    return load_images(entry.path), entry


def _copy(
    kind: str, data: LabeledImages, networks: Mapping[str, nn.Module], seed: int, copy: int, setup: RtaScale
) -> tuple[LabeledImages, list[str]]:
    """One augmented copy, a fresh and independent draw, and the operation of each image. FGSM and I-FGSM draw nothing, so their copies are
    equal (attacks-and-defenses reference, 32)."""
    if kind in ("rta", "corruptions"):  # RTA's draw; without networks over the corruptions alone
        return augment.rta(data, networks, seed=seed, copy=copy, severity=setup.severity, restarts=setup.restarts)
    index, made = torch.arange(len(data)) + copy * len(data), data
    if kind in PER_IMAGE:
        made = data.with_images(PER_IMAGE[kind](data.images, seed=seed, index=index))
    elif kind == "cutmix":
        made = augment.cutmix(data, seed=seed, index=index, probability=1.0)
    elif kind in ATTACKS:
        made = data.with_images(attacks.attack(ATTACKS[kind], networks[CLEAN_SOURCE], data).images)
    return made, [kind] * len(data)


def drawn_operations(made: store.Entry) -> list[list[str]]:
    """For each copy of a training set the operation of each image."""
    return json.loads((made.path / "drawn.json").read_text())


def train_target(model: str, data: LabeledImages, key: str, recipe: Recipe, seed: int) -> Trained:
    """A target network trained on a set, and its store entry; key: identifies the set in the store."""
    facts = {"parameters": {"model": model, "data": key}, "seed": seed, "label": f"{data.name}-{model}-s{seed}"}
    return trained_network(lambda: models.build(model, data.num_classes, side=models.side_for(data)), lambda: data, recipe, **facts)


def training_set(method: str, seed: int, dataset: str, protocol: str, setup: RtaScale) -> tuple[LabeledImages, store.Entry]:
    """`augmented` from names alone."""
    return augmented(method, originals(dataset, protocol, seed, setup), sources(method, dataset, setup), seed, setup)


# --------------------------------------------------------------------------------------------------- the tables, as trials


@dataclass(frozen=True)
class SetTrial:
    """One training set of Table 1."""

    method: str
    seed: int
    dataset: str
    protocol: str
    setup: RtaScale


@dataclass(frozen=True)
class TargetTrial:
    """One target network trained on one training set, a method of TABLE1, and scored on the proxy suite."""

    method: str
    training_set: str
    recipe: Recipe
    seed: int
    model: str
    dataset: str
    protocol: str
    scale: str
    setup: RtaScale


@grid.shared_workers()
def run_table(
    table: str = "table1",
    *,
    scale: str = "demo",
    dataset: str = "shapes10",
    seeds: Sequence[int] = (),
    protocol: str = "",
    only: Container[tuple[str, int]] | None = None,
    executor: str = "processes",
) -> list[dict]:
    """Rows of a table of the RTA paper, 'table1' to 'table4', one per method, seed and target network; stored rows are not computed again.

    seeds, protocol: default the scale's own; see protocols.originals. only: pairs of a method and a seed, default all. Row fields: method,
    seed, model, score and score.PARTS in percent, n_train, n_eval, precision, and in Tables 1 to 3 unmodified, the percentage of copies
    that are their original to the byte. Warns under protocol 'paper', whose training images are those that the suite perturbs.
    """
    given = {"scale": scale, "dataset": dataset, "seeds": seeds, "protocol": protocol, "only": only, "executor": executor}
    settings, seeds, protocol = checked(table=table, tables=TABLES, protocols=PROTOCOLS, **given)
    warn_of_leakage(protocol)
    setup = settings.rta
    common = {"run": scales.run_name(scale, dataset), "inputs": run_inputs(dataset, setup), "executor": executor}
    run_sources(scale, dataset, setup, common)
    if table == "table4":
        return search.run(scale, dataset, seeds, protocol, setup, common)
    methods = rows_of(table, setup)
    pairs = [(method, seed) for seed in seeds for method in methods if only is None or (method, seed) in only]
    used = dict.fromkeys((methods[method][0], seed) for method, seed in pairs)
    sets = [SetTrial(*name, dataset, protocol, setup) for name in used]
    grid.run(set_trial, sets, recipe="rtalib.rta.set_cell", table="rta-sets", **common)
    every = [(method, seed, model) for method, seed in pairs for model in setup.targets]
    trials = [TargetTrial(method, *methods[method], seed, model, dataset, protocol, scale, setup) for method, seed, model in every]
    return grid.run(target_trial, trials, recipe="rtalib.rta.target_cell", table=f"rta-{table}", version=2, **common)


def rows_of(table: str, setup: RtaScale) -> dict[str, tuple[str, Recipe]]:
    """{method: (a training set of TABLE1, how its targets are trained)} of Tables 1 to 3, in the paper's order."""
    if table == "table1":
        return {method: (method, setup.recipe()) for method in TABLE1}
    if table == "table2":
        recipe = setup.recipe()
        return {name: (OURS, replace(recipe, label_smoothing=float(ls), weight_decay=wd)) for name, (ls, wd) in TABLE2.items()}
    return {name: (OURS, setup.final_recipe(*schedule)) for name, schedule in TABLE3.items()}


def run_inputs(dataset: str, setup: RtaScale) -> dict:
    """The inputs of paper one's trials that their fields only name, as digests."""
    return fingerprint(dataset) | weights_in_use(dataset, setup) | ({"hidden": True} if score.has_hidden(dataset) else {})


def set_trial(trial: SetTrial) -> dict:
    """Make one training set; how often each operation was drawn, and how often it left the image as it was."""
    data, entry = training_set(trial.method, trial.seed, trial.dataset, trial.protocol, trial.setup)
    drawn = drawn_operations(entry)
    counts = Counter(name for copy in drawn for name in copy)
    return {"n_train": len(data), "drawn": dict(sorted(counts.items())), "unmodified": unmodified(data, drawn), "set": entry.key}


def target_trial(trial: TargetTrial) -> dict:
    """Train one target network on one training set and score it on the proxy suite, in percent."""
    data, made = training_set(trial.training_set, trial.seed, trial.dataset, trial.protocol, trial.setup)
    network, trained = train_target(trial.model, data, made.key, trial.recipe, trial.seed)
    drawn = drawn_operations(made)
    kept = 100 * sum(unmodified(data, drawn).values()) / (sum(map(len, drawn)) or 1)
    facts = {"unmodified": kept, "precision": trained.card["parameters"]["precision"]}
    return score.measure(network, trial.dataset, trial.setup) | {"n_train": len(data), "network": trained.key, **facts}
