"""The tables of the CF-DARTS paper: the trials of each, under the paper's names for its methods, and run_table, which computes their rows.

Each table also has null baselines that the paper lacks: the same architecture trained again, a drawn architecture, and the failures
added to the training set without a search.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace

from rtalib import scales
from rtalib.corruptions import CORRUPTIONS
from rtalib.errors import check_kind, check_name
from rtalib.experiments import PROTOCOLS
from rtalib.experiments.arguments import checked
from rtalib.experiments.repair.images import constants_of, images, target_images
from rtalib.experiments.repair.rows import OwnStart, Trial, common_row, cost_row, deployed_row, method_row, transfer_row
from rtalib.infra import grid
from rtalib.results.papers import GUIDES
from rtalib.scales import OTHER_SHAPES, RepairScale
from rtalib.training.artefacts import fingerprint

ORIGINAL, RETRAINED = "Org. DNN", "Org. DNN (retrained)"
PAPER_SIZES = (1000, 5000, 10000, 15000, 20000)  # Table 6's; a scale has its own sizes, in the same order
SEARCHES = {"pc-darts": "PCDARTS", "darts-pt": "DARTSPT", "robust-darts": "RobDARTS"}
EXTENDED = {"DARTSPT": "DARTSPTSE"}  # as printed; the others take an E

# How the rows of a table are computed, and the recipe in their keys, which never changes; METHOD for tables that are not named.
METHOD = (method_row, "rtalib.repair_evaluation.method_cell")
COMPUTED = {
    "table4": (transfer_row, "rtalib.repair_evaluation.transfer_cell"),
    "table5": (common_row, "rtalib.repair_evaluation.common_cell"),
    "table7": (cost_row, "rtalib.repair_evaluation.cost_cell"),
}
START = ("search", "version", "corruption", "protocol", "start")  # what, within a run, tells the failures of deployed networks apart
VERSION = 3  # of all rows; 3: other sizes, baselines and null baselines


# --------------------------------------------------------------------------------------------------------------- trials


@dataclass(frozen=True)
class Method:
    """What a name in a table stands for; see Trial."""

    name: str
    kind: str
    selection: str | None = None
    extended: bool = False

    def trial(self, common: dict, **changes: object) -> Trial:
        budget = common["setup"].failures if self.selection else 0
        own = {"method": self.name, "kind": self.kind, "selection": self.selection, "extended": self.extended, "budget": budget}
        return Trial(**{**common, **own, **changes})


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
# phi_0 itself, adapted to corrupted images without labels: what costs nothing, and neither paper has.
ADAPTED = (Method("Org. DNN (BN statistics)", "statistics"), Method("Org. DNN (TENT)", "entropy"))
# Random cells of any size say as much about size as about the search; these are as large as the cell of CF-DARTS.
MATCHED = (Method("Matched random cell", "matched", "core"), Method("Matched random cell + failures", "matched", "core", extended=True))
TABLE_2 = (DEPLOYED, *ADAPTED, *AUGMENTING, AU, AUE, RF, RFE, CF, CFE, *NULLS, *MATCHED)


def table1(common: dict) -> list[Trial]:
    names = ("DARTS-10³ GN", "DARTS-5×10³ GN", "DARTS-10⁴ GN")
    sizes = common["setup"].sizes
    found = [replace(RF, name=name).trial(common, budget=size) for name, size in zip(names, sizes, strict=False)]
    return [replace(DEPLOYED, name="Initial DNN").trial(common), *found, replace(AGAIN, name="Initial DNN (retrained)").trial(common)]


def table2(common: dict) -> list[Trial]:
    return [method.trial(common) for method in TABLE_2]


def table3(common: dict) -> list[Trial]:
    return [method.trial(common, corruption=guide) for guide in GUIDES.values() for method in (DEPLOYED, CF, CFE, AGAIN)]


def table4(common: dict) -> list[Trial]:
    alone = [method.trial(common, corruption=None) for method in (DEPLOYED, AGAIN, NULLS[2])]
    return alone + [method.trial(common, corruption=guide) for guide in GUIDES.values() for method in (RF, CF)]


def table5(common: dict) -> list[Trial]:
    """DARTS' own rows stand beside the others, because of the common failing examples."""
    trials = [method.trial(common) for method in (DEPLOYED, RF, RFE, CF, CFE, AGAIN)]
    for search in common["setup"].searches[1:]:
        base = SEARCHES[search]
        refined = (*guided("RF", "random", base), *guided("CF", "core", base))
        methods = (Method(base, "deployed"), *refined, Method(f"{base} (retrained)", "retrained"))
        trials += [method.trial(common, search=search) for method in methods]
    return trials


def table6(common: dict) -> list[Trial]:
    trials = [DEPLOYED.trial(common)]
    for size, published in zip(common["setup"].sizes, PAPER_SIZES, strict=True):
        trials += [replace(method, name=f"{method.name}({published})").trial(common, budget=size) for method in (RF, CF)]
    second = (replace(DEPLOYED, name="Org. DNN-v2"), RF, CF, RFE, CFE, replace(AGAIN, name="Org. DNN-v2 (retrained)"))
    return [*trials, AGAIN.trial(common), *(method.trial(common, version=2) for method in second)]


