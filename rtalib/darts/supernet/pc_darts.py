"""Partial channel connections and edge normalization (PC-DARTS, Xu et al., ICLR 2020, sections 3.2 and 3.3).

Only the first 1/K of a node's channels are mixed, the others bypass the operations; edges are weighted by parameters beta of their own.
Channels are shuffled afterwards, so that the next edge mixes others. The published "random" variant neither shuffles nor samples;
here it draws the mixed channels anew in each forward pass of a cell, all edges of the cell alike, and puts them back in their places.
"""

import torch
import torch.nn.functional as F

from rtalib.darts.space import EDGES, NODES
from rtalib.errors import check_name, check_number

MASKS = ("fixed", "random")
INCOMING = tuple(range(2, 2 + NODES))  # edges into each node, which stand next to each other in EDGES


def shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Channel shuffle of (N,C,H,W) with C divisible by `groups`: channel g * C/groups + i moves to i * groups + g."""
    n, channels, height, width = x.shape
    return x.view(n, groups, channels // groups, height, width).transpose(1, 2).reshape(n, channels, height, width)


def edge_weights(betas: torch.Tensor) -> torch.Tensor:
    """Edge normalization: softmax of betas (14,) over the 2, 3, 4, 5 edges into each node separately."""
    if betas.shape != (len(EDGES),):
        raise ValueError(f"betas: expected shape ({len(EDGES)},), got {tuple(betas.shape)}")
    return torch.cat([part.softmax(dim=0) for part in betas.split(INCOMING)])


class ChannelSplit:
    """Which channels of a cell's nodes are mixed in one forward pass: the first C/K, or as many drawn at random."""

    def __init__(self, channels: int, partial: int, mask: str, device: torch.device):
        self.mixed, self.groups = channels // partial, partial
        self.order = torch.randperm(channels, device=device) if mask == "random" else None

    def take(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N,C,H,W) -> the mixed channels (N,C/K,H,W) and the others."""
        if self.order is not None:
            x = x[:, self.order]
        return x[:, : self.mixed], x[:, self.mixed :]

    def merge(self, mixed: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """A node from the sums over its edges of both parts. Shuffling the sum is shuffling every edge: the permutation is the same."""
        x = torch.cat([mixed, others], dim=1)
        return shuffle(x, self.groups) if self.order is None else x[:, self.order.argsort()]


def bypass(x: torch.Tensor, stride: int) -> torch.Tensor:
    """What the channels that are not mixed go through: nothing, or 2x2 max pooling on an edge of stride 2 (odd sizes rounded up)."""
    return F.max_pool2d(x, 2, 2, ceil_mode=True) if stride == 2 else x


def check(channels: int, partial: int, mask: str) -> None:
    """ValueError unless K = `partial` divides the channels C of the first cells and `mask` is known."""
    check_number("partial", partial, 1, integer=True)
    if channels % partial:
        raise ValueError(f"partial: expected a divisor of channels={channels}, got {partial}")
    check_name("mask", mask, MASKS)
