"""Which seeds a notebook gets from a scale, and which recipe a network."""

import pytest

from rtalib import scales
from rtalib.training.recipes import RECIPES


def test_a_notebook_has_its_own_seeds_or_the_scale_s():
    demo = scales.get("demo")
    assert demo.notebook_seeds("03_rta") == demo.seeds == (0, 1, 2)
    assert demo.notebook_seeds("12_cf_darts") == (0, 1, 2) and demo.notebook_seeds("15_other_search_methods") == (0,)


@pytest.mark.parametrize("scale", scales.SCALES)
def test_failure_sets_grow_and_begin_with_b(scale):
    setup = scales.get(scale).repair
    assert list(setup.sizes) == sorted(set(setup.sizes)) and len(setup.sizes) == 5
    assert setup.failures == setup.sizes[0] and setup.sizes[-1] <= 5 * setup.tests // 2


def test_networks_for_images_of_64_pixels_keep_the_shares_of_crop_and_cutout():
    paper = scales.get("paper").repair
    assert paper.recipe() == RECIPES["darts"] and paper.recipe(64) == RECIPES["darts_tiny_imagenet"]
    assert scales.get("cpu").repair.recipe(64) == scales.get("cpu").repair.recipe(32)
