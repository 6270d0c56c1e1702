"""People with any common color vision can tell the colors of a view apart. A cell's operations are not tested: every box has a label."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from rtalib.experiments.repair import figures as repair_figures
from rtalib.results.figures import style as plot_style
from rtalib.widgets import coreset as coreset_views
from rtalib.widgets import results as results_views

# Machado, Oliveira and Fernandes (2009), complete lack of one kind of cones, on linear RGB.
VISIONS = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
PALETTES = {
    "clean and changed": [plot_style.PALE_BLUE, plot_style.BLUE],
    "rules": list(coreset_views.RULES.values()),
    "points of the map": [plot_style.PALE, plot_style.PALE_BLUE, plot_style.RED],
    "verdicts": list(results_views.VERDICTS.values()),
    "cycle": plot_style.CYCLE,
    "steps": list(repair_figures.STEPS.values()),
    "ends of the differences": [results_views.DIVERGING(0.0)[:3], results_views.DIVERGING(0.5)[:3], results_views.DIVERGING(1.0)[:3]],
}
APART = 10  # in CIELAB: about five just noticeable differences


def seen(color, vision: str) -> np.ndarray:
    """CIELAB (D65) of a color as a vision sees it."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(VISIONS[vision]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest(colors, vision: str) -> float:
    """The least distance between two of the colors."""
    return min(float(np.linalg.norm(seen(a, vision) - seen(b, vision))) for a, b in itertools.combinations(colors, 2))


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("name", PALETTES)
def test_colors_of_a_view_are_told_apart(name, vision):
    assert nearest(PALETTES[name], vision) > APART


def test_green_and_grey_would_not_pass():
    assert nearest([plot_style.GREEN, plot_style.GREY], "deuteranopia") < APART < nearest([plot_style.GREEN, plot_style.GREY], "full")
