"""The repair ladder: the cheapest repair of a network that reaches a goal, with the price of every rung that was tried.

    python -m rtalib repair NETWORK (--corruption TYPE | --failures FOLDER) --dataset D --goal POINTS --out DIR

Every rung starts from the given network. Repairs are stored under the digests of the network and of the images that they look at, so the
same call resumes, a higher goal climbs on, and the robust data of one failing condition serve the next.
"""

import copy
import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rtalib import darts
from rtalib.corruptions import CORRUPTIONS, benchmark_for, corrupt
from rtalib.data import shapes10
from rtalib.data.images import LabeledImages, balanced, concat
from rtalib.data.loading import load_dataset
from rtalib.errors import check_kind, check_name, check_number
from rtalib.experiments.repair.images import TEST_SEED, stratified_halves
from rtalib.experiments.repair.protocol import correct
from rtalib.infra import store
from rtalib.infra.provenance import stamp
from rtalib.models.adapt import Adapted
from rtalib.models.inference import best_device
from rtalib.training.artefacts import frost_kind, network_digest
from rtalib.yours.cells import answers
from rtalib.yours.repair.rungs import BLIND, RUNGS, Case, NotApplicable, Settings
from rtalib.yours.repair.your_network import check_failing, resized

SEVERITY = 3  # of the corruptions in the mean over all of them
OTHERS = 200  # clean images whose corrupted copies give that mean
RECIPE, VERSION = "rtalib.yours.ladder.rung", 1
FIELDS = ("rung", "applies", "labels", "seconds", "cpu_seconds", "before", "after", "gain", "low", "high", "fixed", "broken")
FIELDS += ("clean", "clean_low", "clean_high", "corrupted", "corrupted_low", "corrupted_high", "reaches", "note")


@dataclass(frozen=True, eq=False)
class Ladder:
    """rows: one for each rung, in order of cost, with the columns FIELDS; accuracies in percent, changes in points, with 95 % intervals.

    network: of the first rung that reaches the goal, else of the one that gains most (without labels, of the last); None if none applies.
    rung: its name. facts: what was measured on what, settings, goal, and the provenance stamp.
    """

    rows: list[dict]
    network: nn.Module | None
    rung: str
    facts: dict


def own_images(dataset: str, limit: int, side: int | None = None) -> tuple[LabeledImages | None, LabeledImages]:
    """(training images, test images) of a data set, at most 2 * limit and limit; None and all images of a file that has no splits."""
    if dataset == "shapes10":  # draw no more than is used
        sizes = {split: min(limit * (1 + (split == "train")), most) for split, most in shapes10.SIZES.items()}
        return tuple(load_dataset(dataset, split, limit=size, side=side) for split, size in sizes.items())
    train, test = (load_dataset(dataset, split, side=side) for split in ("train", "test"))
    return None if train.digest == test.digest else _limited(train, 2 * limit), _limited(test, limit)


def _limited(data: LabeledImages, limit: int) -> LabeledImages:
    return data.subset(balanced(data.hard_labels, data.num_classes, min(limit, len(data)), seed=0))


def case_of_corruption(
    train: LabeledImages | None, test: LabeledImages, corruption: str, *, severity: int = SEVERITY, seed: int = 0
) -> Case:
    """Two stratified halves of the test images: corrupted copies of one may be used, those of the other are measured.

    train: clean images of yours; None takes the first half of the test images.
    """
    _check_images(train=train, test=test)
    check_name("corruption", corruption, CORRUPTIONS)
    check_number("seed", seed, integer=True)
    first, second = (test.subset(rows) for rows in stratified_halves(test.hard_labels, seed))
    failing = [_corrupted(part, corruption, severity, f"{test.name}/{corruption}") for part in (first, second)]
    return Case(train or first, *failing, second)


def _check_images(**sets: object) -> None:
    for name, given in sets.items():
        if name != "train" or given is not None:
            check_kind(name, given, LabeledImages, "LabeledImages")


