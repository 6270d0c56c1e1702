"""Ten corruptions that no training set has: their contract, and that they are what their names say."""

import pytest
import torch

from rtalib import load_dataset
from rtalib.corruptions import CORRUPTIONS
from rtalib.experiments.rta.unlike import UNLIKE, corrupt_unlike

IMAGES = load_dataset("shapes10", "test", limit=12).images
GREY = torch.full((2, 3, 32, 32), 128, dtype=torch.uint8)


def change(name: str, severity: int) -> float:
    return float((corrupt_unlike(IMAGES, name, severity).float() - IMAGES.float()).abs().mean())


@pytest.mark.parametrize("name", UNLIKE)
def test_harder_severities_change_more(name):
    changes = [change(name, severity) for severity in (1, 3, 5)]
    assert 0.5 < changes[0] < changes[1] < changes[2] < 80


@pytest.mark.parametrize("name", UNLIKE)
def test_an_image_does_not_depend_on_its_batch(name):
    whole = corrupt_unlike(IMAGES, name, 3, seed=7)
    part = corrupt_unlike(IMAGES[5:8], name, 3, seed=7, index=torch.arange(5, 8))
    assert whole.dtype == torch.uint8 and torch.equal(whole[5:8], part)
    assert torch.equal(whole, corrupt_unlike(IMAGES, name, 3, seed=7))


def test_blue_noise_is_of_high_and_brownish_noise_of_low_frequencies():
    def share_below(name):
        noise = corrupt_unlike(GREY, name, 5)[:, 0].double() - 128
        power = torch.fft.fft2(noise).abs().square().mean(0)
        frequency = torch.hypot(torch.fft.fftfreq(32)[:, None], torch.fft.fftfreq(32)[None])
        return float(power[(frequency < 0.15) & (frequency > 0)].sum() / power[frequency > 0].sum())

    assert share_below("blue_noise") < 0.05 < 0.7 < share_below("brownish_noise")


def test_geometry_keeps_what_is_even_and_the_middle_of_a_turn():
    for name in ("ripple", "pinch_and_twirl", "circular_motion_blur", "chromatic_aberration"):
        assert torch.equal(corrupt_unlike(GREY, name, 5), GREY)
    ring = torch.zeros(1, 3, 33, 33, dtype=torch.uint8)
    y, x = torch.meshgrid(torch.arange(33) - 16, torch.arange(33) - 16, indexing="ij")
    ring[0, :, (y**2 + x**2 < 100)] = 255
    turned = corrupt_unlike(ring, "circular_motion_blur", 5)
    assert (turned.int() - ring.int()).abs().float().mean() < 8, "a disc stays one when it is turned"


def test_sparkles_brighten_and_inverse_ones_darken():
    assert (corrupt_unlike(IMAGES, "sparkles", 3) >= IMAGES).all() and (corrupt_unlike(IMAGES, "inverse_sparkles", 3) <= IMAGES).all()


def test_aberration_moves_red_and_blue_and_leaves_green():
    made = corrupt_unlike(IMAGES, "chromatic_aberration", 4)
    assert torch.equal(made[:, 1], IMAGES[:, 1]) and not torch.equal(made[:, 0], IMAGES[:, 0]) and not torch.equal(made[:, 2], IMAGES[:, 2])


def test_a_checkerboard_cuts_grey_squares():
    made = corrupt_unlike(IMAGES, "checkerboard_cutout", 5)
    cut = (made != IMAGES).any(1)
    assert set(made.permute(0, 2, 3, 1)[cut].unique().tolist()) == {128} and 0.3 < float(cut.float().mean()) < 0.5


def test_none_is_a_trained_type_and_bad_arguments_are_named():
    assert len(UNLIKE) == 10 and not set(UNLIKE) & set(CORRUPTIONS)
    with pytest.raises(ValueError, match="Did you mean 'ripple'"):
        corrupt_unlike(IMAGES, "riple", 1)
    with pytest.raises(ValueError, match="severity: expected 1 to 5, got 6"):
        corrupt_unlike(IMAGES, "ripple", 6)
