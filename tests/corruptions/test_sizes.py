"""Pictures of any size: no border fails, the ways for larger pictures give the bytes of those for small ones, and memory stays small."""

import functools
import gc
import subprocess
import sys

import numpy as np
import pytest
import torch
from pictures import make_images
from scipy.signal import fftconvolve

from rtalib.corruptions import CORRUPTIONS, api, blur, corrupt, digital, filters, jpeg, weather
from rtalib.corruptions.constants import CONSTANTS
from rtalib.corruptions.draws import Words, units
from rtalib.corruptions.large import by_pillow, defocus, settled


def picture(height: int, width: int) -> torch.Tensor:
    """Noise with an even, a white and an evenly rising area, since their cuts fall on whole levels."""
    image = make_images(1, height, width)
    image[..., -height // 3 :, :] = torch.arange(width).remainder(256).to(torch.uint8)
    image[..., : height // 3, : width // 2] = 255
    image[..., height // 3 : height // 2, : width // 2] = 77
    return image


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_larger_picture_gets_the_bytes_of_a_small_one(monkeypatch, name):
    """The batched way is the specification: with the threshold out of reach it computes the same."""
    image = picture(65, 70)
    for benchmark in ("cifar10-c", "imagecorruptions"):
        alone = [corrupt(image, name, severity, benchmark=benchmark) for severity in (3, 5)]
        with monkeypatch.context() as patch:
            patch.setattr(filters, "SMALL", 10**9)
            patch.setitem(api.TYPES, name, api.TYPES[name]._replace(pixels=10**9))
            assert all(torch.equal(corrupt(image, name, s, benchmark=benchmark), a) for s, a in zip((3, 5), alone, strict=True))


def test_terms_are_added_in_order_in_a_single_column_too():
    """NumPy adds a single column in pairs, which moved a byte in 60,000."""
    terms = np.random.default_rng(0).random((41, 1000))
    together = settled.in_order(terms)
    assert all(settled.in_order(terms[:, [k]])[0] == together[k] for k in range(1000))


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_the_transform_of_defocus_is_as_exact_as_its_margin_asks(severity):
    """Largest for coarse checks of black and white, whose spectrum is concentrated."""
    kernel = blur.defocus_kernel(*CONSTANTS["imagecorruptions"]["defocus_blur"][severity - 1])
    checks = (np.indices((240, 250)) // 10).sum(0) % 2 * 255
    for picture in (make_images(1, 240, 250)[0, 0].numpy(), checks.astype(np.uint8)):
        exact = fftconvolve(picture.astype(float), kernel.astype(float), "valid")
        found = defocus.levels(picture, len(kernel), *defocus.spectrum(kernel.tobytes(), len(kernel), *exact.shape))
        assert np.abs(found - exact).max() < defocus.MARGIN / 3


def test_noise_in_parts_is_the_noise_of_the_whole(monkeypatch):
    image = picture(66, 70)
    for name in ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"):
        whole = corrupt(image, name, 3)
        monkeypatch.setitem(api.TYPES, name, api.TYPES[name]._replace(pixels=1000))
        assert torch.equal(corrupt(image, name, 3), whole)


@pytest.mark.parametrize("offset", CONSTANTS["imagecorruptions"]["brightness"])
def test_the_table_of_brightness_is_the_published_conversion(offset):
    """All pairs of the two largest channels, with each third channel from a few, in all orders of the channels."""
    first, second = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    for third in (0, 51, 255):
        for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            planes = [first, second, torch.full_like(first, third)]
            image = torch.stack([planes[k] for k in order])[None].to(torch.uint8)
            assert torch.equal(weather.brightness(image, offset), weather.brightness_in_steps(image, offset))


@pytest.mark.parametrize("quality", [7, 25, 80])
@pytest.mark.parametrize("height, width", [(16, 16), (65, 81), (97, 66)])
def test_jpeg_and_box_reduction_are_the_same_in_torch_and_by_pillow(quality, height, width):
    image = picture(height, width)
    decoded = [by_pillow.through_jpeg(by_pillow.to_pillow(image[0]), quality)]
    assert torch.equal(by_pillow.to_tensor(decoded), jpeg.jpeg_in_blocks(image, quality))
    small = (int(height * 0.3), int(width * 0.3))
    assert torch.equal(digital.reduced_by_pillow(image, *small), digital.reduced(image, *small))


@pytest.mark.parametrize("benchmark, scale", [("cifar10-c", 0.2), ("imagecorruptions", 1.1)])
def test_frost_at_every_border_of_a_texture(benchmark, scale):
    """Sides of one pixel around those of the textures, and of the textures times the factor."""
    from rtalib.corruptions.frost import SIZES

    edges = sorted({round(side * factor) + near for size in SIZES for side in size for factor in (1, scale) for near in (-1, 0)})
    for side in (edge for edge in edges if edge >= 16):
        for height, width in ((side, 40), (40, side)):
            image = torch.zeros(1, 3, height, width, dtype=torch.uint8)
            assert corrupt(image, "frost", 3, benchmark=benchmark).shape == image.shape


def test_a_window_of_a_texture_is_that_of_the_whole():
    from rtalib.corruptions import frost

    texture = make_images(1, 60, 90)[0]
    for scale, height, width in ((0.4, 10, 20), (1.1, 50, 70), (0.4, 60, 80), (1.1, 75, 100)):
        size = frost._size((60, 90), scale, height, width)
        whole = frost._window(texture, size, 0, 0, size.height, size.width)
        row, column = size.height - height, (size.width - width) // 2
        assert torch.equal(frost._window(texture, size, row, column, height, width), whole[:, row : row + height, column : column + width])


def test_a_window_of_a_texture_is_torchs_bicubic():
    from rtalib.corruptions import frost

    texture = make_images(1, 60, 90)[0]
    size = frost._size((60, 90), 1.1, 32, 32)
    expected = torch.nn.functional.interpolate(texture[None].double(), size=size[1:], mode="bicubic", align_corners=False)[0]
    assert torch.equal(frost._window(texture, size, 0, 0, *size[1:]), expected.round_().clamp_(0, 255).to(torch.uint8))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_sides_around_the_size_of_each_filter(name):
    """16 px, the widest filters (to 41 taps) and the powers of two, by which fog and the blocks of JPEG go."""
    for side in (16, 19, 33, 41, 65):
        for height, width in ((side, 16), (16, side)):
            image = picture(height, width)
            assert corrupt(image, name, 5, benchmark="imagecorruptions").shape == image.shape


@pytest.mark.parametrize("height, width", [(65, 70), (129, 129), (16, 300), (300, 17), (257, 130)])
@pytest.mark.parametrize("benchmark, severity", [("cifar10-c", 1), ("imagecorruptions", 5)])
def test_plasma_in_bands_is_that_of_the_square(height, width, benchmark, severity):
    constants, words = CONSTANTS[benchmark]["fog"][severity - 1], Words(3, torch.arange(4, 6), 7)
    side = weather.plasma_side(height, width)
    whole = weather.plasma(units(words, side**2 - 1), side, constants)[:, :height, :width]
    assert torch.equal(weather.plasma_of_words(words, height, width, constants), whole)


STATUS = """
import gc, sys, torch
from rtalib.corruptions import CORRUPTIONS, corrupt
def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))
torch.set_num_threads(1)
def picture(height, width):
    return torch.zeros(1, 3, height, width, dtype=torch.uint8).random_(0, 256)
"""
PEAK = """
name, height, width = sys.argv[1], *map(int, sys.argv[2:])
image = picture(height, width)
corrupt(picture(70, 70), name, 3, benchmark="imagecorruptions")  # tables that stay
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
result = corrupt(image, name, 3, benchmark="imagecorruptions")
print((status("VmHWM") - before - result.numel()) / image[0, 0].numel())
"""
FOLDER = """
for number in range(1000):
    image = picture(64 + number % 32, 64 + number // 32)
    for name in CORRUPTIONS:
        corrupt(image, name, 3, benchmark="imagecorruptions")
    if number in (299, 999):
        gc.collect()
        print(status("VmRSS"))
"""
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory from /proc")


def said(code: str, *arguments: object) -> list[float]:
    done = subprocess.run([sys.executable, "-c", STATUS + code, *map(str, arguments)], capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.splitlines()]


@pytest.mark.trial
@on_linux
@pytest.mark.parametrize("size", [(1000, 1500), (1025, 1025), (513, 513), (4000, 32)])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_memory_per_pixel_is_small(name, size):
    """Beyond input and result; 1025 and 513 are the sides for which fog's square is largest."""
    assert said(PEAK, name, *size)[0] <= 64


@pytest.mark.trial
@on_linux
def test_memory_is_flat_over_a_folder_of_a_thousand_sizes():
    early, late = said(FOLDER)
    assert late - early <= 4 * 2**20  # what the allocator scatters; one byte per pixel and type that stayed would be 56 MiB


def test_every_cache_has_room_for_few_entries():
    """Whatever the sizes: a cache of tables by size keeps the latest ones."""
    gc.unfreeze()  # what an explorer of another test has taken out of the collector's sight
    found = [cache for cache in gc.get_objects() if type(cache) is functools._lru_cache_wrapper]
    ours = [cache for cache in found if cache.__module__.startswith("rtalib.corruptions")]
    assert len(ours) > 10 and [cache.__name__ for cache in ours if not (cache.cache_info().maxsize or 999) <= 64] == []


def test_caches_do_not_grow_with_the_sizes_of_a_folder():
    from rtalib.corruptions import frost

    for side in range(64, 104):
        for name in ("zoom_blur", "frost", "elastic_transform", "pixelate"):
            corrupt(torch.zeros(1, 3, side, side + 1, dtype=torch.uint8), name, 1, benchmark="imagecorruptions")
    caches = (blur._zoom_matrices, blur.zoom_plan, filters.zoom_taps, filters.smoothing_matrix, digital.box_weights, frost._bank)
    assert all(cache.cache_info().currsize <= 16 for cache in caches)
    assert np.prod(frost._originals(None)[0].shape) == 600 * 900 * 3
