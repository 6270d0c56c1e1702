"""The transport plan against its definition and brute force, and the objective against its equation written out here."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from tiny_robust import EPS, FloatLogits, K, N, ascend, batch, inside, net, uniform

from rtalib.sources.feature_scattering import cosine_cost, feature_scattering, transport_plan


def plain_sinkhorn(cost: torch.Tensor, entropy: float, iterations: int) -> torch.Tensor:
    """The textbook iteration, without logarithms."""
    n, m = cost.shape
    kernel, u = (-cost / entropy).exp(), torch.ones(n, dtype=cost.dtype)
    for _ in range(iterations):
        v = 1 / m / (kernel.T @ u)
        u = 1 / n / (kernel @ v)
    return u[:, None] * kernel * v


@pytest.mark.parametrize(("n", "m", "entropy"), [(7, 7, 0.3), (5, 8, 0.1), (1, 3, 1.0)])
def test_plan_is_sinkhorn_s_and_has_uniform_marginals(n: int, m: int, entropy: float) -> None:
    cost = 2 * torch.rand(n, m, generator=torch.Generator().manual_seed(0)).double()
    plan = transport_plan(cost, entropy, 500)
    assert torch.allclose(plan, plain_sinkhorn(cost, entropy, 500), atol=1e-9)
    assert torch.allclose(plan.sum(1), torch.full((n,), 1 / n).double()) and torch.allclose(plan.sum(0), torch.full((m,), 1 / m).double())


def test_without_entropy_the_plan_is_the_best_matching() -> None:
    cost = 2 * torch.rand(6, 6, generator=torch.Generator().manual_seed(3))
    best = min(sum(cost[i, j].item() for i, j in enumerate(p)) for p in itertools.permutations(range(6))) / 6
    plan = transport_plan(cost, 0.01, 500)  # exp(-2 / 0.01) underflows in float32
    assert plan.isfinite().all() and best - 1e-6 <= (plan * cost).sum().item() < best + 0.01


def test_cost_is_one_minus_cosine() -> None:
    a, b = torch.tensor([[1.0, 0.0], [2.0, 2.0]]), torch.tensor([[3.0, 0.0], [-1.0, 0.0], [0.0, 5.0]])
    half = 0.5**0.5
    assert torch.allclose(cosine_cost(a, b), torch.tensor([[0.0, 2.0, 1.0], [1 - half, 1 + half, 1 - half]]), atol=1e-6)


def test_objective_is_smoothed_cross_entropy_one_step_up_the_transport_distance() -> None:
    x, y = batch()
    loss = feature_scattering(entropy=0.2, iterations=200)(net(), x, y)
    model = FloatLogits(net()).eval()
    clean = model(x).detach()

    def distance(logits: torch.Tensor) -> torch.Tensor:
        cost = torch.stack([torch.stack([1 - torch.cosine_similarity(a, b, dim=0) for b in clean]) for a in logits])
        return (plain_sinkhorn(cost.detach().double(), 0.2, 200).float() * cost).sum()

    found = inside(ascend(model, uniform(x), EPS, distance), x).detach()
    target = torch.full((N, K), 0.5 / (K - 1))
    target[torch.arange(N), y] = 0.5
    expected = -(target * model.train()(found).log_softmax(1)).sum(1).mean()
    assert torch.allclose(loss, expected, atol=1e-5)


def test_labels_do_not_steer_the_attack() -> None:
    x, y = batch()
    craft = feature_scattering().craft
    assert torch.equal(craft(net(), x, y), craft(net(), x, (y + 1) % K))
    assert not torch.equal(F.cross_entropy(net()(x), y), F.cross_entropy(net()(craft(net(), x, y)), y))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="label_smoothing"):
        feature_scattering(label_smoothing=1.0)
    with pytest.raises(ValueError, match="entropy"):
        transport_plan(torch.zeros(2, 2), 0.0)
