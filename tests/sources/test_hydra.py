"""HYDRA's masks: the ratio, what moves and what does not, and the gradient of the scores."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rtalib.sources.hydra import kept, scoring, surviving
from rtalib.sources.objectives import trades

RATIO = 0.1


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(16, 3, 8, 8, generator=generator), torch.randint(0, 10, (16,), generator=generator)


def steps(model: nn.Module, count: int = 3, objective=None) -> None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, 0.1, 0.9, weight_decay=0.01)
    for _ in range(count):
        optimizer.zero_grad()
        (objective or (lambda model, x, y: F.cross_entropy(model(x), y)))(model, *batch()).backward()
        optimizer.step()


def test_scores_move_over_frozen_weights_and_keep_the_ratio_exactly() -> None:
    model = net()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with scoring(model, RATIO):
        layer = model[4].parametrizations.weight
        before = layer[0].scores.detach().clone()
        steps(model, objective=trades(steps=1))
        assert not torch.equal(layer[0].scores, before)
        assert torch.equal(layer.original, weights["4.weight"]) and torch.equal(model[4].bias, weights["4.bias"])
        assert not torch.equal(model[1].weight, weights["1.weight"])  # BatchNorm is trained
        inside = model.eval()(batch()[0])
    assert torch.equal(model(batch()[0]), inside) and set(model.state_dict()) == set(weights)
    for name in ("0.weight", "4.weight"):
        left = model.state_dict()[name]
        assert int((left != 0).sum()) == kept(left.numel(), RATIO) == math.ceil(RATIO * left.numel())
        assert torch.equal(left[left != 0], weights[name][left != 0])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_scores_begin_as_magnitudes_and_get_the_gradient_of_the_masked_weight() -> None:
    model = net()
    with scoring(model, RATIO):
        weight, scored = model[4].parametrizations.weight.original, model[4].parametrizations.weight[0]
        assert scored.scores.abs().max().item() == pytest.approx((6 / 288) ** 0.5)
        assert torch.allclose(scored.scores / scored.scores.abs().max(), weight / weight.abs().max())
        largest = weight.abs().flatten().topk(kept(weight.numel(), RATIO)).indices
        assert torch.equal(model[4].weight.flatten().nonzero()[:, 0], largest.sort().values)
        x, y = batch()
        features = model[:4](x).detach()
        masked = model[4].weight.detach().requires_grad_()
        (at_masked,) = torch.autograd.grad(F.cross_entropy(F.linear(features, masked, model[4].bias), y), masked)
        (found,) = torch.autograd.grad(F.cross_entropy(model[4](features), y), scored.scores)
        # Straight through the mask: d loss / d |s| = d loss / d (w * mask) * w, also where the mask is zero.
        assert torch.allclose(found, at_masked * weight * scored.scores.sign(), atol=1e-7)


def test_survivors_are_tuned_and_zeros_stay_zero() -> None:
    model = net()
    with scoring(model, RATIO):
        pass
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with surviving(model):
        steps(model)
    for name in ("0.weight", "4.weight"):
        zero = before[name] == 0
        assert (model.state_dict()[name][zero] == 0).all()
        assert (model.state_dict()[name][~zero] != before[name][~zero]).all()


def test_an_error_inside_leaves_an_ordinary_network() -> None:
    model = net()
    names = set(model.state_dict())
    with pytest.raises(RuntimeError, match="stop"), scoring(model, RATIO):
        raise RuntimeError("stop")
    assert set(model.state_dict()) == names and all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("count", "ratio", "expected"), [(10, 0.1, 1), (9, 0.1, 1), (11, 0.1, 2), (100, 1.0, 100), (1000, 0.1, 100)])
def test_how_many_are_kept(count: int, ratio: float, expected: int) -> None:
    assert kept(count, ratio) == expected


def test_bad_ratios_are_refused() -> None:
    with pytest.raises(ValueError, match="ratio: expected above 0 and at most 1 of the weights, got 10"), scoring(net(), 10):
        pass
