"""The CF-DARTS protocol: failures of a deployed network -> selection -> refinement search -> retraining -> evaluation.

Followed as the paper's section 3.4 states it, with its gaps filled as noted beside each step. Two protocols: 'paper' takes the failures
from the very test images on which it then reports; 'disjoint' parts the test images first, so that no base image of a selected failure
is ever evaluated. Besides the paper's methods there is the null baseline that it lacks: the same architecture, retrained.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rtalib import coreset, darts, grid, scales, store
from rtalib.artefacts import fingerprint, frost_kind, history, trained_network
from rtalib.corruptions import CORRUPTIONS, corrupt
from rtalib.data import LabeledImages, concat, load_dataset
from rtalib.errors import unknown
from rtalib.scales import RepairScale
from rtalib.training import extract_features, predict

ORIGINAL, RETRAINED = "Org. DNN", "Org. DNN (retrained)"
METHODS = (ORIGINAL, RETRAINED, "RF-DARTS", "RF-DARTSE", "CF-DARTS", "CF-DARTSE")
PROTOCOLS = ("disjoint", "paper")
SEVERITIES = (1, 2, 3, 4, 5)
TEST_SEED = 2_000_003  # of the corrupted test sets, which stand for the published files: the same for every cell
CURVES = ("clean", "gaussian_noise", "shot_noise", "impulse_noise")  # Figure 2


@dataclass(frozen=True)
class Study:
    """What all cells of a table share: one deployed network and its failures on one corruption."""

    dataset: str
    corruption: str
    protocol: str
    scale: str
    setup: RepairScale


@dataclass(frozen=True)
class Cell:
    """One method with one seed; the seed drives selection (RF), search and retraining, the deployed network stays the same."""

    method: str
    seed: int
    dataset: str
    corruption: str
    protocol: str
    scale: str
    setup: RepairScale

    @property
    def study(self) -> Study:
        return Study(self.dataset, self.corruption, self.protocol, self.scale, self.setup)

    @property
    def selection(self) -> str | None:
        """'random' or 'core' for the methods that search with failures."""
        return {"RF": "random", "CF": "core"}.get(self.method[:2])

    @property
    def extended(self) -> bool:
        """Whether the failures are retrained on, too (the E variants)."""
        return self.method.endswith("SE")


def run_table(
    table: str = "table2",
    *,
    scale: str = "demo",
    dataset: str = "shapes10",
    seeds: list[int] | tuple[int, ...] = (),
    protocol: str = "disjoint",
    corruption: str = "gaussian_noise",
    executor: str = "processes",
) -> list[dict]:
    """Rows of a table of the CF-DARTS paper, one per method and seed; stored rows are not computed again.

    seeds: default the scale's own. Row fields in percent: clean, one per corruption (all five severities), and fail (failing examples of
    the deployed network without the selected ones); further n_fail, n_eval, genotype, params, history.
    """
    if table != "table2":
        raise unknown("table", table, ("table2",))
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    if corruption not in CORRUPTIONS:
        raise unknown("corruption", corruption, CORRUPTIONS)
    settings = scales.get(scale)
    seeds = seeds or settings.seeds
    # version 2: gradients of searches on the CPU were wrong before
    common = {"run": scales.run_name(scale, dataset), "inputs": fingerprint(dataset), "executor": executor, "version": 2}
    study = Study(dataset, corruption, protocol, scale, settings.repair)
    grid.run(deployed_cell, [study], table="cf-deployed", **common)
    cells = [Cell(method, seed, dataset, corruption, protocol, scale, settings.repair) for seed in seeds for method in METHODS]
    searches = [cell for cell in cells if cell.selection and not cell.extended]
    grid.run(search_cell, searches, table="cf-searches", **common)
    return grid.run(method_cell, cells, table="cf-table2", **common)


# ------------------------------------------------------------------------------------------------------------------ data


def stratified_halves(labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two ascending index sets (int64), as equal as can be in size and in every class; shuffled by `seed`."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]  # dealt out in turns, class after class
    return by_class[0::2].sort().values, by_class[1::2].sort().values


def evaluation_split(study: Study) -> tuple[LabeledImages, LabeledImages]:
    """(base images of failures, base images of the evaluation): the same set under 'paper', stratified halves under 'disjoint'."""
    test = load_dataset(study.dataset, "test", limit=study.setup.tests)
    if study.protocol == "paper":
        return test, test
    first, second = stratified_halves(test.labels, seed=0)
    return test.subset(first), test.subset(second)


def corrupted(test: LabeledImages, corruption: str) -> LabeledImages:
    """All five severities, stacked as in the published files: row severity * len(test) + i belongs to base image i."""
    parts = [test.with_images(corrupt(test.images, corruption, severity, seed=TEST_SEED)) for severity in SEVERITIES]
    return concat(parts, f"{test.name}/{corruption}")


def training_images(study: Study) -> LabeledImages:
    return load_dataset(study.dataset, "train", limit=study.setup.images)


# -------------------------------------------------------------------------------------------------------------- networks


def searched(study: Study, train: LabeledImages, val: LabeledImages, *, seed: int, epochs: int, init: store.Entry | None) -> store.Entry:
    """A stored search: genotype.json, trace.json and the supernet's state; `init` is the search whose supernet is refined."""
    setup = study.setup
    figures = {
        "channels": setup.search_channels,
        "layers": setup.search_layers,
        "epochs": epochs,
        "steps_per_epoch": setup.steps_per_epoch,
        "batch_size": setup.search_batch,
        "lr": setup.search_lr,
        "arch_lr": setup.arch_lr,
        "order": setup.order,
        "seed": seed,
    }
    parameters = {**figures, "train": train.digest, "val": val.digest, "init": init.key if init else None}

    def build(folder: Path) -> None:
        state = load_file(init.path / "state.safetensors") if init else None
        result = darts.search(train, val, method="darts", init=state, checkpoint=folder / "checkpoint.pt", **figures)
        (folder / "genotype.json").write_text(result.genotype.to_json())
        (folder / "trace.json").write_text(json.dumps(result.trace, indent=1))
        save_file({name: value.contiguous() for name, value in result.state.items()}, folder / "state.safetensors")

    return store.make("search", 2, parameters, build, label=f"darts-s{seed}")


