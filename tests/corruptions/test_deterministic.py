"""The six deterministic corruptions, byte for byte: against the package, and against plain references for the other two benchmarks."""

import io

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


def plain_defocus(image, constants):
    cv2 = pytest.importorskip("cv2")
    grid = np.arange(-8, 9)
    disk = np.float32(grid[:, None] ** 2 + grid**2 <= constants.radius**2)
    kernel = cv2.GaussianBlur(disk / disk.sum(), ksize=(3, 3), sigmaX=constants.alias)
    return np.dstack([cv2.filter2D(plane, -1, kernel) for plane in np.moveaxis(image / 255.0, 2, 0)]).clip(0, 1) * 255


def plain_zoom(image, constants):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = (image / 255.0).astype(np.float32)
    total, side = np.zeros_like(x), len(x)
    for factor in constants.factors:
        crop = int(np.ceil(side / factor))
        top = (side - crop) // 2
        big = ndimage.zoom(x[top : top + crop, top : top + crop], (factor, factor, 1), order=1)
        trim = (len(big) - side) // 2
        total += big[trim : trim + side, trim : trim + side]
    return ((x + total) / (len(constants.factors) + 1)).clip(0, 1) * 255


def plain_brightness(image, offset):
    color = pytest.importorskip("skimage.color")
    hsv = color.rgb2hsv(image / 255.0)
    hsv[..., 2] = (hsv[..., 2] + offset).clip(0, 1)
    return color.hsv2rgb(hsv).clip(0, 1) * 255


def plain_contrast(image, factor):
    x = image / 255.0
    mean = x.mean(axis=(0, 1), keepdims=True)
    return ((x - mean) * factor + mean).clip(0, 1) * 255


def plain_pixelate(image, constants):
    pil = pytest.importorskip("PIL.Image")
    small = int(len(image) * constants.scale)
    return np.asarray(pil.fromarray(image).resize((small, small), pil.BOX).resize(image.shape[:2], pil.BOX))


def plain_jpeg(image, quality):
    pil, file = pytest.importorskip("PIL.Image"), io.BytesIO()
    pil.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(pil.open(file))


PLAIN = dict(zip(DETERMINISTIC, (plain_defocus, plain_zoom, plain_brightness, plain_contrast, plain_pixelate, plain_jpeg), strict=True))


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("benchmark, side", [("cifar10-c", 32), ("tiny-imagenet-c", 64)])
def test_equals_plain_references(name, benchmark, side):
    images = make_images(24, side, side, seed=1)
    for severity, constants in enumerate(CONSTANTS[benchmark][name], 1):
        expected = chw(np.stack([PLAIN[name](image, constants) for image in hwc(images)]))
        assert torch.equal(corrupt(images, name, severity, benchmark=benchmark), expected), severity


@pytest.mark.parametrize("height, width", [(16, 16), (17, 31), (24, 40), (33, 18), (48, 48)])
def test_jpeg_equals_pillow_at_awkward_sizes(height, width):
    images = make_images(16, height, width)
    for quality in (1, 7, 25, 50, 80, 95, 100):
        expected = chw(np.stack([plain_jpeg(image, quality) for image in hwc(images)]))
        assert torch.equal(jpeg_compression(images, quality), expected), quality


def test_brightness_equals_the_textbook_for_many_colours():
    colours = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 128, 128), dtype=np.uint8))
    for offset_index in range(5):
        offset = CONSTANTS["cifar10-c"]["brightness"][offset_index]
        expected = chw(np.stack([plain_brightness(image, offset) for image in hwc(colours)]))
        assert torch.equal(corrupt(colours, "brightness", offset_index + 1), expected)


def test_wide_defocus_kernels_brighten_as_published():
    flat = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    values = [corrupt(flat, "defocus_blur", severity, benchmark="imagecorruptions").unique().tolist() for severity in range(1, 6)]
    assert values == [[199], [199], [199], [202], [202]]
    assert [int((defocus_kernel(*c) > 0).sum()) for c in CONSTANTS["cifar10-c"]["defocus_blur"]] == [9, 9, 9, 21, 25]


def test_zoom_factors_keep_the_published_ends():
    counts = {name: [len(z.factors) for z in table["zoom_blur"]] for name, table in CONSTANTS.items()}
    assert counts == {"cifar10-c": [7, 12, 16, 21, 26], "tiny-imagenet-c": [7, 12, 16, 21, 26], "imagecorruptions": [12, 16, 11, 13, 11]}
