"""The six deterministic corruptions, byte for byte: against the package, and against the original algorithms of the other benchmarks."""

import numpy as np
import pytest
import torch
from pictures import chw, hwc, make_images

from rtalib.corruptions import corrupt
from rtalib.corruptions.blur import defocus_kernel
from rtalib.corruptions.constants import CONSTANTS
from rtalib.corruptions.jpeg import jpeg_compression

DETERMINISTIC = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("height, width, count", [(32, 32, 48), (64, 64, 16), (40, 56, 16), (33, 47, 16)])
def test_equals_the_package(name, height, width, count):
    peer = pytest.importorskip("imagecorruptions")
    images = make_images(count, height, width, seed=height)
    for severity in range(1, 6):
        expected = chw(np.stack([peer.corrupt(image, severity, name) for image in hwc(images)]))
        assert torch.equal(corrupt(images, name, severity, benchmark="imagecorruptions"), expected), severity


@pytest.fixture(scope="module")
def originals():
    return pytest.importorskip("benchmarks.originals", exc_type=ImportError)


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("benchmark, side", [("cifar10-c", 32), ("tiny-imagenet-c", 64)])
def test_equals_the_original_algorithms(originals, name, benchmark, side):
    images = make_images(24, side, side, seed=1)
    for severity in range(1, 6):
        expected = chw(np.stack([originals.original(image, name, severity, benchmark) for image in hwc(images)]))
        assert torch.equal(corrupt(images, name, severity, benchmark=benchmark), expected), severity


@pytest.mark.parametrize("height, width", [(16, 16), (17, 31), (24, 40), (33, 18), (48, 48)])
def test_jpeg_equals_pillow_at_awkward_sizes(originals, height, width):
    images = make_images(16, height, width)
    for quality in (1, 7, 25, 50, 80, 95, 100):
        expected = chw(np.stack([originals.jpeg_compression(image, quality) for image in hwc(images)]))
        assert torch.equal(jpeg_compression(images, quality), expected), quality


def test_brightness_equals_the_textbook_for_many_colours(originals):
    colours = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 128, 128), dtype=np.uint8))
    for offset_index in range(5):
        offset = CONSTANTS["cifar10-c"]["brightness"][offset_index]
        expected = chw(np.stack([originals.brightness(image, offset) for image in hwc(colours)]))
        assert torch.equal(corrupt(colours, "brightness", offset_index + 1), expected)


def test_wide_defocus_kernels_brighten_as_published():
    flat = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    values = [corrupt(flat, "defocus_blur", severity, benchmark="imagecorruptions").unique().tolist() for severity in range(1, 6)]
    assert values == [[199], [199], [199], [202], [202]]
    assert [int((defocus_kernel(*c) > 0).sum()) for c in CONSTANTS["cifar10-c"]["defocus_blur"]] == [9, 9, 9, 21, 25]


def test_zoom_factors_keep_the_published_ends():
    counts = {name: [len(z.factors) for z in table["zoom_blur"]] for name, table in CONSTANTS.items()}
    assert counts == {"cifar10-c": [7, 12, 16, 21, 26], "tiny-imagenet-c": [7, 12, 16, 21, 26], "imagecorruptions": [12, 16, 11, 13, 11]}