def figure4(common: dict) -> list[Trial]:
    rounds = range(1, 4)
    found = [replace(m, name=f"{m.name}-{k}").trial(common, iterations=k) for m in (CF, CFE) for k in rounds]
    return [DEPLOYED.trial(common), *found, AGAIN.trial(common)]


def table7(common: dict) -> list[Trial]:
    return [replace(CF, name=name).trial(common) for name in ("CF-DARTS", "CF-DARTS: ratio (%)")]


TABLES: dict[str, Callable[[dict], list[Trial]]] = {
    table.__name__: table for table in (table1, table2, table3, table4, table5, table6, table7, figure4)
}


def searching_first(trials: Sequence[Trial]) -> list[Trial]:
    """Trials that only retrain follow those that search, so that workers do not wait for each other."""
    return sorted(trials, key=lambda trial: (trial.kind not in ("refined", "matched"), trial.extended))


def table_trials(table: str, seeds: Sequence[int], setup: RepairScale, **common: object) -> list[Trial]:
    """The trials of a table for all seeds."""
    return searching_first([trial for seed in seeds for trial in TABLES[table]({"seed": seed, "setup": setup, **common})])


# ----------------------------------------------------------------------------------------------------------------- rows


@grid.shared_workers()
def run_table(
    table: str = "table2",
    *,
    scale: str = "demo",
    dataset: str = "shapes10",
    seeds: list[int] | tuple[int, ...] = (),
    protocol: str = "",
    corruption: str = "gaussian_noise",
    target: str = "",
    only: Container[tuple[str, int]] | None = None,
    executor: str = "processes",
) -> list[dict]:
    """Rows of a table of the CF-DARTS paper ('table1' to 'table7', 'figure4'), one per method and seed; stored rows are not recomputed.

    seeds, protocol: default the scale's own. corruption: the guiding one (Tables 3 and 4 have their four). target: Table 4's data set,
    default the scale's. only: pairs of a method and a seed; default all. Row fields in percent: clean, one per corruption (all five
    severities), and fail (failing examples of the deployed network without the selected ones); further n_fail, n_eval, shared_base_images,
    leaked_base_images, genotype, params, entropy, precision, history. Table 5 adds common_fail; Table 7 has hours instead. The table
    "cf-deployed" of the store has the deployed networks.
    """
    given = {"scale": scale, "dataset": dataset, "seeds": seeds, "protocol": protocol, "only": only, "executor": executor}
    settings, seeds, protocol = checked(table=table, tables=TABLES, protocols=PROTOCOLS, **given)
    check_name("corruption", corruption, CORRUPTIONS)
    check_kind("target", target, str, "the name of a data set")
    images.cache_clear()
    inputs = fingerprint(dataset) | constants_of(images(dataset, "test", 1))  # its size alone counts
    common = {"dataset": dataset, "corruption": corruption, "protocol": protocol, "scale": scale}
    if table == "table4":
        target = target or settings.repair.transfer
        common["target"] = target
        inputs |= {} if target == OTHER_SHAPES else {f"target {split}": digest for split, digest in fingerprint(target).items()}
        inputs |= constants_of(target_images(target, "test", settings.repair))
    found = table_trials(table, seeds, settings.repair, **common)
    found = [trial for trial in found if only is None or (trial.method, trial.seed) in only]
    return run_trials(*COMPUTED.get(table, METHOD), found, f"cf-{table}", common=common, inputs=inputs, executor=executor)


def within(trial: Trial, failures: int | None) -> Trial:
    """The trial with a budget of at most all failures, as its row then says; unchanged if their number is not known (None).

    At the paper's own size, protocol 'disjoint' has about 17,000 failures for Table 6's budgets of up to 20,000.
    """
    taken = getattr(trial, "selection", None) in ("random", "core") and failures is not None
    return replace(trial, budget=failures) if taken and trial.budget > failures else trial


def run_trials(
    function: Callable[[Trial], dict],
    recipe: str,
    trials: Sequence[Trial],
    table: str,
    *,
    common: Mapping[str, str],
    inputs: dict,
    executor: str,
) -> list[dict]:
    """Rows of any trials that have a study, after those of the deployed networks from which they start.

    common: dataset, corruption, protocol, scale. Budgets above the number of failures are lowered to it, see `within`.
    """
    options = {"run": scales.run_name(common["scale"], common["dataset"]), "inputs": inputs, "executor": executor, "version": VERSION}
    starts = {trial.study: _start(trial, common) for trial in trials}
    first = grid.run(deployed_row, list(starts.values()), recipe="rtalib.repair_evaluation.deployed_cell", table="cf-deployed", **options)
    failures = {tuple(row.get(name) for name in START): row["failures"] for row in first}
    trials = [within(trial, failures.get(tuple(getattr(trial, name, None) for name in START))) for trial in trials]
    return grid.run(function, trials, recipe=recipe, table=table, **options)


def _start(trial: Trial, common: Mapping[str, str]) -> Trial:
    same = {**common, "seed": 0, "setup": trial.setup, "target": None}
    start = DEPLOYED.trial(same, search=trial.study.search, version=trial.study.version)
    own = {"start": trial.start, "arch_weight_decay": trial.arch_weight_decay} if isinstance(trial, OwnStart) else {}
    return OwnStart(**vars(start), **own) if own else start
