"""Muon against the singular value decomposition, torch's own Muon, and steps written out."""

from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from rtalib.training.batches import draw
from rtalib.training.muon import Muon, orthogonalize
from rtalib.training.recipes import RECIPES, MuonRecipe, Recipe

CPU = torch.device("cpu")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (40, 3, 2, 2), (12, 30)])
def test_orthogonalize_keeps_the_singular_vectors_and_evens_out_the_values(shape):
    gradient = normal(*shape)
    u, values, v = torch.linalg.svd(gradient.flatten(1), full_matrices=False)
    core = u.T @ orthogonalize(gradient, steps=5).flatten(1) @ v.T
    torch.testing.assert_close(core, torch.diag(core.diagonal()), atol=2e-4, rtol=0)
    assert core.diagonal().min() > 0.6 and core.diagonal().max() < 1.3 < values.max() / values.min()


def test_the_iteration_is_its_polynomial_of_each_singular_value():
    gradient = normal(6, 20)
    _, values, _ = torch.linalg.svd(gradient)
    expected = values / values.square().sum().sqrt()
    for _ in range(3):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    found = torch.linalg.svdvals(orthogonalize(gradient, steps=3))
    torch.testing.assert_close(found, expected.abs().sort(descending=True).values, rtol=1e-4, atol=1e-5)


def test_orthogonalize_is_torch_s_in_float32():
    gradient, weight = normal(8, 24), nn.Parameter(torch.zeros(8, 24))
    weight.grad = gradient.clone()
    torch.optim.Muon([weight], lr=1.0, momentum=0.0, weight_decay=0.0, nesterov=False, ns_steps=5).step()
    torch.testing.assert_close(orthogonalize(gradient, steps=5), -weight.detach(), atol=0.03, rtol=0)  # torch's works in bfloat16


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(54, 4))
    return model.to(memory_format=torch.channels_last)


def test_steps_are_those_written_out():
    model, plain = network(), network()
    optimizer, velocity = Muon(model, 0.1, 0.6, 1e-3), torch.zeros(6, 3, 3, 3)
    others = torch.optim.SGD([p for p in plain.parameters() if p.ndim != 4], 0.025, 0.85, nesterov=True, weight_decay=1e-3)
    for step in range(3):
        x = normal(5, 3, 5, 5, seed=step)
        for net in (model, plain):
            net.zero_grad()
            net(x).square().sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * group["lr_scale"]
        optimizer.step()
        weight = plain[0].weight
        velocity = 0.6 * velocity + weight.grad
        scaled = weight.detach() * 6**0.5 / weight.detach().norm()
        weight.data = scaled - 0.1 * orthogonalize(weight.grad + 0.6 * velocity)
        others.step()
    for ours, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_frozen_and_unused_weights_stay():
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    optimizer = Muon(model, 0.1, 0.6, 0.0)
    model(normal(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    assert torch.equal(before, model[0].weight)
    unused = network()
    Muon(unused, 0.1, 0.6, 0.0).step()
    assert all(torch.equal(a, b) for a, b in zip(unused.parameters(), network().parameters(), strict=True))


def test_alternating_flip_shows_each_image_from_both_sides_in_turn():
    recipe = MuonRecipe(4)
    flips = torch.stack([draw(4000, (8, 8), recipe, 3, epoch, CPU).flip for epoch in range(4)])
    assert torch.equal(flips[0], ~flips[1]) and torch.equal(flips[0], flips[2]) and torch.equal(flips[1], flips[3])
    assert abs(int(flips[0].sum()) - 2000) < 5 * 1000**0.5
    assert torch.equal(flips[0], draw(4000, (8, 8), Recipe(4), 3, 0, CPU).flip)  # the first epoch is the usual coin
    usual = torch.stack([draw(4000, (8, 8), replace(recipe, alternating_flip=False), 3, epoch, CPU).flip for epoch in range(2)])
    assert not torch.equal(usual[0], ~usual[1])
    assert not draw(100, (8, 8), replace(recipe, flip=False), 3, 1, CPU).flip.any()


def test_stored_recipes_keep_their_fields():
    """What a key holds of an SGD recipe are these fields, whatever the options of Muon."""
    expected = (
        "epochs batch_size lr momentum nesterov weight_decay schedule milestones gamma label_smoothing crop_padding flip cutout grad_clip "
        "drop_path auxiliary_weight"
    )
    assert " ".join(asdict(RECIPES["fast"])) == expected and not RECIPES["fast"].muon
    assert set(asdict(RECIPES["speedrun"])) == {*expected.split(), "alternating_flip"} and RECIPES["speedrun"].muon
