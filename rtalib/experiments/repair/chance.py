"""Does a search find better cells than chance? The null model of every search: cells drawn uniformly, of about the same size.

Li and Talwalkar (UAI 2019) asked it first; the papers here do not. A searched architecture and its rivals are trained alike, from scratch,
on all training images, and measured on the same test images.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

from rtalib import darts, scales
from rtalib.experiments.repair.images import Study, images
from rtalib.experiments.repair.protocol import builder, parameter_count, search, train
from rtalib.infra import grid
from rtalib.models.inference import evaluate
from rtalib.scale_settings import RepairScale
from rtalib.training.artefacts import fingerprint

DRAWN, MEDIAN = "Random cell", "Random cell (median)"
SEARCHED = {"darts": "DARTS", "pc-darts": "PCDARTS", "darts-pt": "DARTSPT", "robust-darts": "RobDARTS"}
TOLERANCE = 0.1  # relative difference in parameters up to which two networks are of the same size
DRAWS = 200  # for one rival; a collapsed cell, all pooling, is smaller than nearly all random ones


@dataclass(frozen=True)
class ChanceTrial:
    """A searched architecture (number 0) or one of its rivals (number 1, 2, ...), trained from scratch."""

    method: str
    seed: int
    number: int
    search: str
    dataset: str
    scale: str
    setup: RepairScale

    @property
    def study(self) -> Study:
        return Study(self.dataset, self.scale, self.setup, self.search)


@grid.shared_workers()
def run(
    scale: str = "demo",
    dataset: str = "shapes10",
    seeds: Sequence[int] = (),
    *,
    search: str = "darts",
    executor: str = "processes",
) -> list[dict]:
    """Rows of the searched architectures, one per seed, and of setup.draws random ones for each, of its size (see `rivals`).

    seeds: of the search, the draws and the trainings; default the scale's own. Row fields: clean (top-1 on setup.chance_tests test images,
    percent), n_eval, params, genotype. Stored rows are not computed again.
    """
    settings = scales.get(scale)
    setup = settings.repair
    common = {"run": scales.run_name(scale, dataset), "inputs": fingerprint(dataset), "executor": executor}
    names = {number: DRAWN if number else SEARCHED[search] for number in range(1 + setup.draws)}
    trials = [
        ChanceTrial(name, seed, number, search, dataset, scale, setup) for number, name in names.items() for seed in seeds or settings.seeds
    ]
    return grid.run(chance_row, trials, recipe="rtalib.chance.chance_cell", table="search-or-chance", **common)


def rivals(study: Study, found: darts.Genotype, seed: int) -> Iterator[darts.Genotype]:
    """Genotypes drawn by the seed, as large as `found` within TOLERANCE of its parameters; the nearest of DRAWS if none is."""
    target = parameters(study, found)
    drawn = (darts.random_genotype(1_000_000 * (1 + seed) + draw) for draw in count())
    while True:
        nearest, least = None, math.inf
        for rival in islice(drawn, DRAWS):
            difference = abs(parameters(study, rival) - target)
            if difference < least:
                nearest, least = rival, difference
            if difference <= TOLERANCE * target:
                break
        yield nearest


def parameters(study: Study, genotype: darts.Genotype) -> int:
    """How many parameters the network of a genotype has at the study's scale."""
    build, _ = builder(genotype, study.setup, study.data)
    return parameter_count(*build.args, **build.keywords)


def chance_row(trial: ChanceTrial) -> dict:
    """Train one network; accuracy in percent."""
    study = trial.study
    found = search(study, *study.halves, seed=trial.seed)
    if trial.number:
        drawn = rivals(study, found.genotype, trial.seed)
        found = replace(found, genotype=next(islice(drawn, trial.number - 1, None)), search=None)
    network = train(found, study.data, seed=trial.seed, curves=False)
    test = images(trial.dataset, "test", trial.setup.chance_tests)
    facts = {"params": parameters(study, found.genotype), "genotype": str(found.genotype)}
    return {"clean": 100 * evaluate(network.model, test), "n_eval": len(test), **facts}


def with_medians(rows: Sequence[dict]) -> list[dict]:
    """The rows of searched architectures, and for each seed one of MEDIAN: the median accuracy of its rivals."""
    medians = []
    for row in rows:
        if row["number"] == 0:
            rivals_of = [other for other in rows if other["number"] and other["seed"] == row["seed"]]
            facts = {"n_rivals": len(rivals_of), "key": " ".join(other["key"] for other in rivals_of)}
            medians.append({**row, "method": MEDIAN, "clean": statistics.median(other["clean"] for other in rivals_of), **facts})
    return [row for row in rows if row["number"] == 0] + medians
