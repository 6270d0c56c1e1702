"""Iterative search (RTA, Algorithm 1): the target networks mine their own training set.

We read the published listing as follows. The pool is cut into T pieces, and RTA's draw augments the first. Then, T - 1 times, the target
networks are trained on the set so far, all operations are applied to each image of the next piece, and one of the results that the
networks misclassify joins the set. The T-th training, on everything, gives the final networks. `Search.mine` is that loop.

Every step is an artefact of the store: the candidates of a piece under one operation, a piece of the result, a network of a round. A
killed search therefore resumes where it stopped, and several processes may make the steps in any order without changing a byte.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rtalib import augment, models, rng
from rtalib.data.images import LabeledImages, concat
from rtalib.errors import LARGEST_SEED, check_kind, check_name, check_number, short
from rtalib.experiments.rta import selection_rules as rules
from rtalib.experiments.rta.pool import Pool
from rtalib.infra import store
from rtalib.models.inference import extract_features
from rtalib.training.artefacts import load_images, save_images, trained_network
from rtalib.training.recipes import RECIPES, Recipe

STARTS = ("scratch", "fine-tune")


@dataclass(frozen=True)
class Settings:
    """How to search.

    pieces: T. rule: see selection_rules.preferred; 'random' is RTA without search, on the same pool. recipe: of the trainings;
    search_recipe: a shorter one for all trainings but the last. start: networks of a round begin from 'scratch' or with the weights of
    the round before ('fine-tune'). shuffle: whether the images of a class are put into pieces in random order, or as they come.
    size: images of the result, by default as many as the data has; a larger size takes every image again with other random numbers
    (copies), a smaller one a balanced part. offered: how many operations, drawn for each image, make its candidates; by default all.
    """

    pieces: int = 5
    rule: str = "most-models"
    recipe: Recipe = RECIPES["final"]
    search_recipe: Recipe | None = None
    start: str = "scratch"
    shuffle: bool = True
    size: int | None = None
    offered: int | None = None

    def __post_init__(self) -> None:
        check_name("selection rule", self.rule, rules.RULES)
        check_name("start", self.start, STARTS)
        check_kind("recipe", self.recipe, Recipe, "a Recipe, as RECIPES[...] holds")
        check_kind("search_recipe", self.search_recipe, (Recipe, type(None)), "a Recipe or None")
        check_kind("shuffle", self.shuffle, bool, "True or False")
        for name, low in (("pieces", 2), ("size", 1), ("offered", 1)):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), low, integer=True)


# 'stage1': the bank has attacks; five copies of 10,000 images make the pieces. 'stage2': corruptions alone, 50,000 images once.
# 'released': stage 2 as the authors' code runs it; its seed is 11037.
PRESETS = {
    "stage1": Settings(size=50_000),
    "stage2": Settings(),
    "released": Settings(rule="released", recipe=RECIPES["released"], shuffle=False),
}


@dataclass(frozen=True)
class Trace:
    """Where each image of the result (N of them) comes from, and how the networks of each round classified the candidates.

    image, copy: int64 (N,), the position in the pool's data set, and which repetition of it. piece: int64 (N,). operation: int64 (N,) into
    `operations`. wrong: bool (N,M), which of `models` misclassified the choice; False in the first piece, which no network saw.
    rounds: one dict per selection: piece, n_train, n_candidates, misclassified {model: candidates}, by_rule {'all' | a model's name alone |
    'several' | 'none': images whose choice these got wrong}, accuracy {model: {operation: percent}}.
    """

    image: Tensor
    copy: Tensor
    piece: Tensor
    operation: Tensor
    wrong: Tensor
    operations: tuple[str, ...]
    models: tuple[str, ...]
    rounds: list[dict]


@dataclass(frozen=True)
class MinedSet:
    """The mined training set, its trace, and the target networks trained on it (eval mode)."""

    data: LabeledImages
    trace: Trace
    networks: dict[str, nn.Module]


def iterative_search(
    data: LabeledImages,
    targets: Sequence[str] | Mapping[str, Callable[[], nn.Module]],
    bank: augment.Bank | None = None,
    settings: Settings | str = "stage2",
    *,
    seed: int = 0,
) -> MinedSet:
    """Mine a training set of `settings.size` images from `data` for the `targets`: names of models.build, or {name: builder}.

    bank: RTA's operations; by default the 15 corruptions at severity 2. settings: a Settings, or a name of PRESETS.
    Networks of models.build see images of more than 64 pixels a side at 64x64; your own builders' see them as they are.
    The store keeps the results of all steps; call again to resume. Raises ValueError if `data` has a single class, a class with fewer
    images than pieces, and for unknown names.
    """
    check_kind("data", data, LabeledImages, "LabeledImages")
    if isinstance(targets, str) or not isinstance(targets, Sequence | Mapping):
        raise TypeError(f"targets: expected names of networks, or a mapping of builders, got {short(targets)}")
    check_kind("bank", bank, (augment.Bank, type(None)), "a Bank or None")
    check_number("seed", seed, 0, LARGEST_SEED, integer=True)
    if isinstance(settings, str):
        check_name("preset in settings", settings, PRESETS)
        settings = PRESETS[settings]
    check_kind("settings", settings, Settings, "Settings, or the name of a preset")
    if not isinstance(targets, Mapping):
        targets = {name: partial(models.build, name, data.num_classes, side=models.side_for(data)) for name in targets}
    search = Search(data, targets, bank or augment.Bank(), settings, seed)
    mined = search.mine()
    return MinedSet(search.training_set(), search.trace(), {name: search.train(name, mined)[0] for name in targets})


@dataclass(frozen=True, eq=False)
class Search:
    """One search. `mine` is Algorithm 1, the methods below it are its lines; pieces count from 0."""

    data: LabeledImages
    targets: Mapping[str, Callable[[], nn.Module]]
    bank: augment.Bank
    settings: Settings
    seed: int

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("targets: expected at least one network, got none")
        _ = self.pool  # which checks that it can be divided

    def mine(self, count: int | None = None) -> list[store.Entry]:
        """Algorithm 1: the first `count` pieces of the result, default all; see `_piece` for their files."""
        mined = [self.draw(0)]  # lines 2 and 3
        for t in range(1, count or self.settings.pieces):  # line 4
            if self.settings.rule == "random":
                mined.append(self.draw(t))
            else:
                networks = {name: self.train(name, mined) for name in self.targets}  # line 5
                mined.append(self.select(t, networks, mined))  # lines 6 to 9
        return mined

    @cached_property
    def pool(self) -> Pool:
        """The images, divided into pieces (line 1)."""
        return Pool(self.data, self.bank, self.settings, self.seed)

    def draw(self, t: int) -> store.Entry:
        """Piece t by RTA's draw."""

        def make() -> tuple[Tensor, Tensor, Tensor, dict]:
            images, operation = self.pool.drawn(t)
            return images, operation, torch.zeros(len(images), len(self.targets), dtype=torch.bool), {}

        return self._piece(t, make, {})

    def train(self, name: str, mined: Sequence[store.Entry]) -> tuple[nn.Module, store.Entry]:
        """A target trained on the first pieces, from a seed of its own, and its store entry."""
        settings, last = self.settings, len(mined) - 1
        recipe = settings.recipe if len(mined) == settings.pieces else settings.search_recipe or settings.recipe
        build, parameters = self.targets[name], {"model": name, "architecture": self._architectures[name]}
        parameters["data"] = [piece.key for piece in mined]
        if settings.start == "fine-tune" and last:
            before, entry = self.train(name, mined[:-1])
            build, parameters["previous"] = partial(copy.deepcopy, before), entry.key
        return trained_network(
            build,
            lambda: concat([load_images(piece.path) for piece in mined], self.data.name),
            recipe,
            parameters=parameters,
            seed=rng.word(self.seed, last, rng.stream("iterative search", "training", name)) >> 1,
            label=f"{settings.rule}-{name}-{last}-s{self.seed}",
        )

    @cached_property
    def _architectures(self) -> dict[str, str]:
        return {name: store.content_digest(str(build())) for name, build in self.targets.items()}

    def select(self, t: int, networks: Mapping[str, tuple[nn.Module, store.Entry]], mined: Sequence[store.Entry]) -> store.Entry:
        """Piece t by the settings' rule: of each image one candidate, if possible one that the networks misclassify."""
        rule, offered, positions = self.settings.rule, self.pool.offered(t), self.pool.cuts[t]

        def make() -> tuple[Tensor, Tensor, Tensor, dict]:
            models, candidates = [network for network, _ in networks.values()], self.pool.candidate_images(t)  # line 6
            wrong, loss = rules.judge(models, candidates, offered, self.data.labels.cpu()[positions % len(self.data)])  # line 7
            allowed = rules.preferred(wrong, offered, rule, loss)
            if rule == rules.COVERAGE:
                before = torch.cat([extract_features(models[0], load_images(piece.path).images) for piece in mined])
                choice = rules.cover(allowed, rules.allowed_features(models[0], candidates, offered, allowed), before)
            else:
                choice = rules.pick(allowed, seed=self.seed, index=positions)  # line 8
            blamed = wrong[:, torch.arange(len(choice)), choice].T
            facts = {"piece": t, "n_train": sum(map(len, self.pool.cuts[:t]))}
            facts |= rules.summary(wrong, offered, blamed, tuple(networks), self.bank.operations)
            return rules.chosen_images(candidates, offered, choice), choice, blamed, facts

        keys = [(name, entry.key) for name, (_, entry) in networks.items()]
        return self._piece(t, make, {"rule": rule, "networks": keys, "offered": self.settings.offered})

    def _piece(self, t: int, make: Callable[[], tuple[Tensor, Tensor, Tensor, dict]], parameters: dict) -> store.Entry:
        """images.npy and labels.npy of piece t, with operation.npy (n,), wrong.npy (n,M) and round.json, from the results of `make`."""
        positions = self.pool.cuts[t]

        def build(folder: Path) -> None:
            images, operation, wrong, facts = make()
            save_images(folder, self.data.subset(positions % len(self.data)).to("cpu").with_images(images))
            np.save(folder / "operation.npy", operation.numpy())
            np.save(folder / "wrong.npy", wrong.numpy())
            (folder / "round.json").write_text(json.dumps(facts, indent=1))

        parameters |= {"positions": store.content_digest(positions), "weights": dict(self.bank.weights), "origins": self.pool.origins}
        return store.make("mined-piece", 1, parameters, build, label=f"{self.settings.rule}-{t}-s{self.seed}")

    def training_set(self) -> LabeledImages:
        """The mined training set, piece after piece (line 11)."""
        return concat([load_images(piece.path) for piece in self.mine()], f"{self.data.name}-{self.settings.rule}")

    def trace(self) -> Trace:
        """Where each image of the training set comes from."""
        mined, cuts, n = self.mine(), self.pool.cuts, len(self.data)
        operation, wrong = (
            torch.cat([torch.from_numpy(np.load(piece.path / f"{name}.npy")) for piece in mined]) for name in ("operation", "wrong")
        )
        position, piece = torch.cat(cuts), torch.cat([torch.full((len(cut),), t) for t, cut in enumerate(cuts)])
        rounds = [facts for piece in mined if (facts := json.loads((piece.path / "round.json").read_text()))]
        return Trace(position % n, position // n, piece, operation, wrong, self.bank.operations, tuple(self.targets), rounds)
