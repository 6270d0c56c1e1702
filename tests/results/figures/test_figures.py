"""Every figure is drawn, says where its numbers come from, has labeled axes that do not overlap, and is the same bytes twice."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from made_up import cf_rows, rta_rows

from rtalib import figures, papers
from rtalib.corruptions import CORRUPTIONS
from rtalib.experiments.repair import figures as repair_figures
from rtalib.experiments.rta import figures as search_figures
from rtalib.experiments.rta import severity_budget
from rtalib.results.figures import style as plot_style

CELL = [
    *(("sep_conv_3x3", 0), ("max_pool_3x3", 1), ("sep_conv_5x5", 0), ("skip_connect", 1)),
    *(("dil_conv_5x5", 2), ("skip_connect", 0), ("avg_pool_3x3", 4), ("dil_conv_3x3", 2)),
]
SEVERITIES = [
    {
        "benchmark": benchmark,
        "corruption": name,
        "severity": severity,
        "psnr": 40 - 3 * severity - shift,
        "scale": "demo",
        "dataset": "shapes10",
    }
    for shift, benchmark in enumerate(("cifar10-c", "imagecorruptions"))
    for name in papers.CORRUPTION_LABELS
    for severity in (1, 2, 3, 4, 5)
]
PICTURES = np.random.default_rng(0).integers(0, 256, (15, 5, 3, 32, 32), dtype=np.uint8)
NULL = "Org. DNN (retrained)"
SIZED = [row | {"method": f"{row['method']}({size})", "budget": size // 25} for size in (1000, 5000) for row in cf_rows(seeds=2)]
SHARES = [{"method": "CF-DARTS: ratio (%)", "seed": 0, "scale": "demo", "selection": 1.5, "search": 40.0, "retraining": 58.5}]
SETS = ["originals", "RTA", "failures"]
FACTORIAL = [
    {"method": f"{cell}, {data}", "seed": seed, "scale": "demo", "dataset": "shapes10", "clean": 40.0 + k * seed + j}
    for j, cell in enumerate(("Deployed cell", "CF-DARTS cell"))
    for k, data in enumerate(SETS)
    for seed in (0, 1, 2)
]
CHANCE = [{"seed": seed, "number": number, "clean": 70.0 + seed + number} for seed in (0, 1) for number in range(4)]
BUDGETS = [
    {
        "method": severity_budget.name_of(severity, copies),
        **{"severity": severity, "copies": copies, "seed": seed, "model": "m", "device": "CPU", "scale": "demo", "dataset": "shapes10"},
        **{"score": 30.0 + copies + severity + seed, "hours": 0.01 * (1 + copies) + 0.001 * seed},
    }
    for severity, copies in ((0, 0), (0, 4), (1, 1), (1, 4), (3, 4))
    for seed in (0, 1)
]
EFFECTS = pd.DataFrame([("a", 1.0, -1.0, 3.0), ("b", 2.0, 1.0, 3.0)], columns=["effect of", "effect", "low", "high"])
MINED = SimpleNamespace(
    operations=[*CORRUPTIONS, "clean_resnet50", "fast_at"], operation=torch.arange(68) % 17, piece=torch.arange(68) // 17
)
GENOTYPE = SimpleNamespace(normal=CELL, reduce=CELL[:4])
DRAW = {
    "score_bars": lambda: figures.score_bars(rta_rows(), papers.RTA["table1"]),
    "score_bars_alone": lambda: figures.score_bars(rta_rows(seeds=1)),
    "proxy_parts": lambda: figures.proxy_parts(rta_rows(), parts=("clean", "corruptions", "transfer_pgd")),
    "difference_bars": lambda: figures.difference_bars(cf_rows(), papers.CF_DARTS["table2"]),
    "corruption_dots": lambda: figures.corruption_dots(cf_rows(), methods=["Org. DNN", "CF-DARTS", "CF-DARTSE"]),
    "corruption_dots_of_all": lambda: figures.corruption_dots(cf_rows()),
    "accuracy_curves": lambda: figures.accuracy_curves(cf_rows()),
    "draw_cell": lambda: figures.draw_cell(GENOTYPE),
    "severity_curves": lambda: figures.severity_curves(SEVERITIES),
    "severity_gallery": lambda: figures.severity_gallery(
        PICTURES[0, 0],
        PICTURES,
        [name.replace("_", " ") for name in papers.CORRUPTION_LABELS],
        title="shapes10 with the constants of cifar10-c",
    ),
    "transfer_heatmap": lambda: figures.transfer_heatmap(
        100 * np.random.default_rng(0).random((15, 15)), [100.0] * 15, [f"a_source_of_{i}" for i in range(15)], foot="scale demo"
    ),
    "difference_dots": lambda: figures.difference_dots(
        {"against PGD-22": np.tile([1.0, -2, 4], (15, 1)), "against PGD-22 margin": np.tile([-1.0, -3, 1], (15, 1))},
        [f"a_source_of_{i}" for i in range(15)],
        axis="points",
        foot="scale demo",
    ),
    "gain_heatmap": lambda: repair_figures.gain_heatmap(cf_rows(), [("CF-DARTS", NULL), ("CF-DARTSE", NULL), ("RF-DARTS", "not measured")]),
    "size_curves": lambda: repair_figures.size_curves(
        [*SIZED, *cf_rows()],
        {name: [f"{name}(1000)", f"{name}(5000)"] for name in ("RF-DARTS", "CF-DARTS")},
        published=papers.CF_DARTS["table6"],
        reference=NULL,
    ),
    "cost_bars": lambda: repair_figures.cost_bars(SHARES, papers.CF_DARTS["table7"]),
    "factorial": lambda: repair_figures.factorial(FACTORIAL, ["Deployed cell", "CF-DARTS cell"], SETS, metrics=("clean",)),
    "effect_dots": lambda: repair_figures.effect_dots({"clean": EFFECTS, "fail": EFFECTS[:1]}, FACTORIAL),
    "frontier": lambda: repair_figures.frontier(BUDGETS),
    "chance_dots": lambda: repair_figures.chance_dots(CHANCE, foot="scale demo"),
    "selection_map": lambda: figures.selection_map(PICTURES[0, 0, 0], PICTURES[1, 0, 0], [3, 7]),
    "mined_operations": lambda: search_figures.mined_operations([MINED], foot="scale demo"),
    "operation_heatmap": lambda: search_figures.operation_heatmap([MINED], foot="scale demo"),
    "misclassified": lambda: search_figures.misclassified({"StageI, convnet": [[60.0, 40, 30], [55, 45, 30]]}, foot="scale demo"),
    "image_grid": lambda: figures.image_grid(np.zeros((5, 3, 8, 8), np.uint8), list("abcde"), columns=3, title="t"),
}


def hidden_ticks(axes):
    """Labels of ticks that are not drawn: those of switched-off axes and those beyond the limits."""
    for axis, limits in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
        for tick in axis.get_major_ticks():
            if not axes.axison or not limits[0] <= tick.get_loc() <= limits[1]:
                yield id(tick.label1)


@cache
def drawn(name):
    """The figure with its layout made, once for all tests that only look at it."""
    drawing = DRAW[name]()
    drawing.canvas.draw()
    return drawing


def texts(drawing):
    """Texts that are drawn, with their boxes in pixels."""
    hidden = {text for axes in drawing.axes for text in hidden_ticks(axes)}
    found = [
        text for text in drawing.findobj(matplotlib.text.Text) if text.get_visible() and text.get_text().strip() and id(text) not in hidden
    ]
    return [(text.get_text(), text.get_window_extent()) for text in found]


@pytest.mark.parametrize("name", DRAW)
def test_labels_do_not_overlap_or_leave_the_page(name):
    drawing = drawn(name)
    found = [(text, box) for text, box in texts(drawing) if box.width > 0]
    slanted = {tick.get_text() for axes in drawing.axes for tick in axes.get_xticklabels() if tick.get_rotation()}
    page = drawing.bbox
    for i, (text, box) in enumerate(found):
        if text in slanted:  # boxes of slanted texts overlap where the letters do not
            continue
        assert page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1 and page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1, text
        for other, rival in found[i + 1 :]:
            if other in slanted:
                continue
            across = min(box.x1, rival.x1) - max(box.x0, rival.x0)
            along = min(box.y1, rival.y1) - max(box.y0, rival.y0)
            assert across < 1.5 or along < 1.5, (text, other)


@pytest.mark.parametrize("name", ["score_bars", "proxy_parts", "difference_bars", "corruption_dots", "accuracy_curves", "severity_curves"])
def test_scale_and_data_are_on_the_figure_s_face(name):
    assert any("scale demo" in text and "shapes10" in text for text, _ in texts(drawn(name)))


def unlabelled(drawing):
    """Axes with numbers at their ticks and no words, neither their own nor the figure's, for what is counted."""
    for axes in (axes for axes in drawing.axes if axes.axison and axes.get_visible()):
        for axis, words in ((axes.xaxis, axes.get_xlabel()), (axes.yaxis, axes.get_ylabel() or drawing.get_supylabel())):
            shown = [tick.get_text() for tick in axis.get_ticklabels() if tick.get_visible()]
            if not words and any(text.strip("\u2212-.0123456789") == "" for text in shown if text):
                yield axis


