"""Memorized or generalized? What a training set of Table 1 gains on a corruption, against how near its copies come to that corruption.

The distance is that of Mintun, Kirillov and Xie (NeurIPS 2021): how far a corruption moves the mean features of images, less what the
nearest operation of the training set already does to them. A gain that grows with nearness is owed to overlap; one far away is not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, nn

from rtalib import scales
from rtalib.corruptions import CORRUPTIONS, corrupt
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.experiments.rta import tables
from rtalib.experiments.rta.score import SEED
from rtalib.experiments.rta.severity_budget import PROTOCOL, REPEATED  # the gain is over this set: as many images, no operation
from rtalib.experiments.rta.source_study import run_sources
from rtalib.experiments.rta.unlike import UNLIKE, corrupt_unlike
from rtalib.infra import grid
from rtalib.models.inference import evaluate, extract_features

# CutMix has no operation of a single image
METHODS = tuple(method for method, kind in tables.TABLE1.items() if kind not in (None, "original", "cutmix"))
MOST = 100  # draws of a random operation, and pictures for each draw; if there are fewer originals, as many as these
UNLIKE_SEVERITY = 3


@dataclass(frozen=True)
class OverlapTrial:
    """One training set of Table 1, by the first target network of the scale."""

    method: str
    seed: int
    dataset: str
    protocol: str
    scale: str
    setup: tables.RtaScale


@grid.shared_workers()
def run(*, scale: str = "demo", dataset: str = "shapes10", seeds: Sequence[int] = (), executor: str = "processes") -> list[dict]:
    """Rows of all METHODS and seeds, under protocol 'disjoint'; networks that Table 1 has stored are not trained again.

    seeds: default the scale's own. Row fields: method, seed, distance {type: 0 to 1} and gain {type: points} over the 15 corruptions, as
    RTA trains on them, and the ten of UNLIKE; n_eval images of each type.
    """
    settings = scales.get(scale)
    setup, seeds = settings.rta, seeds or settings.seeds
    common = {"run": scales.run_name(scale, dataset), "inputs": tables.run_inputs(dataset, setup), "executor": executor}
    run_sources(scale, dataset, setup, common)
    sets = [tables.SetTrial(method, seed, dataset, PROTOCOL, setup) for seed in seeds for method in (REPEATED, *METHODS)]
    grid.run(tables.set_trial, sets, recipe="rtalib.rta.set_cell", table="rta-sets", **common)
    trials = [OverlapTrial(method, seed, dataset, PROTOCOL, scale, setup) for seed in seeds for method in METHODS]
    return grid.run(overlap_trial, trials, recipe="rtalib.overlap.overlap_trial", table="rta-overlap", **common)


def overlap_trial(trial: OverlapTrial) -> dict:
    """Distance and gain of one training set on each type. The network without operations sees both."""
    network, _ = _target(trial, trial.method)
    null, _ = _target(trial, REPEATED)
    test = load_dataset(trial.dataset, "test", limit=trial.setup.evaluated)
    moves = torch.stack(list(_moves(trial, null)))
    distance, gain = {}, {}
    clean = extract_features(null, test.images).mean(0)
    for name, images in corrupted(test, trial.setup.severity).items():
        distance[name] = relative_distance(extract_features(null, images.images).mean(0) - clean, moves)
        gain[name] = 100 * (evaluate(network, images) - evaluate(null, images))
    return {"distance": distance, "gain": gain, "n_eval": len(test)}


def _target(trial: OverlapTrial, method: str) -> tables.Trained:
    data, made = tables.training_set(method, trial.seed, trial.dataset, trial.protocol, trial.setup)
    return tables.train_target(trial.setup.targets[0], data, made.key, trial.setup.recipe(), trial.seed)


def corrupted(test: LabeledImages, severity: int) -> dict[str, LabeledImages]:
    """{type: test images} of the 15 corruptions as RTA makes them at `severity`, and of UNLIKE at severity 3."""
    trained = {name: corrupt(test.images, name, severity, seed=SEED, benchmark="imagecorruptions") for name in CORRUPTIONS}
    unlike = {name: corrupt_unlike(test.images, name, UNLIKE_SEVERITY, seed=SEED) for name in UNLIKE}
    return {name: test.with_images(images) for name, images in (trained | unlike).items()}


def _moves(trial: OverlapTrial, network: nn.Module) -> Iterator[Tensor]:
    """How each operation of a training set moves mean features, float32 (D,); first that of no operation, which every set holds.

    A set whose operations are few is grouped by them; a random operation is drawn several times, each time for all of the same pictures.
    """
    data, made = tables.training_set(trial.method, trial.seed, trial.dataset, trial.protocol, trial.setup)
    count = trial.setup.originals
    features = extract_features(network, data.images[:count])
    yield torch.zeros(features.shape[1])
    kind = tables.TABLE1[trial.method]
    if kind in tables.PER_IMAGE:
        pictures = data.images[: min(MOST, count)]
        for draw in range(len(pictures)):
            index = torch.full((len(pictures),), draw)
            altered = tables.PER_IMAGE[kind](pictures, seed=trial.seed, index=index)
            yield extract_features(network, altered).mean(0) - features[: len(pictures)].mean(0)
        return
    moved = extract_features(network, data.images[count:]) - features.repeat(trial.setup.copies, 1)
    names = np.concatenate(tables.drawn_operations(made))
    for name in sorted(set(names)):
        yield moved[torch.from_numpy(names == name)].mean(0)


def relative_distance(target: Tensor, moves: Tensor) -> float:
    """min over `moves` (M,D) of |target - move| / |target|: 1 if no move is nearer than none, 0 if one is the target (D,)."""
    return float(((moves - target).norm(dim=1).min() / target.norm()).clamp(max=1))


def slopes(rows: list[dict]) -> dict[int, float]:
    """{seed: points of gain per unit of distance}: the slope of least squares over all methods and types."""
    points = {}
    for row in rows:
        points.setdefault(row["seed"], []).extend((row["distance"][name], row["gain"][name]) for name in row["gain"])
    return {seed: float(np.polyfit(*np.array(found).T, 1)[0]) for seed, found in points.items()}


def means(rows: list[dict]) -> list[dict]:
    """For each method and type: the mean over seeds of distance and gain, and whether RTA's bank has the type."""
    return [
        {"method": method, "type": name, "trained": name in CORRUPTIONS}
        | {field: fmean(row[field][name] for row in rows if row["method"] == method) for field in ("distance", "gain")}
        for method in dict.fromkeys(row["method"] for row in rows)
        for name in rows[0]["gain"]
    ]
