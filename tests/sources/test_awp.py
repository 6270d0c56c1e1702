"""AWP against perturb, backward, restore, written out here."""

import copy

import pytest
import torch
from tiny_robust import STEP, batch, gradients, net
from torch import nn

from rtalib.sources.awp import AWP, perturbation
from rtalib.sources.objectives import logits_of, pgd_at, trades

BASES = {"at": pgd_at(step_size=STEP, steps=2), "trades": trades(steps=2)}


def by_hand(model: nn.Module, base, x: torch.Tensor, y: torch.Tensor, gamma: float) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss and gradients at w + v; the weights are moved there and back."""
    found = base.craft(model, x, y)
    proxy = copy.deepcopy(model)
    g = gradients(proxy, base.loss(logits_of(proxy), x, found, y))
    before = [w.detach().clone() for w in model.parameters()]
    with torch.no_grad():
        for w, direction in zip(model.parameters(), g, strict=True):
            if w.ndim > 1:
                w += gamma * w.norm() / direction.norm() * direction
    loss = base.loss(logits_of(model), x, found, y)
    there = gradients(model, loss)
    with torch.no_grad():
        for w, old in zip(model.parameters(), before, strict=True):
            w.copy_(old)
    return loss, there


@pytest.mark.parametrize("name", BASES)
def test_loss_gradient_and_batch_norm_are_those_at_the_perturbed_weights(name: str) -> None:
    x, y = batch()
    ours, theirs = net(), net()
    before = [w.detach().clone() for w in ours.parameters()]
    torch.manual_seed(5)
    loss = AWP(BASES[name], 0.05)(ours, x, y)
    found = gradients(ours, loss)
    torch.manual_seed(5)
    expected, there = by_hand(theirs, BASES[name], x, y, 0.05)
    assert torch.allclose(loss, expected, atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, there, strict=True))
    assert all(torch.equal(w, old) for w, old in zip(ours.parameters(), before, strict=True))
    assert all(torch.allclose(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True))


def test_the_perturbation_has_its_length_and_raises_the_loss() -> None:
    x, y = batch()
    model = net()

    def loss(forward) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(forward(x), y)

    v = perturbation(model, loss, 0.01)
    weights = dict(model.named_parameters())
    assert set(v) == {"0.weight", "4.weight"}
    assert all(shift.norm() == pytest.approx(0.01 * weights[name].norm().item()) for name, shift in v.items())
    before = loss(logits_of(model))
    with torch.no_grad():
        for name, shift in v.items():
            weights[name] += shift
    assert loss(logits_of(model)) > before


@pytest.mark.parametrize("frozen", [("0.weight",), ("0.weight", "4.weight")])
def test_frozen_weights_are_not_perturbed(frozen) -> None:
    x, y = batch()
    model, plain = net(), net()
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
        plain.get_parameter(name).requires_grad_(False)
    assert set(perturbation(model, lambda forward: forward(x).square().sum(), 0.1)) == {"0.weight", "4.weight"} - set(frozen)
    torch.manual_seed(5)
    loss = AWP(BASES["at"], 0.1)(model, x, y)
    torch.manual_seed(5)
    without = BASES["at"](plain, x, y)
    assert torch.equal(loss, without) == (len(frozen) == 2)
    loss.backward()
    assert all((w.grad is None) == (name in frozen) for name, w in model.named_parameters())


def test_the_warm_up_leaves_the_weights_alone() -> None:
    x, y = batch()
    objective, losses = AWP(BASES["at"], 0.05, warm_up=2), []
    for epoch in range(3):
        objective.start_epoch(epoch)
        losses.append(objective(net(), x, y).item())
    assert losses[0] == losses[1] == BASES["at"](net(), x, y).item() < losses[2]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="gamma"):
        AWP(BASES["at"], -0.1)
    with pytest.raises(ValueError, match="warm_up"):
        AWP(BASES["at"], warm_up=-1)
