"""Measurements of the fifteen sources: accuracy under attacks on each, and how well RTA's examples for one of them fool the others.

Attack settings are the papers' at 8/255; images, networks and RTA's restarts are those of the scale. Results are stored row by row.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from rtalib import attacks, augment, scales
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.errors import check_name
from rtalib.infra import grid, store
from rtalib.models.inference import evaluate, predict
from rtalib.results.tables import interval
from rtalib.scale_settings import RtaScale
from rtalib.sources.cards import SOURCES, Source
from rtalib.sources.train import origin, shared_source, source_network, weights_in_use
from rtalib.training.artefacts import fingerprint, load_images, save_images

# The last three spend 22 gradients per image; they differ in the loss, and the last one in its first two steps.
ATTACKS = {
    "fgsm": attacks.FGSM(),
    "pgd10": attacks.PGD(steps=10),
    "pgd22": attacks.PGD(steps=22),
    "pgd22_margin": attacks.PGD(steps=22, loss="margin"),
    "odi22": attacks.ODIPGD(restarts=1),
}
ODI, RIVALS = "odi22", ("pgd22", "pgd22_margin")
WARNING = (
    "'all attacks' is an upper bound: AutoAttack, at fifty times the cost, took up to 4 points more from sources of 3,000 images "
    "(benchmarks/README.md). Claim robustness after AutoAttack only."
)
Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class SourceTrial:
    """One network that RTA attacks (a name of SOURCES), or the 'held-out' one that only the evaluation attacks."""

    source: str
    dataset: str
    scale: str
    setup: RtaScale


@dataclass(frozen=True)
class StudyTrial:
    """One source, trained or found, and measured."""

    source: str
    seed: int
    dataset: str
    scale: str
    setup: RtaScale


@dataclass(frozen=True)
class TransferTrial:
    """Examples crafted on one source, and the accuracy of each of `targets` on them."""

    source: str
    targets: tuple[str, ...]
    seed: int
    dataset: str
    scale: str
    setup: RtaScale


def run_sources(scale: str, dataset: str, setup: RtaScale, common: dict) -> None:
    """The networks that RTA attacks, and the held-out one."""
    trials = [SourceTrial(name, dataset, scale, setup) for name in (*setup.sources, "held-out")]
    grid.run(source_trial, trials, recipe="rtalib.rta.source_cell", table="rta-sources", **common)


def run_study(
    scale: str = "demo",
    dataset: str = "shapes10",
    sources: Sequence[str] = tuple(SOURCES),
    *,
    seed: int = 0,
    executor: str = "processes",
) -> list[dict]:
    """Rows in the order of `sources`: each source trained or found, and measured on the scale's test images; stored rows are kept.

    seed: of the attacks' random starts. Row fields: source, seed, dataset, scale; clean and the names of ATTACKS: accuracy in percent, on
    attacked images as stored bytes; all: under all of them together, the claim of robustness; n_eval; paired (see paired_counts) of ODI and
    each of RIVALS; origin; parameters of the network, its key, and trained_seconds (None for weights of the user).
    Raises ValueError for unknown names.
    """
    setup, common = _common(scale, dataset, sources, executor)
    trials = [StudyTrial(name, seed, dataset, scale, setup) for name in sources]
    return grid.run(
        study_trial, trials, recipe="rtalib.source_study.study_cell", table="source-study", version=2, describe=one_line, **common
    )


@grid.shared_workers()
def run_transfer(
    scale: str = "demo",
    dataset: str = "shapes10",
    sources: Sequence[str] = tuple(SOURCES),
    *,
    seed: int = 0,
    executor: str = "processes",
) -> list[dict]:
    """Rows of the transfer matrix, one for each source that is crafted on (see examples); arguments as in run_study, which runs first.

    Row fields: source, targets; accuracy: {target: percent of the test images that it classifies right}; n_eval; gradients: mean per image.
    """
    run_study(scale, dataset, sources, seed=seed, executor=executor)  # else the first trials would all wait for the same trainings
    setup, common = _common(scale, dataset, sources, executor)
    trials = [TransferTrial(name, tuple(sources), seed, dataset, scale, setup) for name in sources]
    return grid.run(transfer_trial, trials, recipe="rtalib.source_study.transfer_cell", table="source-transfer", **common)


def _common(scale: str, dataset: str, sources: Sequence[str], executor: str) -> tuple[RtaScale, dict]:
    """The setup of all trials, the same for any choice of sources so that they share rows, and the arguments of grid.run."""
    for name in sources:
        check_name("source", name, SOURCES)
    if not sources:
        raise ValueError("sources: got none, expected at least one name")
    setup = replace(scales.get(scale).rta, sources=tuple(SOURCES))
    inputs = fingerprint(dataset) | weights_in_use(dataset, setup)
    return setup, {"run": scales.run_name(scale, dataset), "inputs": inputs, "executor": executor}


# -------------------------------------------------------------------------------------------------------------- trials


def source_trial(trial: SourceTrial) -> dict:
    """Train one source; clean accuracy and accuracy under BIM-10 at 8/255 on test images, in percent."""
    network, entry = source_network(trial.source, trial.dataset, trial.setup)
    test = load_dataset(trial.dataset, "test", limit=trial.setup.evaluated)
    attacked = attacks.attack(attacks.BIM(), network, test).images
    return {
        "clean": 100 * evaluate(network, test),
        "bim10": 100 * evaluate(network, test.with_images(attacked)),
        "n_eval": len(test),
        "network": entry.key,
        "origin": origin(entry),
    }


def study_trial(trial: StudyTrial) -> dict:
    """Train or find one source and measure it; see run_study."""
    network, entry = source_network(trial.source, trial.dataset, trial.setup)
    test = load_dataset(trial.dataset, "test", limit=trial.setup.evaluated)
    fooled = {name: attacks.attack(recipe, network, test, seed=trial.seed).success.cpu() for name, recipe in ATTACKS.items()}
    return {
        "clean": 100 * evaluate(network, test),
        **{name: 100 * (~wrong).double().mean().item() for name, wrong in fooled.items()},
        "all": 100 * (~torch.stack(list(fooled.values())).any(0)).double().mean().item(),
        "paired": {rival: paired_counts(fooled[ODI], fooled[rival]) for rival in RIVALS},
        "n_eval": len(test),
        "origin": origin(entry),
        "parameters": sum(weights.numel() for weights in network.parameters()),
        "trained_seconds": _trained_seconds(entry),
        "network": entry.key,
    }


def _trained_seconds(entry: store.Entry) -> float | None:
    """Of all stages of a plan; of a resumed one, since it was resumed. None for weights of the user."""
    if origin(entry) != "substitute":
        return None
    previous = entry.card["parameters"].get("previous")
    before = store.find(entry.card["recipe"], previous) if previous else None
    return round(entry.card["seconds"] + (_trained_seconds(before) if before else 0.0), 1)


def transfer_trial(trial: TransferTrial) -> dict:
    """Craft on one source and ask every target; see run_transfer."""
    crafted, gradients = examples(trial.source, trial.dataset, trial.setup, seed=trial.seed)
    accuracy = {name: 100 * evaluate(shared_source(name, trial.dataset, trial.setup)[0], crafted) for name in trial.targets}
    return {"accuracy": accuracy, "gradients": gradients, "n_eval": len(crafted)}


def examples(name: str, dataset: str, setup: RtaScale, *, seed: int = 0) -> tuple[LabeledImages, float]:
    """The scale's test images as RTA's bank attacks them on one source, and the mean number of gradients per image; crafted once.

    The attack is ODI-BIM, preset 'author', with the scale's restarts: frozen at the first success, and without any change if the network
    is wrong from the start.
    """
    network, entry = shared_source(name, dataset, setup)
    test = load_dataset(dataset, "test", limit=setup.evaluated)

    def craft(folder: Path) -> None:
        bank = augment.Bank.for_data(test, {name: network}, restarts=setup.restarts)
        found = attacks.attack(bank.recipe(name), network, test, seed=seed)
        save_images(folder, test.with_images(found.images))
        (folder / "cost.json").write_text(json.dumps(found.gradients.double().mean().item()))

    parameters = {"network": entry.key, "data": test.digest, "restarts": setup.restarts, "seed": seed}
    made = store.make("source-examples", 1, parameters, craft, label=name)
    return load_images(made.path), json.loads((made.path / "cost.json").read_text())


def right_everywhere(networks: Sequence[nn.Module], data: LabeledImages) -> int:
    """The first image of `data` that the most networks classify right."""
    right = torch.stack([(predict(network, data.images).argmax(1).cpu() == data.hard_labels.cpu()) for network in networks])
    return int(right.sum(0).argmax())


# -------------------------------------------------------------------------------------------------------- pure functions


def paired_counts(first: Tensor, second: Tensor) -> dict[str, int]:
    """{'both', 'only_odi', 'only_pgd', 'n'}: images that both, only `first` (ODI) and only `second` (PGD) fool; bool (N,) each."""
    if first.dtype != torch.bool or first.shape != second.shape or second.dtype != torch.bool:
        raise ValueError(f"second: expected bool {tuple(first.shape)} like a bool first, got {second.dtype} {tuple(second.shape)}")
    counts = {"both": first & second, "only_odi": first & ~second, "only_pgd": second & ~first}
    return {name: int(which.sum()) for name, which in counts.items()} | {"n": len(first)}


def paired_difference(counts: dict[str, int]) -> tuple[float, float, float]:
    """(difference, low, high) of two success rates on the same images, first less second, in points; 95 % interval.

    Bonett and Price 2012: Wald's interval for paired proportions with one image added to each kind of disagreement, so that it has a
    length even if the attacks agree on every image. counts: see paired_counts.
    """
    n, first, second = (counts[name] for name in ("n", "only_odi", "only_pgd"))
    if n < 1 or first + second > n:
        raise ValueError(f"counts: expected at least one image and no more disagreements than images, got {counts}")
    p, q = (first + 1) / (n + 2), (second + 1) / (n + 2)
    half = Z * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return 100 * (first - second) / n, 100 * max(p - q - half, -1.0), 100 * min(p - q + half, 1.0)


def differences(rows: Sequence[dict]) -> dict[str, np.ndarray]:
    """{rival: float (rows, 3)}: paired_difference of ODI and each of RIVALS on every source of run_study's rows."""
    return {rival: np.array([paired_difference(row["paired"][rival]) for row in rows]) for rival in RIVALS}


