"""The work of CF-DARTS' cells: searches, trainings of networks of cells, selections and evaluations, as experiments.repair makes them."""

from dataclasses import replace
from functools import partial
from typing import Any

from rtalib.corruptions import CORRUPTIONS, SEVERITIES
from rtalib.darts.darts_pt import CELLS as CELL_TYPES
from rtalib.darts.genotype import GENOTYPES
from rtalib.darts.settings import settings_for
from rtalib.darts.space import EDGES, NODES
from rtalib.experiments.repair.adaptations import ADAPTATIONS
from rtalib.experiments.repair.baselines import BASELINES
from rtalib.experiments.repair.chance import ChanceTrial
from rtalib.experiments.repair.images import Study
from rtalib.experiments.repair.protocol import CURVES, parameter_count, search_settings
from rtalib.experiments.repair.rows import Trial
from rtalib.experiments.repair.together import BOTH, FAILURES, METHODS, RTA, SEARCHED, TogetherTrial, epochs
from rtalib.experiments.rta import severity_budget
from rtalib.experiments.rta import tables as rta
from rtalib.rehearsal import rta_work
from rtalib.rehearsal.kinds import CELLS, CORRUPTION, PREDICTION, SEARCH, SELECTION, SUPERNET, TRAINING, Kind, unit_recipe
from rtalib.rehearsal.work import Key, Work
from rtalib.scale_settings import OTHER_SHAPES
from rtalib.training.recipes import RECIPES, Recipe

FAILING = 0.6742  # share of corrupted test images on which the published network fails (Table 1)
MEASURED = len(CELL_TYPES) * (len(EDGES) * 7 + sum(range(3, 2 + NODES)) + 3)  # DARTS-PT's measurements: 7 operations an edge, then inputs
TARGET_SIDE, TARGET_CLASSES = 64, 200  # of Tiny-ImageNet as published


def needs(work: Work, table: str, cell: Any, side: int, classes: int) -> list[Key] | None:
    """Keys of the tasks of a cell of CF-DARTS' tables; None for other cells."""
    if isinstance(cell, ChanceTrial):
        return _Cells(work, cell.study, side, classes).chance(cell)
    if isinstance(cell, TogetherTrial):
        return _Cells(work, cell.study, side, classes).together(cell)
    if isinstance(cell, Trial):
        return _Cells(work, cell.study, side, classes).trial(table, cell)
    return None


