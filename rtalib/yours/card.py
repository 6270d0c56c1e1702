"""The robustness card of a network: what it gets right under every corruption and attack, how sure it is, and where it fails.

python -m rtalib evaluate NETWORK --dataset D --out DIR
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from rtalib.corruptions import SEVERITIES, benchmark_for
from rtalib.corruptions.on_disk.published_md5 import cifar10_origin
from rtalib.data.images import LabeledImages
from rtalib.errors import check_kind, check_number
from rtalib.infra import provenance, store
from rtalib.infra.grid.progress import seconds
from rtalib.training.artefacts import frost_kind
from rtalib.yours import cells as card_cells
from rtalib.yours import metrics
from rtalib.yours.cells import CLEAN, NetworkSpec

EPS = (1.0, 2.0, 4.0, 8.0)  # in units of 1/255
ATTACKED = 500  # images under attack, unless the caller says how many
FIELDS = ("clean", "corruptions", "mean", "attacks", "n", "seconds", "provenance")
COPY = (
    "These images are a JPEG copy of CIFAR-10 (median 30.5 dB to the originals): on 200 lossless images ResNet-20 has 92.5 %, on the same "
    "images of the copy 81.0 %. Published numbers are for the original pixels."
)


@dataclass(frozen=True)
class CardRequest:
    """What to evaluate. limit: of images, None for all; attack_limit: the first so many of them are attacked; eps in units of 1/255."""

    network: NetworkSpec
    dataset: str
    limit: int | None = None
    side: int | None = None
    corruptions: tuple[str, ...] | None = None
    attacks: tuple[str, ...] = ()
    eps: tuple[float, ...] = EPS
    attack_limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_kind("network", self.network, NetworkSpec, "a NetworkSpec")
        check_kind("dataset", self.dataset, str, "the name of a data set")
        for name in ("limit", "attack_limit", "side"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 1, integer=True, unit=" pixel" if name == "side" else " image")
        for name in ("corruptions", "attacks", "eps"):
            if getattr(self, name) is not None:
                check_kind(name, getattr(self, name), (list, tuple), "a list")
        check_number("seed", self.seed, integer=True)


@dataclass(frozen=True)
class Card:
    """Results per image of one network on one data set. levels: {what: severities or radii}; found: {what: arrays (levels, N)}."""

    request: CardRequest
    data: LabeledImages
    levels: dict[str, tuple[float, ...]]
    found: dict[str, dict[str, np.ndarray]]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(name for name in self.levels if name != CLEAN and name not in card_cells.ATTACKS)

    @property
    def attacks(self) -> tuple[str, ...]:
        return tuple(name for name in self.levels if name in card_cells.ATTACKS)

    def accuracy(self, what: str) -> list[float]:
        """In percent, at each level."""
        return (100 * self.found[what]["right"].mean(1)).tolist()

    @property
    def clean(self) -> float:
        return self.accuracy(CLEAN)[0]

    @cached_property
    def corruptions(self) -> dict[str, list[float]]:
        return {name: self.accuracy(name) for name in self.types}

    @property
    def mean(self) -> float:
        """Over types and severities, in percent."""
        return float(np.mean(list(self.corruptions.values())))

    @cached_property
    def cells(self) -> list[dict]:
        """One line for every cell: accuracy in percent with its 95 % interval, ECE and AURC in percent (of attacks: none)."""
        lines = []
        for what, levels in self.levels.items():
            for at, level in enumerate(levels or (0,)):
                right = self.found[what]["right"][at]
                low, high = metrics.interval(int(right.sum()), len(right))
                line = {"what": what, "level": f"{level:g}", "n": len(right), "accuracy": 100 * right.mean(), "low": low, "high": high}
                if "uncertainty" in self.found[what]:
                    doubt = self.found[what]["uncertainty"][at]
                    line |= {"ece": metrics.ece(doubt, right), "aurc": metrics.aurc(doubt, right)}
                lines.append(line)
        return lines

    @cached_property
    def summary(self) -> list[dict]:
        """Lines {name, value, low, high, note}: mean, mCE, relative mCE, ECE, AURC, worst-case accuracy."""
        per_image = 100 * np.concatenate([self.found[name]["right"] for name in self.types]).mean(0)
        line = dict(zip(("low", "high"), metrics.mean_interval(per_image), strict=True))
        against = metrics.reference(self.data.name)
        lines = [{"name": "mean over corruptions", "value": self.mean, **line, "note": f"{len(self.types)} types x 5 severities"}]
        if against and len(self.types) == len(against.corruptions):
            note = f"100 is {against.network} ({against.architecture}), published by RobustBench"
            lines.append({"name": "mCE", "value": metrics.mce(self.corruptions, against), "note": note})
            relative = metrics.relative_mce(self.clean, self.corruptions, against)
            lines.append({"name": "relative mCE", "value": relative, "note": note})
        for name, text in (("ece", "ECE"), ("aurc", "AURC")):
            values = {what: [cell[name] for cell in self.cells if cell["what"] == what] for what in (CLEAN, *self.types)}
            lines.append({"name": f"{text}, clean", "value": values[CLEAN][0], "note": "percent; lower is better"})
            under = float(np.mean([values[what] for what in self.types]))
            lines.append({"name": f"{text}, corrupted", "value": under, "note": "percent; mean over cells"})
        return lines

    @cached_property
    def per_class(self) -> list[dict]:
        """Lines {class, n, clean, mean, worst type and its accuracy}, in percent."""
        labels, lines = self.data.hard_labels.numpy(), []
        for k, name in enumerate(self.data.classes):
            mine = labels == k
            if not mine.any():
                continue
            under = {what: 100 * self.found[what]["right"][:, mine].mean() for what in self.types}
            worst = min(under, key=under.get)
            clean = 100 * self.found[CLEAN]["right"][0, mine].mean()
            mean = float(np.mean(list(under.values())))
            lines.append(
                {"class": name, "n": int(mine.sum()), "clean": clean, "mean": mean, "worst": worst, "worst_accuracy": under[worst]}
            )
        return lines

    def breaks(self, what: str) -> np.ndarray:
        """int (N,): the position of the least level at which each image is wrong; -1: wrong when clean; the number of levels: never."""
        right = self.found[what]["right"]
        first = np.where(right.all(0), len(right), (~right).argmax(0))
        return np.where(self.found[CLEAN]["right"][0, : right.shape[1]], first, -1)

    def broken(self, what: str) -> list[float]:
        """Percent of images that are wrong when clean, break first at each level, and never break."""
        counts = np.bincount(self.breaks(what) + 1, minlength=len(self.levels[what]) + 2)
        return (100 * counts / counts.sum()).tolist()

    @cached_property
    def per_image(self) -> list[dict]:
        """Lines {image, class, and for each corruption and attack the least severity or eps at which it is wrong}: 0 if it is wrong when
        clean, empty if it never is or was not attacked. image: its number in the test split, from 0."""
        numbers, labels = card_cells.numbers(self.request.dataset, self.request.side), self.data.hard_labels.tolist()
        lines = [{"image": int(n), "class": self.data.classes[k]} for n, k in zip(numbers, labels, strict=False)]
        for what in (*self.types, *self.attacks):
            least = [*(f"{level:g}" for level in self.levels[what]), "", "0"]  # -1, wrong when clean, is the last
            breaks = self.breaks(what)
            for at, line in enumerate(lines):
                line[what] = least[breaks[at]] if at < len(breaks) else ""
        return lines

    @cached_property
    def slices(self) -> list[dict]:
        """The ten worst pairs of class and corruption: accuracy over all severities in percent, n, the usual wrong answer and its share of
        the errors, and (position, severity) of up to six images that break first."""
        labels, found = self.data.hard_labels.numpy(), []
        for what in self.types:
            breaks = self.breaks(what)
            for k in np.unique(labels):
                mine = np.flatnonzero(labels == k)
                right, said = (self.found[what][name][:, mine] for name in ("right", "predicted"))
                if len(mine) < 5 or right.all():
                    continue
                answers = np.bincount(said[~right], minlength=self.data.num_classes)
                early = [i for i in mine[np.argsort(breaks[mine], kind="stable")] if 0 <= breaks[i] < len(SEVERITIES)][:6]
                found.append(
                    {
                        "class": self.data.classes[k],
                        "what": what,
                        "accuracy": 100 * right.mean(),
                        "n": len(mine),
                        "taken_for": self.data.classes[int(answers.argmax())],
                        "share": 100 * answers.max() / answers.sum(),
                        "images": [(int(i), int(breaks[i]) + 1) for i in early],
                    }
                )
        return sorted(found, key=lambda line: line["accuracy"])[:10]

    def json(self) -> dict:
        """The content of card.json, exactly FIELDS."""
        attacked = {
            name: {f"{eps:g}/255": value for eps, value in zip(self.levels[name], self.accuracy(name), strict=True)}
            for name in self.attacks
        }
        values = (self.clean, self.corruptions, self.mean, attacked, len(self.data), self.facts["seconds"], self.facts["provenance"])
        return dict(zip(FIELDS, values, strict=True))


def evaluate(request: CardRequest, **grid_options: Any) -> Card:
    """Measure a network; finished blocks of images are read from the store. grid_options: executor, workers; see grid.run.

    Raises ValueError in one line for a network of another number of classes or another size, with NaN among its logits or random outputs.
    """
    data = card_cells.images(request.dataset, request.side)
    count = len(data) if request.limit is None else request.limit
    if count > len(data):
        raise ValueError(f"limit: asked for {count} images, {request.dataset} has {len(data)} test images")
    kinds, radii = card_cells.kinds_of(request.corruptions, request.attacks, request.eps)
    network = request.network.open(data.num_classes)
    card_cells.examine(network, data)
    attacked = min(count, request.attack_limit or ATTACKED)
    where = (card_cells.absolute(request.network), request.dataset, request.side)
    how = (benchmark_for(min(data.images.shape[2:])), request.seed)
    cells = card_cells.trials(*where, count, kinds, *how) + card_cells.trials(*where, attacked, radii, *how)
    rows = card_cells.run(cells, re.sub(r"[^\w.-]+", "-", f"{request.network.label}-{data.name}"), **grid_options)
    found = card_cells.gather(cells, rows)
    facts = {
        "seconds": round(sum(map(seconds, rows)), 1),  # of all cells, not of a run that finds some of them stored
        "provenance": {
            "network": store.plain(request.network),
            "network_identity": card_cells.identity(request.network, network, data),
            "parameters": sum(value.numel() for value in network.parameters()),
            "dataset": data.name,
            "images": data.subset(torch.arange(count)).digest,
            "benchmark": how[0],
            "frost": frost_kind(),
            "seed": request.seed,
            "attacked": attacked if request.attacks else 0,
            "note": COPY if request.dataset == "cifar10" and "JPEG" in cifar10_origin(None) else "",
            "stamp": provenance.stamp(),
        },
    }
    return Card(request, data.subset(torch.arange(count)), kinds | radii, found, facts)
