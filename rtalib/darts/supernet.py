"""The weight-sharing network of a DARTS search: every edge mixes all its candidates (Liu et al., ICLR 2019, equation 2).

Computed as written, a cell runs 14 edges x 8 operations. The same sums are had for less: 'none' adds nothing and is skipped; pools
(normalised without parameters), the identity and the leading ReLU depend on the source node alone, not on the edge, and are
computed once for all edges that leave it; an operation's mixing weight is the scale of its last batch normalisation.
"""

from collections.abc import Iterator
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import nn

from rtalib.darts.operations import Normalize, parametric, pool, preprocessing, reduction_positions
from rtalib.darts.space import EDGES, NODES, Space, get_space


def standardize(x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    """Batch normalisation of (N,C,H,W) by this batch's own statistics, times a scalar tensor `scale`."""
    weight = None if scale is None else scale.expand(x.shape[1])
    return F.batch_norm(x, None, None, weight, None, training=True)


class SharedSource:
    """A source node with what its outgoing edges have in common, each computed when first asked for."""

    def __init__(self, x: torch.Tensor, stride: int):
        self.x, self.stride = x, stride

    @cached_property
    def rectified(self) -> torch.Tensor:
        return F.relu(self.x)

    @cached_property
    def max_pool_3x3(self) -> torch.Tensor:
        return standardize(pool("max_pool_3x3", self.x, self.stride))

    @cached_property
    def avg_pool_3x3(self) -> torch.Tensor:
        return standardize(pool("avg_pool_3x3", self.x, self.stride))

    @property
    def skip_connect(self) -> torch.Tensor:
        return self.x


class MixedCell(nn.Module):
    """(relu of the two cells before, mixing weights (14,K)) -> (N,4C,H,W): the concatenated intermediate nodes."""

    def __init__(self, edges: tuple[tuple[str, ...], ...], before: int, previous: int, channels: int, reduction: bool, halve_before: bool):
        super().__init__()
        self.names, self.reduction = edges, reduction
        self.preprocess0 = preprocessing(before, channels, halve_before, affine=False)
        self.preprocess1 = preprocessing(previous, channels, False, affine=False)
        self.edges = nn.ModuleList()
        for (_, source), names in zip(EDGES, edges, strict=True):
            modules = {name: parametric(name, channels, self.stride(source), affine=False) for name in names}
            self.edges.append(nn.ModuleDict({name: module for name, module in modules.items() if module is not None}))

    def stride(self, source: int) -> int:
        return 2 if self.reduction and source < 2 else 1

    def terms(self, edge: int, source: SharedSource, weights: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """The weighted candidates of an edge as (tensor, factor); the factor is None where the tensor holds it already."""
        for name, weight in zip(self.names[edge], weights, strict=True):
            if name == "none":
                continue
            if name in self.edges[edge]:
                yield standardize(self.edges[edge][name].convolve(source.rectified), weight), None
            else:
                yield getattr(source, name), weight

    def forward(self, s0: torch.Tensor, s1: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        totals: list[torch.Tensor | None] = [None] * NODES
        for source in range(1 + NODES):
            shared = SharedSource(states[source], self.stride(source))
            for edge, (node, edge_source) in enumerate(EDGES):
                if edge_source == source:
                    for term, factor in self.terms(edge, shared, weights[edge]):
                        totals[node - 2] = add(totals[node - 2], term, factor)
            if source > 0:  # the node after this source has all its inputs now
                states.append(totals[source - 1])
        return torch.cat(states[2:], dim=1)


def add(total: torch.Tensor | None, term: torch.Tensor, factor: torch.Tensor | None) -> torch.Tensor:
    """total + factor * term; no total counts as zero, no factor as one."""
    if total is None:
        return term if factor is None else term * factor
    return total + term if factor is None else torch.addcmul(total, term, factor)


class Supernet(nn.Module):
    """float32 NCHW in [0,1] -> logits (N,K); normalises inside itself.

    `space` is a name in SPACES or a Space. Architecture parameters are `alphas_normal` and `alphas_reduce`, (14, operations),
    initialised with 1e-3 N(0,1) and shared by all cells of a type. Batch normalisation always uses the batch's own statistics,
    in eval mode too, and has no parameters except in the stem.
    """

    def __init__(self, space: str | Space = "darts", channels: int = 16, layers: int = 8, num_classes: int = 10):
        super().__init__()
        self.space = get_space(space)
        self.normalize = Normalize()
        self.stem = nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(3 * channels, track_running_stats=False)
        self.cells = nn.ModuleList()
        reductions = reduction_positions(layers)
        if layers < 3:
            raise ValueError(f"layers: expected at least 3 in a supernet (two reduction cells and a normal one), got {layers}")
        before = previous = 3 * channels
        for layer in range(layers):
            reduction = layer in reductions
            channels *= 2 if reduction else 1
            edges = self.space.reduce if reduction else self.space.normal
            self.cells.append(MixedCell(edges, before, previous, channels, reduction, halve_before=layer - 1 in reductions))
            before, previous = previous, NODES * channels
        self.classifier = nn.Linear(previous, num_classes)
        self.alphas_normal = nn.Parameter(1e-3 * torch.randn(len(EDGES), len(self.space.normal[0])))
        self.alphas_reduce = nn.Parameter(1e-3 * torch.randn(len(EDGES), len(self.space.reduce[0])))

    def arch_parameters(self) -> list[nn.Parameter]:
        """The architecture parameters: alphas_normal, alphas_reduce."""
        return [self.alphas_normal, self.alphas_reduce]

    def weight_parameters(self) -> list[nn.Parameter]:
        """All parameters that are not architecture parameters."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("alphas_")]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Pooled features before the classifier, (N, D)."""
        normal, reduce = self.alphas_normal.softmax(dim=-1), self.alphas_reduce.softmax(dim=-1)
        s0 = s1 = F.relu(self.stem_norm(self.stem(self.normalize(x))))
        for cell in self.cells:
            last = cell(s0, s1, reduce if cell.reduction else normal)
            s0, s1 = s1, F.relu(last)  # every use of a cell's output by a later cell starts with a ReLU
        return last.mean(dim=(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x))
