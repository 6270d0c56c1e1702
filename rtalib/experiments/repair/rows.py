"""What a cell of the CF-DARTS tables measures: one network on clean and on corrupted images, on phi_0's failures, and what leaked."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rtalib import darts
from rtalib.corruptions import CORRUPTIONS
from rtalib.data.images import LabeledImages, concat
from rtalib.experiments.repair.baselines import BASELINES, train_baseline
from rtalib.experiments.repair.images import (
    TEST_SEED,
    Cell,
    Study,
    corrupted,
    evaluation_split,
    shared_images,
    target_images,
    target_name,
    training_images,
)
from rtalib.experiments.repair.protocol import builder, correct, deployed, examples, failures, recorder, refined_search, retrained, selected
from rtalib.experiments.repair.searches import genotype, initial_search, trace
from rtalib.infra import grid, store
from rtalib.training.artefacts import frost_kind, history

# ------------------------------------------------------------------------------------------------------------- network


def architecture(cell: Cell) -> darts.Genotype:
    """The genotype that the cell trains: phi_0's, a drawn one, or the refined one."""
    if cell.kind == "random":
        return darts.random_genotype(cell.seed)
    return genotype(refined_search(cell) if cell.kind == "refined" else initial_search(cell.study))


def training_set(cell: Cell) -> LabeledImages:
    """D_train, with C_fail for the variants that train on it, too; Table 4's other data set where the cell has one."""
    if cell.target:
        return target_images(cell, "train")
    data = training_images(cell.study)
    return concat([data, examples(cell)[0]], "train with failures") if cell.extended else data


def network(cell: Cell) -> tuple[nn.Module, store.Entry]:
    """The network that the cell measures; retrainings have seeds from 1 on, phi_0 itself has 0."""
    if cell.kind == "deployed" and not cell.target:
        return deployed(cell.study)[:2]
    data = training_set(cell)
    seed = 0 if cell.kind == "deployed" else 1 + cell.seed
    if cell.kind not in BASELINES:
        return retrained(cell.study, architecture(cell), data, seed=seed, curves=not cell.target)
    build, facts = builder(architecture(cell), cell.setup, data)
    own = {"parameters": {**facts, "curves": cell.setup.curve_images}, "seed": seed, "precision": cell.setup.precision}
    own |= {"label": f"{cell.kind}-s{seed}", "record": recorder(cell.study)}
    failing = examples(cell)[0] if cell.selection else data  # DeepRepair alone looks at them
    recipe = cell.setup.recipe(data.images.shape[-1])
    return train_baseline(cell.kind, build, data, recipe, deployed=deployed(cell.study)[0], failures=failing, **own)


# ------------------------------------------------------------------------------------------------------------ evaluation


def evaluation(test: LabeledImages, model: nn.Module, entry: store.Entry) -> tuple[torch.Tensor, torch.Tensor]:
    """Right or wrong on every evaluation image: clean bool (n,), corrupted bool (15, 5n) in the order of CORRUPTIONS."""

    def build(folder: Path) -> None:
        np.save(folder / "clean.npy", correct(model, test).numpy())
        np.save(folder / "corrupted.npy", torch.stack([correct(model, corrupted(test, name)) for name in CORRUPTIONS]).numpy())

    parameters = {"network": entry.key, "test": test.digest, "seed": TEST_SEED, "frost": frost_kind()}
    found = store.make("evaluation", 1, parameters, build, label="corruptions")
    return tuple(torch.from_numpy(np.load(found.path / f"{part}.npy")) for part in ("clean", "corrupted"))


def failing_rows(cell: Cell, study: Study, selected_rows: torch.Tensor | None) -> torch.Tensor:
    """Rows of the guiding corruption's evaluation set on which the deployed network of `study` fails, without the selected ones."""
    model, entry, _ = deployed(study)
    _, right = evaluation(evaluation_split(study, cell.protocol)[1], model, entry)
    wrong = ~right[CORRUPTIONS.index(cell.corruption)]
    if cell.protocol == "paper" and selected_rows is not None:
        wrong[selected_rows] = False
    return wrong.nonzero().flatten()


def percent(right: torch.Tensor) -> float:
    return 100 * float(right.float().mean())


def rates(clean: torch.Tensor, right: torch.Tensor) -> dict:
    """Columns of every table: clean, and one per corruption over all five severities, in percent."""
    return {"clean": percent(clean), **{name: percent(right[i]) for i, name in enumerate(CORRUPTIONS)}}


# ---------------------------------------------------------------------------------------------------------------- rows


