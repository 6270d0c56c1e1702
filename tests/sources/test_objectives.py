"""Robust objectives against their equations written out here, and on a task where only a robust network survives."""

import pytest
import torch
import torch.nn.functional as F
from tiny_robust import EPS, SIDE, STEP, FloatLogits, K, N, ascend, batch, gradients, inside, net, uniform
from torch import nn

from rtalib import attacks
from rtalib.sources.awp import AWP
from rtalib.sources.feature_scattering import feature_scattering
from rtalib.sources.heads import CenterHead, CosineHead
from rtalib.sources.objectives import FreeAT, WarmUp, at_he, fast_at, mmc, pgd_at, smoothed, trades


@pytest.mark.parametrize("crafting", ["train", "eval"])
def test_pgd_at_is_cross_entropy_at_the_end_of_pgd(crafting: str) -> None:
    x, y = batch()
    torch.manual_seed(7)
    loss = pgd_at(EPS, STEP, 3, crafting=crafting)(net(), x, y)
    torch.manual_seed(7)
    model = FloatLogits(net())
    model.train(crafting == "train")
    found = uniform(x)
    for _ in range(3):
        found = inside(ascend(model, found, STEP, lambda z: -z.log_softmax(1)[torch.arange(N), y].sum()), x).detach()
    model.train()
    expected = -model(found).log_softmax(1)[torch.arange(N), y].mean()
    assert torch.allclose(loss, expected, atol=1e-6)


def test_fast_at_takes_one_step_of_ten_levels() -> None:
    x, y = batch()
    torch.manual_seed(7)
    loss = fast_at()(net(), x, y)
    torch.manual_seed(7)
    model = FloatLogits(net())
    found = inside(ascend(model, uniform(x), 10 / 255, lambda z: F.cross_entropy(z, y)), x)
    assert torch.allclose(loss, F.cross_entropy(model(found.detach()), y), atol=1e-6)


def test_trades_is_clean_loss_plus_beta_divergence() -> None:
    x, y = batch()
    torch.manual_seed(7)
    loss = trades(beta=3.0, steps=2)(net(), x, y)
    torch.manual_seed(7)
    model = FloatLogits(net()).eval()
    p = model(x).softmax(1).detach()

    def divergence(p: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return (p * (p.log() - z.log_softmax(1))).sum()

    found = inside(x + 0.001 * torch.randn_like(x), x)
    for _ in range(2):
        found = inside(ascend(model, found, 0.007, lambda z: divergence(p, z)), x).detach()
    model.train()
    clean = model(x)
    expected = F.cross_entropy(clean, y) + 3.0 * divergence(clean.softmax(1), model(found)) / N
    assert torch.allclose(loss, expected, atol=1e-5)
    assert loss > F.cross_entropy(clean, y)


def test_trades_has_finite_gradients_where_probabilities_underflow() -> None:
    x, y = batch()
    model = net(1e5)
    trades(steps=1)(model, x, y).backward()
    assert (FloatLogits(model)(x).softmax(1) == 0).any(), "the test needs underflow"
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


FEATURES = 8 * (SIDE - 2) ** 2


def test_hypersphere_embedding_takes_the_margin_off_the_label_s_cosine_in_the_loss_alone() -> None:
    x, y = batch()
    head = CosineHead(FEATURES, K, scale=10.0)
    loss = at_he(EPS, STEP, 1, scale=10.0, margin=0.2)(net(head=head), x, y)
    model = FloatLogits(net(head=head))

    def cosines(z: torch.Tensor) -> torch.Tensor:
        f = model.model[:-1](z)
        w = head.weight
        return ((f @ w.T) / (f.norm(dim=1)[:, None] * w.norm(dim=1))).float()

    found = inside(ascend(cosines, uniform(x), STEP, lambda c: F.cross_entropy(10 * c, y, reduction="sum")), x).detach()
    cos = cosines(found)
    assert torch.allclose(model(found), 10 * cosines(found), atol=1e-5)
    lowered = cos.clone()
    lowered[torch.arange(N), y] -= 0.2
    expected = -(10 * lowered).log_softmax(1)[torch.arange(N), y].mean()
    assert torch.allclose(loss, expected, atol=1e-5) and loss > F.cross_entropy(10 * cos, y)


def test_mmc_pulls_the_embedding_to_the_center_of_its_class() -> None:
    x, y = batch()
    head = CenterHead(FEATURES, K, size=6, radius=10.0)
    model = net(head=head)
    loss = mmc(EPS, STEP, 2)(model, x, y)
    found_gradients = gradients(model, loss)
    model = net(head=head)

    def half_squares(z: torch.Tensor) -> torch.Tensor:
        return 0.5 * (head.embed(model[:-1](z)).float() - head.centres[y]).square().sum(1)

    found = uniform(x)
    for _ in range(2):
        found = inside(ascend(half_squares, found, STEP, torch.sum), x).detach()
    expected = half_squares(found).mean()
    assert torch.allclose(loss, expected.float(), rtol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found_gradients, gradients(model, expected), strict=True))


def test_free_at_moves_delta_by_the_gradient_that_its_own_loss_left() -> None:
    x, y = batch()
    free, model, copy, delta = FreeAT(EPS, replays=3), net(), FloatLogits(net()), torch.zeros(N, 3, SIDE, SIDE).double()
    for count in (N, N, N, 10, N):  # a last, smaller batch leaves the rest of delta as it is
        leaf = delta.clone().requires_grad_()
        expected = F.cross_entropy(copy((x[:count] + leaf[:count]).clamp(0, 1)), y[:count])
        loss = free(model, x[:count], y[:count])
        assert torch.allclose(loss, expected, atol=1e-6) and free.delta.abs().max() <= EPS
        loss.backward()
        expected.backward()
        delta = (delta + EPS * leaf.grad.sign()).clamp(-EPS, EPS)
    assert delta.abs().min() == 0 or delta.abs().max() == EPS
    free.start_epoch(1)
    assert torch.allclose(free(net(), x, y), F.cross_entropy(FloatLogits(net())(x), y), atol=1e-6)


