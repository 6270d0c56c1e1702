"""What a card measures from one set of logits: accuracy with its interval, mCE, calibration, failure detection; and published networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from rtalib.corruptions import CORRUPTIONS
from rtalib.results.published import read_csv

Z = NormalDist().inv_cdf(0.975)


def uncertainty(logits: Tensor) -> Tensor:
    """float32 (N,): one minus the largest probability, exact where that rounds to one. logits (N,K) with K >= 2."""
    logits = logits.double()
    top = logits.argmax(1, keepdim=True)
    others = logits.scatter(1, top, -torch.inf).logsumexp(1)
    return (others - logits.logsumexp(1)).exp().float()


def interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of an accuracy, in percent (Wilson 1927)."""
    share, scale = right / count, 1 + Z**2 / count
    middle, half = share + Z**2 / (2 * count), Z * (share * (1 - share) / count + Z**2 / (4 * count**2)) ** 0.5
    return 100 * (middle - half) / scale, 100 * (middle + half) / scale


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % normal interval of the mean of one value an image, in the unit of `values`: cells share images, so images are the sample."""
    half = Z * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("inf")
    return values.mean() - half, values.mean() + half


def ece(doubt: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error in percent, `bins` bins of equal width (Guo et al. 2017, equation 3). doubt: uncertainty (N,)."""
    confidence = 1 - doubt.astype(np.float64)
    place = np.minimum(np.ceil(confidence * bins).astype(int) - 1, bins - 1).clip(0)
    gaps = np.bincount(place, right - confidence, bins)
    return 100 * float(np.abs(gaps).sum()) / len(right)


def aurc(doubt: np.ndarray, right: np.ndarray) -> float:
    """Area under the risk-coverage curve in percent (Geifman et al. 2019): the mean error over all coverages when the least doubtful images
    are kept. Images of equal doubt count as in a random order."""
    order = np.argsort(doubt, kind="stable")
    _, start, count = np.unique(doubt[order], return_index=True, return_counts=True)
    wrong = np.repeat(np.add.reduceat((~right)[order].astype(float), start) / count, count)  # within a tie: its mean
    return 100 * float((wrong.cumsum() / np.arange(1, len(wrong) + 1)).mean())


@dataclass(frozen=True)
class Reference:
    """A published network: accuracies in percent on clean images and, as the mean over five severities, under each corruption."""

    network: str
    architecture: str
    clean: float
    corruptions: Mapping[str, float]
    mean: float
    mce: float | None


@lru_cache
def published(dataset: str) -> tuple[Reference, ...]:
    """RobustBench's networks under common corruptions on 'cifar10' (original pixels) or 'imagenet', the best first; none for other sets."""
    found = [
        Reference(
            row["network"],
            row["architecture"],
            float(row["clean"]),
            {name: float(row[name]) for name in CORRUPTIONS},
            float(row["mean"]),
            float(row["mce"]) if row["mce"] else None,
        )
        for row in read_csv("robustbench")
        if row["dataset"] == dataset
    ]
    return tuple(sorted(found, key=lambda network: -network.mean))


def reference(dataset: str) -> Reference | None:
    """The network to which mCE relates errors: 'Standard' (WideResNet-28-10) on CIFAR-10, AlexNet on ImageNet; None elsewhere."""
    return next((network for network in published(dataset) if network.network in ("Standard", "AlexNet")), None)


def mce(corruptions: Mapping[str, Sequence[float]], against: Reference) -> float:
    """Mean corruption error in percent (Hendrycks and Dietterich 2019, section 4.2): errors over the reference's, a mean over types.

    corruptions: {type: accuracies in percent, one per severity}.
    """
    return float(np.mean([100 * (100 - np.mean(found)) / (100 - against.corruptions[name]) for name, found in corruptions.items()]))


def relative_mce(clean: float, corruptions: Mapping[str, Sequence[float]], against: Reference) -> float:
    """Relative mCE in percent (the same section): how much errors rise over the clean one, over how much the reference's do."""
    rises = [100 * (clean - np.mean(found)) / (against.clean - against.corruptions[name]) for name, found in corruptions.items()]
    return float(np.mean(rises))