def facts(cell: Cell, model: nn.Module, entry: store.Entry, clean: torch.Tensor, right: torch.Tensor) -> dict:
    """What every row says besides its accuracies."""
    by_severity = {name: (100 * right[i].view(5, -1).float().mean(dim=1)).tolist() for i, name in enumerate(CORRUPTIONS)}
    data = training_set(cell)
    return {
        "n_eval": len(clean),
        "n_train": len(data),
        "severities": by_severity,
        "genotype": str(architecture(cell)),
        "params": sum(p.numel() for p in model.parameters()),
        "history": history(entry),
        "recipe": asdict(cell.setup.recipe(data.images.shape[-1])),
    }


def leakage(cell: Cell) -> dict:
    """Base images that the pool of failures shares with the evaluation; and, of those, the ones of which a failure was selected."""
    base, test = evaluation_split(cell.study, cell.protocol)
    shared = shared_images(base, test)
    if cell.selection not in ("random", "core") or not shared:
        return {"shared_base_images": shared, "leaked_base_images": 0}
    return {"shared_base_images": shared, "leaked_base_images": len((examples(cell)[1] % len(base)).unique())}


def method_cell(cell: Cell) -> dict:
    """One row of Tables 1, 2, 3, 5 and 6 and of Figure 4."""
    _, test = evaluation_split(cell.study, cell.protocol)
    model, entry = network(cell)
    clean, right = evaluation(test, model, entry)
    guide = right[CORRUPTIONS.index(cell.corruption)]
    rows = examples(cell)[1] if cell.selection else None
    failing = failing_rows(cell, cell.study, rows)
    return {
        **rates(clean, right),
        "fail": percent(guide[failing]),
        "n_fail": len(failing),
        **leakage(cell),
        **facts(cell, model, entry, clean, right),
    }


def common_cell(cell: Cell) -> dict:
    """A row of Table 5: with `common_fail`, the examples on which the deployed networks of all search methods fail."""
    studies = [Study(cell.dataset, cell.scale, cell.setup, search) for search in cell.setup.searches]
    wrong = torch.stack([_mask(failing_rows(cell, study, None), cell) for study in studies]).all(dim=0)
    if cell.protocol == "paper" and cell.selection in ("random", "core"):
        wrong[examples(cell)[1]] = False
    model, entry = network(cell)
    _, right = evaluation(evaluation_split(cell.study, cell.protocol)[1], model, entry)
    common = percent(right[CORRUPTIONS.index(cell.corruption)][wrong]) if wrong.any() else None
    return {**method_cell(cell), "common_fail": common, "n_common_fail": int(wrong.sum())}


def _mask(rows: torch.Tensor, cell: Cell) -> torch.Tensor:
    mask = torch.zeros(5 * len(evaluation_split(cell.study, cell.protocol)[1]), dtype=torch.bool)
    mask[rows] = True
    return mask


def transfer_cell(cell: Cell) -> dict:
    """A row of Table 4: the architecture trained and measured on the other data set, by whose name the row goes."""
    test = target_images(cell, "test")
    model, entry = network(cell)
    clean, right = evaluation(test, model, entry)
    return {"dataset": f"{cell.dataset} → {target_name(cell)}", **rates(clean, right), **facts(cell, model, entry, clean, right)}


def deployed_cell(cell: Cell) -> dict:
    """phi_0, and what the protocol leaks in base images: clean and mean accuracy, failures in the pool of corrupted images."""
    model, entry, search = deployed(cell.study)
    base, test = evaluation_split(cell.study, cell.protocol)
    clean, right = evaluation(test, model, entry)
    return {
        "clean": percent(clean),
        "corrupted": percent(right),
        "failures": len(failures(model, corrupted(base, cell.corruption))),
        "pool": 5 * len(base),
        "shared_base_images": shared_images(base, test),
        "genotype": str(genotype(search)),
    }


def cost_cell(cell: Cell) -> dict:
    """A row of Table 7 from the store's own clocks, in hours or percent: selection of failures, epochs of search and of retraining."""
    seconds = {
        "selection": selected(cell)[0].card["seconds"],
        "search": sum(epoch["seconds"] for epoch in trace(refined_search(cell))),
        "retraining": sum(epoch["seconds"] for epoch in history(network(cell)[1])),
    }
    seconds["total"] = sum(seconds.values())
    unit = seconds["total"] / 100 if cell.method.endswith("(%)") else grid.HOUR
    return {name: value / unit for name, value in seconds.items()} | {"total_seconds": seconds["total"]}
