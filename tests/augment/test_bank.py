"""RTA's bank and draw, Cutout; TrivialAugment against torchvision's own operations."""

import math
import sys

import pytest
import torch
from torch import nn

from rtalib import attacks, augment
from rtalib.augment.trivial_augment import BINS, SIGNED, TRIVIAL_OPERATIONS, apply_trivial, magnitudes
from rtalib.corruptions import CORRUPTIONS, corrupt
from rtalib.data.images import LabeledImages

N, K, SIDE = 40, 4, 32


class Net(nn.Module):
    """A tiny smooth classifier in float64, so that sums do not depend on how a batch is split."""

    def __init__(self, seed: int, sharpness: float = 20.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.convolution = nn.Conv2d(3, 6, 5, stride=4).double()
        self.head = nn.Linear(6 * 7 * 7, K).double()
        self.sharpness = sharpness

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sharpness * self.head(torch.tanh(self.convolution(x.double() - 0.5)).flatten(1))


def pictures(n: int = N) -> LabeledImages:
    """Smooth random pictures, labeled by the first source."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(n, 3, 5, 5, generator=generator)
    images = (nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear") * 255).round().to(torch.uint8)
    labels = Net(0)(images.float() / 255).argmax(1)
    return LabeledImages(images, labels, tuple("abcd"), "pictures")


def sources() -> dict[str, nn.Module]:
    return {"first": Net(0), "second": Net(1)}


# ---------------------------------------------------------------------------------------------------------------------- RTA


def test_rta_is_one_named_operation_per_image() -> None:
    data, bank = pictures(80), sources()
    found, drawn = augment.rta(data, bank, seed=4, restarts=2)
    assert found.images.dtype == torch.uint8 and found.images.shape == data.images.shape and len(drawn) == len(data)
    assert torch.equal(found.labels, data.labels) and found.classes == data.classes
    assert set(drawn) <= {*CORRUPTIONS, *bank} and set(drawn) & set(bank)
    for name in set(drawn) & set(CORRUPTIONS):
        at = torch.tensor([i for i, operation in enumerate(drawn) if operation == name])
        assert torch.equal(found.images[at], corrupt(data.images, name, 2, seed=4, benchmark="imagecorruptions")[at])
    for name, model in bank.items():
        at = torch.tensor([i for i, operation in enumerate(drawn) if operation == name])
        clean = data.images[at]
        expected = attacks.odi_bim(model, clean.float() / 255, data.labels[at], seed=4, index=at, restarts=2)
        assert torch.equal(found.images[at], attacks.quantize(expected, clean))
        assert (found.images[at].int() - clean.int()).abs().max() <= 8


def test_rta_does_not_depend_on_how_the_data_is_split() -> None:
    data, bank = pictures(), sources()
    whole, drawn = augment.rta(data, bank, seed=1, copy=2, restarts=2)
    again, drawn_again = augment.rta(data, bank, seed=1, copy=2, restarts=2, batch_size=3)
    assert torch.equal(whole.images, again.images) and drawn == drawn_again
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    for at in order.split(13):
        part, names = augment.rta(data.subset(at), bank, seed=1, copy=2, restarts=2, index=at)
        assert torch.equal(part.images, whole.images[at]) and names == [drawn[i] for i in at]


def test_copies_and_seeds_are_fresh_draws_and_soft_labels_pass_through() -> None:
    data = pictures()
    soft = LabeledImages(data.images, nn.functional.one_hot(data.labels, K).float() * 0.9 + 0.025, data.classes, "soft")
    first, drawn = augment.rta(soft, sources(), restarts=1)
    hard, _ = augment.rta(data, sources(), restarts=1)
    assert torch.equal(first.labels, soft.labels) and torch.equal(first.images, hard.images)
    others = [augment.rta(soft, sources(), restarts=1, **other)[1] for other in ({"copy": 1}, {"seed": 1}, {"seed": 1, "copy": 1})]
    for a, b in ((drawn, others[0]), (drawn, others[1]), (others[0], others[1]), (others[1], others[2])):
        same = sum(x == y for x, y in zip(a, b, strict=True))
        assert same < N / 2


@pytest.mark.parametrize("count", [15, 30])
def test_the_draw_is_uniform_over_the_flat_list(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment.Bank, "apply", lambda self, operation, data, **options: data.images)
    n = 30_000
    data = LabeledImages(torch.zeros(n, 3, 1, 1, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64), ("a",), "many")
    bank = augment.Bank({f"source{k}": Net(0) for k in range(count - 15)})
    assert len(bank.operations) == count and bank.operations[:15] == CORRUPTIONS
    copies = [bank.draw(data, seed=6, copy=copy)[1] for copy in range(2)]
    expected = n / count
    for drawn in copies:
        chi_square = sum((drawn.count(name) - expected) ** 2 / expected for name in bank.operations)
        # Mean count-1, deviation sqrt(2 (count-1)): five deviations.
        assert chi_square < count - 1 + 5 * math.sqrt(2 * (count - 1))
    same = sum(a == b for a, b in zip(*copies, strict=True)) / n
    assert same == pytest.approx(1 / count, abs=5 * math.sqrt(1 / count / n))


def test_without_sources_the_draw_is_over_the_corruptions() -> None:
    data = pictures()
    found, drawn = augment.rta(data, {}, seed=2, severity=3, benchmark="cifar10-c")
    assert set(drawn) <= set(CORRUPTIONS) and len(set(drawn)) > 8
    index = torch.arange(N)
    for i in (0, 7, 21):
        at = slice(i, i + 1)
        expected = corrupt(data.images[at], drawn[i], 3, seed=2, index=index[at], benchmark="cifar10-c")
        assert torch.equal(found.images[at], expected)
    part, names = augment.rta(data.subset([5, 3]), {}, seed=2, severity=3, benchmark="cifar10-c", index=torch.tensor([5, 3]))
    assert torch.equal(part.images, found.images[[5, 3]]) and names == [drawn[5], drawn[3]]


def test_low_logits_are_decided_per_source() -> None:
    data = pictures()
    bank = {"sharp": Net(0, 200.0), "flat": Net(0, 0.1)}
    chosen = augment.Bank.for_data(data, bank, severity=3)
    assert chosen == augment.Bank(bank, severity=3, low_logits=frozenset({"flat"}))
    assert augment.Bank.for_data(data, bank, preset="logits").low_logits == frozenset()
    assert chosen.recipe("flat").blocks == 2 and chosen.recipe("flat").space == "logits"
    assert chosen.recipe("sharp") == attacks.ODIBIM()


def test_bank_refuses_unknown_and_ambiguous_names() -> None:
    data, bank = pictures(4), augment.Bank(sources())
    with pytest.raises(ValueError, match="Did you mean 'first'"):
        bank.apply("firsd", data)
    with pytest.raises(ValueError, match="fog"):
        augment.Bank({"fog": Net(0)})
    with pytest.raises(ValueError, match="preset"):
        augment.rta(pictures(30), sources(), preset="autor")
    with pytest.raises(ValueError, match="seed"):
        augment.rta(data, {}, seed=-1)
    with pytest.raises(ValueError, match="index"):
        augment.rta(data, {}, index=torch.arange(3))


@pytest.mark.parametrize("recipe", [attacks.FGSM(), attacks.BIM(steps=3), attacks.PGD(steps=3), attacks.odi_bim_recipe(restarts=1)])
def test_adversarial_copies_are_the_quantized_attack(recipe) -> None:
    data, model = pictures(), Net(0)
    index = torch.arange(N) + 50
    found = attacks.attack(recipe, model, data, seed=3, index=index, batch_size=7).images
    whole = recipe(model, data.images.float() / 255, data.labels, seed=3, index=index)
    assert torch.equal(found, attacks.quantize(whole, data.images))
    accuracy = (model(found.float() / 255).argmax(1) == data.labels).double().mean()
    assert accuracy < 0.5, "the source labeled the clean images, so it was right on all of them"


def test_quantize_rounds_and_stays_in_the_ball() -> None:
    clean = torch.tensor([0, 3, 100, 250, 255], dtype=torch.uint8)
    x = torch.clamp(clean.double() / 255 + 8 / 255, max=1.0)
    assert attacks.quantize(x, clean).tolist() == [8, 11, 108, 255, 255]
    assert attacks.quantize(x + 0.4 / 255, clean).tolist() == [8, 11, 108, 255, 255]
    assert attacks.quantize(x + 3 / 255, clean).tolist() == [8, 11, 108, 255, 255]
    assert attacks.quantize(torch.zeros(5), clean).tolist() == [0, 0, 92, 242, 247]
    assert attacks.quantize(x.float(), clean, eps=0.031).tolist() == [7, 10, 107, 255, 255]
    with pytest.raises(ValueError, match="uint8 clean"):
        attacks.quantize(x, x)


# ------------------------------------------------------------------------------------------------------------------- Cutout


def test_cutout_is_one_clipped_square_of_the_mean() -> None:
    n = 2000
    images = torch.zeros(n, 3, SIDE, SIDE, dtype=torch.uint8)
    found = augment.cutout(images, seed=0, index=torch.arange(n))
    hole = found[:, 0] == 125
    assert torch.equal(found[:, 1] == 123, hole) and torch.equal(found[:, 2] == 114, hole)
    assert torch.equal(found != 0, hole[:, None].expand_as(found))
    heights, widths = hole.any(2).sum(1), hole.any(1).sum(1)
    assert torch.equal(hole.sum((1, 2)), heights * widths), "a rectangle"
    assert heights.min() == 8 and heights.max() == 16 and widths.min() == 8 and widths.max() == 16
    assert hole[heights == 8][:, 0].any(1).all(), "it reaches 8 pixels up and 7 down from its center, so 8 rows remain only on top"
    # Centers uniform over 32 pixels: mean side 16 - 2 * (0 + ... + 8) / 32 with the even square's one-sided clipping.
    sides = [min(c + 8, SIDE) - max(c - 8, 0) for c in range(SIDE)]
    assert heights.double().mean().item() == pytest.approx(sum(sides) / SIDE, abs=0.25)
    covered = hole.double().mean(0)
    assert covered[16, 16].item() == pytest.approx(0.25, abs=0.05) and covered[0, 0].item() == pytest.approx((9 / 32) ** 2, abs=0.03)


def test_cutout_depends_on_seed_and_index_alone() -> None:
    data = pictures()
    index = torch.arange(N) + 9
    whole = augment.cutout(data.images, seed=1, index=index, size=9, fill=(1, 2, 3))
    at = torch.tensor([30, 2, 17])
    assert torch.equal(augment.cutout(data.images[at], seed=1, index=index[at], size=9, fill=(1, 2, 3)), whole[at])
    assert not torch.equal(augment.cutout(data.images, seed=2, index=index, size=9, fill=(1, 2, 3)), whole)
    with pytest.raises(ValueError, match="size"):
        augment.cutout(data.images, seed=1, index=index, size=0)
    with pytest.raises(ValueError, match="fill"):
        augment.cutout(data.images, seed=1, index=index, fill=(0.5, 300, 1))
    with pytest.raises(TypeError, match="uint8"):
        augment.cutout(data.images.float(), seed=1, index=index)


# ----------------------------------------------------------------------------------------------------------- TrivialAugment


@pytest.mark.parametrize("operation", TRIVIAL_OPERATIONS)
def test_each_trivial_operation_is_torchvisions(operation: str) -> None:
    autoaugment = pytest.importorskip("torchvision.transforms.autoaugment")
    images = pictures(6).images
    levels = magnitudes(operation)
    for level in {0, 1, 7, 19, len(levels) - 1}:
        for sign in (1, -1) if operation in SIGNED else (1,):
            value = sign * levels[level % len(levels)]
            expected = [autoaugment._apply_op(image, operation, value, autoaugment.InterpolationMode.NEAREST, None) for image in images]
            assert torch.equal(apply_trivial(images, operation, value), torch.stack(expected)), (operation, value)


def test_the_wide_space_is_torchvisions_and_the_narrow_one_is_narrower() -> None:
    autoaugment = pytest.importorskip("torchvision.transforms.autoaugment")
    space = autoaugment.TrivialAugmentWide()._augmentation_space(BINS)
    assert set(space) == set(TRIVIAL_OPERATIONS)
    for name, (levels, signed) in space.items():
        assert magnitudes(name) == levels.reshape(-1).tolist() and signed == (name in SIGNED)
    randaugment = autoaugment.RandAugment()._augmentation_space(BINS, (SIDE, SIDE))
    for name in ("ShearX", "ShearY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize"):
        assert magnitudes(name, wide=False) == randaugment[name][0].tolist()
    assert magnitudes("TranslateX", wide=False)[-1] == 10


def negative(images: torch.Tensor, *, seed: int, index: torch.Tensor) -> torch.Tensor:
    """Needs its index: images with an odd one are turned to their negatives."""
    odd = (index % 2 == 1)[:, None, None, None]
    return torch.where(odd, 255 - images, images)


def test_an_operation_of_your_own_is_drawn_with_the_others() -> None:
    data, bank = pictures(80), augment.Bank(extra={"negative": negative}, weights={"negative": 15.0})
    images, drawn = bank.draw(data, seed=2)
    at = torch.tensor([i for i, name in enumerate(drawn) if name == "negative"])
    assert bank.operations == (*CORRUPTIONS, "negative") and 20 < len(at) < 60
    assert torch.equal(images[at], negative(data.images[at], seed=2, index=at))
    with pytest.raises(ValueError, match="extra: .'fog'. are names"):
        augment.Bank(extra={"fog": negative})


def test_weights_decide_how_often_an_operation_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = augment.Bank(identity=True, weights={"fog": 3.0, "snow": 0.0, "identity": 2.0})
    monkeypatch.setattr(augment.Bank, "apply", lambda self, operation, data, **_: data.images)
    n = 20_000
    data = LabeledImages(torch.zeros(n, 3, 1, 1, dtype=torch.uint8), torch.arange(n) % 2, ("a", "b"), "dots")
    names = bank.draw(data, seed=2)[1]
    shares = {name: names.count(name) / n for name in bank.operations}
    assert shares["snow"] == 0
    for name, weight in ("fog", 3), ("identity", 2), ("gaussian_noise", 1), ("jpeg_compression", 1):
        share = weight / (13 + 3 + 2)
        assert shares[name] == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / n))


def test_identity_leaves_the_image() -> None:
    data = pictures()
    found, names = augment.rta(data, {}, seed=1, identity=True, weights={name: 0.0 for name in CORRUPTIONS})
    assert set(names) == {"identity"} and torch.equal(found.images, data.images)
    with pytest.raises(ValueError, match="unknown operation 'identity'"):
        augment.Bank().apply("identity", data)
    for wrong, message in (
        ({"fogg": 1.0}, "Did you mean 'fog'"),
        ({"fog": -1.0}, r"weights\['fog'\]: expected"),
        ({"fog": float("nan")}, "weights"),
    ):
        with pytest.raises(ValueError, match=message):
            augment.Bank(weights=wrong)
    with pytest.raises(ValueError, match="all are zero"):
        augment.Bank(weights={name: 0.0 for name in CORRUPTIONS})


def test_trivial_augment_draws_uniformly_and_per_image(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[tuple[str, float], int] = {}

    def note(images: torch.Tensor, operation: str, magnitude: float) -> torch.Tensor:
        seen[operation, magnitude] = seen.get((operation, magnitude), 0) + len(images)
        return images

    monkeypatch.setattr(sys.modules[augment.trivial_augment.__module__], "apply_trivial", note)
    n = 56_000
    augment.trivial_augment(torch.zeros(n, 3, 1, 1, dtype=torch.uint8), seed=0, index=torch.arange(n))
    for name in TRIVIAL_OPERATIONS:
        counts = {value: count for (operation, value), count in seen.items() if operation == name}
        assert sum(counts.values()) == pytest.approx(n / 14, abs=5 * math.sqrt(n / 14))
        if name in SIGNED:
            assert set(counts) == {sign * value for value in magnitudes(name) for sign in (1, -1)}
            assert sum(count for value, count in counts.items() if value < 0) == pytest.approx(n / 28 * 30 / 31, abs=5 * math.sqrt(n / 28))
        else:
            assert set(counts) == set(magnitudes(name))
        assert max(counts.values()) < n / 14 or len(counts) == 1


@pytest.mark.parametrize("wide", [True, False])
def test_trivial_augment_depends_on_seed_and_index_alone(wide: bool) -> None:
    images = pictures(60).images
    index = torch.arange(60) + 7
    whole = augment.trivial_augment(images, seed=1, index=index, wide=wide)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    parts = [augment.trivial_augment(images[at], seed=1, index=index[at], wide=wide) for at in order.split(11)]
    assert torch.equal(torch.cat(parts), whole[order])
    changed = (augment.trivial_augment(images, seed=2, index=index, wide=wide) != whole).flatten(1).any(1)
    assert changed.double().mean() > 0.5 and images.dtype == whole.dtype
    with pytest.raises(ValueError, match="index"):
        augment.trivial_augment(images, seed=1, index=index[:3])
    with pytest.raises(ValueError, match="Did you mean 'Rotate'"):
        magnitudes("rotate")
