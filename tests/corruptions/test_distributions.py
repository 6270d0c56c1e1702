"""The random laws, with fixed seeds; and the published distances between clean and corrupted images when real CIFAR-10 is at hand."""

import os

import numpy as np
import pytest
import torch

from rtalib.corruptions import corrupt
from rtalib.corruptions.constants import CONSTANTS
from rtalib.corruptions.draws import Words
from rtalib.corruptions.psnr import ORIGINALS, psnr

FLOOR = 1e-3  # smallest accepted p-value; seeds are fixed


def flat(value: int, count: int = 20) -> torch.Tensor:
    return torch.full((count, 3, 32, 32), value, dtype=torch.uint8)


def assert_fits(sample: torch.Tensor, chance: np.ndarray) -> None:
    """Chi-square of the 256 levels; levels expected fewer than five times are pooled."""
    stats = pytest.importorskip("scipy.stats")
    counts, expected = sample.flatten().bincount(minlength=256).numpy().astype(float), chance * sample.numel()
    assert counts[expected == 0].sum() == 0
    often = expected >= 5
    counts, expected = (np.append(part[often], part[~often].sum()) for part in (counts, expected))
    keep = expected > 0
    if keep.sum() == 1:
        return  # a single possible level, and nothing else occurred
    assert stats.chisquare(counts[keep], expected[keep] * counts[keep].sum() / expected[keep].sum()).pvalue > FLOOR


@pytest.mark.parametrize("value", [0, 10, 128, 250])
@pytest.mark.parametrize("benchmark", CONSTANTS)
def test_gaussian_noise_levels(value, benchmark):
    norm = pytest.importorskip("scipy.stats").norm
    for severity, std in enumerate(CONSTANTS[benchmark]["gaussian_noise"], 1):
        edges = norm.cdf((np.arange(1, 256) - value) / (255 * std))
        out = corrupt(flat(value), "gaussian_noise", severity, seed=value, benchmark=benchmark)
        assert_fits(out, np.diff(edges, prepend=0, append=1))


@pytest.mark.parametrize("value", [0, 3, 128, 255])
@pytest.mark.parametrize("benchmark", CONSTANTS)
def test_shot_noise_levels(value, benchmark):
    poisson = pytest.importorskip("scipy.stats").poisson
    for severity, photons in enumerate(CONSTANTS[benchmark]["shot_noise"], 1):
        k = np.arange(5 * photons + 50)
        level = (np.clip(k / photons, 0, 1) * 255).astype(int)
        chance = np.bincount(level, poisson.pmf(k, photons * value / 255), minlength=256)
        assert_fits(corrupt(flat(value), "shot_noise", severity, seed=value, benchmark=benchmark), chance)


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise"])
def test_noise_has_the_law_of_the_package(name):
    """Two samples of the change of a grey gradient."""
    peer, stats = pytest.importorskip("imagecorruptions"), pytest.importorskip("scipy.stats")
    image = np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[:, None, None], 32, axis=1).repeat(3, axis=2)
    np.random.seed(1)
    keywords = {"seed": 1} if name == "impulse_noise" else {}
    for severity in (1, 3, 5):
        theirs = np.stack([peer.corrupt(image, severity, name, **{k: v + i for k, v in keywords.items()}) for i in range(10)])
        batch = torch.from_numpy(image).permute(2, 0, 1).expand(10, -1, -1, -1)
        ours = corrupt(batch, name, severity, benchmark="imagecorruptions").permute(0, 2, 3, 1).numpy()
        assert stats.ks_2samp((theirs.astype(int) - image).ravel(), (ours.astype(int) - image).ravel()).pvalue > FLOOR


def test_impulse_noise_counts():
    binomtest = pytest.importorskip("scipy.stats").binomtest
    for severity, amount in enumerate(CONSTANTS["cifar10-c"]["impulse_noise"], 1):
        out = corrupt(flat(77, 50), "impulse_noise", severity)
        salt, pepper = int((out == 255).sum()), int((out == 0).sum())
        assert salt + pepper + int((out == 77).sum()) == out.numel()
        assert binomtest(salt + pepper, out.numel(), amount).pvalue > FLOOR and binomtest(salt, salt + pepper).pvalue > FLOOR


def test_draws_are_uniform():

    from rtalib.corruptions import api

    stats = pytest.importorskip("scipy.stats")
    words = Words(0, torch.arange(4000), 1)
    draw = lambda name, benchmark="imagecorruptions", level=4: api.TYPES[name].draw(words, 32, 32, CONSTANTS[benchmark][name][level - 1])  # noqa: E731
    assert stats.kstest(draw("motion_blur")[0].numpy(), stats.uniform(-45, 90).cdf).pvalue > FLOOR
    layer, angle = draw("snow")
    assert stats.kstest(angle.numpy(), stats.uniform(-135, 90).cdf).pvalue > FLOOR
    assert stats.kstest(layer[:20].flatten().numpy(), stats.norm(0.55, 0.3).cdf).pvalue > FLOOR
    offsets = draw("glass_blur")[0][:50].reshape(-1, 2) + 3
    assert stats.chisquare((offsets[:, 0] * 6 + offsets[:, 1]).bincount(minlength=36).numpy()).pvalue > FLOOR
    texture, row, column = draw("frost", "cifar10-c")[0].unbind(1)
    assert stats.chisquare(texture.bincount(minlength=5).numpy()).pvalue > FLOOR
    # 0.2 of 600x900: offsets below 120 - 32 and 180 - 32
    rows, columns = row[texture == 0], column[texture == 0]
    assert rows.max() < 88 and columns.max() < 148
    assert stats.chisquare(rows.bincount(minlength=88).numpy()).pvalue > FLOOR


