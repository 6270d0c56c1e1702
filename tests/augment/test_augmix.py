"""AugMix: every operation against Pillow to the byte, whole results against a plain loop over images, and the laws of the draws."""

import math
import sys

import numpy as np
import pytest
import torch
from pictures import chw, hwc, make_images
from PIL import Image, ImageOps

from rtalib import rng
from rtalib.augment.augmix import OPERATIONS, SIGNED, augmix, beta, dirichlet, magnitude_of, midpoints

MODULE = sys.modules[augmix.__module__]  # whose name in the package is the function
LEVELS = (0.1, 1.2345, 3.0, 5.5, 7.9, 9.999)


def with_pillow(image: Image.Image, operation: str, magnitude: float) -> Image.Image:
    def affine(*matrix: float) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)

    results = {
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "posterize": lambda: ImageOps.posterize(image, 4 - int(magnitude)),
        "rotate": lambda: image.rotate(magnitude, resample=Image.Resampling.BILINEAR),
        "solarize": lambda: ImageOps.solarize(image, 256 - int(magnitude)),
        "shear_x": lambda: affine(1, magnitude, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, magnitude, 1, 0),
        "translate_x": lambda: affine(1, 0, magnitude, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, magnitude),
    }
    return results[operation]()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("height, width", [(32, 32), (40, 56), (9, 7)])
def test_operation_equals_pillow(operation: str, height: int, width: int) -> None:
    """With another magnitude for each image of the batch, both signs."""
    images = make_images(48, height, width, seed=5)
    images[0] = 0
    images[0, 0, 0, 0] = 255  # one bright pixel: nothing to equalize
    level = torch.tensor(LEVELS, dtype=torch.float64).repeat(8)
    magnitude = magnitude_of(operation, level, height, width)
    if operation in SIGNED:
        magnitude = magnitude * (1 - torch.arange(48) // 6 % 2 * 2)
    pairs = zip(hwc(images), magnitude.tolist(), strict=True)
    expected = np.stack([np.asarray(with_pillow(Image.fromarray(image), operation, value)) for image, value in pairs])
    before = images.clone()
    assert torch.equal(OPERATIONS[operation](images, magnitude), chw(expected))
    assert torch.equal(images, before)


def test_magnitudes() -> None:
    level = torch.tensor([0.1, 5.0, 9.999], dtype=torch.float64)
    expected = {
        "autocontrast": [0, 0, 0],
        "posterize": [0, 2, 3],
        "rotate": [0, 15, 29],
        "solarize": [2, 128, 255],
        "shear_x": [0.003, 0.15, 0.29997],
        "translate_x": [0, 5, 10],
        "translate_y": [0, 8, 15],
    }
    for operation, values in expected.items():
        assert magnitude_of(operation, level, 48, 32).tolist() == pytest.approx(values), operation
    with pytest.raises(ValueError, match="Did you mean 'shear_x'"):
        magnitude_of("shear_xx", level, 32, 32)


def draws(index: int, what: str, count: int, high: int | None = None) -> list:
    at = torch.tensor([index])
    stream = rng.stream("augmix", what)
    return (rng.uniform(3, at, stream, count) if high is None else rng.integers(3, at, stream, count, high))[0].tolist()


@pytest.mark.parametrize(
    "depth, posterize, severity, twinned", [(-1, True, 3.0, False), (-1, False, 10.0, False), (2, True, 6.5, False), (-1, True, 3.0, True)]
)
def test_equals_the_published_loop_with_pillow(depth: int, posterize: bool, severity: float, twinned: bool) -> None:
    """One image, one chain, one operation at a time, fed with the same draws; a twin, drawn anywhere in a chain, stands at its front."""
    images, index = make_images(24, 32, 40, seed=8), torch.arange(50, 74)
    twins = make_images(24, 32, 40, seed=9)
    given = {"twins": twins} if twinned else {}
    found = augmix(images, seed=3, index=index, depth=depth, posterize=posterize, severity=severity, **given)
    names = [name for name in OPERATIONS if posterize or name != "posterize"] + ["twin"] * twinned
    steps = 3 if depth == -1 else depth
    for i, image in enumerate(hwc(images)):
        k = int(index[i])
        chosen, levels, signs = draws(k, "operation", 3 * steps, len(names)), draws(k, "level", 3 * steps), draws(k, "sign", 3 * steps, 2)
        lengths = [depth] * 3 if depth > 0 else [1 + extra for extra in draws(k, "depth", 3, 3)]
        exponentials = -np.log1p(-np.array(draws(k, "weights", 3)))
        weights, share = exponentials / exponentials.sum(), draws(k, "share", 1)[0]
        mixture = np.zeros(image.shape)
        for chain in range(3):
            turns = range(chain * steps, chain * steps + lengths[chain])
            twin = any(names[chosen[at]] == "twin" for at in turns)
            picture = Image.fromarray(hwc(twins)[i] if twin else image)
            for at in turns:
                if names[chosen[at]] == "twin":
                    continue
                level = torch.tensor(0.1 + (severity - 0.1) * levels[at], dtype=torch.float64)
                magnitude = float(magnitude_of(names[chosen[at]], level, 32, 40))
                picture = with_pillow(picture, names[chosen[at]], -magnitude if signs[at] and names[chosen[at]] in SIGNED else magnitude)
            mixture += weights[chain] * np.asarray(picture)
        expected = (1 - share) * image + share * mixture
        # Rounded: half a level, and what float32 sums add.
        assert np.abs(found[i].permute(1, 2, 0).numpy() - expected).max() < 0.5001


def test_result_belongs_to_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    images, index = make_images(16), torch.arange(200, 216)
    together = augmix(images, seed=1, index=index)
    assert together.dtype == torch.uint8 and together.shape == images.shape and together.is_contiguous()
    assert ((together != images).flatten(1).any(1)).sum() >= 12
    alone = [augmix(images[i : i + 1], seed=1, index=index[i : i + 1]) for i in range(16)]
    assert torch.equal(torch.cat(alone), together)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augmix(images[order], seed=1, index=index[order]), together[order])
    monkeypatch.setattr(MODULE, "PIXELS", 10_000)
    assert torch.equal(augmix(images, seed=1, index=index), together)
    view = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(augmix(view, seed=1, index=index), together)
    assert not torch.equal(augmix(images, seed=2, index=index), together)
    assert not torch.equal(augmix(images, seed=1, index=index + 1), together)
    assert augmix(images[:0], seed=1, index=index[:0]).shape == (0, 3, 32, 32)


