"""Does a search find better cells than chance? The null model of every search: cells drawn uniformly, of about the same size.

Li and Talwalkar (UAI 2019) asked it first; the papers here do not. A searched cell and its rivals are trained alike, from scratch, on all
training images, and share the test images.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

import torch

from rtalib import darts, scales
from rtalib.experiments.repair.images import Study, images, training_halves, training_images
from rtalib.experiments.repair.protocol import builder, retrained
from rtalib.experiments.repair.searches import genotype, searched
from rtalib.infra import grid
from rtalib.models.inference import evaluate
from rtalib.scale_settings import RepairScale
from rtalib.training.artefacts import fingerprint

DRAWN, MEDIAN = "Random cell", "Random cell (median)"
SEARCHED = {"darts": "DARTS", "pc-darts": "PCDARTS", "darts-pt": "DARTSPT", "robust-darts": "RobDARTS"}
TOLERANCE = 0.1  # relative difference in parameters up to which two networks are of the same size
DRAWS = 200  # for one rival; a collapsed cell, all pooling, is smaller than nearly all random ones


@dataclass(frozen=True)
class ChanceCell:
    """A searched cell (number 0) or one of its rivals (number 1, 2, ...), trained from scratch."""

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
    """Rows of the searched cells, one per seed, and of setup.draws random ones for each, of its size (see `rivals`).

    seeds: of the search, the draws and the trainings; default the scale's own. Row fields: clean (top-1 on setup.chance_tests test images,
    percent), n_eval, params, genotype. Stored rows are not computed again.
    """
    settings = scales.get(scale)
    setup = settings.repair
    common = {"run": scales.run_name(scale, dataset), "inputs": fingerprint(dataset), "executor": executor}
    names = {number: DRAWN if number else SEARCHED[search] for number in range(1 + setup.draws)}
    cells = [
        ChanceCell(name, seed, number, search, dataset, scale, setup) for number, name in names.items() for seed in seeds or settings.seeds
    ]
    return grid.run(chance_cell, cells, recipe="rtalib.chance.chance_cell", table="search-or-chance", **common)


def searched_cell(cell: ChanceCell) -> darts.Genotype:
    """What the search of this seed found on the two halves of the training images."""
    train, val = training_halves(cell.study)
    return genotype(searched(cell.study, train, val, seed=cell.seed, refine=False, init=None))


def rivals(cell: ChanceCell, found: darts.Genotype) -> Iterator[darts.Genotype]:
    """Genotypes drawn by the seed whose networks have as many parameters as that of `found`, within TOLERANCE; of DRAWS without one, the
    nearest."""
    target = parameters(cell, found)
    drawn = (darts.random_genotype(1_000_000 * (1 + cell.seed) + draw) for draw in count())
    while True:
        nearest, least = None, math.inf
        for rival in islice(drawn, DRAWS):
            difference = abs(parameters(cell, rival) - target)
            if difference < least:
                nearest, least = rival, difference
            if difference <= TOLERANCE * target:
                break
        yield nearest


def parameters(cell: ChanceCell, found: darts.Genotype) -> int:
    """How many parameters the network of a genotype has at this scale."""
    build, _ = builder(found, cell.setup, training_images(cell.study))
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())


def chance_cell(cell: ChanceCell) -> dict:
    """Train one network; accuracy in percent."""
    found = searched_cell(cell)
    if cell.number:
        drawn = rivals(cell, found)
        found = [next(drawn) for _ in range(cell.number)][-1]
    network, _ = retrained(cell.study, found, training_images(cell.study), seed=cell.seed, curves=False)
    test = images(cell.dataset, "test", cell.setup.chance_tests)
    return {"clean": 100 * evaluate(network, test), "n_eval": len(test), "params": parameters(cell, found), "genotype": str(found)}


def with_medians(rows: Sequence[dict]) -> list[dict]:
    """The rows of searched cells, and for each seed one of MEDIAN: the median accuracy of its rivals."""
    medians = []
    for row in rows:
        if row["number"] == 0:
            rivals_of = [other for other in rows if other["number"] and other["seed"] == row["seed"]]
            facts = {"n_rivals": len(rivals_of), "key": " ".join(other["key"] for other in rivals_of)}
            medians.append({**row, "method": MEDIAN, "clean": statistics.median(other["clean"] for other in rivals_of), **facts})
    return [row for row in rows if row["number"] == 0] + medians
