"""The held-out types: byte for byte against scikit-image and the package, the law of speckle noise, and what corrupt promises for them."""

import numpy as np
import pytest
import torch
from pictures import chw, hwc, make_images

from rtalib.corruptions import CORRUPTIONS, HELD_OUT, corrupt
from rtalib.corruptions.constants import CONSTANTS
from rtalib.corruptions.held_out import HELD_OUT_CONSTANTS, spatter

FLOOR = 1e-3  # smallest accepted p-value; seeds are fixed
SEVERITIES = range(1, 6)


def test_they_stay_out_of_the_fifteen():
    assert HELD_OUT == ("speckle_noise", "gaussian_blur", "spatter", "saturate")
    assert not set(HELD_OUT) & set(CORRUPTIONS) and len(CORRUPTIONS) == 15
    for benchmark, table in HELD_OUT_CONSTANTS.items():
        assert benchmark in CONSTANTS and tuple(table) == HELD_OUT
        assert all(len(rows) == 5 for rows in table.values())


@pytest.mark.parametrize("name", ["gaussian_blur", "saturate"])
@pytest.mark.parametrize("height, width", [(32, 32), (40, 56), (33, 47)])
def test_equals_the_package(name, height, width):
    peer = pytest.importorskip("imagecorruptions")
    images = make_images(16, height, width, seed=height)
    for severity in SEVERITIES:
        expected = chw(np.stack([peer.corrupt(image, severity, name) for image in hwc(images)]))
        assert torch.equal(corrupt(images, name, severity, benchmark="imagecorruptions"), expected), severity


@pytest.mark.parametrize("side", [32, 20])
def test_blur_equals_scikit_image(side):
    gaussian = pytest.importorskip("skimage.filters").gaussian
    images = make_images(24, side, side, seed=2)
    for severity, sigma in enumerate((0.4, 0.6, 0.7, 0.8, 1), 1):
        smooth = [gaussian(image / 255.0, sigma=sigma, mode="nearest", truncate=4, channel_axis=-1) for image in hwc(images)]
        assert torch.equal(corrupt(images, "gaussian_blur", severity), chw(np.clip(np.stack(smooth), 0, 1) * 255)), severity


def test_saturation_equals_scikit_image_for_many_colours():
    color = pytest.importorskip("skimage.color")
    colours = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 128, 128), dtype=np.uint8))
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, -1, -1)
    for images in (colours, grey, make_images(24, seed=4)):
        for severity, (factor, addend) in enumerate(((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)), 1):
            hsv = color.rgb2hsv(hwc(images) / 255.0)
            hsv[..., 1] = np.clip(hsv[..., 1] * factor + addend, 0, 1)
            expected = chw(np.clip(color.hsv2rgb(hsv), 0, 1) * 255)
            assert torch.equal(corrupt(images, "saturate", severity), expected), severity


def flat(value: int, count: int = 12) -> torch.Tensor:
    return torch.full((count, 3, 32, 32), value, dtype=torch.uint8)


@pytest.mark.parametrize("value", [1, 10, 128, 250])
@pytest.mark.parametrize("benchmark", HELD_OUT_CONSTANTS)
def test_speckle_noise_levels(value, benchmark):
    stats = pytest.importorskip("scipy.stats")
    for severity, std in enumerate(HELD_OUT_CONSTANTS[benchmark]["speckle_noise"], 1):
        chance = np.diff(stats.norm.cdf((np.arange(1, 256) - value) / (std * value)), prepend=0, append=1)
        counts = corrupt(flat(value), "speckle_noise", severity, seed=1, benchmark=benchmark).flatten().bincount(minlength=256)
        often = chance * counts.sum().item() >= 5
        observed, expected = ([*part[often], part[~often].sum()] for part in (counts.numpy(), chance * counts.sum().item()))
        if expected[-1] < 1e-6:
            assert observed.pop() == 0
            expected.pop()
        if len(expected) == 1:
            continue
        assert stats.chisquare(observed, np.array(expected) * sum(observed) / sum(expected)).pvalue > FLOOR, severity


def test_speckle_noise_grows_with_the_value_and_leaves_black():
    assert int(corrupt(flat(0), "speckle_noise", 5).max()) == 0
    for severity, std in enumerate(HELD_OUT_CONSTANTS["cifar10-c"]["speckle_noise"], 1):
        for value in (60, 120):
            change = corrupt(flat(value), "speckle_noise", severity, seed=2).double() - value
            deviations = 4 / change.numel() ** 0.5
            # Cutting to whole levels lowers the mean by half a level and adds a variance of one twelfth.
            assert abs(float(change.mean()) + 0.5) < std * value * deviations
            assert float(change.std()) == pytest.approx(((std * value) ** 2 + 1 / 12) ** 0.5, rel=deviations)


def test_speckle_noise_has_the_law_of_the_package():
    peer, stats = pytest.importorskip("imagecorruptions"), pytest.importorskip("scipy.stats")
    image = np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[:, None, None], 32, axis=1).repeat(3, axis=2)
    np.random.seed(1)
    batch = torch.from_numpy(image).permute(2, 0, 1).expand(10, -1, -1, -1)
    for severity in (1, 3, 5):
        theirs = np.stack([peer.corrupt(image, severity, "speckle_noise") for _ in range(10)])
        ours = hwc(corrupt(batch, "speckle_noise", severity, benchmark="imagecorruptions"))
        assert stats.ks_2samp((theirs.astype(int) - image).ravel(), (ours.astype(int) - image).ravel()).pvalue > FLOOR


