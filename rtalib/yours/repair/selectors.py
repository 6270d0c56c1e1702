"""Rules that pick the few failures to repair with: the paper's, chance, and the rivals of the literature on data selection.

A rule is called as rule(candidates, budget, seed) and returns int64 (budget,), rows of the candidates in order of selection.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rtalib import coreset
from rtalib.experiments.repair.kmeans import kmeans


@dataclass(frozen=True, eq=False)
class Candidates:
    """Failures as a rule sees them: penultimate features (N,D), logits (N,K), labels int64 (N,), and features of clean images (M,D)."""

    features: Tensor
    logits: Tensor
    labels: Tensor
    centers: Tensor | None = None


def core(found: Candidates, budget: int, seed: int) -> Tensor:
    """k-center greedy with clean images as fixed centers (CF-DARTS, Eq. 6)."""
    return coreset.k_center_greedy(found.features, found.centers, budget)


def random(found: Candidates, budget: int, seed: int) -> Tensor:
    """Uniformly, without repetition."""
    return coreset.random_selection(len(found.labels), budget, seed)


def farthest(found: Candidates, budget: int, seed: int) -> Tensor:
    """Those farthest from clean images (CF-DARTS' Algorithm 1, read literally)."""
    return coreset.farthest(found.features, found.centers, budget)


def facility_location(found: Candidates, budget: int, seed: int) -> Tensor:
    """Greedily the largest sum over failures of the similarity to the nearest pick (Nemhauser et al. 1978; Wei et al. 2015).

    Similarity: the largest distance between two failures minus theirs. Holds an (N,N) matrix.
    """
    distance = torch.cdist(found.features.float(), found.features.float())
    similarity = distance.max() - distance
    best, picks = torch.zeros(len(similarity)), []
    for _ in range(budget):
        gains = (similarity - best[:, None]).clamp_(min=0).sum(0)
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        best = torch.maximum(best, similarity[:, picks[-1]])
    return torch.tensor(picks)


def margin(found: Candidates, budget: int, seed: int) -> Tensor:
    """Those with the smallest difference between the two largest probabilities (Scheffer et al. 2001)."""
    first, second = found.logits.softmax(1).topk(2).values.T
    return (first - second).argsort(stable=True)[:budget]


def el2n(found: Candidates, budget: int, seed: int) -> Tensor:
    """Those with the largest distance from probabilities to the one-hot label (Paul et al. 2021)."""
    error = found.logits.softmax(1) - F.one_hot(found.labels, found.logits.shape[1])
    return error.norm(dim=1).argsort(descending=True, stable=True)[:budget]


def k_means(found: Candidates, budget: int, seed: int) -> Tensor:
    """The failure nearest to the mean of each of `budget` clusters, largest cluster first; random ones if clusters coincide."""
    x = found.features.double()
    cluster = kmeans(x, budget, seed)
    picks = []
    for number in cluster.unique()[cluster.unique(return_counts=True)[1].argsort(descending=True, stable=True)]:
        members = (cluster == number).nonzero().flatten()
        picks.append(members[(x[members] - x[members].mean(0)).norm(dim=1).argmin()])
    chosen = torch.stack(picks)
    others = coreset.random_selection(len(x), len(x), seed)
    return torch.cat([chosen, others[~torch.isin(others, chosen)]])[:budget]


def herding(found: Candidates, budget: int, seed: int) -> Tensor:
    """Greedily the mean of the picks nearest to the mean of all failures (Welling 2009)."""
    x = found.features.double()
    mean, total, free = x.mean(0), torch.zeros_like(x[0]), torch.ones(len(x), dtype=torch.bool)
    picks = []
    for turn in range(1, budget + 1):
        distance = ((total + x) / turn - mean).norm(dim=1)
        distance[~free] = torch.inf
        picks.append(int(distance.argmin()))
        total, free[picks[-1]] = total + x[picks[-1]], False
    return torch.tensor(picks)


SELECTORS: dict[str, Callable[[Candidates, int, int], Tensor]] = {
    "core": core,
    "random": random,
    "farthest": farthest,
    "facility-location": facility_location,
    "margin": margin,
    "el2n": el2n,
    "k-means": k_means,
    "herding": herding,
}
FROM_CENTERS = ("core", "farthest")  # rules that look at clean images