def test_black_stays_black() -> None:
    """No operation lights it (a shift brings in black, too), and weights of five chains sum to one."""
    black = torch.zeros(200, 3, 16, 16, dtype=torch.uint8)
    assert int(augmix(black, seed=0, index=torch.arange(200), width=5, depth=4, severity=9.0).max()) == 0


def chi_square(counts: torch.Tensor, chances: torch.Tensor | None = None) -> float:
    """In deviations from its mean."""
    chances = torch.full((len(counts),), 1 / len(counts)) if chances is None else chances
    expected = counts.sum() * chances
    free = len(counts) - 1
    return (float(((counts - expected) ** 2 / expected).sum()) - free) / math.sqrt(2 * free)


def test_operations_depths_levels_and_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in OPERATIONS}

    def spy(name: str):
        def record(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
            seen[name].append(magnitude)
            return images

        return record

    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, spy(name))
    n = 8000
    tiny = torch.zeros(n, 3, 1, 1, dtype=torch.uint8)
    augmix(tiny, seed=4, index=torch.arange(n), severity=5.0)
    drawn = {name: torch.cat(parts) for name, parts in seen.items()}
    counts = torch.tensor([len(part) for part in drawn.values()])
    # 3 chains of 1 to 3 operations: 6 per image, variance 3 * 2/3.
    assert abs(int(counts.sum()) - 6 * n) < 5 * math.sqrt(2 * n)
    assert chi_square(counts) < 5
    shear = drawn["shear_x"]
    assert 0.1 * 0.03 <= float(shear.abs().min()) and float(shear.abs().max()) <= 5 * 0.03
    level = (shear.abs() / 0.03 - 0.1) / 4.9
    assert chi_square((level * 20).long().clamp(0, 19).bincount(minlength=20)) < 5
    for name in SIGNED[:3]:
        signed = drawn[name][drawn[name] != 0]
        assert abs(float(signed.sign().mean())) < 5 / math.sqrt(len(signed))
    assert float(drawn["solarize"].min()) >= 2 and float(drawn["solarize"].max()) <= 128
    seen["posterize"].clear()
    augmix(tiny[:500], seed=4, index=torch.arange(500), posterize=False, depth=2)
    assert not seen["posterize"]


