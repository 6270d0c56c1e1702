"""CutMix: boxes, partners and labels recomputed one image at a time, and the laws of the draws."""

import math

import numpy as np
import pytest
import torch

from rtalib.augment.cutmix import cutmix
from rtalib.data.images import LabeledImages

K = 4


def flats(n: int, height: int = 32, width: int = 32, soft: bool = False) -> LabeledImages:
    """Image i is flat with level i, of class i % K: a pixel tells where it comes from."""
    images = torch.arange(n).view(-1, 1, 1, 1).expand(-1, 3, height, width).to(torch.uint8)
    labels = torch.arange(n) % K
    if soft:
        labels = torch.nn.functional.one_hot(labels, K).float() * 0.8 + 0.05
    return LabeledImages(images.contiguous(), labels, tuple("abcd"), "flats")


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("height, width", [(32, 32), (24, 40)])
def test_box_is_a_rectangle_of_one_partner_and_labels_weigh_its_area(soft: bool, height: int, width: int) -> None:
    data = flats(200, height, width, soft)
    mixed = cutmix(data, seed=2, probability=1.0)
    given = flats(200, height, width, True).labels if soft else torch.nn.functional.one_hot(data.labels, K).float()
    assert mixed.images.dtype == torch.uint8 and mixed.labels.dtype == torch.float32 and mixed.labels.shape == (200, K)
    assert torch.allclose(mixed.labels.sum(1), torch.ones(200), atol=1e-6)
    boxes = 0
    for i, (image, label) in enumerate(zip(mixed.images, mixed.labels, strict=True)):
        assert bool((image[0] == image).all())
        box = image[0] != i
        if not box.any():
            assert torch.equal(label, given[i])
            continue
        boxes += 1
        rows, columns = (box.any(axis).nonzero().flatten() for axis in (1, 0))
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        inside = image[:, top:bottom, left:right]
        partner = int(inside[0, 0, 0])
        assert bool((inside == partner).all()) and int(box.sum()) == (bottom - top) * (right - left)
        share = (bottom - top) * (right - left) / (height * width)
        assert torch.allclose(label, (1 - share) * given[i] + share * given[partner], atol=1e-6)
    assert boxes > 150
    assert mixed.name == "flats-cutmix" and mixed.classes == data.classes


def test_probability_zero_and_the_input_is_left_alone() -> None:
    data = flats(20)
    before = data.digest
    mixed = cutmix(data, seed=0, probability=0.0)
    assert torch.equal(mixed.images, data.images) and torch.equal(mixed.labels.argmax(1), data.labels)
    assert mixed.labels.max() == 1 and mixed.labels.dtype == torch.float32
    soft = flats(20, soft=True)
    assert torch.equal(cutmix(soft, seed=0, probability=0.0).labels, soft.labels)
    cutmix(data, seed=0, probability=1.0)
    cutmix(soft, seed=0, probability=1.0)
    assert data.digest == before and soft.digest == flats(20, soft=True).digest


def test_slices_and_order_with_the_whole_as_partners() -> None:
    data, index = flats(60), torch.arange(500, 560)
    whole = cutmix(data, seed=7, index=index)
    for at in torch.randperm(60, generator=torch.Generator().manual_seed(0)).split(17):
        part = cutmix(data.subset(at), seed=7, index=index[at], partners=data)
        assert torch.equal(part.images, whole.images[at]) and torch.equal(part.labels, whole.labels[at])
    assert not torch.equal(cutmix(data, seed=8, index=index).images, whole.images)
    assert not torch.equal(cutmix(data, seed=7).images, whole.images)


def single_rows(n: int) -> LabeledImages:
    """Many tiny black images of class a."""
    return LabeledImages(torch.zeros(n, 3, 20, 20, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64), ("a", "b"), "black")


@pytest.mark.parametrize("beta", [1.0, 0.4, 3.0])
def test_boxes_have_the_published_law(beta: float) -> None:
    """White partners show each box. Areas and places against the published box with NumPy's draws."""
    stats = pytest.importorskip("scipy.stats")
    n, side = 6000, 20
    white = LabeledImages(torch.full((1, 3, side, side), 255, dtype=torch.uint8), torch.tensor([1]), ("a", "b"), "white")
    mixed = cutmix(single_rows(n), seed=1, beta=beta, probability=1.0, partners=white)
    ours = mixed.images[:, 0] == 255
    assert torch.allclose(mixed.labels[:, 1], ours.sum((1, 2)) / side**2, atol=1e-6)
    generator = np.random.default_rng(0)
    half = (side * np.sqrt(1 - generator.beta(beta, beta, n))).astype(int)[:, None] // 2
    theirs = [np.abs(np.arange(side) + 0.5 - generator.integers(0, side, (n, 1))) < half for _ in range(2)]
    cover = theirs[0][:, :, None] & theirs[1][:, None, :]
    # areas are discrete, which makes this test conservative
    assert stats.ks_2samp(ours.sum((1, 2)).numpy(), cover.sum((1, 2))).pvalue > 1e-3
    assert float((ours.double().mean(0) - torch.from_numpy(cover.mean(0))).abs().max()) < 5 * math.sqrt(2 * 0.25 / n)


def test_share_of_mixed_images_and_partners_are_uniform() -> None:
    n = 6000
    ten = LabeledImages(
        torch.arange(1, 11).view(-1, 1, 1, 1).expand(-1, 3, 20, 20).to(torch.uint8), torch.ones(10, dtype=torch.int64), ("a", "b"), "ten"
    )
    probability = 0.3
    always = cutmix(single_rows(n), seed=3, probability=1.0, partners=ten).images.amax((1, 2, 3)).long()
    mixed = cutmix(single_rows(n), seed=3, probability=probability, partners=ten).images.amax((1, 2, 3)).long()
    # boxes can be empty: the draw that mixes is independent of them
    shown = always > 0
    share = float((mixed[shown] > 0).double().mean())
    assert abs(share - probability) < 5 * math.sqrt(probability * (1 - probability) / int(shown.sum()))
    assert torch.equal(mixed[mixed > 0], always[mixed > 0])
    counts = always[shown].bincount(minlength=11)[1:].double()
    expected = float(counts.mean())
    assert float(((counts - expected) ** 2 / expected).sum()) < 9 + 5 * math.sqrt(18)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"beta": 0.0}, "beta: .*0.05.*0.0"),
        ({"beta": float("nan")}, "beta: .*nan"),
        ({"probability": -0.1}, "probability: expected 0 to 1, got -0.1"),
        ({"probability": 1.5}, "probability: .*1.5"),
        ({"index": torch.arange(3)}, r"index: expected int64 \(8,\)"),
        ({"index": torch.arange(8.0)}, "index: .*float32"),
        ({"partners": flats(4, 16, 16)}, r"partners: expected images \(3, 32, 32\).*\(3, 16, 16\)"),
        ({"partners": LabeledImages(flats(4).images, torch.zeros(4, dtype=torch.int64), ("x",), "other")}, "partners: 'other' has other"),
    ],
)
def test_bad_input_is_named(change: dict, words: str) -> None:
    with pytest.raises(TypeError if "float32" in words else ValueError, match=words):
        cutmix(flats(8), seed=0, **change)