def _corrupted(data: LabeledImages, corruption: str, severity: int, name: str) -> LabeledImages:
    """By the constants of the benchmark for images of this size, as on a card."""
    benchmark = benchmark_for(min(data.images.shape[2:]))
    return data.with_images(corrupt(data.images, corruption, severity, seed=TEST_SEED, benchmark=benchmark), name)


def case_of_failures(
    train: LabeledImages | None, test: LabeledImages, failures: LabeledImages, *, labeled: bool = True, seed: int = 0
) -> Case:
    """Two stratified halves of the failures: one may be used, the other is measured. The test images, or half of them, are the price.

    train: clean images of yours; None takes one half of the test images.
    """
    _check_images(train=train, test=test, failures=failures)
    check_kind("labeled", labeled, bool, "True or False")
    check_number("seed", seed, integer=True)
    labels = failures.hard_labels if labeled else torch.zeros(len(failures), dtype=torch.int64)
    if len(failures) < 4:
        raise ValueError(f"failures: expected at least 4 images, half to repair with and half to measure on, got {len(failures)}")
    pool, held = (failures.subset(rows) for rows in stratified_halves(labels, seed))
    if train is not None:
        return Case(train, pool, held, test, labeled)
    own, clean = (test.subset(rows) for rows in stratified_halves(test.hard_labels, seed))
    return Case(own, pool, held, clean, labeled)


def ladder(
    network: nn.Module,
    case: Case,
    *,
    goal: float,
    settings: Settings | None = None,
    rungs: Sequence[str] = tuple(RUNGS),
    all_rungs: bool = False,
    others: int = OTHERS,
    on_rung: Callable[[dict], None] | None = None,
) -> Ladder:
    """Climb until a rung gains `goal` points on case.held, the images of the failing condition that no repair has seen.

    network: float32 (N,3,H,W) in [0,1] in, logits (N,K) out, with `features` and `classifier` for the rungs that need them (models.adapt).
    goal: in points of accuracy. rungs: which are tried, in the order of RUNGS. all_rungs: climb on when the goal is met. others: clean
    images whose 15 corrupted copies at severity 3 give the change of the mean over corruptions; 0 leaves it out. on_rung(row): called
    after each rung. ValueError naming the argument: images of another form, no failure, a goal that cannot be reached.
    """
    settings = Settings() if settings is None else settings
    check_kind("network", network, nn.Module, "a torch.nn.Module")
    check_kind("case", case, Case, "a case, see case_of_corruption and case_of_failures")
    check_kind("settings", settings, Settings, "repair.Settings")
    check_kind("rungs", rungs, (list, tuple), "a list of names")
    check_kind("all_rungs", all_rungs, bool, "True or False")
    check_kind("on_rung", on_rung, (Callable, type(None)), "a function of a row")
    for name in rungs:
        check_name("rung", name, RUNGS)
    check_number("others", others, 0, integer=True)
    check_number("goal", goal, 0, 100, open_low=True, unit=" points")
    network = copy.deepcopy(network).eval().to(best_device(network))
    _check_fits(network, case)
    copies = _copies(case.clean, others)
    source = _Measures.of(network, case, copies)
    _check_goal(source, case, goal)
    inputs = {"frost": frost_kind(), "network": network_digest(network), "own": case.own.digest}  # of a repair, besides its settings
    failures = {"labeled": case.labeled, "pool": case.pool.digest}
    rows, chosen = [], None
    for name in (name for name in RUNGS if name in rungs):
        row, repaired = _climb(name, network, case, settings, source, copies, inputs | ({} if name in BLIND else failures))
        row["reaches"] = row["applies"] and case.labeled and row["gain"] >= goal
        rows.append(row)
        if on_rung:
            on_rung(row)
        if repaired is not None and (chosen is None or _better(row, chosen[0])):
            chosen = row, repaired
        if row["reaches"] and not all_rungs:
            break
    facts = {"goal": goal, "settings": asdict(settings), "images": {n: len(getattr(case, n)) for n in ("own", "pool", "held", "clean")}}
    facts |= {"condition": case.held.name, "before": source.summary(), "reached": any(row["reaches"] for row in rows), "stamp": stamp()}
    row, repaired = chosen or ({"rung": ""}, None)
    return Ladder(rows, repaired, row["rung"], facts)