@pytest.mark.parametrize("name", DRAW)
def test_axes_with_numbers_are_labelled_and_every_figure_has_words(name):
    drawing = drawn(name)
    assert list(unlabelled(drawing)) == []
    assert len(plot_style.describe(drawing)) > (20 if name != "image_grid" else 5)  # of a sheet: its title and captions


def test_an_axis_without_a_label_is_found():
    drawing = plot_style.figure(2, 2)
    drawing.subplots().set_xlabel("seconds")
    drawing.canvas.draw()
    assert list(unlabelled(drawing)) == [drawing.axes[0].yaxis]


def test_words_name_what_is_on_the_axes():
    words = plot_style.describe(drawn("difference_bars"))
    assert "up: accuracy minus Org. DNN, points" in words and "columns: Clean, Fail" in words and "Shot, Impulse" in words


def test_same_figure_gives_the_same_bytes_in_another_process(tmp_path):
    names = ("draw_cell", "misclassified", "score_bars", "gain_heatmap")
    code = f"import test_figures as t; [t.figures.save(t.DRAW[n](), {str(tmp_path)!r}, n) for n in {names}]"
    root = Path(__file__).parents[3]
    paths = [str(Path(__file__).parent), str(root / "tests" / "helpers"), str(root)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    for name in names:
        written = figures.save(DRAW[name](), tmp_path / "here", name)
        assert [path.suffix for path in written] == [".png", ".svg", ".pdf"]
        assert [path.read_bytes() for path in written] == [(tmp_path / path.name).read_bytes() for path in written]
        assert b"/Type3" not in written[2].read_bytes()  # fonts are embedded as TrueType


def test_only_the_kinds_that_are_asked_for_or_there_are_written(tmp_path):
    (tmp_path / "cell.pdf").write_text("older")
    assert [path.name for path in figures.save(DRAW["draw_cell"](), tmp_path, "cell", kinds=["png"])] == ["cell.png", "cell.pdf"]
    assert (tmp_path / "cell.pdf").read_bytes().startswith(b"%PDF") and not (tmp_path / "cell.svg").exists()
    with pytest.raises(ValueError, match=r"RTALIB_FIGURES.*'sgv'.*Did you mean 'svg'"):
        figures.save(DRAW["draw_cell"](), tmp_path, "cell", kinds=["sgv"])


def test_style_is_put_back_and_figures_show_themselves():
    before = dict(matplotlib.rcParams)
    drawing = DRAW["draw_cell"]()
    assert drawing._repr_png_().startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before


def test_bars_have_the_measured_heights():
    axes = DRAW["score_bars"]().axes[0]
    rows = rta_rows()
    expected = [np.mean([r["score"] for r in rows if r["method"] == method]) for method in papers.RTA["table1"].rows]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(expected)


def test_numbers_stand_right_of_every_seed():
    rows = [{"method": "a", "seed": seed, "score": score} for seed, score in enumerate((10, 10, 10, 10, 30))]
    axes = figures.score_bars(rows).axes[0]
    assert [text.xy[0] for text in axes.texts] == [30]  # the interval ends at 25


def test_transfer_heatmap_shows_every_number_and_frames_the_diagonal():
    drawing = figures.transfer_heatmap(np.array([[0, 40], [70, 20]]), [90, 80], ["a", "b"])
    axes = drawing.axes[0]
    assert [text.get_text() for text in axes.texts] == ["90", "80", "0", "40", "70", "20"]
    assert [patch.get_xy() for patch in axes.patches] == [(0, 1), (1, 2)]
    nothing = figures.transfer_heatmap(np.zeros((1, 1)), [0], ["a"]).axes[0].collections[0].get_array()
    assert nothing[0, 0] == nothing[1, 0] == 0  # a network without accuracy has none to lose
    with pytest.raises(ValueError, match="accuracy: expected"):
        figures.transfer_heatmap(np.zeros((2, 3)), [1, 2], ["a", "b"])


def test_difference_dots_lie_at_their_values():
    drawing = figures.difference_dots({"one": np.array([[1, 0, 3], [-2, -5, 4]])}, ["a", "b"], axis="points")
    dots = drawing.axes[0].lines[0]
    assert dots.get_xdata().tolist() == [1, -2]
    with pytest.raises(ValueError, match="differences"):
        figures.difference_dots({"one": np.zeros((2, 2))}, ["a", "b"], axis="points")


def test_dots_of_many_series_stay_on_the_line_of_their_name():
    axes = figures.difference_dots({str(k): np.zeros((2, 3)) for k in range(6)}, ["a", "b"], axis="points").axes[0]
    places = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 2 and line.get_marker() in plot_style.MARKERS]
    assert len(places) == 6 and all(abs(y - line) < 0.5 for pair in places for line, y in enumerate(pair))


