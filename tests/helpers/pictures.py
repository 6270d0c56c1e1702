"""Images and helpers for the tests of the corruptions."""

import numpy as np
import torch


def make_images(count: int, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    """uint8 (count,3,H,W): in turn photograph-like (smooth colours, edges, grain), flat, noise, and black-and-white noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 32.0
    out = np.empty((count, 3, height, width))
    for i in range(count):
        kind = i % 8
        if kind == 5:
            out[i] = rng.integers(0, 256, (3, 1, 1))
        elif kind == 6:
            out[i] = rng.integers(0, 256, (3, height, width))
        elif kind == 7:
            out[i] = 255 * rng.integers(0, 2, (3, height, width))
        else:
            waves = rng.normal(size=(3, 4, 4))
            field = sum(a * np.sin(b * 3 * x + c * 3 * y + d * 6)[None] for a, b, c, d in waves.mean(0)[:, :, None, None])
            field = field + sum(w[:, None, None] * np.sin((k + 1) * x * 2 + (k + 2) * y) for k, w in enumerate(waves.mean(2).T))
            shape = (x - rng.uniform(0, 1)) ** 2 + (y - rng.uniform(0, 1)) ** 2 < rng.uniform(0.02, 0.2)
            out[i] = 128 + 60 * field + shape * rng.normal(0, 80, (3, 1, 1)) + rng.normal(0, 4, (3, height, width))
    return torch.from_numpy(out.clip(0, 255).astype(np.uint8))


def hwc(images: torch.Tensor) -> np.ndarray:
    """(N,H,W,3) NumPy array."""
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def chw(array: np.ndarray) -> torch.Tensor:
    """uint8 (N,3,H,W), cut as the published code does."""
    return torch.from_numpy(np.asarray(array).astype(np.uint8)).permute(0, 3, 1, 2)


def differing(a: torch.Tensor, b: torch.Tensor) -> tuple[float, int]:
    """(share of differing bytes, largest difference)."""
    gap = (a.int() - b.int()).abs()
    return float((gap > 0).double().mean()), int(gap.max())