def test_depths_are_uniform_in_every_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations that add one level, and weights that show one chain alone: the result is that chain's depth."""
    n, depths = 4000, []
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda images, magnitude: images + 1)
    monkeypatch.setattr(MODULE, "beta", lambda uniform, alpha: torch.ones_like(uniform))
    for chain in range(3):
        monkeypatch.setattr(MODULE, "dirichlet", lambda uniform, alpha, chain=chain: torch.eye(3)[chain].expand(len(uniform), 3))
        found = augmix(torch.zeros(n, 3, 1, 1, dtype=torch.uint8), seed=0, index=torch.arange(n)).amax((1, 2, 3)).long()
        assert int(found.min()) == 1 and chi_square(found.bincount(minlength=4)[1:]) < 5
        depths.append(found.double())
    correlations = torch.corrcoef(torch.stack(depths)) - torch.eye(3)
    assert float(correlations.abs().max()) < 5 / math.sqrt(n)


@pytest.mark.parametrize("alpha", [1.0, 0.3, 4.0])
def test_mixing_weights_have_their_laws(alpha: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    index = torch.arange(4000)
    weights = dirichlet(midpoints(0, index, 11, 3), alpha)
    assert torch.allclose(weights.sum(1), torch.ones(4000, dtype=torch.float64))
    for k in range(3):  # each weight by itself is Beta(alpha, 2 alpha)
        assert stats.kstest(weights[:, k].numpy(), stats.beta(alpha, 2 * alpha).cdf).pvalue > 1e-3
    covariance = -alpha * alpha / ((3 * alpha) ** 2 * (3 * alpha + 1))
    assert float(weights[:, :2].T.cov()[0, 1]) == pytest.approx(covariance, rel=0.2)
    share = beta(midpoints(0, index, 12, 1), alpha)
    assert stats.kstest(share.flatten().numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_extreme_concentrations_give_finite_weights() -> None:
    pytest.importorskip("scipy")
    uniform = torch.tensor([[2.0**-33] * 3, [1 - 2.0**-33] * 3, [2.0**-33, 0.5, 1 - 2.0**-33]], dtype=torch.float64)
    for alpha in (0.05, 1.0, 1000.0):
        weights = dirichlet(uniform, alpha)
        assert bool(torch.isfinite(weights).all()) and torch.allclose(weights.sum(1), torch.ones(3, dtype=torch.float64))
        assert bool(((0 <= (share := beta(uniform, alpha))) & (share <= 1)).all())


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"images": make_images(2).float()}, TypeError, "images.*uint8"),
        ({"twins": make_images(3)}, ValueError, r"twins: expected \(2, 3, 32, 32\)"),
        ({"twins": make_images(2).float()}, TypeError, "twins.*uint8"),
        ({"index": torch.arange(3)}, ValueError, r"index: expected int64 \(2,\)"),
        ({"index": torch.arange(2.0)}, TypeError, "index.*float32"),
        ({"severity": 0.05}, ValueError, "severity.*0.1 to 10.*0.05"),
        ({"severity": 11}, ValueError, "severity.*11"),
        ({"severity": float("nan")}, ValueError, "severity.*nan"),
        ({"width": 0}, ValueError, "width.*0"),
        ({"depth": 0}, ValueError, "depth.*0"),
        ({"depth": -2}, ValueError, "depth.*-2"),
        ({"alpha": 0.0}, ValueError, "alpha.*0.05.*0.0"),
        ({"alpha": float("inf")}, ValueError, "alpha.*inf"),
    ],
)
def test_bad_input_is_named(change: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        augmix(**({"images": make_images(2), "seed": 0, "index": torch.arange(2)} | change))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu() -> None:
    images, index = make_images(64), torch.arange(64)
    assert torch.equal(augmix(images.cuda(), seed=0, index=index).cpu(), augmix(images, seed=0, index=index))
