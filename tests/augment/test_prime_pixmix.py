"""PRIME's three operations and PixMix's mixings against SciPy and NumPy, their laws, and independence of the batch."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from rtalib import augment, rng
from rtalib.augment.pixmix import fractals, mix
from rtalib.augment.prime import deformed, filtered, recolored

INDEX = torch.arange(6)


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (6, 3, 24, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("function", [augment.prime, augment.pixmix])
def test_a_result_depends_on_its_image_seed_and_index_alone(function, images):
    whole = function(images, seed=3, index=INDEX)
    assert whole.dtype == torch.uint8 and whole.shape == images.shape
    assert torch.equal(function(images[[4, 1]], seed=3, index=torch.tensor([4, 1])), whole[[4, 1]])
    assert not torch.equal(function(images, seed=4, index=INDEX), whole)


@pytest.mark.parametrize(("function", "argument"), [(augment.prime, "width"), (augment.pixmix, "beta"), (augment.pixmix, "severity")])
def test_wrong_arguments_are_named(function, argument, images):
    with pytest.raises(ValueError, match=argument):
        function(images, seed=0, index=INDEX, **{argument: 0})


def test_filter_is_a_correlation_with_the_drawn_kernel(images):
    kernels = 4 * rng.normal(0, INDEX, 9, 9).view(-1, 3, 3).numpy()
    found = filtered(images, 0, INDEX, 9)
    for image, kernel, made in zip(images.numpy(), kernels, found.numpy(), strict=True):
        kernel[1, 1] += 1
        wanted = [ndimage.correlate(plane.astype(float), kernel, mode="constant") for plane in image]
        assert np.array_equal(np.rint(wanted).clip(0, 255), made)


def test_color_curve_is_the_sum_of_its_waves(images):
    drawn = 0.1 * rng.normal(0, INDEX, 9, 300).view(-1, 3, 100)
    found = recolored(images, 0, INDEX, 9)
    value = images[2, 1, 7, 5].item() / 255
    curve = value + sum(drawn[2, 1, k - 1].item() * math.sin(math.pi * k * value) for k in range(1, 101))
    assert found[2, 1, 7, 5].item() == min(255, max(0, round(255 * curve)))


def test_deformation_reads_where_the_drawn_field_points(images, monkeypatch):
    """Against SciPy's interpolation; and the field of one slow wave of known strength moves the middle by its formula."""
    monkeypatch.setattr(rng, "uniform", lambda seed, index, stream, count: torch.tensor([[0.0, 0.5]]).double().repeat(len(index), 1))
    waves = torch.zeros(6, 2, 100, 100, dtype=torch.float64)
    waves[:, 0, 0, 0], waves[:, 1, 1, 0] = 1.5, -1.0
    monkeypatch.setattr(rng, "normal", lambda *_: waves.flatten(1))
    least, most = 1 / (math.pi * 24**2 * math.log(2)), 4 / (math.pi**3 * 4 * math.log(2))
    strength = math.sqrt((least + most) / 2)
    y, x = np.mgrid[0:24, 0:20] / np.array([23, 19])[:, None, None]
    across = strength * 1.5 / math.sqrt(2) * np.sin(math.pi * x) * np.sin(math.pi * y)
    down = strength * -1.0 / math.sqrt(5) * np.sin(2 * math.pi * x) * np.sin(math.pi * y)
    found = deformed(images, 0, INDEX, 9).numpy()
    at = [(y - down) * 23, (x - across) * 19]
    wanted = ndimage.map_coordinates(images[3, 0].numpy().astype(float), [at[0].clip(0, 23), at[1].clip(0, 19)], order=1)
    assert np.abs(found[3, 0] - wanted).max() <= 0.5 + 1e-6


def test_weights_of_a_mixing_follow_their_beta_laws():
    u, v = torch.rand(2, 7, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x, y = torch.full((7, 3, 2, 2), 0.6).double(), torch.full((7, 3, 2, 2), 0.3).double()
    low, high = torch.zeros_like(u), torch.ones_like(u)
    root, small_a, small_b = (stats.beta.ppf(*part) for part in ((u.numpy(), 3, 1), (u.numpy(), 1, 3), (v.numpy(), 1, 3)))
    for kind, side, a, b in ((low, low, root, small_b), (low, high, 1 + small_a, -small_b), (high, low, root, small_b)):
        found = mix(x, y, kind, side, u, v, 3.0).numpy()
        wanted = (a * 0.2 + b * -0.4 + 1) / 2 if kind[0] == 0 else 1.2**a * 0.6**b / 2
        assert np.allclose(found, np.broadcast_to(wanted, found.shape).clip(0, 1))


def test_no_rounds_leave_the_image_or_one_operation_of_it(images):
    found = augment.pixmix(images.repeat(20, 1, 1, 1), seed=0, index=torch.arange(120), rounds=0, severity=0.1)
    kept = (found == images.repeat(20, 1, 1, 1)).flatten(1).all(1).double().mean()
    assert 0.4 < kept < 0.95  # half are not operated on; of the others, those whose operation does nothing at the least level


def test_fractals_are_alike_in_every_process_and_fill_a_part_of_the_picture():
    found = fractals(24, 20, 16)
    assert found.shape == (16, 3, 24, 20) and torch.equal(found, fractals.__wrapped__(24, 20, 16))
    background = found.flatten(2)[:, :, 0:1]
    share = (found.flatten(2) != background).any(1).double().mean(1)
    assert (share > 0.02).all() and found.double().std((2, 3)).mean() > 10
