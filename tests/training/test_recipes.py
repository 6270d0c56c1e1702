"""Recipe, and the batches that it describes."""

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from torch import nn

from rtalib.augment.cutout import cut_squares
from rtalib.data.images import pixels
from rtalib.training.batches import Batches, crop_flip, draw
from rtalib.training.recipes import RECIPES, Recipe

CPU = torch.device("cpu")


def scheduled(recipe: Recipe, kind: type, *args) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], recipe.lr)
    scheduler, rates = kind(optimizer, *args), []
    for _ in range(recipe.epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_step_and_cosine_are_torch_s_schedulers():
    step, cosine = RECIPES["final"], RECIPES["darts"]
    expected = scheduled(step, torch.optim.lr_scheduler.MultiStepLR, step.milestones, step.gamma)
    assert [step.learning_rate(e) for e in range(step.epochs)] == pytest.approx(expected)
    expected = scheduled(cosine, torch.optim.lr_scheduler.CosineAnnealingLR, cosine.epochs)
    assert [cosine.learning_rate(e) for e in range(cosine.epochs)] == pytest.approx(expected, abs=1e-9)


def test_onecycle_rises_to_lr_at_a_quarter_and_falls_towards_zero():
    recipe = Recipe(8, lr=0.4, schedule="onecycle")
    rates = [recipe.learning_rate(e, s, 10) for e in range(8) for s in range(10)]
    assert rates[0] == pytest.approx(0.08) and max(rates) == rates[20] == pytest.approx(0.4)
    assert rates[:21] == sorted(rates[:21]) and rates[20:] == sorted(rates[20:], reverse=True) and 0 < rates[-1] < 0.01


def test_linear_falls_from_lr_towards_zero():
    recipe = Recipe(4, lr=0.4, schedule="linear")
    rates = [recipe.learning_rate(e, s, 10) for e in range(4) for s in range(10)]
    assert rates == pytest.approx([0.4 * (1 - k / 40) for k in range(40)])


def test_triangle_rises_from_0_to_lr_in_the_middle_and_falls_to_0():
    """numpy.interp over 0, half and all epochs, as the published code of FastAT has it."""
    recipe = Recipe(4, lr=0.2, schedule="triangle")
    rates = [recipe.learning_rate(e, s, 10) for e in range(4) for s in range(10)]
    assert rates == pytest.approx(np.interp(np.arange(40) / 10, [0, 2, 4], [0, 0.2, 0]))


def test_presets_are_the_papers():
    table1, final, darts = RECIPES["table1"], RECIPES["final"], RECIPES["darts"]
    assert (table1.epochs, table1.weight_decay, table1.label_smoothing, table1.milestones) == (110, 1e-4, 0.0, (100, 105))
    assert (final.epochs, final.weight_decay, final.label_smoothing, final.milestones) == (180, 5e-4, 0.1, (120, 140, 160))
    assert RECIPES["released"] == replace(final, momentum=0.0) and final.momentum == table1.momentum == 0.9
    assert all((r.lr, r.batch_size, r.gamma, r.crop_padding, r.flip) == (0.1, 128, 0.1, 4, True) for r in (table1, final))
    assert (darts.epochs, darts.batch_size, darts.lr, darts.weight_decay, darts.schedule) == (600, 96, 0.025, 3e-4, "cosine")
    assert (darts.grad_clip, darts.cutout, darts.drop_path, darts.auxiliary_weight) == (5, 16, 0.2, 0.4)
    assert RECIPES["pc_darts"].drop_path == 0.3


def test_scaled_keeps_milestones_in_proportion():
    assert RECIPES["final"].scaled(18).milestones == (12, 14, 16)
    assert RECIPES["table1"].scaled(11).milestones == (10, 10)
    assert RECIPES["table1"].scaled(1).milestones == ()
    assert RECIPES["table1"].scaled(110) == RECIPES["table1"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs: expected at least 1, got 0"),
        ({"epochs": 2.5}, TypeError, "epochs: expected an integer, got 2.5"),
        ({"batch_size": 1}, ValueError, "batch_size: expected at least 2"),
        ({"lr": 0}, ValueError, "lr: expected above 0"),
        ({"lr": math.nan}, ValueError, "lr: expected a finite number"),
        ({"lr": "0.1"}, TypeError, "lr: expected a finite number, got '0.1'"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing: expected 0 to 1, got 1.5"),
        ({"grad_clip": 0.0}, ValueError, "grad_clip: expected above 0"),
        ({"schedule": "cosin"}, ValueError, "Did you mean 'cosine'"),
        ({"milestones": (5, 3)}, ValueError, "milestones: expected rising"),
        ({"milestones": (10,)}, ValueError, r"recipe.scaled\(epochs\)"),
        ({"milestones": (3,), "schedule": "cosine"}, ValueError, "only schedule='step'"),
        ({"nesterov": True, "momentum": 0.0}, ValueError, "nesterov: needs momentum"),
        ({"cutout": -1}, ValueError, "cutout: expected at least 0"),
    ],
)
def test_bad_values_are_named(change, error, message):
    with pytest.raises(error, match=message):
        Recipe(**{"epochs": 10} | change)


def test_a_recipe_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Recipe(1).epochs = 2
    assert Recipe(10, milestones=[3, 5]).milestones == (3, 5)


def images(n: int, height: int = 6, width: int = 7) -> torch.Tensor:
    return torch.randint(1, 256, (n, 3, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_crop_and_flip_against_a_loop_over_images():
    data, recipe = images(40), Recipe(1, batch_size=40, crop_padding=2)
    batches, draws = Batches(data, torch.arange(40), recipe, CPU), draw(40, (6, 7), recipe, 5, 3, CPU)
    index = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    out = crop_flip(batches.padded, index, draws.top[index], draws.left[index], draws.flip[index], (6, 7))
    assert out.is_contiguous(memory_format=torch.channels_last)
    for row, i in zip(out, index.tolist(), strict=True):
        padded = torch.zeros(3, 10, 11, dtype=torch.uint8)
        padded[:, 2:8, 2:9] = data[i]
        top, left = int(draws.top[i]), int(draws.left[i])
        expected = padded[:, top : top + 6, left : left + 7]
        assert torch.equal(row, expected.flip(2) if draws.flip[i] else expected)


def test_an_epoch_shows_each_image_once_with_its_own_label_in_a_new_order():
    data = torch.arange(50, dtype=torch.uint8)[:, None, None, None].expand(50, 3, 4, 4)
    batches = Batches(data, torch.arange(50), Recipe(1, batch_size=16, crop_padding=0), CPU)
    orders = []
    for epoch in (0, 1):
        parts = [(x, y) for x, y in batches.epoch(0, epoch)]
        assert len(parts) == len(batches) == 4
        x, y = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
        assert torch.equal((x[:, 0, 0, 0] * 255).round().long(), y) and torch.equal(y.sort().values, torch.arange(50))
        orders.append(y.tolist())
    assert orders[0] != orders[1]


def test_draws_are_uniform_and_depend_on_seed_and_epoch():
    n, recipe = 9000, Recipe(1)
    draws = draw(n, (32, 32), recipe, 0, 0, CPU)
    for values, count in ((draws.top, 9), (draws.left, 9), (draws.hole_x, 32), (draws.flip.long(), 2)):
        seen = torch.bincount(values, minlength=count)
        assert len(seen) == count
        chi_squared = float(((seen - n / count) ** 2 / (n / count)).sum())
        assert chi_squared < count - 1 + 5 * (2 * (count - 1)) ** 0.5
    assert torch.equal(draws.order.sort().values, torch.arange(n))
    assert not torch.equal(draws.order, draw(n, (32, 32), recipe, 0, 1, CPU).order)
    assert not torch.equal(draws.order, draw(n, (32, 32), recipe, 1, 0, CPU).order)
    assert not draw(n, (32, 32), replace(recipe, flip=False), 0, 0, CPU).flip.any()


def test_cutout_erases_a_clipped_square_and_fills_with_the_mean_color():
    x = cut_squares(torch.ones(2, 3, 32, 32), torch.tensor([16, 0]), torch.tensor([10, 31]), 16, torch.tensor([0.1, 0.2, 0.3]))
    hole = x[:, 0] != 1
    assert hole[0, 8:24, 2:18].all() and int(hole[0].sum()) == 256
    assert hole[1, 0:8, 23:32].all() and int(hole[1].sum()) == 72
    torch.testing.assert_close(x[0, :, 16, 10], torch.tensor([0.1, 0.2, 0.3]))
    data = images(30)
    torch.testing.assert_close(Batches(data, torch.zeros(30), Recipe(1, cutout=2), CPU).mean, data.float().mean(dim=(0, 2, 3)) / 255)


def test_pixels_are_exact_in_both_ends():
    x = pixels(torch.tensor([0, 128, 255], dtype=torch.uint8).reshape(1, 3, 1, 1))
    assert x.flatten().tolist() == pytest.approx([0.0, 128 / 255, 1.0]) and x.max() == 1.0