def transfer_matrix(rows: Sequence[dict]) -> np.ndarray:
    """float (crafted on, attacked): percent right, from run_transfer's rows; both axes in the order of the targets."""
    return np.array([[row["accuracy"][name] for name in row["targets"]] for row in rows])


def transfer_costs(transfer: Sequence[dict], clean: Sequence[float]) -> pd.DataFrame:
    """A row per crafting source: mean gradients an image, and the mean points that the other sources lose on its examples.

    transfer: run_transfer's rows; clean: each source's accuracy on clean images in percent.
    """
    lost = np.array(clean) - transfer_matrix(transfer)
    others = (lost.sum(1) - lost.diagonal()) / (len(lost) - 1)
    columns = {"gradients an image": [row["gradients"] for row in transfer], "lost by the other sources, points": others}
    return pd.DataFrame(columns, index=[row["source"] for row in transfer])


def difference_table(against: Mapping[str, np.ndarray], names: Sequence[str]) -> pd.DataFrame:
    """`differences` as a table: difference and 95 % interval to each rival, a row per source and their mean with Student's interval."""
    parts = {(name, part): found[:, k] for name, found in against.items() for k, part in enumerate(("difference", "from", "to"))}
    table = pd.DataFrame(parts, index=pd.Index(names, name="source"))
    for name in against:
        found = table.loc[list(names), (name, "difference")]
        table.loc["mean", name] = found.mean() + np.array([0, -1, 1]) * interval(found)
    return table.set_axis([f"{part} to {name}" for name, part in table.columns], axis=1)


