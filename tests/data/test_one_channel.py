"""MNIST and its kin, one channel and 28 pixels, go the whole way: corrupted, trained on, searched on, exported."""

import numpy as np
import pytest
import torch
from corrupted_sets import write
from stripes import CHEAP
from torch import nn

from rtalib import attacks
from rtalib.augment import trivial_augment
from rtalib.corruptions import corrupt
from rtalib.corruptions.psnr import psnr
from rtalib.darts import search
from rtalib.data.export import export
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.models import build
from rtalib.training import Recipe, evaluate, predict, train


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    """As keras writes it: bars in four directions on black."""
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    labels = np.arange(80) % 4
    x, y = np.meshgrid(np.arange(28), np.arange(28))
    waves = np.stack([x, y, x + y, x - y])[labels] + generator.integers(0, 9, (80, 1, 1))
    images = (200 * (waves % 9 < 4) + generator.integers(0, 56, (80, 28, 28))).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=images[:60], y_train=labels[:60], x_test=images[60:], y_test=labels[60:])
    return tmp_path / "mnist.npz"


def test_the_whole_way(mnist, tmp_path):
    data, test = load_dataset(mnist, "train"), load_dataset(mnist, "test")
    assert data.images.shape == (60, 3, 28, 28) and torch.equal(data.images[:, 0], data.images[:, 2])
    write(mnist, tmp_path / "out", corruptions=["fog"])
    made = np.load(tmp_path / "out" / "fog.npy")
    assert np.array_equal(made[:20], corrupt(test.images, "fog", 1).permute(0, 2, 3, 1).numpy())
    torch.manual_seed(0)
    model = build("convnet", 4)
    train(model, data, Recipe(epochs=12, batch_size=10, lr=0.02, flip=False, crop_padding=0))
    assert evaluate(model, data) > 0.6  # of four classes
    result = search(data, test, epochs=1, **CHEAP)
    assert result.genotype.skips("normal") >= 0 and torch.isfinite(result.state["alphas_normal"]).all()
    (path,) = export(data, tmp_path / "npz", ("npz",))["npz"]
    assert load_dataset(path, "train").digest == data.digest


def test_one_channel_in_hand_becomes_rgb():
    grey = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    data = LabeledImages(grey, torch.arange(4), tuple("abcd"), "mine")
    assert torch.equal(data.images, grey.expand(-1, 3, -1, -1)) and data.images.is_contiguous()
    assert torch.equal(data.with_images(255 - grey).images[:, 1:2], 255 - grey)
    rgb = grey.expand(-1, 3, -1, -1)
    for change in (lambda x: corrupt(x, "fog", 1), lambda x: trivial_augment(x, seed=0, index=torch.arange(4)), lambda x: psnr(x, 255 - x)):
        assert torch.equal(change(grey), change(rgb)) and torch.equal(change(grey.numpy()), change(rgb))
    with pytest.raises(ValueError, match="images: expected sides of at least 1 pixel"):
        LabeledImages(torch.zeros(2, 3, 0, 4, dtype=torch.uint8), torch.arange(2), ("a", "b"), "flat")


@pytest.mark.parametrize("layer", [nn.Linear(784, 10), nn.Sequential(nn.Conv2d(1, 8, 7, 4), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))])
def test_a_network_of_one_channel_is_attacked_in_its_own_space(layer):
    """The result is that of the same attack on floats, rounded; a set of images stays RGB, with three equal channels."""
    network = nn.Sequential(nn.Flatten(), layer) if isinstance(layer, nn.Linear) else layer.eval()
    gray, labels = torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8), torch.arange(6)
    recipe = attacks.PGD(eps=8 / 255, steps=3)
    direct = attacks.quantize(recipe(network, gray / 255, labels), gray, 8 / 255)
    data = LabeledImages(gray, labels, tuple("abcdefghij"), "gray")
    for model in (network, attacks.prepared(network)):
        result = attacks.attack(recipe, model, data)
        assert torch.equal(result.images, direct.expand(-1, 3, -1, -1))
        alone = attacks.attack(recipe, model, gray.numpy(), labels)
        assert torch.equal(alone.images, direct) and torch.equal(alone.success, result.success)
    assert torch.allclose(predict(network, data.images), network(gray / 255).detach(), atol=1e-6)
    assert result.success.any() and torch.equal(predict(network, result.images).argmax(1) != labels, result.success)


def test_a_network_of_three_channels_takes_gray_images_as_rgb():
    network = nn.Sequential(nn.Conv2d(3, 8, 7, 4), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)).eval()
    gray, labels = torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8), torch.arange(6)
    found = [attacks.attack(attacks.PGD(steps=3), network, x, labels).images for x in (gray, gray.expand(-1, 3, -1, -1))]
    assert torch.equal(*found) and found[0].shape == (6, 3, 28, 28)


@pytest.mark.parametrize("state", ["float64", "bfloat16", "inference", "no_grad", "autocast"])
def test_data_do_not_depend_on_global_state(mnist, state):
    def read() -> list[str]:
        sets = [load_dataset(mnist, "train", limit=7, seed=3), load_dataset("shapes10", "test", limit=11, seed=5)]
        return [data.digest for data in sets]

    expected = read()
    from rtalib.data import loading

    loading._drawn.cache_clear()
    contexts = {"inference": torch.inference_mode(), "no_grad": torch.no_grad(), "autocast": torch.autocast("cpu", torch.bfloat16)}
    if state in contexts:
        with contexts[state]:
            found = read()
    else:
        before = torch.get_default_dtype()
        try:
            torch.set_default_dtype(getattr(torch, state))
            found = read()
        finally:
            torch.set_default_dtype(before)
    loading._drawn.cache_clear()
    assert found == expected
