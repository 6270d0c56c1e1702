"""From architecture parameters to a genotype (Liu et al., ICLR 2019, section 2.4)."""

import torch

from rtalib.darts.genotype import Edge, Genotype
from rtalib.darts.space import EDGES, NODES, Space, get_space

INPUTS = 2  # edges kept per node


def strongest(weights: torch.Tensor, operations: tuple[tuple[str, ...], ...]) -> tuple[Edge, ...]:
    """The cell that the mixing weights (14, K) favour.

    An edge is as strong as its largest weight on an operation other than 'none'. Each node keeps its two strongest edges, the
    stronger first, and on each the operation of that weight. Ties go to the lower index.
    """
    rows = weights.tolist()
    kept: list[Edge] = []
    for node in range(2, 2 + NODES):
        candidates = []
        for edge, (edge_node, source) in enumerate(EDGES):
            if edge_node == node:
                choices = [(weight, name) for weight, name in zip(rows[edge], operations[edge], strict=True) if name != "none"]
                weight, name = max(choices, key=lambda choice: choice[0])  # the first of equals
                candidates.append((weight, name, source))
        candidates.sort(key=lambda candidate: -candidate[0])  # stable: the lower source of equals stays first
        kept += [(name, source) for _, name, source in candidates[:INPUTS]]
    return tuple(kept)


def magnitude(alphas_normal: torch.Tensor, alphas_reduce: torch.Tensor, space: str | Space = "darts") -> Genotype:
    """DARTS' rule on softmax(alphas) over each edge's operations, alphas (14, K) of both cell types.

    The softmax matters: it weighs an edge's candidates against its own 'none', so edges may rank otherwise by raw alphas.
    ValueError if the shapes do not fit the space or an alpha is not finite.
    """
    space, concat = get_space(space), tuple(range(2, 2 + NODES))
    cells = []
    for argument, alphas, operations in (("alphas_normal", alphas_normal, space.normal), ("alphas_reduce", alphas_reduce, space.reduce)):
        expected = (len(EDGES), len(operations[0]))
        if tuple(alphas.shape) != expected:
            raise ValueError(f"{argument}: expected shape {expected}, got {tuple(alphas.shape)}")
        if not torch.isfinite(alphas).all():
            raise ValueError(f"{argument}: expected finite numbers, got NaN or infinity (the search has diverged)")
        cells.append(strongest(alphas.detach().double().cpu().softmax(dim=1), operations))
    return Genotype(cells[0], concat, cells[1], concat)
