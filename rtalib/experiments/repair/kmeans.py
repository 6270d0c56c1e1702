"""k-means with k-means++ seeds (Arthur and Vassilvitskii 2007), for a few thousand points."""

import torch
from torch import Tensor

from rtalib.errors import check_number

ITERATIONS = 100


def kmeans(points: Tensor, clusters: int, seed: int) -> Tensor:
    """int64 (N,), the cluster of each of `points` (N,D): Lloyd's iterations, at most ITERATIONS, from k-means++ seeds drawn by `seed`.

    At most `clusters` different numbers appear, and no more than there are different points. Raises ValueError for no point, or values
    that are not finite, or clusters below 1.
    """
    if points.ndim != 2 or not len(points) or not bool(torch.isfinite(points).all()):
        raise ValueError(f"points: expected finite numbers (N,D), N at least 1, got {tuple(points.shape)} or NaN or infinity in them")
    check_number("clusters", clusters, 1, integer=True)
    points = points.double()
    centers = _seeds(points, clusters, torch.Generator().manual_seed(seed))
    labels = _nearest(points, centers)
    for _ in range(ITERATIONS):
        counts = labels.bincount(minlength=len(centers)).double()[:, None]
        sums = torch.zeros_like(centers).index_add_(0, labels, points)
        centers = torch.where(counts > 0, sums / counts.clamp(min=1), centers)
        before, labels = labels, _nearest(points, centers)
        if torch.equal(before, labels):
            break
    return labels


def _seeds(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """The first at random, each further one with a chance in proportion to its squared distance from those before."""
    chosen = [int(torch.randint(len(points), (1,), generator=generator))]
    distance = torch.full((len(points),), torch.inf, dtype=torch.float64)
    while len(chosen) < clusters:
        distance = torch.minimum(distance, (points - points[chosen[-1]]).square().sum(1))
        if not distance.any():
            break
        chosen.append(int(torch.multinomial(distance, 1, generator=generator)))
    return points[chosen]


def _nearest(points: Tensor, centers: Tensor) -> Tensor:
    return torch.cdist(points, centers).argmin(1)