def _better(row: dict, best: dict) -> bool:
    """The first that reaches the goal, else the larger gain; without labels the higher rung."""
    return not best["reaches"] and (row["gain"] is None or row["gain"] > best["gain"])


# ------------------------------------------------------------------------------------------------------------- one rung


@dataclass(frozen=True, eq=False)
class _Measures:
    """Right or wrong, bool: on the failing condition (None without labels), on clean images, on their corrupted copies (15 n)."""

    held: Tensor | None
    clean: Tensor
    corrupted: Tensor | None

    @classmethod
    def of(cls, network: nn.Module, case: Case, copies: LabeledImages | None) -> "_Measures":
        held = correct(network, case.held) if case.labeled else None
        return cls(held, correct(network, case.clean), correct(network, copies) if copies else None)

    def summary(self) -> dict:
        return {name: None if right is None else _percent(right) for name, right in vars(self).items()}


def _copies(clean: LabeledImages, others: int) -> LabeledImages | None:
    """The first images of `clean` under each of the 15 corruptions, stacked."""
    if not others:
        return None
    few = clean.subset(torch.arange(min(others, len(clean))))
    return concat([_corrupted(few, name, SEVERITY, name) for name in CORRUPTIONS], "corrupted")


def _percent(right: Tensor) -> float:
    return 100 * float(right.double().mean())


def change(before: Tensor, after: Tensor, copies: int = 1) -> tuple[float, float, float]:
    """(points, low, high): mean paired difference of two bool (N,) and its 95 % Student interval over images.

    copies: how many stacked copies of each image there are; these count as one image.
    """
    from scipy.stats import t

    difference = 100 * (after.double() - before.double()).view(copies, -1).mean(0)
    mean, n = float(difference.mean()), len(difference)
    half = float(difference.std()) / math.sqrt(n) * float(t.ppf(0.975, n - 1)) if n > 1 else math.nan
    return mean, mean - half, mean + half


