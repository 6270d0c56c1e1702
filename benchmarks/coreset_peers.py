"""k-center greedy by others: the algorithms of google/active-learning, DeepCore and anomalib, written for the benchmark from what they are
known to compute, and three packages as they are: fpsample, torch-quickfps, torch-fps."""

import importlib.util

import numpy as np
import torch
from torch import Tensor

SKLEARN = importlib.util.find_spec("sklearn") is not None


def euclidean(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64 (n,m): scikit-learn's pairwise_distances where it is installed, else its formula in NumPy."""
    if SKLEARN:
        from sklearn.metrics import pairwise_distances

        return pairwise_distances(x, y)
    distance = x @ y.T
    distance *= -2
    distance += np.einsum("ij,ij->i", x, x)[:, None]
    distance += np.einsum("ij,ij->i", y, y)
    return np.sqrt(np.maximum(distance, 0, out=distance), out=distance)


def google(x: Tensor, centers: Tensor, budget: int) -> Tensor:
    """google/active-learning: one float64 matrix of pool and centres, whose distances to all centres are computed at once."""
    pooled = np.concatenate([x.numpy(), centers.numpy()]).astype(np.float64)
    nearest = euclidean(pooled, pooled[len(x) :]).min(axis=1)
    picks = []
    for _ in range(budget):
        picks.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, euclidean(pooled, pooled[picks[-1]][None])[:, 0])
    return torch.tensor(picks)


def deepcore(x: Tensor, centers: Tensor, budget: int) -> Tensor:
    """DeepCore: a matrix of the distances from every centre, old and new, to all of pool and centres is kept."""
    pooled = torch.cat([x, centers])
    norm = pooled.square().sum(1)

    def distances(rows: Tensor) -> Tensor:
        total = rows.square().sum(1)[:, None] + norm[None]
        return total.addmm_(rows, pooled.T, alpha=-2).clamp(min=1e-12).sqrt()

    kept = torch.zeros(len(centers) + budget - 1, len(pooled), device=x.device)
    kept[: len(centers)] = distances(centers)
    nearest, picks = kept[: len(centers)].min(dim=0).values, []
    for turn in range(budget):
        picks.append(int(nearest.argmax()))
        if turn + 1 < budget:
            row = len(centers) + turn
            kept[row] = distances(pooled[picks[-1]][None])[0]
            nearest = torch.minimum(nearest, kept[row])
    return torch.tensor(picks)


def anomalib(x: Tensor, centers: Tensor, budget: int) -> Tensor:
    """anomalib 2.7: one first point, differences to the newest pick, their norms; the index stays on the device."""
    nearest, picks = torch.linalg.vector_norm(x - centers, dim=1), []
    for _ in range(budget):
        picks.append(nearest.argmax())
        nearest = torch.minimum(nearest, torch.linalg.vector_norm(x - x[picks[-1]], dim=1))
    return torch.stack(picks).cpu()


def fpsample(x: Tensor, centers: Tensor, budget: int) -> Tensor:
    """The package fpsample (C++ since 1.0): exact farthest-point sampling; the one centre is the first candidate, and its first sample."""
    import fpsample

    return torch.from_numpy(fpsample.fps_sampling(x.numpy(), budget + 1, start_idx=0).astype(np.int64))[1:]


def torch_quickfps(x: Tensor, centers: Tensor, budget: int) -> Tensor:
    """The package torch-quickfps (C++, CUDA), likewise."""
    import torch_quickfps

    return torch_quickfps.sample_idx(x[None], budget + 1, start_idx=0)[0, 1:].cpu()


def torch_fps(x: Tensor, centers: Tensor, budget: int) -> Tensor:
    """The package torch-fps (C++ compiled at the first call, Triton on CUDA), likewise."""
    from torch_fps import farthest_point_sampling

    every, first = torch.ones(1, len(x), dtype=torch.bool, device=x.device), torch.zeros(1, dtype=torch.long, device=x.device)
    return farthest_point_sampling(x[None], every, budget + 1, start_idx=first)[0, 1:].cpu()
