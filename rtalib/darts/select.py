"""From architecture parameters to a genotype (Liu et al., ICLR 2019, section 2.4; with edge weights Xu et al., ICLR 2020, section 3.3)."""

import torch

from rtalib.darts.genotype import Edge, Genotype
from rtalib.darts.space import EDGES, NODES, Space, get_space
from rtalib.darts.supernet.pc_darts import edge_weights
from rtalib.errors import as_tensor

INPUTS = 2  # edges kept per node
CONCAT = tuple(range(2, 2 + NODES))


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
    space = get_space(space)
    normal = _operation_weights("alphas_normal", alphas_normal, space.normal)
    reduce = _operation_weights("alphas_reduce", alphas_reduce, space.reduce)
    return from_weights(normal, reduce, space)


def edge_normalized(
    alphas_normal: torch.Tensor,
    alphas_reduce: torch.Tensor,
    betas_normal: torch.Tensor,
    betas_reduce: torch.Tensor,
    space: str | Space = "darts",
) -> Genotype:
    """PC-DARTS' rule: softmax(alphas) times the edge's weight among those into its node, betas (14,); then DARTS' rule.

    ValueError if the shapes do not fit the space or a parameter is not finite.
    """
    space = get_space(space)
    normal = _operation_weights("alphas_normal", alphas_normal, space.normal) * _edge_weights("betas_normal", betas_normal)
    reduce = _operation_weights("alphas_reduce", alphas_reduce, space.reduce) * _edge_weights("betas_reduce", betas_reduce)
    return from_weights(normal, reduce, space)


def from_weights(normal: torch.Tensor, reduce: torch.Tensor, space: str | Space = "darts") -> Genotype:
    """DARTS' rule on mixing weights (14, K) of both cell types as they are; DARTS-PT's, with one operation per edge at weight 1 and two
    edges per node above 0, give exactly what was decided."""
    space = get_space(space)
    return Genotype(strongest(normal, space.normal), CONCAT, strongest(reduce, space.reduce), CONCAT)


def _operation_weights(argument: str, alphas: torch.Tensor, operations: tuple[tuple[str, ...], ...]) -> torch.Tensor:
    return _checked(argument, alphas, (len(EDGES), len(operations[0]))).softmax(dim=1)


def _edge_weights(argument: str, betas: torch.Tensor) -> torch.Tensor:
    return edge_weights(_checked(argument, betas, (len(EDGES),)))[:, None]


def _checked(argument: str, parameters: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The parameters in float64 on the CPU."""
    parameters = as_tensor(parameters, argument, f"architecture parameters {shape}")
    if tuple(parameters.shape) != shape:
        raise ValueError(f"{argument}: expected shape {shape}, got {tuple(parameters.shape)}")
    if not torch.isfinite(parameters).all():
        raise ValueError(f"{argument}: expected finite numbers, got NaN or infinity (the search has diverged)")
    return parameters.detach().double().cpu()