@pytest.mark.parametrize("name", HELD_OUT)
def test_result_belongs_to_the_image(monkeypatch, name):
    from rtalib.corruptions import api

    images = make_images(12)
    severity, index = torch.tensor([1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 1, 5]), torch.arange(100, 112)
    together = corrupt(images, name, severity, seed=5, index=index)
    assert together.dtype == torch.uint8 and together.shape == images.shape and together.is_contiguous()
    alone = [corrupt(images[i : i + 1], name, int(severity[i]), seed=5, index=index[i : i + 1]) for i in range(12)]
    assert torch.equal(torch.cat(alone), together)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(corrupt(images[order], name, severity[order], seed=5, index=index[order]), together[order])
    monkeypatch.setitem(api.TYPES, name, api.TYPES[name]._replace(pixels=3 * 1024))
    assert torch.equal(corrupt(images, name, severity, seed=5, index=index), together)
    view = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(corrupt(view, name, severity, seed=5, index=index), together)
    assert corrupt(images[:0], name, 3).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("height, width", [(32, 32), (40, 56), (33, 224)])
def test_spatter_equals_the_package_on_the_same_noise(monkeypatch, height, width):
    peer = pytest.importorskip("imagecorruptions")
    images = make_images(6, height, width, seed=height)
    for severity, constants in enumerate(HELD_OUT_CONSTANTS["imagecorruptions"]["spatter"], 1):
        layer = np.random.default_rng(severity).normal(constants.mean, constants.std, (len(images), height, width))
        expected = []
        for image, noise in zip(hwc(images), layer, strict=True):
            monkeypatch.setattr(np.random, "normal", lambda noise=noise, **options: noise)
            expected.append(peer.corrupt(image, severity, "spatter"))
        found = spatter.spatter(images, constants, torch.from_numpy(layer))
        wet = (found != images).flatten(1).any(1)  # where no drop falls, the package divides by zero
        assert wet.any() and torch.equal(found[wet], chw(np.stack(expected))[wet]), severity


def test_spatters_steps_are_those_of_opencv():
    cv2 = pytest.importorskip("cv2")
    generator = np.random.default_rng(0)
    for trial, sigma in enumerate((0.7, 0.8, 1, 2, 3, 4) * 5):
        noise = generator.normal(0.65, 0.3 if trial % 2 else 0.1, generator.integers(16, 120, 2))
        plane = (spatter._liquid(noise, HELD_OUT_CONSTANTS["cifar10-c"]["spatter"][2]._replace(sigma=sigma)) * 255).astype(np.uint8)
        edges = cv2.Canny(plane, 50, 150)
        assert np.array_equal(spatter.edges(plane), edges > 0)
        away = np.minimum(cv2.distanceTransform(255 - edges, cv2.DIST_L2, 5), 20)
        assert np.allclose(spatter.distances(edges > 0), away, atol=1e-4)  # builds of OpenCV differ by so much
        near = cv2.blur(away, (3, 3)).astype(np.uint8)
        assert np.array_equal(spatter.box(spatter.distances(edges > 0)).astype(np.uint8), near)
        assert np.array_equal(spatter.equalized(near), cv2.equalizeHist(near))


def test_spatter_lays_water_and_mud_on_some_of_the_image():
    gray = flat(128, 24)
    for benchmark in HELD_OUT_CONSTANTS:
        for severity in SEVERITIES:
            change = corrupt(gray, "spatter", severity, benchmark=benchmark).int() - 128
            touched = (change != 0).float().mean()
            assert 0.001 < touched < 0.9, (benchmark, severity, touched)
            assert (change >= 0).all() if severity <= 3 else (change <= 0).all()  # water is lighter than gray, mud is darker


def test_an_image_without_drops_stays():
    images, constants = make_images(1), HELD_OUT_CONSTANTS["cifar10-c"]["spatter"]
    assert all(torch.equal(spatter.spatter(images, one, torch.zeros(1, 32, 32, dtype=torch.float64)), images) for one in constants)


def test_speckle_noise_changes_with_seed_index_and_severity():
    image = make_images(1, seed=4).repeat(2, 1, 1, 1)
    first, second = corrupt(image, "speckle_noise", 5)
    assert not torch.equal(first, second)
    assert not torch.equal(corrupt(image, "speckle_noise", 5, seed=1)[0], first)
    assert not torch.equal(corrupt(image, "speckle_noise", 4)[0], first)
    assert torch.equal(corrupt(image, "speckle_noise", 5, index=torch.tensor([1, 0]))[1], first)


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"images": make_images(2).float()}, TypeError, "images.*uint8"),
        ({"name": "splatter"}, ValueError, "Did you mean 'spatter'"),
        ({"name": "saturated"}, ValueError, "Did you mean 'saturate'"),
        ({"benchmark": "tiny-imagenet-c"}, ValueError, "unknown benchmark.*cifar10-c, imagecorruptions"),
        ({"severity": 6}, ValueError, "severity.*1 to 5.*6"),
        ({"severity": torch.tensor([1, 2, 3])}, ValueError, r"severity.*\(2,\)"),
        ({"index": torch.tensor([1])}, ValueError, r"index.*\(2,\).*\(1,\)"),
    ],
)
def test_bad_input_is_named(change, error, words):
    arguments = {"images": make_images(2), "name": "saturate", "severity": 1} | change
    with pytest.raises(error, match=words):
        corrupt(arguments.pop("images"), arguments.pop("name"), arguments.pop("severity"), **arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", HELD_OUT)
def test_gpu_agrees_with_cpu(name):
    """Speckle noise to the byte; the float64 types may move a byte by one where a sum lands on a whole level."""
    images, severity = make_images(40), torch.arange(40) % 5 + 1
    gap = (corrupt(images, name, severity).int() - corrupt(images.cuda(), name, severity).cpu()).abs()
    assert gap.max() <= (0 if name == "speckle_noise" else 1) and (gap > 0).double().mean() < 1e-3
