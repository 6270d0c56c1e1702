"""The supernet of a DARTS search with its operations batched by source node: the same sums in fewer, larger calls.

All edges that leave a node see the same input and the same stride, so their operations are computed together: each convolution of the
separable operations of all these edges is one grouped convolution (3x3 kernels embedded in 5x5 ones where both occur), batch
normalization, per channel and without parameters, is one call over all their channels, and the mixing weights are its scale. What has
no parameters is computed once per node and spread over the edges by one matrix product with the mixing weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from rtalib.darts.network import drop_path
from rtalib.darts.operations import NOISE, noise, pool
from rtalib.darts.space import EDGES, NODES
from rtalib.darts.supernet import pc_darts as partial_channels
from rtalib.darts.supernet.grouped import CONVOLUTIONS, DILATED, HALVING, OPERATE, SEPARABLE, columns, interleave, rows, stacked
from rtalib.darts.supernet.plain import MixedCell, Supernet, standardize

POOLS = ("max_pool_3x3", "avg_pool_3x3")


@dataclass(frozen=True)
class Group:
    """Operations of one kind on the edges that leave one node, by name, then by edge: `edges` counts from the node's first edge."""

    kind: str
    names: tuple[str, ...]
    edges: tuple[int, ...]


@dataclass(frozen=True)
class Departures:
    """What leaves one node: its edges (indices into EDGES, by destination), groups of operations with parameters, the names of those
    without, and the edges, counted from the first, on which noise is a candidate."""

    stride: int
    edges: tuple[int, ...]
    groups: tuple[Group, ...]
    shared: tuple[str, ...]
    noisy: tuple[int, ...]


def departures(names: tuple[tuple[str, ...], ...], source: int, stride: int) -> Departures:
    """The plan of a source node, given the names of the candidates of all 14 edges."""
    edges = tuple(edge for edge, (_, start) in enumerate(EDGES) if start == source)
    offered = {name for edge in edges for name in names[edge]}
    kinds = (SEPARABLE, DILATED, HALVING) if stride == 2 else (SEPARABLE, DILATED)
    groups = []
    for kind in kinds:
        members = [(name, i) for name in sorted(offered) if name.startswith(kind) for i, edge in enumerate(edges) if name in names[edge]]
        if members:
            groups.append(Group(kind, *zip(*members, strict=True)))
    without_parameters = (*POOLS, *(("skip_connect",) if stride == 1 else ()))
    shared = tuple(name for name in without_parameters if name in offered)
    noisy = tuple(i for i, edge in enumerate(edges) if NOISE in names[edge])
    return Departures(stride, edges, tuple(groups), shared, noisy)