def test_procedural_frost_has_the_published_statistics(monkeypatch):
    from rtalib.corruptions import frost_source
    from rtalib.corruptions.frost import SIZES, procedural_textures

    monkeypatch.delenv("RTALIB_FROST", raising=False)
    assert frost_source() == "procedural"
    textures = procedural_textures()
    assert [tuple(t.shape[1:]) for t in textures] == list(SIZES)
    assert torch.equal(textures[1], textures[2])
    for texture, mean in zip(textures, (131, 207, 207, 152, 123), strict=True):
        assert texture.dtype == torch.uint8 and abs(float(texture.double().mean()) - mean) < 1
        assert torch.equal(texture, texture.round())


def test_frost_files_are_checked(monkeypatch, tmp_path):
    monkeypatch.setenv("RTALIB_FROST", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="frost1.png"):
        corrupt(flat(100, 1), "frost", 1)
    (tmp_path / "frost1.png").write_bytes(b"not the photograph")
    with pytest.raises(ValueError, match="SHA-256"):
        corrupt(flat(100, 1), "frost", 1)


@pytest.fixture(scope="module")
def cifar() -> torch.Tensor:
    if not os.environ.get("RTALIB_DATA"):
        pytest.skip("RTALIB_DATA is not set")
    from rtalib.data.loading import load_dataset

    return load_dataset("cifar10", "test", limit=500).images


@pytest.mark.parametrize("benchmark, name", [(b, n) for b, table in ORIGINALS.items() for n in table])
def test_distance_from_the_clean_image(monkeypatch, cifar, benchmark, name):
    if name == "frost":  # the table was made with the photographs
        pytest.importorskip("imagecorruptions")
        monkeypatch.setenv("RTALIB_FROST", "package")
    *expected, tolerance = ORIGINALS[benchmark][name]
    for severity, original in enumerate(expected, 1):
        out = corrupt(cifar, name, severity, benchmark=benchmark)
        assert abs(float(psnr(out, cifar).mean()) - original) < tolerance, severity


# the same of Tiny-ImageNet-C's generator, over 100 photographs enlarged to 64 px by bicubic interpolation; with 100 others the means move
# by what the tolerance allows
ENLARGED = {
    "gaussian_noise": (28.1, 22.2, 18.8, 17.0, 15.6, 0.3),
    "shot_noise": (27.4, 23.5, 20.6, 18.5, 15.8, 0.4),
    "impulse_noise": (25.0, 22.0, 18.1, 16.1, 13.7, 0.4),
    "defocus_blur": (41.2, 39.6, 35.6, 29.9, 27.9, 0.9),
    "glass_blur": (27.3, 28.7, 24.6, 25.3, 22.2, 0.9),
    "motion_blur": (33.0, 28.9, 26.4, 25.0, 23.8, 0.9),
    "zoom_blur": (28.8, 25.8, 24.0, 22.3, 21.2, 0.9),
    "snow": (16.5, 15.5, 12.5, 10.9, 10.0, 0.4),
    "frost": (14.9, 14.4, 14.2, 14.0, 13.5, 1.0),
    "fog": (21.6, 18.5, 16.7, 15.2, 14.1, 0.5),
    "brightness": (21.7, 15.8, 12.7, 10.7, 9.4, 0.4),
    "contrast": (18.9, 17.5, 16.4, 15.4, 14.9, 0.6),
    "elastic_transform": (18.6, 19.7, 19.5, 23.8, 23.9, 1.0),
    "pixelate": (36.9, 33.9, 32.0, 31.1, 31.5, 0.8),
    "jpeg_compression": (38.5, 37.7, 36.9, 35.8, 33.3, 0.5),
}


@pytest.fixture(scope="module")
def enlarged(cifar) -> torch.Tensor:
    from PIL import Image

    pictures = (Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC) for image in cifar[:200].permute(0, 2, 3, 1).numpy())
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("name", ENLARGED)
def test_distance_from_the_clean_image_at_64_px(monkeypatch, enlarged, name):
    if name == "frost":
        pytest.importorskip("imagecorruptions")
        monkeypatch.setenv("RTALIB_FROST", "package")
    *expected, tolerance = ENLARGED[name]
    for severity, decibels in enumerate(expected, 1):
        corrupted = corrupt(enlarged, name, severity, benchmark="tiny-imagenet-c")
        assert abs(float(psnr(corrupted, enlarged).mean()) - decibels) < tolerance, severity
