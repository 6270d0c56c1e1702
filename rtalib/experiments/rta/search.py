"""Iterative search as trials of a grid, and paper one's Table 4.

Stage I: five copies of the originals, corruptions and attacks. Stage II: five times as many images of the training split, each once,
corruptions alone (as in the authors' code; the paper's text says that strong adversarial examples were removed). 'RTA' is the same
pool and the same training with rule 'random', RTA's own draw; the set behind the paper's stage I row (99.11) also has the originals.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from rtalib import attacks, augment, models
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.experiments.rta import score
from rtalib.experiments.rta.iterative_search import Search, Settings
from rtalib.experiments.rta.protocols import APART, unseen
from rtalib.infra import grid, store
from rtalib.models.inference import evaluate
from rtalib.scale_settings import RtaScale
from rtalib.sources.train import shared_source

# {method: (stage, selection rule)}
TABLE4 = {
    "StageI: RTA": (1, "random"),
    "StageI: RTA + Iterative search": (1, "most-models"),
    "StageII: RTA": (2, "random"),
    "StageII: RTA + Iterative search": (2, "most-models"),
}
# Ours, beside the two rows of stage II that share its candidates and first networks: coverage instead of the uniform choice.
COVERAGE = {name: TABLE4[name] for name in TABLE4 if name.startswith("StageII:")} | {"StageII: RTA + Coverage search": (2, "coverage")}
METHODS = TABLE4 | COVERAGE


@dataclass(frozen=True)
class SearchSpec:
    """A search by names alone, so that any process can take a step of it.

    split: 'train', 'test', or 'apart' for training images that no source has seen. limit: images of it; attacks: on all of setup.sources.
    """

    dataset: str
    split: str
    limit: int | None
    attacks: bool
    targets: tuple[str, ...]
    settings: Settings
    seed: int
    setup: RtaScale

    def own_sources(self, data: LabeledImages) -> dict[str, nn.Module]:
        """Networks to attack beside setup.sources, by name; a subclass may have some."""
        return {}


def table4_spec(method: str, seed: int, dataset: str, protocol: str, setup: RtaScale) -> SearchSpec:
    """The search behind a method of METHODS."""
    stage, rule = METHODS[method]
    size = (setup.copies + 1) * setup.originals
    return SearchSpec(
        dataset=dataset,
        split="test" if stage == 1 and protocol == "paper" else APART if protocol == APART else "train",
        limit=setup.originals if stage == 1 else size,
        attacks=stage == 1,
        targets=setup.stage2_targets or setup.targets if stage == 2 else setup.targets,
        settings=settings_of(setup, rule, size),
        seed=seed,
        setup=setup,
    )


def settings_of(setup: RtaScale, rule: str, size: int) -> Settings:
    """A search at a scale, with the recipe of Table 3's last row for the final networks."""
    short = setup.recipe() if setup.short_rounds else None
    return Settings(setup.pieces, rule, setup.final_recipe(), short, size=size, offered=setup.offered)


def _data_of(spec: SearchSpec) -> LabeledImages:
    if spec.split == APART:
        return unseen(spec.dataset, spec.limit, spec.seed, spec.setup)
    return load_dataset(spec.dataset, spec.split, limit=spec.limit, seed=spec.seed)


def search_of(spec: SearchSpec) -> Search:
    """The search itself; the store keeps its finished steps."""
    return _search_of(spec, store.outputs())


@store.cached(maxsize=2)
def _search_of(spec: SearchSpec, outputs: Path) -> Search:
    setup, data = spec.setup, _data_of(spec)
    names = setup.sources if spec.attacks else ()
    sources = {name: attacks.prepared(shared_source(name, spec.dataset, setup)[0]) for name in names}
    sources |= spec.own_sources(data) if spec.attacks else {}
    bank = augment.Bank.for_data(data, sources, severity=setup.severity, restarts=setup.restarts)
    targets = {name: partial(models.build, name, data.num_classes, side=models.side_for(data)) for name in spec.targets}
    return Search(data, targets, bank, spec.settings, spec.seed)


@dataclass(frozen=True)
class StepTrial:
    """One step of a search: the candidates of a piece ('candidates'), a drawn piece ('piece'), or a network ('network') of a round."""

    method: str
    seed: int
    kind: str
    step: int
    model: str
    spec: SearchSpec


@dataclass(frozen=True)
class ScoreTrial:
    """One target network trained on the whole set."""

    method: str
    seed: int
    model: str
    dataset: str
    protocol: str
    scale: str
    spec: SearchSpec


def run(
    scale: str,
    dataset: str,
    seeds: Sequence[int],
    protocol: str,
    setup: RtaScale,
    common: dict,
    *,
    methods: Iterable[str] = TABLE4,
    table: str = "rta-table4",
    steps: str = "rta-search",
) -> list[dict]:
    """Rows of Table 4, or of other METHODS under another table name; see tables.run_table."""
    specs = {(method, seed): table4_spec(method, seed, dataset, protocol, setup) for seed in seeds for method in methods}
    run_steps(specs, common, steps)
    trials = [ScoreTrial(*name, model, dataset, protocol, scale, spec) for name, spec in specs.items() for model in spec.targets]
    return grid.run(score_trial, trials, recipe="rtalib.rta_search.score_cell", table=table, **common)


def run_steps(specs: dict[tuple[str, int], SearchSpec], common: dict, table: str = "rta-search") -> None:
    """All steps of the searches {(name, seed): spec} but the final networks.

    A step makes its missing inputs, or waits for the process that does, so any number of workers gives the same result.
    """
    steps = [StepTrial(*name, *step, spec) for name, spec in specs.items() for step in steps_of(spec)]
    steps.sort(key=lambda trial: (trial.kind == "network", trial.step))  # first the steps that later rounds wait for
    grid.run(step_trial, steps, recipe="rtalib.rta_search.step_cell", table=table, ordered=True, **common)


def steps_of(spec: SearchSpec) -> list[tuple[str, int, str]]:
    """(kind, piece or round, model) of every step before the final networks."""
    pieces = range(spec.settings.pieces)
    if spec.settings.rule == "random":
        return [("piece", t, "") for t in pieces]
    networks = [("network", t, name) for t in pieces[:-1] for name in spec.targets]
    return [("candidates", t, "") for t in pieces[1:]] + networks


def step_trial(trial: StepTrial) -> dict:
    """Take one step."""
    search, t = search_of(trial.spec), trial.step
    if trial.kind == "candidates":
        for operation in search.bank.operations:
            search.pool.candidates(t, operation)
        return {"n_candidates": int(search.pool.offered(t).sum())}
    if trial.kind == "piece":
        return {"n_train": len(search.pool.cuts[t]), "piece": search.draw(t).key}
    network, entry = search.train(trial.model, search.mine(t + 1))
    test = load_dataset(trial.spec.dataset, "test", limit=trial.spec.setup.evaluated)
    return {"clean": 100 * evaluate(network, test), "n_train": sum(map(len, search.pool.cuts[: t + 1])), "network": entry.key}


def score_trial(trial: ScoreTrial) -> dict:
    """The final network of a search, scored on the proxy suite, in percent."""
    search = search_of(trial.spec)
    network, entry = search.train(trial.model, search.mine())
    n_train = len(search.pool.positions)
    return score.measure(network, trial.dataset, trial.spec.setup) | {"n_train": n_train, "network": entry.key}
