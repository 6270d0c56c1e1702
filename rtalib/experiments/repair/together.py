"""Both papers at once, and what neither asks: six questions as cells of a grid (notebook 20).

'together': does an RTA set make CF-DARTS' network better than either alone? A factorial of architectures and training sets, of equal
numbers of images and steps. The others are made in gain_parts ('gain-parts', 'own-starts', 'neighbours'), severity_budget
('severity-budget') and rta_search ('coverage').
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rtalib import scales
from rtalib.data.images import LabeledImages, concat
from rtalib.errors import check_name
from rtalib.experiments import PROTOCOLS
from rtalib.experiments.repair import gain_parts
from rtalib.experiments.repair.images import Study, evaluation_split, images
from rtalib.experiments.repair.protocol import Selection, TrainedNetwork, builder, correct, deploy, find_failures, percent, refine, select
from rtalib.experiments.repair.rows import evaluation, failing, guiding, rates
from rtalib.experiments.repair.tables import CF, METHOD, run_trials
from rtalib.experiments.rta import score as rta_score
from rtalib.experiments.rta import search as rta_search
from rtalib.experiments.rta import severity_budget
from rtalib.experiments.rta import tables as rta
from rtalib.experiments.rta.source_study import run_sources
from rtalib.infra import grid, store
from rtalib.results.contrasts import gain, minus
from rtalib.results.papers import GUIDES
from rtalib.scale_settings import RepairScale, RtaScale
from rtalib.sources.train import source_network
from rtalib.training.artefacts import fingerprint, fit_network, load_images, save_images

QUESTIONS = ("together", "gain-parts", "own-starts", "severity-budget", "coverage", "neighbours")
GUIDE, PROTOCOL = "gaussian_noise", "disjoint"
DEPLOYED, SEARCHED = "Deployed cell", "CF-DARTS cell"
CELLS = (DEPLOYED, SEARCHED)
ORIGINALS, RTA, FAILURES, BOTH = "originals", "RTA", "failures", "RTA + failures"
SETS = (ORIGINALS, RTA, FAILURES, BOTH)
TRANSFER = "transfer_pgd"  # a part of the proxy suite

METHODS = {f"{cell}, {data}": (cell, data) for cell in CELLS for data in SETS}
_DATA = {f"{cell}: {data}": gain(f"{cell}, {data}", f"{cell}, {ORIGINALS}") for cell in CELLS for data in SETS[1:]}
_CELL = {f"{SEARCHED} on {data}": gain(f"{SEARCHED}, {data}", f"{DEPLOYED}, {data}") for data in SETS}
_BOTH = {f"interaction: {SEARCHED} x {data}": minus(_DATA[f"{SEARCHED}: {data}"], _DATA[f"{DEPLOYED}: {data}"]) for data in SETS[1:]}
CONTRASTS = {**_DATA, **_CELL, **_BOTH}


@dataclass(frozen=True)
class TogetherTrial:
    """A trial of CF-DARTS' tables (method, seed, ...) whose network is trained on one of SETS, made of the originals of an RTA set."""

    method: str
    seed: int
    dataset: str
    corruption: str
    protocol: str
    scale: str
    setup: RepairScale
    rta: RtaScale

    @property
    def common(self) -> dict:
        """What all trials of CF-DARTS' tables with this seed share."""
        return {name: getattr(self, name) for name in ("seed", "dataset", "corruption", "protocol", "scale", "setup")}

    @property
    def study(self) -> Study:
        return CF.trial(self.common).study


@grid.shared_workers()
def run_table(
    question: str = "together",
    *,
    scale: str = "demo",
    dataset: str = "shapes10",
    seeds: Sequence[int] = (),
    executor: str = "processes",
) -> list[dict]:
    """Rows of one of QUESTIONS; stored ones are not computed again, and what the papers' tables have stored is used.

    seeds: default the scale's own. Accuracies are in percent. The protocol is 'disjoint'; 'gain-parts' has both protocols.
    """
    check_name("question", question, QUESTIONS)
    settings = scales.get(scale)
    seeds = seeds or settings.seeds
    common = {"dataset": dataset, "corruption": GUIDE, "protocol": PROTOCOL, "scale": scale}
    if question in ("severity-budget", "coverage"):
        return _of_paper_one(question, scale, dataset, seeds, executor)
    images.cache_clear()
    options = {"common": common, "inputs": fingerprint(dataset), "executor": executor}
    with_setup = {**common, "setup": settings.repair}
    if question == "gain-parts":
        return run_trials(*METHOD, gain_parts.part_trials(seeds, PROTOCOLS, with_setup), question, **options)
    if question == "own-starts":
        return run_trials(*METHOD, gain_parts.start_trials(seeds, with_setup, settings.together), question, **options)
    if question == "neighbours":
        return run_trials(*METHOD, gain_parts.neighbour_trials(seeds, tuple(GUIDES), with_setup), question, **options)
    if settings.rta.originals <= settings.repair.failures:  # before any training
        few, many = settings.rta.originals, settings.repair.failures
        raise ValueError(f"scale {scale!r}: expected more originals than failures, which replace some of them, got {few} and {many}")
    _make_sets(scale, dataset, seeds, executor, (severity_budget.REPEATED, rta.OURS))
    options["inputs"] = rta.run_inputs(dataset, settings.rta)
    trials = [TogetherTrial(name, seed, rta=settings.rta, **with_setup) for seed in seeds for name in METHODS]
    trials.sort(key=lambda trial: not trial.method.startswith("CF"))  # those that search first
    return run_trials(together_row, "rtalib.together.together_cell", trials, question, **options)


