"""Which RTA sets return the most points per hour: severity of the corruptions and copies of each image against the store's clock.

Attacks have no severity. A set of another severity is therefore Table 1's set with new corrupted images: the same draws, the same
adversarial examples. A set of fewer copies is the beginning of Table 1's set and costs its share of that set's time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from rtalib import augment
from rtalib.corruptions import CORRUPTIONS
from rtalib.data.images import LabeledImages
from rtalib.experiments.rta import score as rta_score
from rtalib.experiments.rta import tables as rta
from rtalib.infra import grid, store
from rtalib.infra.provenance import stamp
from rtalib.results.tables import interval, values
from rtalib.scale_settings import RtaScale, TogetherScale
from rtalib.training.artefacts import frost_kind, history

REPEATED = "5 × 10,000 Ori"
PROTOCOL = "disjoint"


@dataclass(frozen=True)
class BudgetTrial:
    """One target network trained on the originals and `copies` of them: with RTA at a severity, or (severity 0) as they are."""

    method: str
    severity: int
    copies: int
    seed: int
    model: str
    dataset: str
    protocol: str
    scale: str
    setup: RtaScale


def name_of(severity: int, copies: int) -> str:
    """'severity 3, 2 copies', 'originals', 'originals, 4 times more'."""
    if not severity:
        return f"originals, {copies} times more" if copies else "originals"
    return f"severity {severity}, {copies} {'copy' if copies == 1 else 'copies'}"


def budgets(setup: RtaScale, together: TogetherScale) -> list[tuple[int, int]]:
    """(severity, copies) of all sets: the originals, the originals as often as in the largest set, Table 1's own set, and the others."""
    sets = [(0, 0), (0, setup.copies), (setup.severity, setup.copies)]
    return list(dict.fromkeys([*sets, *((severity, copies) for severity in together.severities for copies in together.copies)]))


def run(scale: str, dataset: str, seeds: Sequence[int], setup: RtaScale, together: TogetherScale, common: dict) -> list[dict]:
    """Rows of all sets, seeds and target networks. common: options of grid.run."""
    trials = [
        BudgetTrial(name_of(*budget), *budget, seed, model, dataset, PROTOCOL, scale, setup)
        for seed in seeds
        for budget in budgets(setup, together)
        for model in setup.targets
    ]
    return grid.run(budget_trial, trials, recipe="rtalib.severity_budget.budget_cell", table="severity-budget", **common)


def at_severity(full: LabeledImages, drawn: list[list[str]], seed: int, severity: int, copies: int) -> LabeledImages:
    """The first `copies` copies of an RTA set (originals first, then copy after copy), its corruptions at another severity.

    drawn: the operation of each image of each copy, as in the set's drawn.json.
    """
    count = len(drawn[0])
    originals = full.subset(torch.arange(count))
    images = full.images[: (1 + copies) * count].clone()
    bank = augment.Bank(severity=severity)
    for copy in range(copies):
        for operation in CORRUPTIONS:
            at = torch.tensor([i for i, name in enumerate(drawn[copy]) if name == operation], dtype=torch.int64)
            if len(at):
                made = bank.apply(operation, originals.subset(at), index=at, seed=augment.copy_seed(seed, copy))
                images[(1 + copy) * count + at] = made.cpu()
    return full.subset(torch.arange(len(images))).with_images(images, f"{originals.name}-severity-{severity}")


def budget_trial(trial: BudgetTrial) -> dict:
    """Train a target on the set and score it on the proxy suite: percent, and hours of making the set and of training.

    The suite is that of Table 1, whatever the severity of the set.
    """
    method = rta.OURS if trial.severity else REPEATED if trial.copies else rta.BASELINE
    data, made = rta.training_set(method, trial.seed, trial.dataset, trial.protocol, trial.setup)
    key = made.key
    if trial.severity and (trial.severity, trial.copies) != (trial.setup.severity, trial.setup.copies):
        data = at_severity(data, rta.drawn_operations(made), trial.seed, trial.severity, trial.copies)
        facts = {"set": made.key, "severity": trial.severity, "copies": trial.copies, "frost": frost_kind()}
        key = store.key("rta-set at severity", 1, facts)
    network, trained = rta.train_target(trial.model, data, key, trial.setup.recipe(), trial.seed)
    making = made.card["seconds"] * trial.copies / trial.setup.copies if trial.severity else 0.0
    training = sum(epoch["seconds"] for epoch in history(trained))
    return rta_score.measure(network, trial.dataset, trial.setup) | {
        "n_train": len(data),
        "making": making / grid.HOUR,
        "training": training / grid.HOUR,
        "hours": (making + training) / grid.HOUR,
        "device": "GPU" if stamp().get("gpu") else "CPU",
        "network": trained.key,
    }


# ------------------------------------------------------------------------------------------------------------- returns


def with_returns(rows: Sequence[Mapping]) -> list[dict]:
    """The rows with `gain`, points above the originals' network of the same seed and model, and `return`, gain per hour of making the set
    and of training; without both if that network was not measured."""
    base = {(row["seed"], row["model"]): row["score"] for row in rows if row["method"] == name_of(0, 0)}
    found = []
    for row in rows:
        key = row["seed"], row["model"]
        gained = {"gain": row["score"] - base[key]} if key in base and row["method"] != name_of(0, 0) else {}
        found.append({**row, **gained, **({"return": gained["gain"] / row["hours"]} if gained else {})})
    return found


def returns(rows: Sequence[Mapping]) -> pd.DataFrame:
    """A line per set: mean score, hours (of one target, its set included), gain and return with their 95 % half widths over seeds, seeds,
    and whether the set is on the frontier: no other scores as high in fewer hours."""
    every, found = with_returns(rows), []
    for method in dict.fromkeys(row["method"] for row in rows):
        one = next(row for row in rows if row["method"] == method)
        line = {"method": method, "severity": one["severity"], "copies": one["copies"], "device": one["device"]}
        for column in ("score", "hours", "gain", "return"):
            sample = values(every, method, column)
            line |= {column: sample.mean(), f"± {column}": interval(sample)}
        found.append(line | {"seeds": len(values(every, method, "score"))})
    table = pd.DataFrame(found)
    table["frontier"] = on_frontier(table["hours"], table["score"])
    return table


def on_frontier(cost: Sequence[float], gain: Sequence[float]) -> list[bool]:
    """Whether no other point has at most the cost and at least the gain, one of the two strictly."""
    points = list(zip(cost, gain, strict=True))
    return [not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points) for cost, gain in points]