def genotype(search: store.Entry) -> darts.Genotype:
    """The genotype that a stored search ended with."""
    return darts.Genotype.from_json((search.path / "genotype.json").read_text())


def trace(search: store.Entry) -> list[dict]:
    """A stored search epoch by epoch, as darts.search leaves it."""
    return json.loads((search.path / "trace.json").read_text())


def initial_search(study: Study) -> store.Entry:
    """phi_0's architecture: DARTS on the two halves of the training images (section 6 of the reference, point 10)."""
    data = training_images(study)
    half = len(data) // 2
    train, val = data.subset(torch.arange(half)), data.subset(torch.arange(half, len(data)))
    return searched(study, train, val, seed=0, epochs=study.setup.search_epochs, init=None)


def retrained(study: Study, search: store.Entry, data: LabeledImages, *, seed: int, curves: bool = True) -> tuple[nn.Module, store.Entry]:
    """The architecture trained from scratch on `data`; with the accuracy along the way for Figure 2."""
    cell, setup = genotype(search), study.setup
    record = _curve_recorder(study) if curves else None
    return trained_network(
        lambda: darts.Network(cell, setup.channels, setup.layers, data.num_classes, setup.auxiliary),
        lambda: data,
        setup.recipe(),
        parameters={"genotype": str(cell), "channels": setup.channels, "layers": setup.layers, "data": data.digest, "curves": curves},
        seed=seed,
        precision=setup.precision,
        label=f"darts-s{seed}",
        record=record,
    )


def _curve_recorder(study: Study):
    """Accuracy in percent on CURVES after an epoch, at severity 3 on at most 100 evaluation images: Figure 2 as a sketch."""
    test = evaluation_split(study)[1]
    test = test.subset(torch.arange(min(100, len(test))))
    images = {name: test.images if name == "clean" else corrupt(test.images, name, 3, seed=TEST_SEED) for name in CURVES}

    def record(model: nn.Module) -> dict:
        return {name: 100 * float(_correct(model, test.with_images(shown)).float().mean()) for name, shown in images.items()}

    return record


def deployed(study: Study) -> tuple[nn.Module, store.Entry, store.Entry]:
    """phi_0 with its weights' entry and its search's entry."""
    search = initial_search(study)
    network, entry = retrained(study, search, training_images(study), seed=0)
    return network, entry, search


# ------------------------------------------------------------------------------------------------- failures and selection


def failures(network: nn.Module, pool: LabeledImages) -> torch.Tensor:
    """Indices (int64, ascending) of the misclassified images of `pool`; ValueError if there is none."""
    wrong = (~_correct(network, pool)).nonzero().flatten()
    if not len(wrong):
        raise ValueError(f"network: it makes no error on {pool.name!r}, so there is nothing to repair")
    return wrong


def select(study: Study, selection: str, seed: int) -> tuple[LabeledImages, torch.Tensor]:
    """C_fail: the selected failure images with labels, and their rows in the corrupted pool.

    'core': k-center greedy on penultimate features, the training images as fixed centres (Eq. 6 in the reading of reference 4.2);
    'random': B failures uniformly. ValueError when there are fewer failures than B.
    """
    network, entry, _ = deployed(study)
    base, _ = evaluation_split(study)
    pool = corrupted(base, study.corruption)
    budget = study.setup.failures

    def build(folder: Path) -> None:
        wrong = failures(network, pool)
        if len(wrong) < budget:
            raise ValueError(f"failures: {budget} are to be selected, but the network fails on {len(wrong)} images of {pool.name!r} only")
        if selection == "random":
            chosen = coreset.random_selection(len(wrong), budget, seed)
        else:
            centers = extract_features(network, training_images(study).images)
            chosen = coreset.k_center_greedy(extract_features(network, pool.images[wrong]), centers, budget)
        np.save(folder / "selected.npy", wrong[chosen].numpy())

    parameters = {"network": entry.key, "pool": pool.digest, "selection": selection, "budget": budget}
    parameters |= {"seed": seed} if selection == "random" else {}
    chosen = store.make("selection", 1, parameters, build, label=f"{selection}-{study.corruption}")
    rows = torch.from_numpy(np.load(chosen.path / "selected.npy"))
    return pool.subset(rows), rows


