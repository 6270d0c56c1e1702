"""Paper one's Tables 1 to 3 as cells of a grid: sources, training sets, and target networks scored on the proxy suite (rta_score)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from rtalib import attacks, augment, models, scales
from rtalib.data.images import LabeledImages, concat
from rtalib.data.loading import load_dataset
from rtalib.errors import unknown
from rtalib.experiments import PROTOCOLS
from rtalib.experiments.rta import score as rta_score
from rtalib.experiments.rta import search as rta_search
from rtalib.experiments.rta.source_study import remembered
from rtalib.infra import grid, store
from rtalib.models.inference import evaluate
from rtalib.scale_settings import RtaScale
from rtalib.sources.train import origin, source_network, weights_in_use
from rtalib.training.artefacts import fingerprint, frost_kind, load_images, save_images, trained_network
from rtalib.training.recipes import Recipe

BASELINE = "10,000 Ori(baseline)"
OURS = "10,000 Ori + 4 × 10,000 Ori with RTA(Ours)"
TABLE1 = {
    BASELINE: None,
    "5 × 10,000 Ori": "original",
    "10,000 Ori + 4 × 10,000 Ori with TA": "trivial_augment",
    "10,000 Ori + 4 × 10,000 Ori with Cutout": "cutout",
    "10,000 Ori + 4 × 10,000 Ori with FGSM": "fgsm",
    "10,000 Ori + 4 × 10,000 Ori with I-FGSM": "i_fgsm",
    "10,000 Ori + 4 × 10,000 Ori with Corruptions": "corruptions",
    OURS: "rta",
    # not in the paper: two augmentations that mix images
    "10,000 Ori + 4 × 10,000 Ori with AugMix": "augmix",
    "10,000 Ori + 4 × 10,000 Ori with CutMix": "cutmix",
}
# {method: (label smoothing, weight decay)} and {method: (epochs, milestones)}, all on the RTA set of Table 1
TABLE2 = {
    f"LS {smoothing}, WD {text}": (smoothing, decay)
    for smoothing, text, decay in (
        *((0, "1e-4", 1e-4), (0.05, "1e-4", 1e-4), (0.1, "1e-4", 1e-4), (0.15, "1e-4", 1e-4)),
        *((0.1, "2e-4", 2e-4), (0.1, "5e-4", 5e-4)),
    )
}
TABLE3 = {
    "110 epochs, lr decay by 0.1 at [100,105].": (110, (100, 105)),
    "150 epochs, lr decay by 0.1 at [120, 135].": (150, (120, 135)),
    "165 epochs, lr decay by 0.1 at [120, 135,150].": (165, (120, 135, 150)),
    "180 epochs, lr decay by 0.1 at [120, 140,160].": (180, (120, 140, 160)),
}
TABLES = ("table1", "table2", "table3", "table4")
CLEAN_SOURCE = "clean_resnet50"


@dataclass(frozen=True)
class SourceCell:
    """One network that RTA attacks (a name of SOURCES), or the 'held-out' one that only the evaluation attacks."""

    source: str
    dataset: str
    scale: str
    setup: RtaScale


@dataclass(frozen=True)
class SetCell:
    """One training set of Table 1. protocol 'disjoint': originals come from the training split; 'paper': from the test split, as in
    the contest's Stage I, so that they are the very images that the evaluation perturbs."""

    method: str
    seed: int
    dataset: str
    protocol: str
    setup: RtaScale


@dataclass(frozen=True)
class TargetCell:
    """One target network trained on one training set and scored on the proxy suite. training_set: a method of TABLE1."""

    method: str
    training_set: str
    recipe: Recipe
    seed: int
    model: str
    dataset: str
    protocol: str
    scale: str
    setup: RtaScale