def _make_sets(scale: str, dataset: str, seeds: Sequence[int], executor: str, methods: Sequence[str]) -> tuple[RtaScale, dict]:
    """The sources and the sets of RTA's Table 1 that a question begins from; their setup, and the options of grid.run."""
    setup = scales.get(scale).rta
    common = {"run": scales.run_name(scale, dataset), "inputs": rta.run_inputs(dataset, setup), "executor": executor}
    run_sources(scale, dataset, setup, common)
    sets = [rta.SetTrial(method, seed, dataset, PROTOCOL, setup) for seed in seeds for method in methods]
    if sets:
        grid.run(rta.set_trial, sets, recipe="rtalib.rta.set_cell", table="together-sets", **common)
    return setup, common


def _of_paper_one(question: str, scale: str, dataset: str, seeds: Sequence[int], executor: str) -> list[dict]:
    if question == "severity-budget":
        setup, common = _make_sets(scale, dataset, seeds, executor, (rta.BASELINE, severity_budget.REPEATED, rta.OURS))
        return severity_budget.run(scale, dataset, seeds, setup, scales.get(scale).together, common)
    setup, common = _make_sets(scale, dataset, seeds, executor, ())
    own = {"methods": rta_search.COVERAGE, "table": question, "steps": "coverage-search"}
    return rta_search.run(scale, dataset, seeds, PROTOCOL, setup, common, **own)


# ---------------------------------------------------------------------------------------------------------- the factorial


def training_set(trial: TogetherTrial, failures: LabeledImages | None = None) -> LabeledImages:
    """One of SETS, each of (1 + copies) x originals images: the originals that often, or once and their RTA copies.

    The sets with failures contain these as often as an original, instead of the last images.
    """
    data = METHODS[trial.method][1]
    method = rta.OURS if data in (RTA, BOTH) else severity_budget.REPEATED
    base, _ = rta.training_set(method, trial.seed, trial.dataset, trial.protocol, trial.rta)
    if data in (ORIGINALS, RTA):
        return base
    added = [failures] * (1 + trial.rta.copies)
    kept = len(base) - sum(map(len, added))
    return concat([base.subset(torch.arange(kept)), *added], f"{base.name} with failures")


def epochs(setup: RepairScale, count: int) -> int:
    """Of CF-DARTS' schedule, so that `count` images are seen as often in all as its own training images."""
    return max(1, round(setup.budget[1] * setup.images / count))


def transfer_set(test: LabeledImages, dataset: str, setup: RtaScale) -> LabeledImages:
    """PGD on the held-out source, of evaluation images that supply no failures."""
    network, source = source_network("held-out", dataset, setup)

    def build(folder: Path) -> None:
        save_images(folder, rta_score.suite_part(TRANSFER, test, network))

    parameters = {"test": test.digest, "source": source.key, "part": TRANSFER, "seed": rta_score.SEED}
    return load_images(store.make("transferred", 1, parameters, build, label=TRANSFER).path)


def together_row(trial: TogetherTrial) -> dict:
    """Train the architecture on the set with CF-DARTS' recipe; percent on clean, corrupted, failing and adversarial images."""
    study, (cell, data) = trial.study, METHODS[trial.method]
    split = evaluation_split(study, trial.protocol)
    deployed = deploy(study)
    failures = find_failures(deployed, split.base, trial.corruption)
    needed = cell == SEARCHED or data in (FAILURES, BOTH)
    chosen = select(deployed, failures, "k-center" if needed else None, trial.setup.failures, seed=trial.seed)
    architecture = refine(deployed, chosen, seed=trial.seed) if cell == SEARCHED else deployed.architecture
    data = training_set(trial, chosen.examples)
    recipe = trial.setup.recipe(data.images.shape[-1])
    recipe = recipe.scaled(epochs(trial.setup, len(data)))
    build, facts = builder(architecture.genotype, trial.setup, data)
    own = {"seed": 1 + trial.seed, "precision": trial.setup.precision, "label": f"together-s{trial.seed}"}
    network = TrainedNetwork(architecture, data, fit_network(build, lambda: data, recipe, parameters=facts, **own), build)
    clean, right = evaluation(split.test, network)
    wrong = failing(split.test, [deployed], Selection(failures))
    return {
        **rates(clean, right),
        "fail": percent(guiding(right, chosen)[wrong]),
        TRANSFER: percent(correct(network.model, transfer_set(split.test, trial.dataset, trial.rta))),
        "n_fail": int(wrong.sum()),
        "n_eval": len(split.test),
        "n_train": len(data),
        "epochs": recipe.epochs,
        "genotype": facts["genotype"],
        "network": network.entry.key,
    }