def refined_search(study: Study, selection: str, seed: int) -> store.Entry:
    """The refinement search of Eqs. 4 and 5: warm from phi_0's supernet, half of C_fail on either side (reference 6.4, 13 and 15)."""
    data = training_images(study)
    chosen, _ = select(study, selection, seed)
    first, second = stratified_halves(chosen.labels, seed)
    half = len(data) // 2
    train = concat([data.subset(torch.arange(half)), chosen.subset(first)], "train with failures")
    val = concat([data.subset(torch.arange(half, len(data))), chosen.subset(second)], "val with failures")
    return searched(study, train, val, seed=seed, epochs=study.setup.refine_epochs, init=initial_search(study))


# ------------------------------------------------------------------------------------------------------------ evaluation


def _correct(network: nn.Module, data: LabeledImages) -> torch.Tensor:
    """bool (N,): whether the network is right."""
    return predict(network, data.images).argmax(dim=1) == data.hard_labels


def evaluation(study: Study, network: nn.Module, entry: store.Entry) -> tuple[torch.Tensor, torch.Tensor]:
    """Right or wrong on every evaluation image: clean bool (n,), corrupted bool (15, 5n) in the order of CORRUPTIONS."""
    _, test = evaluation_split(study)

    def build(folder: Path) -> None:
        np.save(folder / "clean.npy", _correct(network, test).numpy())
        np.save(folder / "corrupted.npy", torch.stack([_correct(network, corrupted(test, name)) for name in CORRUPTIONS]).numpy())

    parameters = {"network": entry.key, "test": test.digest, "seed": TEST_SEED, "frost": frost_kind()}
    found = store.make("evaluation", 1, parameters, build, label="corruptions")
    return tuple(torch.from_numpy(np.load(found.path / f"{part}.npy")) for part in ("clean", "corrupted"))


def failing_rows(study: Study, selected: torch.Tensor | None) -> torch.Tensor:
    """Rows of the guiding corruption's evaluation set on which phi_0 fails, without the selected ones ('xx_fail' of Table 2)."""
    network, entry, _ = deployed(study)
    _, right = evaluation(study, network, entry)
    wrong = ~right[CORRUPTIONS.index(study.corruption)]
    if study.protocol == "paper" and selected is not None:
        wrong[selected] = False
    return wrong.nonzero().flatten()


def deployed_cell(study: Study) -> dict:
    """Search, train and evaluate phi_0; count its failures; the leakage of the protocol in base images."""
    network, entry, search = deployed(study)
    base, test = evaluation_split(study)
    clean, right = evaluation(study, network, entry)
    shared = len(base) if study.protocol == "paper" else 0
    return {
        "clean": 100 * float(clean.float().mean()),
        "corrupted": 100 * float(right.float().mean()),
        "failures": int((~_correct(network, corrupted(base, study.corruption))).sum()),
        "pool": 5 * len(base),
        "shared_base_images": shared,
        "genotype": str(genotype(search)),
    }


def search_cell(cell: Cell) -> dict:
    """Selection and refinement search of one method and seed."""
    return {"genotype": str(genotype(refined_search(cell.study, cell.selection, cell.seed)))}


def method_cell(cell: Cell) -> dict:
    """One row of Table 2."""
    study, data = cell.study, training_images(cell.study)
    chosen, selected, search = None, None, initial_search(study)
    if cell.selection:
        chosen, selected = select(study, cell.selection, cell.seed)
        search = refined_search(study, cell.selection, cell.seed)
    if cell.extended:
        data = concat([data, chosen], "train with failures")
    if cell.method == ORIGINAL:
        network, entry, _ = deployed(study)
    else:
        network, entry = retrained(study, search, data, seed=1 + cell.seed)  # phi_0 itself has seed 0
    clean, right = evaluation(study, network, entry)
    failing = failing_rows(study, selected)
    rates = {name: 100 * float(right[i].float().mean()) for i, name in enumerate(CORRUPTIONS)}
    return {
        "clean": 100 * float(clean.float().mean()),
        **rates,
        "fail": 100 * float(right[CORRUPTIONS.index(study.corruption)][failing].float().mean()),
        "n_fail": len(failing),
        "n_eval": len(clean),
        "n_train": len(data),
        "severities": {name: (100 * right[i].view(5, -1).float().mean(dim=1)).tolist() for i, name in enumerate(CORRUPTIONS)},
        "genotype": str(genotype(search)),
        "params": sum(p.numel() for p in network.parameters()),
        "history": history(entry),
        "recipe": asdict(study.setup.recipe()),
    }
