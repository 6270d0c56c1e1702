"""k-means: clusters that are there are found, the best of all partitions on a few points, and little input."""

from itertools import product

import pytest
import torch

from rtalib.experiments.repair.kmeans import kmeans


def spread(points: torch.Tensor, labels: torch.Tensor) -> float:
    """The sum of squared distances to the means of the clusters."""
    return float(sum((points[labels == k] - points[labels == k].mean(0)).square().sum() for k in labels.unique()))


def test_separate_clusters_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(200) % 5
    points = 20 * torch.randn(5, 8, generator=generator)[truth] + torch.randn(200, 8, generator=generator)
    for seed in range(5):
        found = kmeans(points, 5, seed)
        assert len(found.unique()) == 5 and len((5 * found + truth).unique()) == 5
    assert torch.equal(kmeans(points, 5, 3), kmeans(points, 5, 3))


def test_some_seed_finds_the_best_partition_and_none_beats_it() -> None:
    points = torch.randn(8, 2, generator=torch.Generator().manual_seed(4))
    best = min(spread(points, torch.tensor(labels)) for labels in product(range(3), repeat=8))
    found = [spread(points, kmeans(points, 3, seed)) for seed in range(20)]
    assert min(found) == pytest.approx(best, rel=1e-5)


def test_every_point_is_with_its_nearest_mean() -> None:
    points = torch.randn(300, 4, generator=torch.Generator().manual_seed(6))
    labels = kmeans(points, 7, 0)
    means = torch.stack([points[labels == k].mean(0) for k in range(7)])
    assert torch.equal(torch.cdist(points, means).argmin(1), labels)


def test_no_more_clusters_than_different_points() -> None:
    assert len(kmeans(torch.ones(6, 3), 5, 0).unique()) == 1
    assert len(kmeans(torch.tensor([[0.0], [0.0], [1.0], [1.0]]), 5, 0).unique()) == 2
    assert kmeans(torch.zeros(1, 2), 3, 0).tolist() == [0]


def test_wrong_input_is_named() -> None:
    for points in (torch.zeros(0, 3), torch.zeros(3), torch.tensor([[0.0, torch.nan]])):
        with pytest.raises(ValueError, match="points: expected finite numbers"):
            kmeans(points, 2, 0)
    with pytest.raises(ValueError, match="clusters: expected at least 1, got 0"):
        kmeans(torch.zeros(3, 1), 0, 0)
