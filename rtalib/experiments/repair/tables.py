"""Which cells the tables of the CF-DARTS paper consist of, under the paper's names for their methods.

Each table also has null baselines that the paper lacks: the same architecture trained again, a drawn architecture, and the failures
added to the training set without a search.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rtalib.experiments.repair.images import Cell
from rtalib.results.papers import GUIDES
from rtalib.scale_settings import RepairScale

ORIGINAL, RETRAINED = "Org. DNN", "Org. DNN (retrained)"
PAPER_SIZES = (1000, 5000, 10000, 15000, 20000)  # Table 6's; a scale's own sizes stand for them, in order
SEARCHES = {"pc-darts": "PCDARTS", "darts-pt": "DARTSPT", "robust-darts": "RobDARTS"}
EXTENDED = {"DARTSPT": "DARTSPTSE"}  # as printed; the others take an E


@dataclass(frozen=True)
class Method:
    """What a name in a table stands for; see Cell."""

    name: str
    kind: str
    selection: str | None = None
    extended: bool = False

    def cell(self, common: dict, **changes: object) -> Cell:
        budget = common["setup"].failures if self.selection else 0
        own = {"method": self.name, "kind": self.kind, "selection": self.selection, "extended": self.extended, "budget": budget}
        return Cell(**{**common, **own, **changes})


def guided(prefix: str, selection: str, base: str = "DARTS") -> tuple[Method, Method]:
    """A refined network, trained without the examples that guided the search, and (E) with them."""
    extended = Method(f"{prefix}-{EXTENDED.get(base, f'{base}E')}", "refined", selection, extended=True)
    return Method(f"{prefix}-{base}", "refined", selection), extended


DEPLOYED, AGAIN = Method(ORIGINAL, "deployed"), Method(RETRAINED, "retrained")
RF, RFE = guided("RF", "random")
CF, CFE = guided("CF", "core")
AU, AUE = guided("AU", "augmented")
AUGMENTING = (Method("DeepRepair", "DeepRepair", "core"), Method("AugMix", "AugMix"), Method("CutMix", "CutMix"))
NULLS = (
    AGAIN,
    Method("Org. DNN + failures", "retrained", "core", extended=True),
    Method("Random cell", "random"),
    Method("Random cell + failures", "random", "core", extended=True),
)
TABLE_2 = (DEPLOYED, *AUGMENTING, AU, AUE, RF, RFE, CF, CFE, *NULLS)


def table1(common: dict) -> list[Cell]:
    names = ("DARTS-10³ GN", "DARTS-5×10³ GN", "DARTS-10⁴ GN")
    sizes = common["setup"].sizes
    found = [replace(RF, name=name).cell(common, budget=size) for name, size in zip(names, sizes, strict=False)]
    return [replace(DEPLOYED, name="Initial DNN").cell(common), *found, replace(AGAIN, name="Initial DNN (retrained)").cell(common)]


def table2(common: dict) -> list[Cell]:
    return [method.cell(common) for method in TABLE_2]


def table3(common: dict) -> list[Cell]:
    return [method.cell(common, corruption=guide) for guide in GUIDES.values() for method in (DEPLOYED, CF, CFE, AGAIN)]


def table4(common: dict) -> list[Cell]:
    alone = [method.cell(common, corruption=None) for method in (DEPLOYED, AGAIN, NULLS[2])]
    return alone + [method.cell(common, corruption=guide) for guide in GUIDES.values() for method in (RF, CF)]


def table5(common: dict) -> list[Cell]:
    """DARTS' own rows stand beside the others, for the common failing examples."""
    cells = [method.cell(common) for method in (DEPLOYED, RF, RFE, CF, CFE, AGAIN)]
    for search in common["setup"].searches[1:]:
        base = SEARCHES[search]
        refined = (*guided("RF", "random", base), *guided("CF", "core", base))
        methods = (Method(base, "deployed"), *refined, Method(f"{base} (retrained)", "retrained"))
        cells += [method.cell(common, search=search) for method in methods]
    return cells


def table6(common: dict) -> list[Cell]:
    cells = [DEPLOYED.cell(common)]
    for size, published in zip(common["setup"].sizes, PAPER_SIZES, strict=True):
        cells += [replace(method, name=f"{method.name}({published})").cell(common, budget=size) for method in (RF, CF)]
    second = (replace(DEPLOYED, name="Org. DNN-v2"), RF, CF, RFE, CFE, replace(AGAIN, name="Org. DNN-v2 (retrained)"))
    return [*cells, AGAIN.cell(common), *(method.cell(common, version=2) for method in second)]


def figure4(common: dict) -> list[Cell]:
    rounds = range(1, 4)
    found = [replace(m, name=f"{m.name}-{k}").cell(common, iterations=k) for m in (CF, CFE) for k in rounds]
    return [DEPLOYED.cell(common), *found, AGAIN.cell(common)]


def table7(common: dict) -> list[Cell]:
    return [replace(CF, name=name).cell(common) for name in ("CF-DARTS", "CF-DARTS: ratio (%)")]


TABLES: dict[str, Callable[[dict], list[Cell]]] = {
    table.__name__: table for table in (table1, table2, table3, table4, table5, table6, table7, figure4)
}


def cells(table: str, seeds: Sequence[int], setup: RepairScale, **common: object) -> list[Cell]:
    """The cells of a table for all seeds; those that only retrain follow those that search, so that workers do not wait for each other."""
    found = [cell for seed in seeds for cell in TABLES[table]({"seed": seed, "setup": setup, **common})]
    return sorted(found, key=lambda cell: (cell.kind != "refined", cell.extended))
