"""Feature scattering (Zhang and Wang 2019): x' moves the outputs of the whole batch away from the clean ones, without looking at labels."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtalib.attacks.steps import EPS
from rtalib.errors import check_number
from rtalib.models.inference import evaluating
from rtalib.sources.objectives import AdversarialObjective, Forward, climb, logits_of, smoothed, uniform_start


def feature_scattering(
    eps: float = EPS, step_size: float = EPS, steps: int = 1, *, label_smoothing: float = 0.5, entropy: float = 0.01, iterations: int = 50
) -> AdversarialObjective:
    """CE(f(x'), smoothed y), with x' maximizing the optimal-transport distance between the clean and the perturbed batch.

    The distance is <T, C>: C_ij = 1 - cos(f(x'_i), f(x_j)) on the logits, T the transport plan between uniform weights. x' starts at a
    uniform point of the eps ball and is sought in eval mode. entropy, iterations: of `transport_plan`, the authors' code has 0.01.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing: expected 0 <= rho < 1, got {label_smoothing}")

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with evaluating(model):
            with torch.no_grad():
                clean = logits_of(model)(x)

            def distance(logits: Tensor) -> Tensor:
                cost = cosine_cost(logits, clean)
                # The plan is constant in the gradient: that of the entropic distance in the cost is the plan itself (envelope theorem).
                return (transport_plan(cost.detach(), entropy, iterations) * cost).sum()

            return climb(model, x, uniform_start(x, eps), distance, eps=eps, step_size=step_size, steps=steps)

    def loss(forward: Forward, x: Tensor, found: Tensor, y: Tensor) -> Tensor:
        logits = forward(found)
        return F.cross_entropy(logits, smoothed(y, label_smoothing, logits.shape[1]))

    return AdversarialObjective(craft, loss)


def cosine_cost(a: Tensor, b: Tensor) -> Tensor:
    """(N,M) 1 - cos between the rows of a (N,K) and b (M,K), in [0,2]."""
    # Elementwise: autocast would compute a matrix product in bf16, too coarse for an entropy of 0.01.
    return 1 - (F.normalize(a)[:, None] * F.normalize(b)).sum(2)


def transport_plan(cost: Tensor, entropy: float = 0.01, iterations: int = 50) -> Tensor:
    """(N,M) plan T with row sums 1/N (and column sums 1/M when converged) that minimizes <T, cost> - entropy H(T): Sinkhorn's iteration
    (Cuturi 2013) on logarithms, where exp(-cost / entropy) would underflow."""
    check_number("entropy", entropy, open_low=True)
    n, m = cost.shape
    kernel, rows, columns = -cost / entropy, cost.new_zeros(n, 1), cost.new_zeros(1, m)
    for _ in range(iterations):
        columns = -math.log(m) - (kernel + rows).logsumexp(0, keepdim=True)
        rows = -math.log(n) - (kernel + columns).logsumexp(1, keepdim=True)
    return (kernel + rows + columns).exp()