@grid.crew()
def run_table(
    table: str = "table1",
    *,
    scale: str = "demo",
    dataset: str = "shapes10",
    seeds: Sequence[int] = (),
    protocol: str = "disjoint",
    executor: str = "processes",
) -> list[dict]:
    """Rows of a table of the RTA paper, 'table1' to 'table4', one per method, seed and target network; stored rows are not computed again.

    seeds: default the scale's own. Row fields: method, seed, model, score and rta_score.PARTS in percent, n_train, n_eval. Warns under
    protocol 'paper', whose training images are those that the suite perturbs.
    """
    if table not in TABLES:
        raise unknown("table", table, TABLES)
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    rta_score.warn_of_leakage(protocol)
    settings = scales.get(scale)
    setup, seeds = settings.rta, seeds or settings.seeds
    common = {"run": scales.run_name(scale, dataset), "inputs": run_inputs(dataset, setup), "executor": executor}
    run_sources(scale, dataset, setup, common)
    if table == "table4":
        return rta_search.run(scale, dataset, seeds, protocol, setup, common)
    methods = rows_of(table, setup)
    used = list(dict.fromkeys(training_set for training_set, _ in methods.values()))
    sets = [SetCell(method, seed, dataset, protocol, setup) for seed in seeds for method in used]
    grid.run(set_cell, sets, recipe="rtalib.rta.set_cell", table="rta-sets", **common)
    cells = [
        TargetCell(method, *methods[method], seed, model, dataset, protocol, scale, setup)
        for seed in seeds
        for method in methods
        for model in setup.targets
    ]
    return grid.run(target_cell, cells, recipe="rtalib.rta.target_cell", table=f"rta-{table}", version=2, **common)


def run_sources(scale: str, dataset: str, setup: RtaScale, common: dict) -> None:
    """The networks that RTA attacks, and the held-out one."""
    networks = [SourceCell(name, dataset, scale, setup) for name in (*setup.sources, "held-out")]
    grid.run(source_cell, networks, recipe="rtalib.rta.source_cell", table="rta-sources", **common)


def rows_of(table: str, setup: RtaScale) -> dict[str, tuple[str, Recipe]]:
    """{method: (a training set of TABLE1, how its targets are trained)} of Tables 1 to 3, in the paper's order."""
    if table == "table1":
        return {method: (method, setup.recipe()) for method in TABLE1}
    if table == "table2":
        recipe = setup.recipe()
        return {name: (OURS, replace(recipe, label_smoothing=float(ls), weight_decay=wd)) for name, (ls, wd) in TABLE2.items()}
    return {name: (OURS, setup.final_recipe(*schedule)) for name, schedule in TABLE3.items()}


def run_inputs(dataset: str, setup: RtaScale) -> dict:
    """What the cells of paper one read that their fields only name."""
    return fingerprint(dataset) | weights_in_use(dataset, setup) | ({"hidden": True} if rta_score.has_hidden(dataset) else {})


# -------------------------------------------------------------------------------------------------------------- sources


def source_cell(cell: SourceCell) -> dict:
    """Train one source; clean accuracy and accuracy under BIM-10 at 8/255 on test images, in percent."""
    network, entry = source_network(cell.source, cell.dataset, cell.setup)
    test = load_dataset(cell.dataset, "test", limit=cell.setup.evaluated)
    attacked = attacks.attack(attacks.BIM(), network, test).images
    return {
        "clean": 100 * evaluate(network, test),
        "bim10": 100 * evaluate(network, test.with_images(attacked)),
        "n_eval": len(test),
        "network": entry.key,
        "origin": origin(entry),
    }


# -------------------------------------------------------------------------------------------------------- training sets