class FusedCell(MixedCell):
    """A `MixedCell` computed by source node; it holds the very modules of the cell that it is made from."""

    def __init__(self, cell: MixedCell):
        nn.Module.__init__(self)
        self.names, self.reduction = cell.names, cell.reduction
        self.channels, self.partial, self.mask = cell.channels, cell.partial, cell.mask
        self.preprocess0, self.preprocess1, self.edges = cell.preprocess0, cell.preprocess1, cell.edges
        self.plan = [departures(self.names, source, self.stride(source)) for source in range(1 + NODES)]
        spread, scaled = list(self._spread()), list(self._scaled())
        self.spread_sizes, self.scaled_sizes = [len(part) for part in spread], [len(part) for part in scaled]
        self.register_buffer("spread", torch.tensor(sum(spread, []), dtype=torch.int64), persistent=False)
        self.register_buffer("scaled", torch.tensor(sum(scaled, []), dtype=torch.int64), persistent=False)

    def _place(self, edge: int, name: str) -> int:
        """Where a mixing weight is in `weights` flattened, followed by a zero and by betas if there are any."""
        candidates = len(self.names[0])
        return edge * candidates + self.names[edge].index(name) if name in self.names[edge] else len(EDGES) * candidates

    def _spread(self) -> Iterator[list[int]]:
        """Places of the factors of everything without parameters, in the order of use."""
        for leaving in self.plan:
            if leaving.shared:
                yield [self._place(edge, name) for edge in leaving.edges for name in leaving.shared]
            if leaving.noisy:
                yield [self._place(edge, NOISE) for edge in leaving.edges]
            if self.partial > 1:
                yield [len(EDGES) * len(self.names[0]) + 1 + edge for edge in leaving.edges]

    def _scaled(self) -> Iterator[list[int]]:
        """Places of the factors of the operations, in the order of use."""
        for leaving in self.plan:
            for group in leaving.groups:
                yield [self._place(leaving.edges[i], name) for name, i in zip(group.names, group.edges, strict=True)]

    def convolutions(self) -> Iterator[tuple[torch.Tensor, ...]]:
        """The weights of each group in the order of use; those of the whole cell are stacked at once and then divided."""
        divided = {}
        for kind, names in CONVOLUTIONS.items():
            operations, sizes = [], []
            for leaving in self.plan:
                for group in leaving.groups:
                    if group.kind == kind:
                        operations += [self.edges[leaving.edges[i]][name] for name, i in zip(group.names, group.edges, strict=True)]
                        sizes.append(len(group.edges))
            if operations:
                weights = [stacked([each.get_submodule(name).weight for each in operations]) for name in names]
                parts = [weight.split([size * (len(weight) // len(operations)) for size in sizes]) for weight in weights]
                divided[kind] = zip(*parts, strict=True)
        return (next(divided[group.kind]) for leaving in self.plan for group in leaving.groups)

    def forward(
        self, s0: torch.Tensor, s1: torch.Tensor, weights: torch.Tensor, betas: torch.Tensor | None = None, drop: float = 0.0
    ) -> torch.Tensor:
        """As `MixedCell.forward`."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        factors, split = F.pad(weights.flatten(), (0, 1)), None
        if self.partial > 1:
            split = partial_channels.ChannelSplit(self.channels, self.partial, self.mask, s1.device)
            factors = torch.cat([F.pad((weights * betas[:, None]).flatten(), (0, 1)), betas])
        spread = iter(factors.index_select(0, self.spread).split(self.spread_sizes))
        width = self.channels // self.partial  # a real copy of each factor: PyTorch's CPU backward pass takes the scale to be dense
        scales = iter(factors.index_select(0, self.scaled).repeat_interleave(width).split([size * width for size in self.scaled_sizes]))
        convolutions = self.convolutions()
        mixed_sums = other_sums = None  # (nodes,N,H,W,channels) of the nodes that still lack inputs
        for source, leaving in enumerate(self.plan):
            mixed, others = (states[source], None) if split is None else split.take(states[source])
            masks, noises = draw(leaving, mixed, drop)
            if masks is None:
                mixed_sums = self.leave(leaving, mixed, noises, mixed_sums, spread, scales, convolutions)
            else:
                mixed_sums = plus(mixed_sums, masks * self.leave(leaving, mixed, noises, None, spread, scales, convolutions))
            if split is not None:
                beta = next(spread).view(-1, 1, 1, 1, 1)
                around = rows(partial_channels.bypass(others, leaving.stride))
                other_sums = plus(other_sums, around * (beta if masks is None else beta * masks))
            if source > 0:  # the node after this source has all its inputs now
                node, mixed_sums = first(mixed_sums)
                if split is not None:
                    rest, other_sums = first(other_sums)
                    node = split.merge(node, rest)
                states.append(node)
        return torch.cat(states[2:], dim=1)

    def leave(
        self,
        leaving: Departures,
        x: torch.Tensor,
        noises: torch.Tensor | None,
        sums: torch.Tensor | None,
        spread: Iterator[torch.Tensor],
        scales: Iterator[torch.Tensor],
        convolutions: Iterator[tuple[torch.Tensor, ...]],
    ) -> torch.Tensor:
        """`sums` (edges,N,H/stride,W/stride,C) plus the weighted operations on each edge that leaves x (N,C,H,W)."""
        if leaving.shared:
            weights = next(spread).view(len(leaving.edges), -1)
            terms = torch.stack(
                [rows(x if name == "skip_connect" else standardize(pool(name, x, leaving.stride))) for name in leaving.shared]
            )
            flat = weights @ terms.flatten(1) if sums is None else torch.addmm(sums.flatten(1), weights, terms.flatten(1))
            sums = flat.view(len(weights), *terms.shape[1:])
        if noises is not None:
            sums = plus(sums, noises * next(spread).view(-1, 1, 1, 1, 1))
        if leaving.groups:
            rectified = F.relu(x)
        for group in leaving.groups:
            out = OPERATE[group.kind](rectified, leaving.stride, len(group.edges), *next(convolutions))
            out = F.batch_norm(out, None, None, next(scales), None, training=True)
            added = by_edge(rows(out).unflatten(3, (len(group.edges), -1)), group.edges, len(leaving.edges))
            if len(out) > len(x):  # subgrids
                added = interleave(added)
                sums = plus(None if sums is None else sums.view(added.shape), added).flatten(4, 5).flatten(2, 3)
            else:
                sums = plus(sums, added)
        return sums


def draw(leaving: Departures, x: torch.Tensor, drop: float) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Masks that drop edges (edges,N,1,1,1) and noise on the edges (edges,N,H/stride,W/stride,C), drawn in the order of `MixedCell`."""
    masks, noises = [], []
    for i in range(len(leaving.edges)):
        if drop > 0:
            masks.append(drop_path(x.new_ones(len(x), 1, 1, 1), drop))
        if i in leaving.noisy:
            noises.append(rows(noise(x, leaving.stride)))
        elif leaving.noisy:  # it has no weight on this edge
            noises.append(torch.zeros_like(rows(x[..., :: leaving.stride, :: leaving.stride])))
    return torch.stack(masks) if masks else None, torch.stack(noises) if noises else None


def plus(total: torch.Tensor | None, term: torch.Tensor) -> torch.Tensor:
    return term if total is None else total + term


def first(sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(nodes,N,H,W,C) -> the first node (N,C,H,W), the other nodes."""
    node, others = sums.split([1, len(sums) - 1])
    return columns(node.squeeze(0)), others


def by_edge(x: torch.Tensor, edges: tuple[int, ...], count: int) -> torch.Tensor:
    """Blocks of operations (N,H,W,blocks,C), added up over those that belong to the same edge: (count,N,H,W,C)."""
    if edges == tuple(range(count)) * (len(edges) // count):  # the same operations on all edges
        return x.unflatten(3, (-1, count)).sum(dim=3).movedim(3, 0)
    blocks = x.unbind(3)
    sums = [[block for block, edge in zip(blocks, edges, strict=True) if edge == i] for i in range(count)]
    return torch.stack([sum(parts) if parts else torch.zeros_like(blocks[0]) for parts in sums])


class FusedSupernet(Supernet):
    """A `Supernet` with its arguments, parameters and state dict, computed by `FusedCell`: equal but for the order of summation.

    Fastest in channels-last memory. It keeps about a third more for the backward pass than a `Supernet`.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.cells = nn.ModuleList(FusedCell(cell) for cell in self.cells)
