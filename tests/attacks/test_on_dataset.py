"""Images at rest attacked: bytes inside the ball, success of these bytes, the same in any batch; sweeps; rounding."""

import pytest
import torch
from attacked_nets import EPS, RECIPES, SIDE, K, N, batch, distance, every_recipe, net
from torch import nn

from rtalib import attacks
from rtalib.data.images import LabeledImages
from rtalib.models.inference import predict


class Double(nn.Module):
    """float64 inside, so that sums do not depend on how a batch is split."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x.double())


def pictures(n: int = N) -> LabeledImages:
    images, labels = batch(torch.float64, n)
    return LabeledImages((images * 255).round().to(torch.uint8), labels, tuple("abcdefghij"), "pictures")


@every_recipe
def test_bytes_inside_the_ball_whose_success_is_checked(recipe) -> None:
    data, model = pictures(), Double().eval()
    before = data.images.clone()
    record = attacks.attack(recipe, model, data, seed=2)
    assert record.images.dtype == torch.uint8 and record.images.shape == data.images.shape and record.images.is_contiguous()
    assert (distance(record.images, data.images, recipe.norm) <= 255 * recipe.eps + 1e-6).all()
    assert (record.images != data.images).any() and torch.equal(data.images, before)
    assert torch.equal(record.success, predict(model, record.images).argmax(1) != data.labels)
    exact = recipe.record(model, data.images.float() / 255, data.labels, seed=2)
    assert torch.equal(record.restarts, exact.restarts) and torch.equal(record.gradients, exact.gradients)
    assert (record.images.float() / 255 - exact.images).abs().max() <= (1.01 if recipe.norm == "l2" else 0.51) / 255
    assert record.model == "Double"


@every_recipe
def test_the_same_bytes_in_any_batch_and_order_and_from_any_container(recipe) -> None:
    data, model, index = pictures(), Double().eval(), torch.arange(N) + 70
    whole = attacks.attack(recipe, model, data, index=index, seed=5)
    split = attacks.attack(recipe, model, data.images, data.labels, index=index, seed=5, batch_size=7, name="twin")
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    shuffled = attacks.attack(recipe, model, data.subset(order), index=index[order], seed=5)
    for field in ("images", "success", "restarts", "gradients"):
        assert torch.equal(getattr(whole, field), getattr(split, field)), field
        assert torch.equal(getattr(whole, field)[order], getattr(shuffled, field)), field
    assert split.model == "twin"


def test_soft_labels_count_as_their_largest_entry() -> None:
    data, model = pictures(), Double().eval()
    soft = LabeledImages(data.images, nn.functional.one_hot(data.labels, K).float() * 0.9 + 0.01, data.classes, "soft")
    assert torch.equal(attacks.attack(attacks.BIM(), model, soft).images, attacks.attack(attacks.BIM(), model, data).images)


def test_images_wrong_from_the_start_are_marked_and_unmodified_when_stopping() -> None:
    data, model = pictures(), Double().eval()
    natural = predict(model, data.images).argmax(1) != data.labels
    for recipe in (attacks.PGD(stop_on_success=True), attacks.odi_bim_recipe("author")):
        record = attacks.attack(recipe, model, data)
        assert torch.equal(record.images[natural], data.images[natural]) and record.success[natural].all() and natural.any()
        assert torch.equal(record.gradients == 0, natural)


def test_rounding_can_undo_a_success_and_the_record_says_so() -> None:
    """At a radius of half a gray level no byte may change, whatever the floats do."""
    data, model = pictures(), Double().eval()
    recipe = attacks.PGD(eps=0.9 / 255, step_size=0.3 / 255, steps=20, random_start=False)
    floats = recipe.record(model, data.images.float() / 255, data.labels)
    record = attacks.attack(recipe, model, data)
    assert torch.equal(record.images, data.images)
    assert (floats.success & ~record.success).any()


def test_bad_data_is_refused_in_words() -> None:
    data, model = pictures(), Double().eval()
    for arguments, error, words in (
        ((data.images,), TypeError, "labels: expected int64"),
        ((data, data.labels), ValueError, "bring their own"),
        ((data.images.float(), data.labels), TypeError, "data: expected dtype torch.uint8"),
        ((data.images, data.labels[1:]), ValueError, "labels"),
        ((data.images[:0], data.labels[:0]), ValueError, "at least one image"),
        ((data.images, data.labels + 10), ValueError, "10 logits"),
        ((LabeledImages(data.images, data.labels, tuple("abcdefghijk"), "eleven"),), ValueError, "10 logits, but the data has 11"),
    ):
        with pytest.raises(error, match=words):
            attacks.attack(attacks.FGSM(), model, *arguments)
    with pytest.raises(ValueError, match="index"):
        attacks.attack(attacks.FGSM(), model, data, index=torch.arange(3))
    with pytest.raises(TypeError, match="model: expected float32 or float64 parameters"):
        attacks.attack(attacks.FGSM(), net(dtype=torch.float16), data)


# ------------------------------------------------------------------------------------------------------------------- sweep


@pytest.mark.parametrize("name", ["fgsm", "pgd", "pgd-l2", "odi-pgd", "odi-bim", "mi-fgsm"])
def test_a_sweep_is_one_attack_per_budget(name: str) -> None:
    images, labels = batch()
    model, recipe = net(), RECIPES[name]
    budgets = [recipe.eps / 4, recipe.eps, 0.0]
    records = attacks.sweep(recipe, budgets, model, images, labels, seed=3)
    assert len(records) == 3 and torch.equal(records[1].images, recipe(model, images, labels, seed=3))
    for eps, record in zip(budgets, records, strict=True):
        alone = attacks.with_eps(recipe, eps).record(model, images, labels, seed=3)
        assert torch.equal(record.images, alone.images) and torch.equal(record.success, alone.success)
        assert (distance(record.images, images, recipe.norm) <= eps + 1e-9).all()
    assert torch.equal(records[2].images, images) and records[2].success_rate <= records[0].success_rate <= records[1].success_rate


def test_a_sweep_keeps_the_shape_of_a_recipe_and_takes_images_at_rest() -> None:
    assert attacks.with_eps(attacks.PGD(EPS, EPS / 4, 7, loss="dlr"), EPS / 8) == attacks.PGD(EPS / 8, EPS / 32, 7, loss="dlr")
    assert attacks.with_eps(attacks.ODIBIM(), 0.5) == attacks.ODIBIM(eps=0.5) and attacks.with_eps(attacks.FGSM(), 0.5).eps == 0.5
    data, model = pictures(), Double().eval()
    for record, eps in zip(attacks.sweep(attacks.BIM(), [2 / 255, EPS], model, data), (2 / 255, EPS), strict=True):
        assert torch.equal(record.images, attacks.attack(attacks.with_eps(attacks.BIM(), eps), model, data).images)
    with pytest.raises(ValueError, match="budgets"):
        attacks.sweep(attacks.BIM(), [], model, data)


# ---------------------------------------------------------------------------------------------------------------- rounding


@pytest.mark.parametrize("levels", [0.3, 3.0, 40.0, 127.5])
def test_l2_rounding_stays_inside_and_near(levels: float) -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 256, (60, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    share = torch.linspace(0.2, 1.0, 60, dtype=torch.float64)[:, None, None, None]
    delta = share * levels * noise / noise.flatten(1).norm(dim=1)[:, None, None, None]
    floats = (clean.double() + delta).clamp(0, 255)
    stored = attacks.quantize(floats / 255, clean, levels / 255, "l2")
    assert (distance(stored, clean, "l2") <= levels + 1e-9).all()
    assert ((stored.double() - floats).abs() < 1).all()
    plain = floats.round()
    kept = distance(plain, clean, "l2") <= levels
    assert torch.equal(stored[kept], plain[kept].to(torch.uint8)), "what is inside is rounded to nearest"
    moved = distance(stored, plain, "l2")[~kept]
    assert kept.any() and (moved > 0).all() and (levels < 10 or (distance(stored, clean, "l2")[~kept] > levels - 0.5).all())


def test_unknown_norm() -> None:
    with pytest.raises(ValueError, match="Did you mean 'linf'"):
        attacks.quantize(torch.rand(1, 3, 2, 2), torch.zeros(1, 3, 2, 2, dtype=torch.uint8), norm="inf")