def test_published_differences_beyond_a_panel_stand_at_its_edge_with_their_number():
    rows = [{"method": m, "seed": 0, "clean": 50.0, "fail": 1.0 * (m != "Org. DNN")} for m in ("Org. DNN", "CF-DARTSE")]
    axes = figures.difference_bars(rows, papers.CF_DARTS["table2"]).axes[0]
    assert [text.get_text() for text in axes.texts if text.get_text().lstrip("-").isdigit()] == ["88"]
    low, high = axes.get_ylim()
    assert all(low < y < high for line in axes.lines if line.get_marker() == "D" for y in line.get_ydata())


def test_difference_bars_pair_seeds():
    rows = cf_rows()
    axes = figures.difference_bars(rows, methods=["CF-DARTSE"]).axes[0]
    ours, base = ([r["clean"] for r in rows if r["method"] == method] for method in ("CF-DARTSE", "Org. DNN"))
    assert axes.patches[0].get_height() == pytest.approx(np.mean(ours) - np.mean(base))


def test_cell_has_a_box_for_every_operation():
    drawing = drawn("draw_cell")
    shown = [text for text, _ in texts(drawing)]
    assert shown.count("skip") == 3 and shown.count("sep 3×3") == 2 and "dil 5×5" in shown and "avg 3×3" in shown


