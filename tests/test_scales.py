"""Which seeds a notebook gets from a scale."""

import pytest

from rtalib import scales


def test_a_notebook_has_its_own_seeds_or_the_scale_s():
    demo = scales.get("demo")
    assert demo.notebook_seeds("03_rta") == demo.seeds == (0, 1, 2)
    assert demo.notebook_seeds("12_cf_darts") == (0, 1, 2) and demo.notebook_seeds("15_other_search_methods") == (0,)


@pytest.mark.parametrize("scale", scales.SCALES)
def test_failure_sets_grow_and_begin_with_b(scale):
    setup = scales.get(scale).repair
    assert list(setup.sizes) == sorted(set(setup.sizes)) and len(setup.sizes) == 5
    assert setup.failures == setup.sizes[0] and setup.sizes[-1] <= 5 * setup.tests // 2
