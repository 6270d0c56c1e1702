"""BatchNorm folded into convolutions changes nothing but rounding; prepared models go into every recipe."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from attacked_nets import EPS, STEP, Net, batch, every_recipe, net
from torch import nn

from rtalib import attacks, load_dataset, models
from rtalib.darts import Network
from rtalib.models import seeded
from rtalib.models.inference import predict


def scrambled(model: nn.Module) -> nn.Module:
    """Statistics and scales as after training: nothing is one or zero, some scales are negative."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            module.weight.data[::5] *= -1
            nn.init.normal_(module.bias, 0, 0.2, generator=generator)
    return model.eval()


def built(name: str) -> nn.Module:
    return scrambled(seeded(lambda: Network("darts_v2", 4, 5) if name == "darts" else models.build(name), 0))


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


# How many norms stay: those of pre-activation that follow a sum or a concatenation, or pooling.
LEFT = {
    "resnet50": 0, "resnet18": 0, "resnet8": 0, "tiny": 0, "preact_resnet18": 8, "wide_resnet10_1": 4, "wide_resnet10_2": 3,
    "wide_resnet28_4": 12, "wide_resnet28_10": 12, "wide_resnet34_10": 15, "densenet121": 62, "densenet121_k32": 62, "convnet": 3,
    "convnet_small": 3, "convnet_strided": 3, "convnet_strided_small": 3, "convnet_wide": 3, "darts": 2,
    "resnet47_v2": 15,
}  # fmt: skip


def test_every_model_is_in_the_list() -> None:
    assert set(models.MODELS) | {"darts"} == set(LEFT)


@pytest.mark.parametrize("name", LEFT)
def test_folding_changes_logits_by_rounding_only(name: str) -> None:
    model = built(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    folded = attacks.fold_batchnorm(model)
    assert norms(folded) == LEFT[name] < norms(model) and type(folded) is type(model) and not folded.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "the original stays as it is"
    with torch.no_grad():
        exact, found = model(x), folded(x)
        assert (found - exact).abs().max() <= 2e-6 * max(1.0, exact.abs().max().item())
        if name in ("resnet8", "wide_resnet10_1", "convnet_small", "darts"):
            double = attacks.fold_batchnorm(copy.deepcopy(model).double())
            assert torch.allclose(double(x.double()), model.double()(x.double()), rtol=1e-12, atol=1e-12)
            assert torch.allclose(folded.features(x), model.float().features(x), atol=1e-5)


def test_a_norm_is_folded_only_where_it_alone_sees_the_convolution() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.twice, self.read, self.plain = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))
            self.a, self.b, self.c, self.d, self.e, self.loose = (nn.BatchNorm2d(3) for _ in range(6))
            self.loose.track_running_stats, self.loose.running_mean, self.loose.running_var = False, None, None
            self.head = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.shared(x)
            x = y + self.a(y)  # two see the convolution
            x = self.b(self.twice(x)) + self.twice(x)  # the convolution is used twice
            x = self.c(self.read(x)) * self.read.weight.mean()  # its weight is read elsewhere
            x = self.d(F.relu(self.plain(x)))  # something in between
            return self.head(self.loose(self.e(x)).mean((2, 3)))

    model = Odd().double()
    for module in (model.a, model.b, model.c, model.d, model.e):
        module.running_mean.normal_()
        module.running_var.uniform_(0.5, 2)
    folded = attacks.fold_batchnorm(model.eval())
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    assert norms(folded) == 6 and torch.equal(folded(x), model(x))


def test_a_part_that_cannot_be_traced_stays_and_the_rest_is_folded() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(x)) if x.mean() > 0.5 else x

    model = scrambled(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), Asks(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    folded = attacks.fold_batchnorm(model)
    x = torch.rand(2, 3, 8, 8)
    assert norms(folded) == 1 and torch.allclose(folded(x), model(x), atol=1e-6)
    with pytest.raises(ValueError, match=r"cannot trace Asks.*fold=False"):
        attacks.fold_batchnorm(Asks())
    assert norms(attacks.prepared(Asks(), fold=False)) == 1


# ---------------------------------------------------------------------------------------------------------------- prepared


@every_recipe
def test_every_recipe_takes_a_prepared_model(recipe) -> None:
    images, labels = batch()
    model = net()
    expected, found = (recipe.record(one, images, labels, seed=1) for one in (model, attacks.prepared(model)))
    assert (found.images - expected.images).abs().max() < 1e-9 and torch.equal(found.success, expected.success)
    assert torch.equal(found.gradients, expected.gradients)


def test_bfloat16_fools_about_as_many_images() -> None:
    images, labels = batch(torch.float32, 400)
    model = net(dtype=torch.float32)
    recipe, rates = attacks.PGD(1 / 255, 0.25 / 255, 10), {}
    for precision in ("float32", "bfloat16"):
        found = recipe(attacks.prepared(model, precision), images, labels)
        assert found.dtype == torch.float32 and (found - images).abs().max() <= 1 / 255 + 1e-6
        rates[precision] = (model(found).argmax(1) != labels).double().mean()
    assert 0.25 < rates["float32"] < 0.9 and abs(rates["float32"] - rates["bfloat16"]) <= 0.01


@every_recipe
def test_bfloat16_does_not_decide_what_fools_the_model(recipe) -> None:
    images, labels = batch(torch.float32, 200)
    model = net(1.0, torch.float32)
    recipe = attacks.with_eps(recipe, recipe.eps / 4)
    record = recipe.record(attacks.prepared(model, "bfloat16"), images, labels)
    wrong = model(record.images).argmax(1) != labels
    assert not (record.success & ~wrong).any() and record.success.any() and not record.success.all()


def test_a_prepared_model_is_a_copy_that_leaves_the_original_alone() -> None:
    images, _ = batch(torch.float32)
    model = net(dtype=torch.float32).train()
    fast = attacks.prepared(model, "bfloat16")
    assert model.training and not fast.training and all(p.requires_grad for p in model.parameters())
    assert {id(p) for p in fast.parameters()}.isdisjoint({id(p) for p in model.parameters()})
    logits = fast(images)
    assert logits.dtype == torch.float32 and (logits - model.eval()(images)).abs().max() < 0.1
    with torch.no_grad():
        model.head.weight.zero_()
    assert torch.equal(fast(images), logits), "made of the weights as they were"
    again = attacks.prepared(fast)
    assert again.exact is model and torch.allclose(again(images), model(images), atol=1e-5), "prepared anew from the original"


def test_success_of_stored_images_is_that_of_the_model_itself() -> None:
    data = load_dataset("shapes10", "test", limit=40)
    model = built("tiny")
    record = attacks.attack(attacks.BIM(EPS / 8, STEP / 8), attacks.prepared(model, "bfloat16"), data)
    assert torch.equal(record.success, predict(model, record.images).argmax(1) != data.labels)
    assert record.model == "Tiny"


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'bfloat16'"):
        attacks.prepared(Net(), "bfloat")
    with pytest.raises(TypeError, match="model"):
        attacks.prepared(lambda x: x)
    assert math.isfinite(attacks.prepared(Net(), fold=False)(torch.rand(1, 3, 8, 8)).sum().item())
