"""The random corruptions against the original per-image algorithms, ImageMagick included."""

import csv

import numpy as np
import pytest
import torch
from pictures import chw, differing, hwc, make_images

from rtalib import rng
from rtalib.corruptions import blur, corrupt, weather
from rtalib.corruptions.constants import CONSTANTS
from rtalib.corruptions.draws import Words
from rtalib.corruptions.filters import truncate

# dB, about three standard deviations of the difference of two means of 50 images (frost: five textures, in random crops)
TOLERANCE = {
    "gaussian_noise": 0.1,
    "shot_noise": 0.15,
    "impulse_noise": 0.6,
    "glass_blur": 0.3,
    "motion_blur": 0.8,
    "snow": 0.6,
    "frost": 2.0,
    "fog": 0.7,
    "elastic_transform": 1.2,
}


@pytest.fixture(scope="module")
def originals():
    return pytest.importorskip("benchmarks.originals", exc_type=ImportError)


@pytest.fixture(scope="module")
def magick(originals):
    pytest.importorskip("wand.image", reason="ImageMagick's library is not installed", exc_type=ImportError)
    return originals


def psnr(corrupted: torch.Tensor, clean: torch.Tensor) -> float:
    error = (corrupted.double() - clean.double()).square().mean((1, 2, 3)).clamp_min(1e-2)
    return float((10 * torch.log10(255**2 / error)).mean())


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("benchmark", ["cifar10-c", "tiny-imagenet-c"])
def test_motion_blur_equals_imagemagick(magick, benchmark, severity):
    images, constants = make_images(48), CONSTANTS[benchmark]["motion_blur"][severity - 1]
    (angle,) = blur.draw_motion(Words(severity, torch.arange(48), rng.stream("test")), 32, 32, constants)
    expected = chw(
        np.stack(
            [
                magick.magick_motion(image, constants.radius, constants.sigma, turn)
                for image, turn in zip(hwc(images), angle.tolist(), strict=True)
            ]
        )
    )
    share, largest = differing(blur.motion_blur(images, constants, angle), expected)
    assert share <= 0.02 and largest <= 1


@pytest.mark.parametrize("severity", range(1, 6))
def test_snow_flakes_equal_imagemagick(magick, severity):
    """From the thresholded layer on: 8-bit flakes blurred along the angle."""
    constants = CONSTANTS["cifar10-c"]["snow"][severity - 1]
    layer, angle = weather.draw_snow(Words(severity, torch.arange(48), rng.stream("test")), 32, 32, constants)
    found = weather.snow_levels(layer, constants._replace(zoom=1), angle).double()
    levels = truncate(layer.masked_fill(layer < constants.threshold, 0).clamp(0, 1)).numpy()
    expected = [
        magick.magick_motion(level, constants.radius, constants.sigma, turn) for level, turn in zip(levels, angle.tolist(), strict=True)
    ]
    share, largest = differing(found, torch.from_numpy(np.stack(expected)))
    assert share <= 0.02 and largest <= 1


@pytest.mark.parametrize("name", TOLERANCE)
def test_same_distance_from_the_clean_image(monkeypatch, originals, name):
    if name in ("motion_blur", "snow"):
        pytest.importorskip("wand.image", reason="ImageMagick's library is not installed", exc_type=ImportError)
    if name == "frost":
        pytest.importorskip("imagecorruptions")
        monkeypatch.setenv("RTALIB_FROST", "package")
    images = make_images(80, seed=4)[torch.arange(80) % 8 < 5]  # the photograph-like ones
    np.random.seed(0)
    for severity in (1, 3, 5):
        expected = chw(np.stack([originals.original(image, name, severity) for image in hwc(images)]))
        assert abs(psnr(corrupt(images, name, severity), images) - psnr(expected, images)) < TOLERANCE[name], severity


def test_the_benchmark_measures_every_type(tmp_path, monkeypatch, originals):
    from benchmarks import corruptions as benchmark

    out = tmp_path / "rows.csv"
    monkeypatch.setattr(
        "sys.argv", f"corruptions.py --images 8 --rounds 1 --seconds 0.001 --benchmarks imagecorruptions --out {out}".split()
    )
    pytest.importorskip("imagecorruptions")
    benchmark.main()
    rows = list(csv.DictReader(out.open()))
    ours = [row for row in rows if row["contestant"] == "rtalib, cpu"]
    assert len(ours) == 16 and all(float(row["images_per_second"]) > 0 and float(row["ratio"]) > 0 for row in ours)
    assert {row["contestant"] for row in rows} >= {"rtalib, cpu", "imagecorruptions-imaug"}
    total = next(row for row in ours if row["corruption"] == "all 15")
    slowest = min(float(row["images_per_second"]) for row in ours if row is not total)
    assert float(total["images_per_second"]) < slowest
