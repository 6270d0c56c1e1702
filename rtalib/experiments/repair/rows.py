"""What a row of the CF-DARTS tables measures: a trained network on clean and on corrupted images, on phi_0's failures, and what leaked."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from rtalib import darts
from rtalib.corruptions import CORRUPTIONS
from rtalib.data import LabeledImages
from rtalib.experiments.repair.adaptations import ADAPTATIONS, adapted
from rtalib.experiments.repair.baselines import BASELINES, baseline
from rtalib.experiments.repair.chance import rivals
from rtalib.experiments.repair.images import (
    TEST_SEED,
    Study,
    constants_of,
    corrupted,
    evaluation_split,
    shared_images,
    target_images,
    target_name,
)
from rtalib.experiments.repair.protocol import (
    Selection,
    TrainedNetwork,
    correct,
    deploy,
    find_failures,
    parameter_count,
    percent,
    refine,
    retrain,
    select,
    train,
)
from rtalib.infra import grid, store
from rtalib.scale_settings import RepairScale
from rtalib.training.artefacts import frost_kind, history


@dataclass(frozen=True)
class Trial:
    """One method with one seed. The seed drives selection, search and retraining; the deployed network stays the same.

    kind: 'deployed', 'retrained' (the same architecture again), 'refined' (found with failures), 'random' (a drawn architecture of any
    size), 'matched' (a drawn one of the size of this seed's refined one), or the name of a baseline
    or of an adaptation. selection: 'random', 'core' or 'augmented' examples, `budget` of them; `extended` trains on them, too.
    target: another data set, on which the architecture is trained and measured (Table 4).
    """

    method: str
    seed: int
    dataset: str
    corruption: str | None
    protocol: str
    scale: str
    setup: RepairScale
    kind: str
    selection: str | None = None
    budget: int = 0
    extended: bool = False
    search: str = "darts"
    version: int = 1
    iterations: int = 1
    target: str | None = None

    @property
    def study(self) -> Study:
        return Study(self.dataset, self.scale, self.setup, self.search, self.version)

    @property
    def rule(self) -> str | None:
        """The selection under the name that protocol.select knows."""
        return "k-center" if self.selection == "core" else self.selection


@dataclass(frozen=True)
class OwnStart(Trial):
    """A trial whose deployed network is searched and trained by `start`, so that it and its failures are a sample, too."""

    start: int = 0
    arch_weight_decay: float | None = None

    @property
    def study(self) -> Study:
        return replace(super().study, seed=self.start, arch_weight_decay=self.arch_weight_decay)


# ------------------------------------------------------------------------------------------------------------- measures


def evaluation(test: LabeledImages, network: TrainedNetwork) -> tuple[torch.Tensor, torch.Tensor]:
    """Right or wrong on every evaluation image: clean bool (n,), corrupted bool (15, 5n) in the order of CORRUPTIONS. Stored."""

    def build(folder: Path) -> None:
        np.save(folder / "clean.npy", correct(network.model, test).numpy())
        right = [correct(network.model, corrupted(test, name)) for name in CORRUPTIONS]
        np.save(folder / "corrupted.npy", torch.stack(right).numpy())

    parameters = {"network": network.entry.key, "test": test.digest, "seed": TEST_SEED, "frost": frost_kind(), **constants_of(test)}
    found = store.make("evaluation", 1, parameters, build, label="corruptions")
    return tuple(torch.from_numpy(np.load(found.path / f"{part}.npy")) for part in ("clean", "corrupted"))


def guiding(right: torch.Tensor, chosen: Selection) -> torch.Tensor:
    """bool (5n,): the line of the guiding corruption."""
    return right[CORRUPTIONS.index(chosen.failures.corruption)]


def failing(test: LabeledImages, networks: Sequence[TrainedNetwork], chosen: Selection) -> torch.Tensor:
    """bool (5n,): the images of the guiding corruption on which all of these networks fail, without the selected ones.

    Section 3.4 calls it D_fail / C_fail. Selected rows are rows of the evaluation only if failures come from the evaluation's own images.
    """
    wrong = torch.stack([~guiding(evaluation(test, network)[1], chosen) for network in networks]).all(dim=0)
    if chosen.failures.base.digest == test.digest:
        wrong[chosen.rows] = False
    return wrong


def rates(clean: torch.Tensor, right: torch.Tensor) -> dict:
    """Columns of every table: clean, and one per corruption over all five severities, in percent."""
    return {"clean": percent(clean), **{name: percent(right[i]) for i, name in enumerate(CORRUPTIONS)}}


def leakage(test: LabeledImages, chosen: Selection) -> dict:
    """How many base images the pool of failures shares with the evaluation, and of how many of these a failure was selected."""
    base = chosen.failures.base
    shared = shared_images(base, test)
    return {"shared_base_images": shared, "leaked_base_images": len((chosen.rows % len(base)).unique()) if shared else 0}


def facts(network: TrainedNetwork, clean: torch.Tensor, right: torch.Tensor) -> dict:
    """What every row says besides its accuracies."""
    return {
        "n_eval": len(clean),
        "n_train": len(network.data),
        "severities": {name: (100 * right[i].view(5, -1).float().mean(dim=1)).tolist() for i, name in enumerate(CORRUPTIONS)},
        "genotype": str(network.architecture.genotype),
        "params": parameter_count(*network.build.args, **network.build.keywords),
        "entropy": entropy(network),
        "precision": network.entry.card["parameters"].get("precision"),  # None: adapted, not trained
        "history": history(network.entry),
        "recipe": asdict(network.architecture.study.setup.recipe(network.data.images.shape[-1])),
    }


def entropy(network: TrainedNetwork) -> float | None:
    """How undecided the search of the architecture ended: in nats, the mean over the edges of both cells; at most log 8 = 2.08.

    None for a drawn architecture.
    """
    if network.architecture.search is None:
        return None
    last = network.architecture.trace[-1]
    return (last["entropy_normal"] + last["entropy_reduce"]) / 2


def measure(network: TrainedNetwork, test: LabeledImages, deployed: TrainedNetwork, chosen: Selection) -> dict:
    """A row of Table 2 (section 4.1): top-1 in percent on clean images, on each corruption over all severities, and on D_fail / C_fail.

    `fail` of the deployed network is 0 by construction: compare with the same architecture trained again.
    """
    clean, right = evaluation(test, network)
    wrong = failing(test, [deployed], chosen)
    own = {"fail": percent(guiding(right, chosen)[wrong]), "n_fail": int(wrong.sum())}
    return {**rates(clean, right), **own, **leakage(test, chosen), **facts(network, clean, right)}


# ----------------------------------------------------------------------------------------------------------------- rows


def steps(trial: Trial) -> tuple[LabeledImages, TrainedNetwork, Selection, TrainedNetwork]:
    """The protocol up to (evaluation images, phi_0, C_fail, the network that the trial measures)."""
    study = trial.study
    split = evaluation_split(study, trial.protocol)
    deployed = deploy(study)
    failures = find_failures(deployed, split.base, trial.corruption)
    chosen = select(deployed, failures, trial.rule, trial.budget, seed=trial.seed)
    return split.test, deployed, chosen, _network(trial, deployed, chosen)


def _network(trial: Trial, deployed: TrainedNetwork, chosen: Selection) -> TrainedNetwork:
    """phi_0 itself, or an architecture trained again: on D_train, by a baseline, or on Table 4's data set."""
    architecture = deployed.architecture
    if trial.kind in ("refined", "matched"):
        architecture = refine(deployed, chosen, trial.iterations, seed=trial.seed)
    if trial.kind in ("random", "matched"):
        of_its_size = trial.kind == "matched"
        drawn = next(rivals(trial.study, architecture.genotype, trial.seed)) if of_its_size else darts.random_genotype(trial.seed)
        architecture = replace(architecture, genotype=drawn, search=None)
    if trial.target:
        data = target_images(trial.target, "train", trial.setup)
        return train(architecture, data, seed=0 if trial.kind == "deployed" else 1 + trial.seed, curves=False)
    if trial.kind in ADAPTATIONS:
        entry = adapted(trial.kind, deployed.model, chosen.failures.pool, parameters={"deployed": deployed.entry.key}, seed=trial.seed)
        return TrainedNetwork(architecture, deployed.data, entry, deployed.build)
    if trial.kind in BASELINES:
        weight = trial.setup.recipe(deployed.data.images.shape[-1]).auxiliary_weight
        look = (deployed.model, chosen.examples) if chosen.examples else (None, None)  # DeepRepair alone looks at phi_0 and its failures
        return train(architecture, deployed.data, seed=1 + trial.seed, baseline=baseline(trial.kind, 1 + trial.seed, weight, *look))
    return deployed if trial.kind == "deployed" else retrain(architecture, chosen if trial.extended else None, seed=trial.seed)


def method_row(trial: Trial) -> dict:
    """Tables 1, 2, 3 and 6, and Figure 4."""
    test, deployed, chosen, network = steps(trial)
    return measure(network, test, deployed, chosen)


def common_row(trial: Trial) -> dict:
    """Table 5: with `common_fail`, on the images on which the deployed networks of all search methods fail."""
    test, deployed, chosen, network = steps(trial)
    others = [deploy(replace(trial.study, search=name)) for name in trial.setup.searches if name != trial.search]
    wrong = failing(test, [deployed, *others], chosen)
    common = percent(guiding(evaluation(test, network)[1], chosen)[wrong]) if wrong.any() else None
    return {**measure(network, test, deployed, chosen), "common_fail": common, "n_common_fail": int(wrong.sum())}


def transfer_row(trial: Trial) -> dict:
    """Table 4: the architecture trained and measured on another data set, which the row names."""
    *_, network = steps(trial)
    test = target_images(trial.target, "test", trial.setup)
    clean, right = evaluation(test, network)
    return {"dataset": f"{trial.dataset} → {target_name(test)}", **rates(clean, right), **facts(network, clean, right)}


def cost_row(trial: Trial) -> dict:
    """Table 7, from the clocks of the store: hours or percent for the selection, the epochs of the search and those of the retraining."""
    _, _, chosen, network = steps(trial)
    seconds = {
        "selection": chosen.entry.card["seconds"],
        "search": sum(epoch["seconds"] for epoch in network.architecture.trace),
        "retraining": sum(epoch["seconds"] for epoch in history(network.entry)),
    }
    seconds["total"] = sum(seconds.values())
    unit = seconds["total"] / 100 if trial.method.endswith("(%)") else grid.HOUR
    return {name: value / unit for name, value in seconds.items()} | {"total_seconds": seconds["total"]}


def deployed_row(trial: Trial) -> dict:
    """phi_0: clean and mean corrupted accuracy, its failures in the pool of corrupted images, and the base images that leak."""
    base, test = evaluation_split(trial.study, trial.protocol)
    deployed = deploy(trial.study)
    clean, right = evaluation(test, deployed)
    return {
        "clean": percent(clean),
        "corrupted": percent(right),
        "failures": len(find_failures(deployed, base, trial.corruption).rows),
        "pool": 5 * len(base),
        "shared_base_images": shared_images(base, test),
        "genotype": str(deployed.architecture.genotype),
    }
