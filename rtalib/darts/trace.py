"""What a search shows of its architecture after each epoch."""

import torch

from rtalib.darts import select
from rtalib.darts.genotype import Genotype
from rtalib.darts.perturbation import Decisions
from rtalib.darts.supernet import ARCHITECTURE, Supernet


def weights(supernet: Supernet, decisions: Decisions | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixing weights (14, operations) of the normal and the reduction cells in float64 on the CPU, decided edges one-hot."""
    mixing = tuple(alphas.detach().double().cpu().softmax(dim=1) for alphas in (supernet.alphas_normal, supernet.alphas_reduce))
    return mixing if decisions is None else decisions.apply(mixing)


def genotype(supernet: Supernet, decisions: Decisions | None) -> Genotype:
    """Of the present architecture: edge weights count where there are some, and what is decided wins over what is not.

    ValueError if an architecture parameter is not finite.
    """
    alphas = supernet.alphas_normal, supernet.alphas_reduce
    if supernet.partial > 1:
        return select.edge_normalized(*alphas, supernet.betas_normal, supernet.betas_reduce, supernet.space)
    by_alphas = select.magnitude(*alphas, supernet.space)
    return by_alphas if decisions is None else select.from_weights(*weights(supernet, decisions), supernet.space)


def architecture(supernet: Supernet, decisions: Decisions | None) -> dict:
    """Row entries: entropies, skips, the genotype, and the architecture parameters as nested lists."""
    found, (normal, reduce) = genotype(supernet, decisions), weights(supernet, decisions)
    return {
        "entropy_normal": entropy(normal),
        "entropy_reduce": entropy(reduce),
        "skips_normal": found.skips("normal"),
        "skips_reduce": found.skips("reduce"),
        "genotype": str(found),
        **{name: parameter.tolist() for name, parameter in supernet.named_parameters() if name.startswith(ARCHITECTURE)},
    }


def entropy(weights: torch.Tensor) -> float:
    """Mean entropy of the mixing weights (14, K) of an edge, in nats: log(K) when nothing is decided, 0 when everything is."""
    return float(-torch.xlogy(weights, weights).sum(dim=1).mean())
