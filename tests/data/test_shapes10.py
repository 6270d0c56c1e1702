"""shapes10: pictures depend on (seed, index, label) alone, classes are balanced, and only the outline tells the class."""

import pytest
import torch

from rtalib import shapes10
from rtalib.data.loading import load_dataset

GOLDEN_MEAN = [137.33, 87.84, 66.83, 82.69, 79.1, 72.18, 64.08, 111.19, 116.44, 122.57]
GOLDEN_STD = [39.47, 32.15, 48.68, 42.58, 54.51, 46.55, 34.41, 43.08, 28.38, 30.0]


def test_picture_does_not_depend_on_batch_or_order():
    index = torch.arange(60) * 7 + 3
    labels = torch.arange(60) % 10
    whole = shapes10.render(index, labels)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    assert torch.equal(shapes10.render(index[order], labels[order]), whole[order])
    parts = [shapes10.render(i, k) for i, k in zip(index.split(7), labels.split(7), strict=True)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(shapes10.render(index[5:6], labels[5:6]), whole[5:6])


def test_chunks_of_the_renderer_do_not_show(monkeypatch):
    data = shapes10.make("train", 40)
    monkeypatch.setattr(shapes10, "CHUNK_PIXELS", 3 * 32 * 32)
    assert torch.equal(shapes10.make("train", 40).images, data.images)


def test_golden_pictures():
    """Means and standard deviations of the first pictures, so that results stay comparable across versions of torch."""
    images = shapes10.make("train", 10).images.double()
    torch.testing.assert_close(images.mean(dim=(1, 2, 3)), torch.tensor(GOLDEN_MEAN).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(images.std(dim=(1, 2, 3)), torch.tensor(GOLDEN_STD).double(), atol=0.05, rtol=0)


def test_splits_are_disjoint_and_prefixes_balanced():
    train, test = shapes10.numbers("train"), shapes10.numbers("test")
    assert (len(train[0]), len(test[0])) == (20_000, 5_000)
    assert not set(train[0].tolist()) & set(test[0].tolist())
    for _, labels in (train, test):
        for n in (10, 33, 777):
            counts = labels[:n].bincount(minlength=10)
            assert counts.max() - counts.min() <= 1
    assert not torch.equal(shapes10.make("train", 10).images, shapes10.make("test", 10).images)


def test_seed_changes_every_picture():
    one, other = shapes10.make("train", 20, seed=0).images, shapes10.make("train", 20, seed=1).images
    assert (one != other).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("size", [16, 32, 64])
def test_sizes_show_the_same_picture(size):
    """A picture drawn at another size and averaged down is nearly the one drawn small."""
    index, labels = torch.arange(20), torch.arange(20) % 10
    images = shapes10.render(index, labels, size=size)
    assert images.shape == (20, 3, size, size) and images.dtype == torch.uint8
    small = shapes10.render(index, labels, size=16).float()
    averaged = torch.nn.functional.avg_pool2d(images.float(), size // 16)
    assert (averaged - small).abs().mean() < 6.0


def test_outlines_match_brute_force_areas():
    """Each outline encloses its area: counted on a grid against closed formulas."""
    step = torch.linspace(-1.5, 1.5, 601)
    y, x = (g.reshape(1, -1) for g in torch.meshgrid(step, step, indexing="ij"))
    pi, sin = torch.pi, lambda degrees: float(torch.sin(torch.deg2rad(torch.tensor(float(degrees)))))
    expected = {
        "circle": pi * 0.86**2,
        "square": 2.0,
        "triangle": 3 / 2 * 1.08**2 * sin(120),
        "star": 5 * 1.08 * 0.47 * sin(36),
        "cross": 4 * 2 * 0.29 * (0.95 - 0.29) + (2 * 0.29) ** 2,
        "ring": pi * (0.90**2 - 0.42**2),
        "hexagon": 3 * 0.95**2 * sin(60),
        "heart": (2 * 0.54) ** 2 + pi * 0.54**2,
        "arrow": 0.82 * 0.9 + 0.64 * 1.05,
    }
    for name, area in expected.items():
        distance = shapes10._distance(x, y, torch.tensor([shapes10.CLASSES.index(name)]))
        assert (distance < 0).double().mean().item() * 3.005**2 == pytest.approx(area, rel=0.02), name
        assert (distance[0].reshape(601, 601).diff(dim=1).abs() <= 0.005 * 1.001).all(), f"{name}: a distance grows by one per unit at most"


def test_colour_and_texture_do_not_tell_the_class():
    """With the outline swapped for another, all pixels far from both outlines stay as they were."""
    index = torch.arange(30)
    one, other = (shapes10.render(index, torch.full((30,), k)).int() for k in (0, 1))
    border = torch.cat([one[:, :, 0], one[:, :, -1]], dim=2) - torch.cat([other[:, :, 0], other[:, :, -1]], dim=2)
    assert (border.abs() <= 12).all()  # the shadow of the shape may reach the border
    # Figures are mostly lighter than the ground, so the mean colour knows the area of the outline, but little more than chance.
    data = shapes10.make("train", 2000)
    inputs = torch.cat([data.images.float().mean(dim=(2, 3)) / 255, torch.ones(2000, 1)], dim=1)
    weights = torch.linalg.lstsq(inputs[:1000], torch.nn.functional.one_hot(data.labels[:1000]).float()).solution
    assert ((inputs[1000:] @ weights).argmax(dim=1) == data.labels[1000:]).float().mean() < 0.2


def test_shapes_are_seen():
    """Another class at the same index is another picture."""
    index = torch.arange(30)
    drawn = torch.stack([shapes10.render(index, torch.full((30,), k)) for k in range(10)]).int()
    for a in range(10):
        for b in range(a):
            change = (drawn[a] - drawn[b]).abs().amax(dim=1).flatten(1).float()
            assert (change > 12).sum(dim=1).min() >= 4, (shapes10.CLASSES[a], shapes10.CLASSES[b])


def test_bad_input_is_refused():
    three = torch.arange(3)
    with pytest.raises(ValueError, match="labels: expected classes 0-9"):
        shapes10.render(three, three + 8)
    with pytest.raises(ValueError, match="labels: expected classes 0-9"):
        shapes10.render(three, three - 1)
    with pytest.raises(ValueError, match="one label per index"):
        shapes10.render(three, torch.arange(4))
    with pytest.raises(ValueError, match="size"):
        shapes10.render(three, three, size=8)
    with pytest.raises(ValueError, match="Did you mean 'train'"):
        shapes10.make("trian")
    with pytest.raises(ValueError, match="n: expected"):
        shapes10.make("train", 0)
    assert shapes10.render(three[:0], three[:0]).shape == (0, 3, 32, 32)


def test_load_dataset_draws_the_same_pictures():
    data = load_dataset("shapes10", "test", limit=30, seed=3)
    assert data.hard_labels.bincount().tolist() == [3] * 10
    again = load_dataset("shapes10", "test", limit=30, seed=3)
    assert data.digest == again.digest != load_dataset("shapes10", "test", limit=30, seed=4).digest