class _Cells:
    """The tasks of one study; a key begins with what the task is, and holds what tells it from others."""

    def __init__(self, work: Work, study: Study, side: int, classes: int):
        self.work, self.study, self.setup, self.side, self.classes = work, study, study.setup, side, classes

    def trial(self, table: str, trial: Trial) -> list[Key]:
        """What `protocol` reads from top to bottom, for one row."""
        setup = self.setup
        count = setup.tests if trial.protocol == "paper" else setup.tests // 2
        base, test = ("base", trial.protocol, count), ("test", trial.protocol, count)
        if trial.protocol == "paper":
            base = test
        deployed = self.deployed()
        chosen = self.selection(deployed, trial, base) if trial.selection in ("core", "random") else None
        found = deployed
        architecture = self.initial()
        if trial.kind in ("refined", "matched"):
            architecture = self.refined(trial, chosen)
        size_of = [architecture] if trial.kind == "matched" else []
        if trial.kind in ("random", "matched"):
            architecture = ("drawn", trial.seed, self.study.search, *size_of)
        if trial.target:
            return [self.transfer(trial, architecture, chosen)]
        if trial.kind in ADAPTATIONS:
            found = self.adapted(trial, deployed, base)
        elif trial.kind != "deployed":
            method = trial.kind if trial.kind in BASELINES else ""
            images = setup.images + (trial.budget if trial.extended else 0)
            examples = ("augmented", trial.seed, trial.budget) if chosen is None else (chosen, trial.budget)
            data = examples if trial.extended else "train"
            after = [deployed, chosen] if method == "DeepRepair" else [chosen] if trial.extended else []
            found = self.network(architecture, data, images, 1 + trial.seed, method=method, needs=[*after, *size_of])
        if table == "cf-table7":
            return [found, chosen]
        rows = [self.evaluation(found, test), self.evaluation(deployed, test)]
        rows += [self.corrupted(base, trial.corruption)] if table == "cf-deployed" else []
        if table == "cf-table5":
            others = (replace(self.study, search=name) for name in setup.searches if name != trial.search)
            rows += [_Cells(self.work, study, self.side, self.classes).evaluate_deployed(test) for study in others]
        return rows

    def evaluate_deployed(self, test: tuple) -> Key:
        return self.evaluation(self.deployed(), test)

    def chance(self, trial: ChanceTrial) -> list[Key]:
        found = self.search(("first", trial.seed), refine=False)
        architecture = ("drawn", trial.seed, trial.number) if trial.number else found
        network = self.network(architecture, "train", self.setup.images, trial.seed, curves=False, needs=[found])
        key = ("chance", network)
        return [self.work.add(key, [(self._prediction(self.side, self.classes), self.setup.chance_tests)], [network])]

    def together(self, trial: TogetherTrial) -> list[Key]:
        """A cell of the factorial: its data replace D_train, and its epochs are as many as give equal images."""
        cell, data = METHODS[trial.method]
        common = Trial(trial.method, **trial.common, kind="refined", selection="core", budget=self.setup.failures)
        count = self.setup.tests // 2
        base, test = ("base", trial.protocol, count), ("test", trial.protocol, count)
        deployed = self.deployed()
        chosen = self.selection(deployed, common, base) if cell == SEARCHED or data in (FAILURES, BOTH) else None
        architecture = self.refined(common, chosen) if cell == SEARCHED else self.initial()
        method = rta.OURS if data in (RTA, BOTH) else severity_budget.REPEATED
        made = rta_work.training_set(self.work, method, trial.seed, trial.dataset, trial.protocol, trial.rta, self.side)
        images = (1 + trial.rta.copies) * trial.rta.originals
        recipe = self.setup.recipe(self.side).scaled(epochs(self.setup, images))
        own = {"recipe": recipe, "curves": False, "needs": [made, chosen]}
        network = self.network(architecture, (made, data), images, 1 + trial.seed, **own)
        source = rta_work.source(self.work, rta_work.HELD_OUT, trial.dataset, trial.rta, self.side)
        transfer = self.work.add(
            ("transferred", test, source), [(rta_work.attack_kind(trial.rta.held_out, self.side), 10 * count)], [source]
        )
        predicted = self.work.add(("transfer", network), [(self._prediction(self.side, self.classes), count)], [network, transfer])
        return [self.evaluation(network, test), self.evaluation(deployed, test), predicted]

    # ------------------------------------------------------------------------------------------------------- its steps

    def initial(self) -> Key:
        """alpha_0: a search, or the best of several."""
        if self.study.version == 1:
            return self.search(("first", self.study.seed), refine=False)
        found = [self.search(("first", seed), refine=False) for seed in range(1, 1 + self.setup.candidates)]
        return self.work.add(("choice", self._name()), self._choice(len(found)), found)

    def deployed(self) -> Key:
        return self.network(self.initial(), "train", self.setup.images, self.study.seed)

    def refined(self, trial: Trial, chosen: Key | None) -> Key:
        """One search after the other; examples that are no failures are made on the way."""
        before = self.initial() if self.study.version == 1 else self.search(("first", 1), refine=False)
        examples = ("augmented", trial.seed, trial.budget) if chosen is None else (chosen, trial.budget)
        for iteration in range(trial.iterations):
            key = ("refined", examples, trial.seed, iteration)
            before = self.search(key, refine=True, needs=[before] if chosen is None else [before, chosen])
        return before

    def search(self, key: tuple, *, refine: bool, needs: list[Key] = ()) -> Key:
        setup, method = self.setup, self.study.search
        settings = settings_for(
            method, "refinement" if refine else "published", warm_start=refine, **search_settings(self.study, refine=refine)
        )
        half = setup.images // 2
        steps = settings.total_epochs * (settings.steps_per_epoch or -(-half // settings.batch_size))
        size = (settings.channels, settings.layers)
        name = "darts" if method == "robust-darts" else method  # the same step, in several searches
        kind = Kind(SEARCH, SUPERNET, name, settings.batch_size, self.side, self.classes, size, settings.stem, settings.order)
        searches = max(1, len(settings.grid))
        units = [(kind, searches * steps)] + (self._choice(searches) if settings.grid else [])
        if settings.projection:
            seen = settings.projection.images or half
            units.append((Kind(PREDICTION, SUPERNET, side=self.side, classes=self.classes, size=size, stem=settings.stem), MEASURED * seen))
        return self.work.add(("search", self._name(), key), units, needs)

    def network(
        self,
        architecture: Key | tuple,
        data: Any,
        images: int,
        seed: int,
        *,
        method: str = "",
        curves: bool = True,
        recipe: Recipe | None = None,
        needs: list[Key | None] = (),
    ) -> Key:
        """A network of cells trained from scratch."""
        setup = self.setup
        recipe = recipe or setup.recipe(self.side)
        units = [
            (
                self._training(recipe, method, self.side, self.classes, self._stem(self.side)),
                recipe.epochs * -(-images // recipe.batch_size),
            )
        ]
        if curves:
            shown = min(setup.curve_images, setup.tests // 2)
            units.append((self._prediction(self.side, self.classes), recipe.epochs * len(CURVES) * shown))
        key = ("network", self._name(), architecture, data, seed, method, curves)
        before = [need for need in (architecture, *needs) if isinstance(need, Key)]
        return self.work.add(key, units, before, 4.0 * self._parameters(self.classes, self._stem(self.side)))

    def adapted(self, trial: Trial, deployed: Key, base: tuple) -> Key:
        """phi_0 after half of the corrupted images; TENT also takes a gradient for each."""
        seen = len(SEVERITIES) * base[2] // 2 * (3 if trial.kind == "entropy" else 1)
        key = ("adapted", deployed, base, trial.corruption, trial.kind, trial.seed)
        size = 4.0 * self._parameters(self.classes, self._stem(self.side))
        units = [(self._prediction(self.side, self.classes), seen)]
        return self.work.add(key, units, [deployed, self.corrupted(base, trial.corruption)], size)

    def selection(self, deployed: Key, trial: Trial, base: tuple) -> Key:
        """Failures, their features and those of all training images; one pass serves all budgets above the first."""
        setup, pool = self.setup, len(SEVERITIES) * base[2]
        depth = trial.budget if trial.budget <= setup.failures else max(*setup.sizes, trial.budget)
        failures = round(FAILING * pool)
        units = [(self._prediction(self.side, self.classes), pool)]
        if trial.selection == "core":
            width = 16 * setup.channels
            units[0] = (units[0][0], pool + failures + setup.images)
            units.append((Kind(SELECTION, batch=min(depth, failures), size=(failures, setup.images, width)), 1))
        key = ("selection", deployed, base, trial.corruption, trial.selection, depth, trial.seed if trial.selection == "random" else 0)
        return self.work.add(key, units, [deployed, self.corrupted(base, trial.corruption)])

    def corrupted(self, test: tuple, corruption: str, side: int = 0, benchmark: str = "cifar10-c") -> Key:
        side, count = side or self.side, len(SEVERITIES) * test[2]
        kind = Kind(CORRUPTION, method=benchmark, side=side)
        return self.work.add(("corrupted", self.study.dataset, test, corruption), [(kind, count)], size=3.0 * side * side * count)

    def evaluation(self, network: Key, test: tuple, side: int = 0, classes: int = 0, benchmark: str = "cifar10-c") -> Key:
        side, classes = side or self.side, classes or self.classes
        sets = [self.corrupted(test, name, side, benchmark) for name in CORRUPTIONS]
        seen = test[2] * (1 + len(SEVERITIES) * len(CORRUPTIONS))
        return self.work.add(("evaluation", network, test), [(self._prediction(side, classes), seen)], [network, *sets], seen)

    def transfer(self, trial: Trial, architecture: Key | tuple, chosen: Key | None) -> Key:
        """Table 4: trained and evaluated on the other data set."""
        setup, shapes = self.setup, trial.target == OTHER_SHAPES
        side, classes = (24, 10) if shapes else (TARGET_SIDE, setup.transfer_classes or TARGET_CLASSES)
        seed = 0 if trial.kind == "deployed" else 1 + trial.seed
        recipe, stem = setup.recipe(side), self._stem(side)
        steps = recipe.epochs * -(-setup.transfer_images // recipe.batch_size)
        key = ("network", self._name(), architecture, trial.target, seed)
        before = [need for need in (architecture, chosen, self.deployed()) if isinstance(need, Key)]
        size = 4.0 * self._parameters(classes, stem)
        network = self.work.add(key, [(self._training(recipe, "", side, classes, stem), steps)], before, size)
        return self.evaluation(
            network, ("target", trial.target, setup.tests // 2), side, classes, "cifar10-c" if shapes else "tiny-imagenet-c"
        )

    # ------------------------------------------------------------------------------------------------------------ kinds

    def _name(self) -> tuple:
        return (self.study.dataset, self.study.search, self.study.version)

    def _stem(self, side: int) -> str:
        return "tiny-imagenet" if side >= 64 else self.setup.stem

    def _training(self, recipe: Recipe, method: str, side: int, classes: int, stem: str) -> Kind:
        size = (self.setup.channels, self.setup.layers)
        own = {"recipe": unit_recipe(recipe), "precision": self.setup.precision}
        return Kind(TRAINING, CELLS, method, recipe.batch_size, side, classes, size, stem, **own)

    def _prediction(self, side: int, classes: int) -> Kind:
        size = (self.setup.channels, self.setup.layers)
        return Kind(PREDICTION, CELLS, side=side, classes=classes, size=size, stem=self._stem(side))

    def _choice(self, count: int) -> list[tuple[Kind, float]]:
        """Short trainings of `count` cells on D_train, and their accuracies on D_val."""
        setup, half = self.setup, self.setup.images // 2
        name, length = setup.choice
        recipe = RECIPES[name].scaled(length)
        size = (setup.choice_channels, setup.choice_layers)
        network = partial(Kind, network=CELLS, side=self.side, classes=self.classes, size=size, stem=setup.stem)
        training = network(TRAINING, batch=recipe.batch_size, recipe=unit_recipe(recipe))
        return [(training, count * length * -(-half // recipe.batch_size)), (network(PREDICTION), count * half)]

    def _parameters(self, classes: int, stem: str) -> int:
        setup = self.setup
        return parameter_count(GENOTYPES["darts_v2"], setup.channels, setup.layers, classes, setup.auxiliary, stem=stem)
