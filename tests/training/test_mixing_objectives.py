"""AugMix and CutMix in training: the losses against their definitions, what the batches become, and resumed trainings."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rtalib import models, shapes10
from rtalib.augment.style_transfer import restyle
from rtalib.data.images import pixels
from rtalib.training.loop import train
from rtalib.training.mixing import AugMixLoss, CutMixLoss, jensen_shannon
from rtalib.training.recipes import RECIPES

K = 4


class Double(nn.Module):
    """Logits from a linear layer, and an auxiliary head's in train mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head, self.other = nn.Linear(3 * 64, K), nn.Linear(3 * 64, K)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.head(x.flatten(1)), self.other(x.flatten(1))


class Seen(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.x = x
        return torch.zeros(len(x), K, requires_grad=True)


def batch(n: int = 6, side: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (n, 3, side, side), generator=generator, dtype=torch.uint8)
    return pixels(images), torch.randint(0, K, (n,), generator=generator)


def test_jensen_shannon_is_zero_when_views_coincide_and_its_definition_otherwise() -> None:
    logits = 5 * torch.randn(3, 7, 10, generator=torch.Generator().manual_seed(1))
    assert abs(float(jensen_shannon(logits[0], logits[0], logits[0]))) < 1e-6
    p = logits.double().softmax(2)
    m = p.mean(0).clamp(1e-7, 1)
    assert float(jensen_shannon(*logits)) == pytest.approx(float((p * (p / m).log()).sum() / (3 * 7)), rel=1e-5)
    sure = torch.tensor([[300.0, 0.0, -300.0]], requires_grad=True)  # probabilities that underflow
    jensen_shannon(sure, sure.flip(1), torch.zeros(1, 3)).backward()
    assert bool(torch.isfinite(sure.grad).all())
    assert float(jensen_shannon(sure, sure.flip(1)).detach()) <= torch.tensor(2.0).log() + 1e-6


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_augmix_loss_is_cross_entropy_on_clean_images_and_twelve_times_the_divergence(weight: float) -> None:
    (x, y), model = batch(), Double()
    found = AugMixLoss(5, auxiliary_weight=weight)(model, x, y)
    first, second = pixels(AugMixLoss(5).views(x)).chunk(2)
    logits = [model(part)[0] for part in (x, first, second)]
    expected = F.cross_entropy(logits[0], y) + 12 * jensen_shannon(*logits) + weight * F.cross_entropy(model(x)[1], y)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert not torch.equal(first, second) and not torch.equal(first, x)
    assert set(map(tuple, [first.shape, second.shape])) == {tuple(x.shape)}


def test_the_network_sees_the_batch_and_two_views_of_it_at_once() -> None:
    (x, y), seen = batch(), Seen()
    AugMixLoss(5)(seen, x, y)
    assert len(seen.x) == 18 and torch.equal(seen.x[:6], x)


def test_views_are_drawn_anew_in_every_batch_and_epoch() -> None:
    x, _ = batch()
    loss = AugMixLoss(3)
    one, two = loss.views(x), loss.views(x)
    loss.start_epoch(1)
    three = loss.views(x)
    loss.start_epoch(0)
    assert torch.equal(loss.views(x), one)
    assert not torch.equal(one, two) and not torch.equal(one, three) and not torch.equal(AugMixLoss(4).views(x), one)


def test_styles_of_the_references_reach_the_views() -> None:
    x, _ = batch(64)
    black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    plain, styled = AugMixLoss(0).views(x), AugMixLoss(0, references=black).views(x)
    assert styled.float().mean() < plain.float().mean() - 10
    assert int(restyle(plain, black.expand_as(plain)).max()) < 255


def test_cutmix_gives_every_image_the_same_box_and_weighs_labels_by_its_pixels() -> None:
    levels = torch.arange(1, 9).view(-1, 1, 1, 1).expand(8, 3, 16, 16) / 8
    loss = CutMixLoss(1, probability=1.0)
    shares = []
    for _ in range(30):
        mixed, partner, share = loss.mixed(levels)
        assert partner.sort().values.tolist() == list(range(8))
        foreign = mixed != levels
        for i in range(8):
            if partner[i] != i:
                assert float(foreign[i, 0].float().mean()) == pytest.approx(float(share), abs=1e-6)
                assert bool((mixed[i][foreign[i]] == levels[partner[i], 0, 0, 0]).all())
        boxes = foreign[partner != torch.arange(8)]
        assert bool((boxes == boxes[:1]).all())
        shares.append(float(share))
    assert 0.05 < sum(shares) / 30 < 0.7 and len(set(shares)) > 10


@pytest.mark.parametrize("weight", [0.0, 0.4])
@pytest.mark.parametrize("soft", [False, True])
def test_cutmix_loss_is_the_weighed_sum_of_both_labels_losses(soft: bool, weight: float) -> None:
    (x, y), model = batch(), Double()
    y = F.one_hot(y, K) * 0.8 + 0.05 if soft else y
    found = float(CutMixLoss(9, probability=1.0, auxiliary_weight=weight)(model, x, y).detach())
    mixed, partner, share = CutMixLoss(9, probability=1.0).mixed(x)
    logits, auxiliary = model(mixed)

    def both(part: torch.Tensor) -> torch.Tensor:
        return (1 - share) * F.cross_entropy(part, y) + share * F.cross_entropy(part, y[partner])

    assert 0 < float(share) < 1 and found == pytest.approx(float((both(logits) + weight * both(auxiliary)).detach()), rel=1e-5)


def test_cutmix_mixes_about_half_of_the_batches() -> None:
    (x, _), loss = batch(), CutMixLoss(0)
    mixed = sum(not torch.equal(loss.mixed(x)[0], x) for _ in range(200))
    assert 70 <= mixed <= 120  # a box may be empty, or an image its own partner
    assert all(torch.equal(CutMixLoss(0, probability=0.0).mixed(x)[0], x) for _ in range(5))


def test_a_missing_auxiliary_head_is_named() -> None:
    x, y = batch()
    for loss in (AugMixLoss(0, auxiliary_weight=0.4), CutMixLoss(0, auxiliary_weight=0.4)):
        with pytest.raises(ValueError, match="auxiliary_weight=0.4: the model returned no auxiliary logits"):
            loss(Seen(), x, y)


class Stop(Exception):
    pass


STYLES = shapes10.make("test", 6).images


@pytest.mark.parametrize("make", [AugMixLoss, CutMixLoss, lambda seed: AugMixLoss(seed, references=STYLES)])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(tmp_path, make) -> None:
    data, recipe = shapes10.make("train", 50), replace(RECIPES["fast"].scaled(3), batch_size=16)

    def fit(**options):
        model = models.seeded(lambda: models.build("tiny"), 1)
        return model, train(model, data, recipe, seed=7, objective=make(7), precision="fp32", **options)

    def interrupt(model, row):
        if row["epoch"] == 2:
            raise Stop

    whole, history = fit()
    with pytest.raises(Stop):
        fit(checkpoint=tmp_path / "c.pt", on_epoch=interrupt)
    resumed, again = fit(checkpoint=tmp_path / "c.pt")
    assert [row["loss"] for row in history] == [row["loss"] for row in again]
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True))
