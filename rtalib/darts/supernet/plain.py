"""The weight-sharing network of a DARTS search: every edge mixes all its candidates (Liu et al., ICLR 2019, equation 2).

Computed as written, a cell runs 14 edges x 8 operations. The same sums are had for less: 'none' adds nothing and is skipped; pools
(normalized without parameters), the identity and the leading ReLU depend on the source node alone, not on the edge, and are
computed once for all edges that leave it; an operation's mixing weight is the scale of its last batch normalization.
With partial channels (see `partial`), both parts of a node are summed over its edges first, then joined and shuffled once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import nn

from rtalib.darts.network import drop_path
from rtalib.darts.operations import NOISE, Normalize, noise, parametric, pool, preprocessing, reduction_positions, stem_layers
from rtalib.darts.space import EDGES, NODES, Space, get_space
from rtalib.darts.supernet import pc_darts as partial_channels
from rtalib.errors import check_number

ARCHITECTURE = ("alphas_", "betas_")  # how the names of architecture parameters begin


def standardize(x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    """Batch normalization of (N,C,H,W) by this batch's own statistics, times a scalar tensor `scale`."""
    # A real copy: the channels-last kernel of PyTorch's CPU backward pass reads a stride-0 weight as if it were dense (seen in 2.15).
    weight = None if scale is None else scale.expand(x.shape[1]).contiguous()
    return F.batch_norm(x, None, None, weight, None, training=True)


class SharedSource:
    """A source node with what its outgoing edges have in common, each computed when first asked for."""

    def __init__(self, x: torch.Tensor, stride: int, others: torch.Tensor | None = None):
        self.x, self.stride, self.others = x, stride, others  # others: the channels that are not mixed, if there are any
        self.pools: dict[str, torch.Tensor] = {}

    @cached_property
    def rectified(self) -> torch.Tensor:
        return F.relu(self.x)

    @cached_property
    def bypass(self) -> torch.Tensor:
        return partial_channels.bypass(self.others, self.stride)

    def after(self, name: str) -> torch.Tensor:
        """The source after a pool, normalized, or as the identity leaves it."""
        if name == "skip_connect":
            return self.x
        if name not in self.pools:
            self.pools[name] = standardize(pool(name, self.x, self.stride))
        return self.pools[name]


@dataclass
class NodeSum:
    """A node whose edges are being added up: its mixed channels, and with partial channels the others."""

    mixed: torch.Tensor | None = None
    others: torch.Tensor | None = None