def test_selection_map_keeps_two_dimensions_and_projects_more():
    points = np.random.default_rng(0).normal(size=(30, 2))
    drawn = figures.selection_map(points[:10], points[10:], [3, 7]).axes[0].collections[2].get_offsets()
    assert np.allclose(drawn, points[[13, 17]])
    lifted = np.concatenate([points, np.zeros((30, 3))], axis=1)  # the same plane in five dimensions: distances stay
    again = figures.selection_map(lifted[:10], lifted[10:], [3, 7]).axes[0].collections[2].get_offsets()
    assert np.linalg.norm(again[0] - again[1]) == pytest.approx(np.linalg.norm(points[13] - points[17]))


def test_image_grid_shows_the_pixels():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    shown = figures.image_grid(images).axes[1].images[0].get_array()
    assert (shown == images[1].transpose(1, 2, 0)).all()


def test_severity_gallery_shows_every_pixel_at_its_place():
    pictures = PICTURES[:2, :3, :, :20, :30]  # gaps of one pixel
    sheet = figures.severity_gallery(pictures[0, 0], pictures, ["a", "b"]).axes[0].images[0].get_array()
    assert (sheet[:20, :30] == pictures[0, 0].transpose(1, 2, 0)).all() and (sheet[:20, 31:] == 255).all()
    for i, j in np.ndindex(2, 3):
        assert (sheet[21 * (i + 1) :, 31 * j :][:20, :30] == pictures[i, j].transpose(1, 2, 0)).all()


def test_severity_curves_draw_the_rows_in_any_order():
    panels = figures.severity_curves(SEVERITIES[::-1]).axes
    assert [axes.get_title("left") for axes in panels[:2]] == ["jpeg compression", "pixelate"]
    lines = dict(zip(("cifar10-c", "imagecorruptions"), panels[0].lines[1::-1], strict=True))  # reversed, as the rows are
    assert list(lines["cifar10-c"].get_xdata()) == [1, 2, 3, 4, 5]
    assert list(lines["imagecorruptions"].get_ydata()) == [36, 33, 30, 27, 24]


def test_severity_curves_of_a_few_types_leave_panels_empty():
    assert sum(axes.get_visible() for axes in figures.severity_curves(SEVERITIES[:35]).axes) == 7


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="images: expected uint8"):
        figures.image_grid(np.zeros((1, 3, 4, 4), np.float32))
    with pytest.raises(ValueError, match="titles: got 1 for 2"):
        figures.image_grid(np.zeros((2, 3, 4, 4), np.uint8), ["a"])
    with pytest.raises(ValueError, match="unknown cell 'normel'"):
        figures.draw_cell(GENOTYPE, cell="normel")
    with pytest.raises(ValueError, match="none has a history"):
        figures.accuracy_curves(rta_rows())
    with pytest.raises(ValueError, match="rows: got none"):
        figures.score_bars([])
    with pytest.raises(ValueError, match="rows: got none"):
        figures.severity_curves([])
    with pytest.raises(ValueError, match=r"corrupted: expected uint8 \(1,S,3,32,32\) for 1 names"):
        figures.severity_gallery(PICTURES[0, 0], PICTURES, ["a"])
    with pytest.raises(ValueError, match="none of the reference method"):
        figures.difference_bars([row for row in cf_rows() if row["method"] != "Org. DNN"])


def test_class_names_are_no_formulas(tmp_path):
    """Matplotlib reads what is between dollars as mathematics, and fails at what is none."""
    drawing = figures.image_grid(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), titles=["a$\\frac$b", "$\\input{x}$"])
    drawing.savefig(tmp_path / "names.svg")
