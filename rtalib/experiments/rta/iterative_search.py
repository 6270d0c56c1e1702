"""Iterative search (RTA, Algorithm 1): the networks themselves mine the training set.

The published listing in its consistent reading: the pool is cut into T pieces. The first is augmented by RTA's draw. Then, T - 1 times,
the target networks are trained on what there is, each image of the next piece is put through all operations, and one of the results
that the networks get wrong joins the training set. The T-th training, on everything, gives the final networks.

Every step is an artefact of the store: the candidates of a piece under one operation, a mined piece, a network of a round. So a killed
search goes on where it was, and several processes may make the steps beforehand, in any order, without changing a byte.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtalib import augment, models, rng
from rtalib.corruptions import CORRUPTIONS
from rtalib.data.images import LabeledImages, balanced, concat
from rtalib.errors import unknown
from rtalib.experiments.rta.selection_rules import COVERAGE, RULES, cover, pick, preferred, summary
from rtalib.infra import store
from rtalib.models.inference import extract_features, predict
from rtalib.training.artefacts import frost_kind, load_images, network_digest, save_images, trained_network
from rtalib.training.recipes import RECIPES, Recipe

STARTS = ("scratch", "fine-tune")
MAX_SIDE = 64  # pixels: what the networks of models.build are made for


@dataclass(frozen=True)
class Settings:
    """How to search.

    pieces: T. rule: see selection_rules.preferred; 'random' is RTA without search, on the same pool. recipe: of the trainings;
    search_recipe: a shorter one for those before the last. start: networks of a round begin from 'scratch' or with the weights of the
    round before ('fine-tune'). shuffle: whether the images of a class are put into pieces in random order, or as they come.
    size: images of the result; by default as many as there are, more take every image again with other random numbers (copies),
    fewer a balanced part. offered: how many operations, drawn for each image, make its candidates; by default all.
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
        if self.rule not in RULES:
            raise unknown("selection rule", self.rule, RULES)
        if self.start not in STARTS:
            raise unknown("start", self.start, STARTS)
        for name, low in (("pieces", 2), ("size", 1), ("offered", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
                raise ValueError(f"{name}: expected an integer of at least {low}, got {value!r}")


# 'stage1': the bank has attacks; five copies of 10,000 images make the pieces. 'stage2': corruptions alone, 50,000 images once.
# 'released': stage 2 as the authors' code runs it; its seed is 11037.
PRESETS = {
    "stage1": Settings(size=50_000),
    "stage2": Settings(),
    "released": Settings(rule="released", recipe=RECIPES["released"], shuffle=False),
}


@dataclass(frozen=True)
class Trace:
    """What became of each image of the result, in its order (N of them), and what the networks of each round made of the candidates.

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
class Mined:
    """The mined training set, how it came about, and the target networks trained on it (eval mode)."""

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
) -> Mined:
    """Mine a training set of `settings.size` images from `data` for the `targets`: names of models.build, or {name: builder}.

    bank: RTA's operations; by default the 15 corruptions at severity 2. settings: a Settings, or a name of PRESETS.
    Results of all steps are kept in the store; call again to resume. Raises ValueError when `data` has one class alone, a class with fewer
    images than pieces, images larger than 64 pixels a side, or for unknown names.
    """
    if isinstance(settings, str):
        if settings not in PRESETS:
            raise unknown("preset of iterative search", settings, PRESETS)
        settings = PRESETS[settings]
    if not isinstance(targets, Mapping):
        targets = {name: _builder(name, data.num_classes) for name in targets}
    search = Search(data, targets, bank or augment.Bank(), settings, seed)
    return Mined(search.training_set(), search.trace(), {name: search.network(settings.pieces - 1, name)[0] for name in targets})


def _builder(name: str, classes: int) -> Callable[[], nn.Module]:
    if name not in models.MODELS:
        raise unknown("model", name, models.MODELS)
    return lambda: models.build(name, classes)


@dataclass(frozen=True, eq=False)
class Search:
    """The steps of one search, each made when it is first asked for and then kept; pieces and rounds count from 0."""

    data: LabeledImages
    targets: Mapping[str, Callable[[], nn.Module]]
    bank: augment.Bank
    settings: Settings
    seed: int
    _kept: Callable = field(default_factory=lambda: store.cached(None)(lambda make, *which: make(*which)), init=False, repr=False)
    """What this object has asked the store for."""

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("targets: expected at least one network, got none")
        counts = torch.bincount(self.data.hard_labels[self.pool % len(self.data)].cpu(), minlength=self.data.num_classes)
        if int((counts > 0).sum()) < 2:
            raise ValueError("data: expected images of at least two classes; nothing can be misclassified otherwise")
        scarce = int(counts[counts > 0].min())
        if scarce < self.settings.pieces:
            rarest = self.data.classes[int(counts.masked_fill(counts == 0, 2**62).argmin())]
            raise ValueError(
                f"pieces: {self.settings.pieces} pieces need as many images of every class; {rarest!r} has {scarce} in the pool. "
                "Give more images or a larger size, or fewer pieces."
            )
        side = max(self.data.images.shape[2:])
        if side > MAX_SIDE:
            raise ValueError(f"images: expected sides of at most {MAX_SIDE} px, got {side}; scale them down first")
        if self.settings.offered is not None and self.settings.offered > len(self.bank.operations):
            raise ValueError(f"offered: asked for {self.settings.offered} operations, the bank has {len(self.bank.operations)}")

    # ------------------------------------------------------------------------------------------------------------ pool

    @cached_property
    def pool(self) -> Tensor:
        """int64 (size,): copy * len(data) + position."""
        n = len(self.data)
        whole, rest = divmod(self.settings.size or n, n)
        part = balanced(self.data.hard_labels.cpu(), self.data.num_classes, rest, self.seed).sort().values if rest else torch.arange(0)
        return torch.cat([torch.arange(whole * n), whole * n + part])

    @cached_property
    def cuts(self) -> list[Tensor]:
        """The pool in pieces, each stratified: positions in it, int64.

        The images of a class go to the pieces copy by copy, within a copy in random order or as they come. Where a class cannot be divided
        evenly, its parts differ by one image. Within a piece one class follows the other.
        """
        n, pieces = len(self.data), self.settings.pieces
        order = rng.uniform(self.seed, self.pool, rng.stream("iterative search", "order"), 1)[:, 0]
        rank = self.pool // n + (order if self.settings.shuffle else (self.pool % n) / n)
        pool = self.pool[rank.argsort(stable=True)]
        labels = self.data.hard_labels.cpu()[pool % n]
        parts = [[] for _ in range(pieces)]
        for k in range(self.data.num_classes):
            members = pool[labels == k]
            bounds = [round(len(members) * t / pieces) for t in range(pieces + 1)]
            for t, part in enumerate(parts):
                part.append(members[bounds[t] : bounds[t + 1]])
        return [torch.cat(part) for part in parts]

    def _apply(self, operation: str, positions: Tensor) -> Tensor:
        """uint8 images: one operation on images of the pool; each copy has random numbers of its own."""
        n = len(self.data)
        found = torch.empty(len(positions), *self.data.images.shape[1:], dtype=torch.uint8)
        for copy in (positions // n).unique().tolist():
            at = (positions // n == copy).nonzero().squeeze(1)
            image = positions[at] % n
            part = self.bank.apply(operation, self.data.subset(image), index=image, seed=augment.copy_seed(self.seed, copy))
            found[at] = part.cpu()
        return found

    # ------------------------------------------------------------------------------------------------------ candidates

    def offered(self, piece: int) -> Tensor:
        """bool (n,O): which operations make the candidates of each image of a piece."""
        count, operations = self.settings.offered, len(self.bank.operations)
        positions = self.cuts[piece]
        if count is None:
            return torch.ones(len(positions), operations, dtype=torch.bool)
        order = rng.uniform(self.seed, positions, rng.stream("iterative search", "offered"), operations).argsort(1)
        return torch.zeros(len(positions), operations, dtype=torch.bool).scatter_(1, order[:, :count], True)

    def candidates(self, piece: int, operation: str) -> store.Entry:
        """The images of a piece that are offered one operation, in their order, put through it: images.npy, uint8."""
        positions = self.cuts[piece][self.offered(piece)[:, self.bank.operations.index(operation)]]
        parameters = {"positions": store.content_digest(positions), "operation": operation, **self._origin(operation)}

        def build(folder: Path) -> None:
            np.save(folder / "images.npy", self._apply(operation, positions).numpy())

        return store.make("rta-candidates", 1, parameters, build, label=f"{operation}-{piece}-s{self.seed}")

    def _origin(self, operation: str) -> dict:
        """What decides how an operation turns out."""
        bank, facts = self.bank, {"data": self._digest, "seed": self.seed}
        if operation in CORRUPTIONS:
            return facts | {"severity": bank.severity, "benchmark": bank.benchmark, "frost": frost_kind() if operation == "frost" else ""}
        if operation == augment.IDENTITY or operation in bank.extra:
            return facts
        return facts | {"attack": asdict(bank.recipe(operation)), "source": self._sources[operation]}

    @cached_property
    def _digest(self) -> str:
        return self.data.digest

    @cached_property
    def _sources(self) -> dict[str, str]:
        return {name: network_digest(model) for name, model in self.bank.sources.items()}

    # ---------------------------------------------------------------------------------------------------------- rounds

    def piece(self, piece: int) -> store.Entry:
        """A piece of the result: images and labels, with operation.npy (n,), wrong.npy (n,M) and round.json beside them."""
        return self._kept(self._make_piece, piece)

    def _make_piece(self, piece: int) -> store.Entry:
        drawn = piece == 0 or self.settings.rule == "random"
        parameters = {"positions": store.content_digest(self.cuts[piece]), "weights": dict(self.bank.weights)}
        parameters |= {"origins": {name: self._origin(name) for name in self.bank.operations}}
        if not drawn:
            networks = {name: self.network(piece - 1, name)[1].key for name in self.targets}
            parameters |= {"rule": self.settings.rule, "networks": list(networks.items()), "offered": self.settings.offered}

        def build(folder: Path) -> None:
            images, operation, wrong, facts = self._drawn(piece) if drawn else self._mined(piece)
            chosen = self.data.subset(self.cuts[piece] % len(self.data)).to("cpu").with_images(images)
            save_images(folder, chosen)
            np.save(folder / "operation.npy", operation.numpy())
            np.save(folder / "wrong.npy", wrong.numpy())
            (folder / "round.json").write_text(json.dumps(facts, indent=1))

        return store.make("mined-piece", 1, parameters, build, label=f"{self.settings.rule}-{piece}-s{self.seed}")

    def _drawn(self, piece: int) -> tuple[Tensor, Tensor, Tensor, dict]:
        positions, n = self.cuts[piece], len(self.data)
        images = torch.empty(len(positions), *self.data.images.shape[1:], dtype=torch.uint8)
        operation = torch.empty(len(positions), dtype=torch.int64)
        for copy in (positions // n).unique().tolist():
            at = (positions // n == copy).nonzero().squeeze(1)
            image = positions[at] % n
            found, names = self.bank.draw(self.data.subset(image), index=image, seed=self.seed, copy=copy)
            images[at] = found.cpu()
            operation[at] = torch.tensor([self.bank.operations.index(name) for name in names])
        return images, operation, torch.zeros(len(positions), len(self.targets), dtype=torch.bool), {}

    def _mined(self, piece: int) -> tuple[Tensor, Tensor, Tensor, dict]:
        positions, offered, operations = self.cuts[piece], self.offered(piece), self.bank.operations
        labels = self.data.labels.cpu()[positions % len(self.data)]
        networks = [self.network(piece - 1, name)[0] for name in self.targets]
        wrong = torch.zeros(len(networks), *offered.shape, dtype=torch.bool)
        loss = torch.zeros(offered.shape)
        for number, operation in enumerate(operations):
            at = offered[:, number].nonzero().squeeze(1)
            if not len(at):
                continue
            images = self._candidate_images(piece, operation)
            truth = labels[at] if labels.ndim == 1 else labels[at].argmax(1)
            for m, network in enumerate(networks):
                logits = predict(network, images)
                wrong[m, at, number] = logits.argmax(1) != truth
                loss[at, number] += F.cross_entropy(logits, labels[at], reduction="none") / len(networks)
        allowed = preferred(wrong, offered, self.settings.rule, loss)
        if self.settings.rule == COVERAGE:
            choice = cover(allowed, *self._features(piece, allowed, networks[0]))
        else:
            choice = pick(allowed, seed=self.seed, index=positions)
        images = torch.empty(len(positions), *self.data.images.shape[1:], dtype=torch.uint8)
        for number in choice.unique().tolist():
            at = (choice == number).nonzero().squeeze(1)
            images[at] = self._candidate_images(piece, operations[number])[offered[:, number].cumsum(0)[at] - 1]
        blamed = wrong[:, torch.arange(len(choice)), choice].T
        facts = summary(wrong, offered, blamed, tuple(self.targets), operations)
        n_train = sum(len(self.cuts[t]) for t in range(piece))
        return images, choice, blamed, {"piece": piece, "n_train": n_train, **facts}

    def _features(self, piece: int, allowed: Tensor, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Penultimate features of the allowed candidates, row after row, and of the training set so far: float32, on the CPU.

        Nothing is kept beyond one piece: at the papers' size at most 10,000 images x 15 candidates x 2048 features, 1.2 GB (and k-center
        greedy's copy); images are read operation by operation.
        """
        slot, offered, found = allowed.flatten().cumsum(0).view_as(allowed) - 1, self.offered(piece), None
        for number, operation in enumerate(self.bank.operations):
            if bool((at := allowed[:, number]).any()):
                images = self._candidate_images(piece, operation)[at[offered[:, number]]]
                part = extract_features(network, images)
                found = part.new_empty(int(allowed.sum()), part.shape[1]) if found is None else found
                found[slot[at, number]] = part
        before = [extract_features(network, load_images(self.piece(t).path).images) for t in range(piece)]
        return found, torch.cat(before)

    def _candidate_images(self, piece: int, operation: str) -> Tensor:
        """Memory-mapped: at the papers' size the candidates of a piece are more than a gigabyte."""
        return torch.from_numpy(np.load(self.candidates(piece, operation).path / "images.npy", mmap_mode="c"))

    def network(self, round: int, name: str) -> tuple[nn.Module, store.Entry]:
        """A target trained on pieces 0 to `round`, from a seed of its own, and its store entry."""
        return self._kept(self._train, round, name)

    def _train(self, round: int, name: str) -> tuple[nn.Module, store.Entry]:
        settings = self.settings
        parts = [self.piece(t) for t in range(round + 1)]
        recipe = settings.recipe if round + 1 == settings.pieces else settings.search_recipe or settings.recipe
        build, parameters = self.targets[name], {"model": name, "architecture": store.content_digest(str(self.targets[name]()))}
        parameters["data"] = [part.key for part in parts]
        if settings.start == "fine-tune" and round:
            before, entry = self.network(round - 1, name)
            parameters["previous"] = entry.key
            build = lambda: _with_weights(self.targets[name](), before)  # noqa: E731
        words = rng.words(self.seed, torch.tensor([round]), rng.stream("iterative search", "training", name), 1)
        return trained_network(
            build,
            lambda: concat([load_images(part.path) for part in parts], self.data.name),
            recipe,
            parameters=parameters,
            seed=int(words) >> 1,
            label=f"{settings.rule}-{name}-{round}-s{self.seed}",
        )

    # ---------------------------------------------------------------------------------------------------------- result

    def training_set(self) -> LabeledImages:
        """The mined training set, piece after piece."""
        return concat([load_images(self.piece(t).path) for t in range(self.settings.pieces)], f"{self.data.name}-{self.settings.rule}")

    def trace(self) -> Trace:
        entries = [self.piece(t) for t in range(self.settings.pieces)]
        position = torch.cat(self.cuts)
        operation, wrong = (
            torch.cat([torch.from_numpy(np.load(entry.path / f"{name}.npy")) for entry in entries]) for name in ("operation", "wrong")
        )
        piece = torch.cat([torch.full((len(cut),), t) for t, cut in enumerate(self.cuts)])
        rounds = [facts for entry in entries if (facts := json.loads((entry.path / "round.json").read_text()))]
        n = len(self.data)
        return Trace(position % n, position // n, piece, operation, wrong, self.bank.operations, tuple(self.targets), rounds)


def _with_weights(model: nn.Module, other: nn.Module) -> nn.Module:
    model.load_state_dict(other.state_dict())
    return model
