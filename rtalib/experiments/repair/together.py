"""Both papers at once, and what neither asks: five questions as cells of a grid (notebook 20).

'together': does an RTA set make CF-DARTS' network better than either alone? A factorial of architectures and training sets, of equal
numbers of images and steps. The other four are made in gain_parts ('gain-parts', 'neighbours'), severity_budget ('severity-budget') and
rta_search ('coverage').
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rtalib import scales
from rtalib.corruptions import CORRUPTIONS
from rtalib.data.images import LabeledImages, concat
from rtalib.errors import unknown
from rtalib.experiments import repair
from rtalib.experiments.repair import gain_parts
from rtalib.experiments.repair.images import PROTOCOLS, Cell, Study, evaluation_split, images
from rtalib.experiments.repair.protocol import builder, correct, examples
from rtalib.experiments.repair.rows import architecture, evaluation, failing_rows, percent, rates
from rtalib.experiments.repair.tables import AGAIN, CF
from rtalib.experiments.rta import score as rta_score
from rtalib.experiments.rta import search as rta_search
from rtalib.experiments.rta import severity_budget
from rtalib.experiments.rta import tables as rta
from rtalib.infra import grid, store
from rtalib.results.contrasts import gain, minus
from rtalib.results.papers import GUIDES
from rtalib.scale_settings import RepairScale, RtaScale
from rtalib.sources.train import source_network
from rtalib.training.artefacts import fingerprint, load_images, save_images, trained_network

QUESTIONS = ("together", "gain-parts", "severity-budget", "coverage", "neighbours")
GUIDE, PROTOCOL = "gaussian_noise", "disjoint"
CELLS = {"Deployed cell": AGAIN, "CF-DARTS cell": CF}
ORIGINALS, RTA, FAILURES, BOTH = "originals", "RTA", "failures", "RTA + failures"
SETS = (ORIGINALS, RTA, FAILURES, BOTH)
TRANSFER = "transfer_pgd"  # a part of the proxy suite

METHODS = {f"{cell}, {data}": (cell, data) for cell in CELLS for data in SETS}
_DATA = {f"{cell}: {data}": gain(f"{cell}, {data}", f"{cell}, {ORIGINALS}") for cell in CELLS for data in SETS[1:]}
_CELL = {f"CF-DARTS cell on {data}": gain(f"CF-DARTS cell, {data}", f"Deployed cell, {data}") for data in SETS}
_BOTH = {
    f"interaction: CF-DARTS cell x {data}": minus(_DATA[f"CF-DARTS cell: {data}"], _DATA[f"Deployed cell: {data}"]) for data in SETS[1:]
}
CONTRASTS = {**_DATA, **_CELL, **_BOTH}


@dataclass(frozen=True)
class TogetherCell:
    """A cell of CF-DARTS' tables (method, seed, ...) whose network is trained on one of SETS, made of the originals of an RTA set."""

    method: str
    seed: int
    dataset: str
    corruption: str
    protocol: str
    scale: str
    setup: RepairScale
    rta: RtaScale

    @property
    def repair(self) -> Cell:
        """Whose architecture it is."""
        return CELLS[METHODS[self.method][0]].cell(self.common)

    @property
    def common(self) -> dict:
        """What all cells of CF-DARTS' tables with this seed share."""
        return {name: getattr(self, name) for name in ("seed", "dataset", "corruption", "protocol", "scale", "setup")}

    @property
    def study(self) -> Study:
        return self.repair.study


@grid.crew()
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
    if question not in QUESTIONS:
        raise unknown("question", question, QUESTIONS)
    settings = scales.get(scale)
    seeds = seeds or settings.seeds
    common = {"dataset": dataset, "corruption": GUIDE, "protocol": PROTOCOL, "scale": scale}
    if question in ("severity-budget", "coverage"):
        return _of_paper_one(question, scale, dataset, seeds, executor)
    images.cache_clear()
    options = {"common": common, "inputs": fingerprint(dataset), "executor": executor}
    with_setup = {**common, "setup": settings.repair}
    if question == "gain-parts":
        return repair.run_cells(*repair.METHOD, gain_parts.part_cells(seeds, PROTOCOLS, with_setup), question, **options)
    if question == "neighbours":
        return repair.run_cells(*repair.METHOD, gain_parts.neighbour_cells(seeds, tuple(GUIDES), with_setup), question, **options)
    _make_sets(scale, dataset, seeds, executor, (severity_budget.REPEATED, rta.OURS))
    options["inputs"] = rta.run_inputs(dataset, settings.rta)
    cells = [TogetherCell(name, seed, rta=settings.rta, **with_setup) for seed in seeds for name in METHODS]
    cells.sort(key=lambda cell: not cell.method.startswith("CF"))  # those that search first
    return repair.run_cells(together_cell, "rtalib.together.together_cell", cells, question, **options)


def _make_sets(scale: str, dataset: str, seeds: Sequence[int], executor: str, methods: Sequence[str]) -> tuple[RtaScale, dict]:
    """The sources and the sets of RTA's Table 1 that a question begins from; their setup, and the options of grid.run."""
    setup = scales.get(scale).rta
    common = {"run": scales.run_name(scale, dataset), "inputs": rta.run_inputs(dataset, setup), "executor": executor}
    rta.run_sources(scale, dataset, setup, common)
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


def training_set(cell: TogetherCell) -> LabeledImages:
    """One of SETS, each of (1 + copies) x originals images: the originals that often, or once and their RTA copies; with failures, these as
    often as an original, in the place of the last images."""
    data = METHODS[cell.method][1]
    method = rta.OURS if data in (RTA, BOTH) else severity_budget.REPEATED
    base, _ = rta.training_set(method, cell.seed, cell.dataset, cell.protocol, cell.rta)
    if data in (ORIGINALS, RTA):
        return base
    failing = [examples(CF.cell(cell.common))[0]] * (1 + cell.rta.copies)
    kept = len(base) - sum(map(len, failing))
    return concat([base.subset(torch.arange(kept)), *failing], f"{base.name} with failures")


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


def together_cell(cell: TogetherCell) -> dict:
    """Train the architecture on the set with CF-DARTS' recipe; percent on clean, corrupted, failing and adversarial images."""
    data, repaired = training_set(cell), cell.repair
    recipe = cell.setup.recipe(data.images.shape[-1])
    recipe = recipe.scaled(epochs(cell.setup, len(data)))
    build, facts = builder(architecture(repaired), cell.setup, data)
    seed, label = 1 + cell.seed, f"together-s{cell.seed}"
    model, entry = trained_network(build, lambda: data, recipe, parameters=facts, seed=seed, precision=cell.setup.precision, label=label)
    test = evaluation_split(cell.study, cell.protocol)[1]
    clean, right = evaluation(test, model, entry)
    failing = failing_rows(repaired, cell.study, None)
    return {
        **rates(clean, right),
        "fail": percent(right[CORRUPTIONS.index(cell.corruption)][failing]),
        TRANSFER: percent(correct(model, transfer_set(test, cell.dataset, cell.rta))),
        "n_fail": len(failing),
        "n_eval": len(test),
        "n_train": len(data),
        "epochs": recipe.epochs,
        "genotype": facts["genotype"],
        "network": entry.key,
    }