def _climb(
    name: str, network: nn.Module, case: Case, settings: Settings, source: _Measures, copies: LabeledImages | None, inputs: dict
) -> tuple[dict, nn.Module | None]:
    """The row of a rung and its network, from the store if they are there."""
    row = dict.fromkeys(FIELDS) | {"rung": name, "applies": True, "note": ""}

    def build(folder: Path) -> None:
        started, busy = time.perf_counter(), time.process_time()
        repaired, labels = RUNGS[name](network, case, settings)
        facts = {"labels": labels, "seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - busy}
        save_file({key: value.cpu().contiguous() for key, value in repaired.state_dict().items()}, folder / "weights.safetensors")
        (folder / "rung.json").write_text(json.dumps(facts))
        if name == "architecture":
            (folder / "genotype.json").write_text(repaired.genotype.to_json())

    try:
        entry = store.make(RECIPE, VERSION, inputs | {"rung": name, "settings": settings}, build, label=name)
    except NotApplicable as error:
        return row | {"applies": False, "note": str(error)}, None
    repaired = _with_weights(network, entry)
    row |= json.loads((entry.path / "rung.json").read_text())
    return row | _measured(source, _Measures.of(repaired, case, copies)), repaired


def _with_weights(network: nn.Module, entry: store.Entry) -> nn.Module:
    """The network of a stored rung; that of `architecture` has other cells than the given one."""
    repaired = copy.deepcopy(network)
    if (cells := entry.path / "genotype.json").exists():
        repaired = resized(network, darts.Genotype.parse(cells.read_text())).to(best_device(network))
    repaired.load_state_dict(load_file(entry.path / "weights.safetensors"))
    return repaired.eval()


def _measured(before: _Measures, after: _Measures) -> dict:
    found = {}
    if before.held is not None:
        gain, low, high = change(before.held, after.held)
        wrong = ~before.held
        found = {"before": _percent(before.held), "after": _percent(after.held), "gain": gain, "low": low, "high": high}
        found |= {"fixed": _percent(after.held[wrong]), "broken": _percent(~after.held[~wrong]) if (~wrong).any() else None}
    for part, copies in (("clean", 1), ("corrupted", len(CORRUPTIONS))):
        first, second = getattr(before, part), getattr(after, part)
        if first is not None:
            found |= dict(zip((part, f"{part}_low", f"{part}_high"), change(first, second, copies), strict=True))
    return found


# --------------------------------------------------------------------------------------------------------------- checks


def _check_fits(network: nn.Module, case: Case) -> None:
    """ValueError unless the network takes these images and has a logit for each class."""
    for part in ("own", "pool", "held", "clean"):
        data = getattr(case, part)
        if data.images.shape[1:] != case.own.images.shape[1:]:
            came, wanted = (f"{x.shape[-1]}x{x.shape[-2]} px" for x in (data.images, case.own.images))
            raise ValueError(f"{part}: expected images of {wanted} like the clean ones of yours, got {came}")
        if data.num_classes != case.own.num_classes and (case.labeled or part == "clean"):
            raise ValueError(f"{part}: expected {case.own.num_classes} classes like the clean images of yours, got {data.num_classes}")
    answers(network, case.own)


def _check_goal(source: _Measures, case: Case, goal: float) -> None:
    if source.held is None:
        text = "failures: they have no labels, so the rungs without labels are tried, and what they gain cannot be measured"
        warnings.warn(text, stacklevel=3)
        return
    check_failing(~source.held, case.held)
    right = _percent(source.held)
    if goal > 100 - right + 1e-9:
        raise ValueError(f"goal: at most {100 - right:.1f} points can be gained, as {right:.1f} % are right already; got {goal:g}")


# ---------------------------------------------------------------------------------------------------------------- files


def save(found: Ladder, folder: Path | str, how: str = "") -> list[Path]:
    """Write ladder.csv, ladder.json, ladder.png and, if a rung applied, network.safetensors and README.md, which says how to load it.

    how: the expression that makes the unrepaired network, for that README.
    """
    import pandas as pd

    from rtalib.results.figures.style import save as save_figure
    from rtalib.yours.repair.figure import ladder_figure

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(found.rows, columns=FIELDS).to_csv(folder / "ladder.csv", index=False)
    (folder / "ladder.json").write_text(json.dumps(found.facts | {"rows": found.rows, "rung": found.rung}, indent=1))
    paths = [folder / "ladder.csv", folder / "ladder.json", *save_figure(ladder_figure(found.rows, found.facts), folder, "ladder")]
    if found.network is None:
        return paths
    file = folder / "network.safetensors"
    inner = found.network.network if isinstance(found.network, Adapted) else found.network  # whose weights keep its own names
    if isinstance(inner, darts.Network):  # a file of it says its cells, which the rung `architecture` changes
        darts.save_network(inner, file)
        loading = CELLS.format(file=file)
    else:
        save_file({name: value.cpu().contiguous() for name, value in inner.state_dict().items()}, file)
        loading = MODULE.format(how=how or "...  # your module, before its repair", file=file)
    (folder / "README.md").write_text(LOADING.format(rung=found.rung, loading=loading), encoding="utf-8")
    return [*paths, file, folder / "README.md"]


def read(folder: Path | str) -> tuple[list[dict], dict]:
    """(rows, facts) of a ladder that `save` wrote."""
    facts = json.loads((Path(folder) / "ladder.json").read_text())
    return facts.pop("rows"), facts


LOADING = """# The repaired network

`network.safetensors` holds the weights and statistics after the rung `{rung}`; `ladder.csv` says what every rung cost and gained.

```python
{loading}
```
"""
MODULE = """from rtalib.yours.networks import load_weights, open_network

network = {how}
load_weights(network, "{file}")
network.eval()"""
CELLS = """from rtalib import darts

network = darts.load_network("{file}")"""
