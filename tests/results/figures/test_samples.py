"""Means and intervals are those of the rows: by hand against SciPy, and as figures draw them."""

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from rtalib import figures
from rtalib.experiments.repair import figures as repair_figures
from rtalib.results.figures import samples

SCORES = {"Org. DNN": (50.0, 52.0, 57.0), "CF-DARTS": (61.0, 60.0, 65.5), "CF-DARTSE": (70.0,)}
ROWS = [
    {"method": method, "seed": seed, "model": model, "clean": score + shift, "scale": "demo"}
    for method, scores in SCORES.items()
    for seed, score in enumerate(scores)
    for model, shift in (("a", 1.0), ("b", -1.0))
]


def ends(sample) -> tuple[float, float]:
    return stats.t.interval(0.95, len(sample) - 1, loc=np.mean(sample), scale=stats.sem(sample))


def drawn(axes, axis: str) -> list[tuple[float, float]]:
    """(low, high) of the intervals that a panel draws along x or y, one number of seaborn's for both ends of a cap."""
    found = []
    for line in axes.lines:
        along, across = (line.get_xdata(), line.get_ydata()) if axis == "x" else (line.get_ydata(), line.get_xdata())
        if len(along) == 8:  # cap, gap, interval, gap, cap
            along, across = along[3:5], across[3:5]
        if len(along) == 2 and across[0] == across[1] and line.get_marker() == "None":
            found.append(tuple(map(float, along)))
    return found


def test_a_seed_counts_once_with_the_mean_of_its_models():
    frame = samples.tidy(ROWS, list(SCORES), ["clean"])
    assert {method: tuple(part["percent"]) for method, part in frame.groupby("method")} == SCORES


def test_differences_are_of_matched_seeds():
    frame = samples.tidy(ROWS, ["CF-DARTS", "CF-DARTSE"], ["clean"], minus="Org. DNN")
    assert list(frame["percent"]) == [11, 8, 8.5, 20]


def test_intervals_are_student_s():
    frame = samples.tidy(ROWS, list(SCORES), ["clean"])
    for method, scores in SCORES.items():
        found = samples.student(frame.loc[frame["method"] == method, "percent"])
        assert found == pytest.approx(ends(scores)) if len(scores) > 1 else all(map(math.isnan, found))


def test_figures_draw_these_means_and_intervals():
    several = [name for name, scores in SCORES.items() if len(scores) > 1]
    bars = figures.score_bars(ROWS, metric="clean").axes[0]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([np.mean(scores) for scores in SCORES.values()])
    assert [end for end in drawn(bars, "x") if not math.isnan(end[0])] == [pytest.approx(ends(SCORES[name])) for name in several]
    dots = figures.corruption_dots(ROWS).axes[0]
    assert [line.get_ydata()[0] for line in dots.lines if line.get_marker() != "None" and len(line.get_ydata())] == pytest.approx(
        [np.mean(scores) for scores in SCORES.values()]
    )
    assert [end for end in drawn(dots, "y") if not math.isnan(end[0])] == [pytest.approx(ends(SCORES[name])) for name in several]


def test_differences_are_drawn_with_the_interval_of_the_differences():
    axes = figures.difference_bars(ROWS, methods=["CF-DARTS"]).axes[0]
    gaps = np.subtract(SCORES["CF-DARTS"], SCORES["Org. DNN"])
    assert axes.patches[0].get_height() == pytest.approx(gaps.mean())
    assert drawn(axes, "y")[0] == pytest.approx(ends(gaps))


def test_panels_draw_them_too():
    scores = {"a, x": [1, 2, 4], "a, y": [11, 12, 14], "b, x": [21, 22, 24], "b, y": [31, 33, 38]}
    made = [{"method": name, "seed": seed, "clean": float(score)} for name, found in scores.items() for seed, score in enumerate(found)]
    axes = repair_figures.factorial(made, ["a", "b"], ["x", "y"], metrics=["clean"]).axes[0]
    assert drawn(axes, "y") == [pytest.approx(ends(found)) for found in scores.values()]
    axes = repair_figures.size_curves(made, {"CF-DARTS": list(scores)}, metrics=["clean"]).axes[0]
    assert drawn(axes, "y") == [pytest.approx(ends(found)) for found in scores.values()]


def test_bands_reach_from_the_least_to_the_greatest_seed():
    histories = [[{"epoch": epoch, "clean": 10.0 * epoch + extra} for epoch in (1, 2)] for extra in (0, 1, 4)]
    made = [{"method": "a", "seed": seed, "history": history} for seed, history in enumerate(histories)]
    axes = figures.accuracy_curves(made).axes[0]
    band = axes.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in band} == {(1, 10), (2, 20), (1, 14), (2, 24)}
    assert list(axes.lines[0].get_ydata()) == pytest.approx([10 + 5 / 3, 20 + 5 / 3])


def test_seaborn_is_loaded_by_the_first_figure_alone():
    code = (
        "import sys, rtalib; from rtalib import figures; from rtalib.results.figures import arrays, cells, samples, style; "
        "import rtalib.yours.your_images; assert 'seaborn' not in sys.modules; "
        "figures.image_grid(__import__('numpy').zeros((1, 3, 2, 2), 'uint8')); assert 'seaborn' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