def training_set(method: str, seed: int, dataset: str, protocol: str, setup: RtaScale) -> tuple[LabeledImages, store.Entry]:
    """The originals and `setup.copies` augmented copies of all of them (Table 1), with what was drawn for each copied image."""
    originals = load_dataset(dataset, "train" if protocol == "disjoint" else "test", limit=setup.originals, seed=seed)
    kind = TABLE1[method]
    names = {"rta": setup.sources, "fgsm": (CLEAN_SOURCE,), "i_fgsm": (CLEAN_SOURCE,)}.get(kind, ())
    networks = {name: remembered(name, dataset, setup) for name in names}
    parameters = {"kind": kind, "seed": seed, "data": originals.digest, "copies": setup.copies, "severity": setup.severity}
    parameters |= {"frost": frost_kind(), "restarts": setup.restarts, "sources": {name: entry.key for name, (_, entry) in networks.items()}}

    def build(folder: Path) -> None:
        data, drawn = _augmented(originals, kind, seed, setup, {name: attacks.prepared(network) for name, (network, _) in networks.items()})
        save_images(folder, data)
        (folder / "drawn.json").write_text(json.dumps(drawn))

    entry = store.make("rta-set", 2, parameters, build, label=f"{kind or 'baseline'}-s{seed}")
    return load_images(entry.path), entry


def _augmented(
    originals: LabeledImages, kind: str | None, seed: int, setup: RtaScale, networks: dict[str, nn.Module]
) -> tuple[LabeledImages, list[list[str]]]:
    """The training set and, per copy, the name of the operation drawn for each image."""
    parts, drawn = [originals], []
    for copy in range(setup.copies if kind else 0):
        part, names = _copy(originals, kind, seed, copy, setup, networks)
        parts.append(part)
        drawn.append(names)
    return concat(parts, f"{originals.name}-{kind or 'baseline'}"), drawn


def _copy(
    data: LabeledImages, kind: str, seed: int, copy: int, setup: RtaScale, networks: dict[str, nn.Module]
) -> tuple[LabeledImages, list[str]]:
    """One augmented copy: a fresh, independent draw. FGSM and I-FGSM draw nothing, so their four copies are equal (reference #32)."""
    index = torch.arange(len(data)) + copy * len(data)
    if kind == "rta":
        return augment.rta(data, networks, seed=seed, copy=copy, severity=setup.severity, restarts=setup.restarts)
    if kind == "corruptions":
        return augment.rta(data, {}, seed=seed, copy=copy, severity=setup.severity)
    if kind == "original":
        return data, [kind] * len(data)
    if kind == "trivial_augment":
        images = augment.trivial_augment(data.images, seed=seed, index=index)
    elif kind == "cutout":
        images = augment.cutout(data.images, seed=seed, index=index)
    elif kind == "augmix":
        images = augment.augmix(data.images, seed=seed, index=index)
    elif kind == "cutmix":
        return augment.cutmix(data, seed=seed, index=index, probability=1.0), [kind] * len(data)
    else:
        recipe = attacks.FGSM() if kind == "fgsm" else attacks.BIM()
        images = attacks.attack(recipe, networks[CLEAN_SOURCE], data).images
    return data.with_images(images), [kind] * len(data)


def set_cell(cell: SetCell) -> dict:
    """Make one training set; how often each operation was drawn."""
    data, entry = training_set(cell.method, cell.seed, cell.dataset, cell.protocol, cell.setup)
    names = [name for copy in json.loads((entry.path / "drawn.json").read_text()) for name in copy]
    return {"n_train": len(data), "drawn": {name: names.count(name) for name in sorted(set(names))}, "set": entry.key}


# ----------------------------------------------------------------------------------------------------------- evaluation


def target_cell(cell: TargetCell) -> dict:
    """Train one target network on one training set and score it on the proxy suite, in percent."""
    data, entry = training_set(cell.training_set, cell.seed, cell.dataset, cell.protocol, cell.setup)
    network, trained = trained_network(
        lambda: models.build(cell.model, data.num_classes),
        lambda: data,
        cell.recipe,
        parameters={"model": cell.model, "data": entry.key},
        seed=cell.seed,
        label=f"{TABLE1[cell.training_set] or 'baseline'}-{cell.model}-s{cell.seed}",
    )
    return rta_score.measured(network, cell.dataset, cell.setup) | {"n_train": len(data), "network": trained.key}
