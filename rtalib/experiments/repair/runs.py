"""CF-DARTS (Ren et al., Pattern Recognition 2022): a few failures of a deployed network guide the search to a more robust architecture.

run_table: the paper's tables as cells of a grid. repair: the same for a network of your own.
The protocol is in protocol, its searches in searches, what is measured in rows, the tables in tables.
"""

from collections.abc import Callable, Mapping, Sequence

from rtalib import scales
from rtalib.corruptions import CORRUPTIONS
from rtalib.errors import unknown
from rtalib.experiments.repair.images import PROTOCOLS, Cell, images
from rtalib.experiments.repair.rows import common_cell, cost_cell, deployed_cell, method_cell, transfer_cell
from rtalib.experiments.repair.tables import DEPLOYED, TABLES, cells
from rtalib.experiments.repair.your_network import METHODS, Repaired, repair
from rtalib.infra import grid
from rtalib.scale_settings import OTHER_SHAPES
from rtalib.training.artefacts import fingerprint

__all__ = ["METHODS", "PROTOCOLS", "TABLES", "Repaired", "repair", "run_table"]

# How a table's cells are computed, and the recipe in the keys of their rows; METHOD for the tables that are not named.
METHOD = (method_cell, "rtalib.repair_evaluation.method_cell")
COMPUTED = {
    "table4": (transfer_cell, "rtalib.repair_evaluation.transfer_cell"),
    "table5": (common_cell, "rtalib.repair_evaluation.common_cell"),
    "table7": (cost_cell, "rtalib.repair_evaluation.cost_cell"),
}
VERSION = 3  # of all rows; 3: other sizes, baselines and null baselines


@grid.shared_workers()
def run_table(
    table: str = "table2",
    *,
    scale: str = "demo",
    dataset: str = "shapes10",
    seeds: list[int] | tuple[int, ...] = (),
    protocol: str = "disjoint",
    corruption: str = "gaussian_noise",
    target: str = "",
    executor: str = "processes",
) -> list[dict]:
    """Rows of a table of the CF-DARTS paper ('table1' to 'table7', 'figure4'), one per method and seed; stored ones are not computed again.

    seeds: default the scale's own. corruption: the guiding one (Tables 3 and 4 have their four). target: Table 4's other data set, default
    the scale's. Row fields in percent: clean, one per corruption (all five severities), and fail (failing examples of the deployed
    network without the selected ones); further n_fail, n_eval, shared_base_images, leaked_base_images, genotype, params, history.
    Table 5 adds common_fail, Table 7 has hours in their place. The table "cf-deployed" of the store has the deployed networks.
    """
    for kind, name, known in (("table", table, TABLES), ("protocol", protocol, PROTOCOLS), ("corruption", corruption, CORRUPTIONS)):
        if name not in known:
            raise unknown(kind, name, known)
    settings = scales.get(scale)
    images.cache_clear()
    inputs = fingerprint(dataset)
    common = {"dataset": dataset, "corruption": corruption, "protocol": protocol, "scale": scale}
    if table == "table4":
        target = target or settings.repair.transfer
        common["target"] = target
        inputs |= {} if target == OTHER_SHAPES else {f"target {split}": digest for split, digest in fingerprint(target).items()}
    found = cells(table, seeds or settings.seeds, settings.repair, **common)
    return run_cells(*COMPUTED.get(table, METHOD), found, f"cf-{table}", common=common, inputs=inputs, executor=executor)


def run_cells(
    function: Callable[[Cell], dict],
    recipe: str,
    found: Sequence[Cell],
    table: str,
    *,
    common: Mapping[str, str],
    inputs: dict,
    executor: str,
) -> list[dict]:
    """Rows of any cells that have a study, after the deployed networks that they begin from.

    common: dataset, corruption, protocol, scale.
    """
    setup = scales.get(common["scale"]).repair
    options = {"run": scales.run_name(common["scale"], common["dataset"]), "inputs": inputs, "executor": executor, "version": VERSION}
    first = {**common, "seed": 0, "setup": setup, "target": None}
    starts = {cell.study: DEPLOYED.cell(first, search=cell.study.search, version=cell.study.version) for cell in found}
    grid.run(deployed_cell, list(starts.values()), recipe="rtalib.repair_evaluation.deployed_cell", table="cf-deployed", **options)
    return grid.run(function, found, recipe=recipe, table=table, **options)