def test_a_warm_up_goes_a_growing_part_of_the_way() -> None:
    x, y = batch()
    base = pgd_at(EPS, STEP, 1)
    objective = WarmUp(base, 4)
    for epoch, share in enumerate((0, 0.25, 0.5, 0.75, 1, 1)):
        objective.start_epoch(epoch)
        found = objective.craft(net(), x, y)
        assert torch.allclose(found, x + share * (base.craft(net(), x, y) - x), atol=1e-12)
    assert torch.equal(objective(net(), x, y), base(net(), x, y))


OBJECTIVES = {
    "pgd_at": (pgd_at(steps=3), 4),
    "pgd_at, eval": (pgd_at(steps=3, crafting="eval"), 1),
    "smoothed": (pgd_at(steps=3, label_smoothing=0.1), 4),
    "fast_at": (fast_at(), 2),
    "trades": (trades(steps=3), 2),
    "feature_scattering": (feature_scattering(), 1),
    "awp": (AWP(pgd_at(steps=3, crafting="eval")), 1),
    "awp, trades": (AWP(trades(steps=3), 0.005), 2),
}


@pytest.mark.parametrize(("objective", "updates"), OBJECTIVES.values(), ids=OBJECTIVES)
def test_only_the_loss_leaves_gradients_and_batch_norm_sees_what_it_should(objective, updates: int) -> None:
    x, y = batch()
    model = net().train()
    model[2].eval()
    loss = objective(model, x, y)
    assert all(parameter.grad is None for parameter in model.parameters()) and all(p.requires_grad for p in model.parameters())
    assert [module.training for module in model] == [True, True, False, True, True]
    assert int(model[1].num_batches_tracked) == updates
    loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in model.named_parameters() if name != "0.bias")


@pytest.mark.parametrize(("objective", "updates"), OBJECTIVES.values(), ids=OBJECTIVES)
def test_one_hot_labels_are_hard_labels(objective, updates: int) -> None:
    x, y = batch()
    losses = []
    for labels in (y, F.one_hot(y, K).float()):
        torch.manual_seed(3)
        losses.append(objective(net(), x, labels).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_smoothing_spreads_rho_over_the_other_classes() -> None:
    assert torch.allclose(smoothed(torch.tensor([1]), 0.2, 5), torch.tensor([[0.05, 0.8, 0.05, 0.05, 0.05]]))
    soft = torch.tensor([[0.5, 0.5, 0.0]])
    assert torch.allclose(smoothed(soft, 0.2, 3).sum(1), torch.ones(1))
    x, y = batch()
    torch.manual_seed(3)
    plain = pgd_at(steps=1)(net(), x, y)
    torch.manual_seed(3)
    assert pgd_at(steps=1, label_smoothing=0.3)(net(), x, y) != plain


def test_an_auxiliary_head_is_left_out() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = net()

        def forward(self, x: torch.Tensor):
            logits = self.model(x)
            return (logits, 0 * logits) if self.training else logits

    x, y = batch()
    torch.manual_seed(3)
    expected = fast_at()(net(), x, y)
    torch.manual_seed(3)
    assert torch.equal(fast_at()(TwoHeads(), x, y), expected)


def two_cues(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes by two cues: one pixel, far apart but wrong for one image in ten; and all others, always right but 4 levels apart."""
    generator = torch.Generator().manual_seed(n)
    y = torch.randint(0, 2, (n,), generator=generator)
    sign = (2 * y - 1).double()[:, None, None, None]
    x = 0.5 + sign * 4 / 255 + 0.02 * torch.randn(n, 3, SIDE, SIDE, generator=generator).double()
    right = (torch.rand(n, generator=generator) > 0.1).double() * 2 - 1
    x[:, :, 0, 0] = 0.5 + 0.1 * (sign[:, :, 0, 0] * right[:, None])
    return x.clamp(0, 1), y


class Centered(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 10 * (x - 0.5)


def accuracies(objective) -> tuple[float, float]:
    torch.manual_seed(0)
    model = nn.Sequential(Centered(), nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x, y = two_cues(400)
    for _ in range(80):
        optimizer.zero_grad()
        objective(model, x, y).backward()
        optimizer.step()
    x, y = two_cues(401)
    found = attacks.bim(model, x, y)
    return tuple((model(images).argmax(1) == y).double().mean().item() for images in (x, found))


def test_robust_objectives_trade_the_fragile_cue_for_the_robust_one() -> None:
    clean, attacked = accuracies(lambda model, x, y: F.cross_entropy(model(x), y))
    assert clean > 0.98 and attacked < 0.3
    for objective in (pgd_at(EPS, 6 / 255, 2), fast_at(), trades(step_size=6 / 255, steps=2), pgd_at(EPS, 6 / 255, 2, label_smoothing=0.1)):
        clean, attacked = accuracies(objective)
        assert clean > 0.85 and attacked > 0.8


def test_bad_settings_are_refused() -> None:
    for make, words in (
        (lambda: pgd_at(eps=8), "8/255, not 8"),
        (lambda: trades(steps=0), "steps"),
        (lambda: trades(beta=-1), "beta"),
        (lambda: pgd_at(crafting="evil"), "crafting"),
        (lambda: pgd_at(label_smoothing=1.5), "label_smoothing"),
        (lambda: at_he(margin=-1), "margin"),
        (lambda: FreeAT(replays=0), "replays"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
