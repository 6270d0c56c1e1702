"""PGD in the L2 ball."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rtalib import rng
from rtalib.attacks.pgd import PGD


@dataclass(frozen=True)
class PGDL2(PGD):
    """PGD in the L2 ball (Madry et al. 2018): steps of length `step_size` along the gradient. eps 0.5 is usual for CIFAR-10."""

    eps: float | tuple[float, ...] = 0.5
    step_size: float | tuple[float, ...] | None = 0.1

    norm: ClassVar[str] = "l2"

    def start(self, clean: Tensor, seed: int, index: Tensor, restart: int) -> Tensor:
        return ball_l2(seed, index, restart, clean, self.eps) if self.random_start else clean

    def step(self, x: Tensor, direction: Tensor, clean: Tensor) -> Tensor:
        return project_l2(x + self.size * unit(direction), clean, self.eps)


def project_l2(x: Tensor, clean: Tensor, eps: float | Tensor) -> Tensor:
    """`x` moved towards `clean` until it is within eps in the L2 norm, then clipped to [0,1], which only reduces the distance."""
    delta = x - clean
    return (clean + delta * (eps / length(delta)).clamp_max(1)).clamp_(0, 1)


def ball_l2(seed: int, index: Tensor, restart: int, clean: Tensor, eps: float | Tensor) -> Tensor:
    """A uniform point of the L2 ball around each clean image (clipped to [0,1]), from the image's own random stream."""
    size = clean[0].numel()
    noise = rng.normal(seed, index, rng.stream("attack start", restart), size).view_as(clean)
    radius = rng.uniform(seed, index, rng.stream("attack radius", restart), 1)[:, :, None, None] ** (1 / size)
    return project_l2(clean + (eps * radius * noise / length(noise)).to(clean.dtype), clean, eps)


def unit(x: Tensor, order: int = 2) -> Tensor:
    """Each image of (N,C,H,W) divided by its L1 or L2 norm; its largest value is brought near 1 by a power of two first, which rounds
    nothing, because squares of tiny gradients are zero."""
    scaled = torch.ldexp(x, -x.abs().amax((1, 2, 3), keepdim=True).frexp().exponent)
    return scaled / length(scaled, order)


def length(x: Tensor, order: int = 2) -> Tensor:
    """(N,1,1,1): the L1 or L2 norm of each image of (N,C,H,W), at least a tiny positive number, so that it can divide."""
    return torch.linalg.vector_norm(x, order, dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