class MixedCell(nn.Module):
    """(relu of the two cells before, mixing weights (14,K)) -> (N,4C,H,W): the concatenated intermediate nodes."""

    def __init__(
        self,
        edges: tuple[tuple[str, ...], ...],
        before: int,
        previous: int,
        channels: int,
        reduction: bool,
        halve_before: bool,
        partial: int = 1,
        mask: str = "fixed",
    ):
        super().__init__()
        self.names, self.reduction, self.channels, self.partial, self.mask = edges, reduction, channels, partial, mask
        self.preprocess0 = preprocessing(before, channels, halve_before, affine=False)
        self.preprocess1 = preprocessing(previous, channels, False, affine=False)
        self.edges = nn.ModuleList()
        for (_, source), names in zip(EDGES, edges, strict=True):
            modules = {name: parametric(name, channels // partial, self.stride(source), affine=False) for name in names}
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
            elif name == NOISE:  # its own on every edge
                yield noise(source.x, source.stride), weight
            else:
                yield source.after(name), weight

    def forward(
        self, s0: torch.Tensor, s1: torch.Tensor, weights: torch.Tensor, betas: torch.Tensor | None = None, drop: float = 0.0
    ) -> torch.Tensor:
        """betas: weights (14,) of the edges with partial channels, not yet in `weights`; drop: probability that an edge is dropped."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        split = partial_channels.ChannelSplit(self.channels, self.partial, self.mask, s1.device) if self.partial > 1 else None
        if split is not None:
            weights = weights * betas[:, None]
        nodes = [NodeSum() for _ in range(NODES)]
        for source in range(1 + NODES):
            mixed, others = (states[source], None) if split is None else split.take(states[source])
            shared = SharedSource(mixed, self.stride(source), others)
            for edge, (node, edge_source) in enumerate(EDGES):
                if edge_source == source:
                    self.join(nodes[node - 2], edge, shared, weights[edge], None if betas is None else betas[edge], drop)
            if source > 0:  # the node after this source has all its inputs now
                node = nodes[source - 1]
                states.append(node.mixed if split is None else split.merge(node.mixed, node.others))
        return torch.cat(states[2:], dim=1)

    def join(self, node: NodeSum, edge: int, source: SharedSource, weights: torch.Tensor, beta: torch.Tensor | None, drop: float) -> None:
        """Add an edge to its node."""
        terms = self.terms(edge, source, weights)
        if drop > 0:  # one mask for the whole edge, skips included
            mask = drop_path(source.x.new_ones(len(source.x), 1, 1, 1), drop)
            terms, beta = [(total(terms), mask)], None if beta is None else beta * mask
        for term, factor in terms:
            node.mixed = add(node.mixed, term, factor)
        if beta is not None:
            node.others = add(node.others, source.bypass, beta)


def add(total: torch.Tensor | None, term: torch.Tensor, factor: torch.Tensor | None) -> torch.Tensor:
    """total + factor * term; no total counts as zero, no factor as one."""
    if total is None:
        return term if factor is None else term * factor
    return total + term if factor is None else torch.addcmul(total, term, factor)


def total(terms: Iterator[tuple[torch.Tensor, torch.Tensor | None]]) -> torch.Tensor:
    """The sum of factor * term over all (term, factor)."""
    result = None
    for term, factor in terms:
        result = add(result, term, factor)
    return result


class Supernet(nn.Module):
    """float32 NCHW in [0,1] -> logits (N,K); normalizes inside itself.

    `space` is a name in SPACES or a Space. Architecture parameters are `alphas_normal` and `alphas_reduce`, (14, operations),
    initialized with 1e-3 N(0,1) and shared by all cells of a type. Batch normalization always uses the batch's own statistics,
    in eval mode too, and has no parameters except in the stem.

    `partial` is PC-DARTS' K: above 1, only C/K channels are mixed, and there are `betas_normal` and `betas_reduce`, (14,), too.
    `mask` says which channels: 'fixed' (the first, shuffled after each node) or 'random' (drawn in each forward pass). `stem`: see `stems`.
    `drop_path_prob` in [0,1) is an attribute, 0 at first; in train mode it drops whole edges of a sample (RobustDARTS).
    ValueError for fewer than 3 layers, a `partial` that does not divide `channels`, an unknown space or mask.
    """

    def __init__(
        self,
        space: str | Space = "darts",
        channels: int = 16,
        layers: int = 8,
        num_classes: int = 10,
        *,
        partial: int = 1,
        mask: str = "fixed",
        stem: str = "cifar",
    ):
        super().__init__()
        check_number("channels", channels, 1, integer=True)
        check_number("layers", layers, 3, integer=True, unit=" in a supernet (two reduction cells and a normal one)")
        check_number("num_classes", num_classes, 2, integer=True)
        partial_channels.check(channels, partial, mask)
        self.space, self.partial, self.drop_path_prob = get_space(space), partial, 0.0
        self.normalize = Normalize()
        before = previous = 3 * channels
        self.stem, self.stem_norm, self.second_stem = stem_layers(stem, before, tracked=False)
        self.cells = nn.ModuleList()
        reductions = reduction_positions(layers)
        halve_before = self.second_stem is not None
        for layer in range(layers):
            reduction = layer in reductions
            channels *= 2 if reduction else 1
            edges = self.space.reduce if reduction else self.space.normal
            self.cells.append(MixedCell(edges, before, previous, channels, reduction, halve_before, partial, mask))
            before, previous, halve_before = previous, NODES * channels, reduction
        self.classifier = nn.Linear(previous, num_classes)
        self.alphas_normal = nn.Parameter(1e-3 * torch.randn(len(EDGES), len(self.space.normal[0])))
        self.alphas_reduce = nn.Parameter(1e-3 * torch.randn(len(EDGES), len(self.space.reduce[0])))
        if partial > 1:
            self.betas_normal = nn.Parameter(1e-3 * torch.randn(len(EDGES)))
            self.betas_reduce = nn.Parameter(1e-3 * torch.randn(len(EDGES)))

    def arch_parameters(self) -> list[nn.Parameter]:
        """The architecture parameters: alphas_normal, alphas_reduce; with partial channels betas_normal and betas_reduce, too."""
        return [parameter for name, parameter in self.named_parameters() if name.startswith(ARCHITECTURE)]

    def weight_parameters(self) -> list[nn.Parameter]:
        """All parameters that are not architecture parameters."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith(ARCHITECTURE)]

    def mixing(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixing weights of the normal and the reduction cells: softmax(alphas) over each edge's operations, (14, operations) each."""
        return self.alphas_normal.softmax(dim=-1), self.alphas_reduce.softmax(dim=-1)

    def edge_weights(self) -> tuple[torch.Tensor, torch.Tensor] | tuple[None, None]:
        """Normalized betas (14,) of the normal and the reduction cells; None where all channels are mixed."""
        if self.partial == 1:
            return None, None
        return partial_channels.edge_weights(self.betas_normal), partial_channels.edge_weights(self.betas_reduce)

    def features(self, x: torch.Tensor, mixing: tuple[torch.Tensor, torch.Tensor] | None = None) -> torch.Tensor:
        """Pooled features before the classifier, (N, D). `mixing` replaces the weights that `mixing()` gives."""
        normal, reduce = self.mixing() if mixing is None else mixing
        normal_betas, reduce_betas = self.edge_weights()
        drop = self.drop_path_prob if self.training else 0.0
        s0 = s1 = F.relu(self.stem_norm(self.stem(self.normalize(x))))
        if self.second_stem is not None:
            s1 = F.relu(self.second_stem(s0))
        for cell in self.cells:
            weights, betas = (reduce, reduce_betas) if cell.reduction else (normal, normal_betas)
            last = cell(s0, s1, weights, betas, drop)
            s0, s1 = s1, F.relu(last)  # every use of a cell's output by a later cell starts with a ReLU
        return last.mean(dim=(2, 3))

    def forward(self, x: torch.Tensor, mixing: tuple[torch.Tensor, torch.Tensor] | None = None) -> torch.Tensor:
        return self.classifier(self.features(x, mixing))