def cards() -> pd.DataFrame:
    """The published facts, a line per source; accuracies in percent at 8/255 unless the note says otherwise, missing where unpublished."""
    return pd.DataFrame([_card(source) for source in SOURCES.values()]).set_index("source")


def _card(source: Source) -> dict:
    facts = {name: getattr(source, name) for name in ("architecture", "method", "paper")}
    starter = None if source.starter_score is None else 100 * (1 - source.starter_score)
    published = {"clean": source.clean_accuracy, "own attack": source.robust_accuracy, "AutoAttack": source.autoattack, "PGD-10": starter}
    return {"source": source.name} | facts | published | {"weights": source.robustbench or "", "note": source.note}


def beside_cards(rows: Sequence[dict]) -> pd.DataFrame:
    """run_study's rows beside the cards: a line per source, in percent."""
    columns = {"origin": "origin", "clean": "clean", "fgsm": "FGSM", "pgd10": "PGD-10", "pgd22": "PGD-22"}
    columns |= {"pgd22_margin": "PGD-22 margin", "odi22": "ODI-PGD", "all": "all attacks"}
    table = pd.DataFrame([{"source": row["source"]} | {text: row[name] for name, text in columns.items()} for row in rows])
    published = cards()[["clean", "AutoAttack"]].astype(float).add_suffix(", published")
    return table.set_index("source").join(published)


def one_line(row: dict) -> str:
    """The line that a run prints for a finished source."""
    spent = "" if row["trained_seconds"] is None else f", trained in {row['trained_seconds']:.0f} s"
    return f"{row['source']} ({row['origin']}{spent}): clean {row['clean']:.1f}, PGD-10 {row['pgd10']:.1f}, ODI-PGD {row['odi22']:.1f}"


def text_table(rows: Sequence[dict]) -> str:
    """beside_cards for a terminal, under a line with the origin of the numbers."""
    table = beside_cards(rows).drop(columns=["PGD-22", "PGD-22 margin"]).reset_index()
    head = f"accuracy in percent on {rows[0]['n_eval']} test images of {rows[0]['dataset']}, scale {rows[0]['scale']}, attacks at 8/255"
    return f"{head}\n{table.to_string(index=False, na_rep='', float_format='{:.1f}'.format)}\n{WARNING}"
