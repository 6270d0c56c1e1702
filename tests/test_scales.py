"""Which seeds a notebook gets from a scale, and which recipe a network."""

import pytest

from rtalib import scales
from rtalib.infra.data_files import read_toml
from rtalib.sources.cards import SOURCES
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


def tables() -> dict:
    return read_toml("rtalib", "scales.toml")


def test_the_loaded_scales_are_those_of_the_file():
    assert scales.load(tables()) == scales.SCALES and [*scales.SCALES] == ["smoke", "demo", "cpu", "night", "small", "paper"]


def test_a_scale_takes_from_its_base_what_it_does_not_set():
    demo, cpu, night = (scales.get(name) for name in ("demo", "cpu", "night"))
    assert cpu.rta.plan_lr == demo.rta.plan_lr and cpu.rta.originals != demo.rta.originals
    assert "10" in demo.seeds_of and "10" not in cpu.seeds_of, "seeds_of is replaced whole"
    assert night.seeds_of == cpu.seeds_of and night.repair.curve_images == cpu.repair.curve_images != demo.repair.curve_images
    assert cpu.rta.sources == tuple(SOURCES) and scales.get("smoke").rta.sources == ("clean_resnet50", "fast_at")


def test_an_unknown_or_missing_key_is_an_error_that_names_its_place():
    wrong = tables()
    wrong["cpu"]["rta"]["orignals"] = 5
    with pytest.raises(ValueError, match=r"scales.toml, cpu.rta: unknown key 'orignals'. Did you mean 'originals'\?"):
        scales.load(wrong)
    wrong = tables()
    del wrong["paper"]["repair"]["tests"]
    with pytest.raises(ValueError, match="scales.toml, paper.repair: the key 'tests' is missing"):
        scales.load(wrong)
    with pytest.raises(ValueError, match="scales.toml, small: unknown key 'seed'. Did you mean 'seeds'"):
        scales.load({"small": tables()["small"] | {"seed": [1]}})
    with pytest.raises(ValueError, match="scales.toml, night, base: unknown earlier scale 'cpu'"):
        scales.load({"night": tables()["night"]})
