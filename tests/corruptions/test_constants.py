"""The file of constants: complete, in one order, each value as its class has it."""

import pytest

from rtalib.corruptions.constants import BENCHMARKS, CONSTANTS, CORRUPTIONS, SEVERITIES, Elastic, Motion, Snow


def test_names_and_their_order():
    """Rows and columns of every table follow this order."""
    assert BENCHMARKS == ("cifar10-c", "tiny-imagenet-c", "imagecorruptions")
    assert CORRUPTIONS == (
        *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow", "frost"),
        *("fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    )


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_benchmark_has_every_type_at_every_severity(benchmark):
    assert tuple(CONSTANTS[benchmark]) == CORRUPTIONS
    assert all(len(rows) == len(SEVERITIES) for rows in CONSTANTS[benchmark].values())


def test_rows_become_the_classes_of_their_types():
    assert CONSTANTS["cifar10-c"]["snow"][3] == Snow(0.25, 0.3, 2.25, 0.6, 12, 6, keep=0.85, magick=True)
    assert CONSTANTS["imagecorruptions"]["motion_blur"][4] == Motion(20, 15, magick=False)
    assert CONSTANTS["imagecorruptions"]["elastic_transform"][0] == Elastic(12.5, 0.01, jitter=None)


def test_zoom_factors_end_where_the_published_range_rounds():
    """NumPy's range includes the ends 1.06 and 1.11 by rounding; the others stop a step before their ends."""
    last = [round(zoom.factors[-1], 6) for zoom in CONSTANTS["cifar10-c"]["zoom_blur"]]
    assert last == [1.06, 1.11, 1.15, 1.2, 1.25]
