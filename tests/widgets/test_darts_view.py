"""Views of a search: weights, frames and cells of an epoch."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from rtalib import darts, shapes10
from rtalib.results.figures.cells import HIGHLIGHT
from rtalib.widgets import darts as darts_views

REDUCE = (("max_pool_3x3", 0), ("skip_connect", 1), ("skip_connect", 2), ("max_pool_3x3", 0))
# the second node takes the same edge in another order, and another operation instead of the other
NORMAL = {
    "old": (("sep_conv_3x3", 0), ("skip_connect", 1), ("sep_conv_3x3", 0), ("skip_connect", 2)),
    "new": (("skip_connect", 1), ("sep_conv_3x3", 0), ("dil_conv_3x3", 2), ("sep_conv_3x3", 0)),
}


@pytest.fixture(scope="module")
def trace():
    data = shapes10.make("train", 40)
    sizes = {"channels": 4, "layers": 3, "epochs": 2, "steps_per_epoch": 1, "batch_size": 8}
    return darts.search(data, data, arch_lr=0.3, **sizes).trace


def test_weights_are_the_softmax_of_the_alphas(trace):
    weights = darts_views.mixing_weights(trace[1], "normal")
    assert weights.shape == (14, 8) and np.allclose(weights.sum(1), 1)
    assert (weights.argmax(1) == np.argmax(trace[1]["alphas_normal"], 1)).all()


def test_view_frames_what_the_genotype_keeps(trace):
    drawing = darts_views.search_view(trace, 1)
    heats = drawing.axes[0], drawing.axes[2]
    genotype = darts.Genotype.parse(trace[1]["genotype"])
    for axes, cell in zip(heats, (genotype.normal, genotype.reduce), strict=True):
        frames = {patch.get_xy() for patch in axes.patches}
        edges = darts.space.EDGES
        expected = {
            (float(darts.SPACES["darts"].normal[0].index(op)), float(edges.index((2 + k // 2, source))))
            for k, (op, source) in enumerate(cell)
        }
        assert frames == expected
    assert trace[1]["genotype"] in drawing.get_label()
    with pytest.raises(ValueError, match="epoch: expected 0 to 1, got 2"):
        darts_views.search_view(trace, 2)


def test_spaces_whose_edges_differ_have_numbered_candidates():
    data = shapes10.make("train", 40)
    found = darts.search(data, data, space="s1", channels=4, layers=3, epochs=1, steps_per_epoch=1, batch_size=8).trace
    drawing = darts_views.search_view(found, 0, "s1")
    assert [text.get_text() for text in drawing.axes[0].get_xticklabels()] == ["candidate 1", "candidate 2"]


def test_slider_and_player_go_over_all_epochs(trace):
    box = darts_views.explore_search(trace)
    play, row, *_ = box.children
    slider = row.children[0]
    assert (slider.min, slider.max, slider.value) == (0, 1, 1) and (play.min, play.max) == (0, 1)


def test_edges_that_the_other_cell_lacks_at_the_same_node_are_filled():
    genotypes = {name: darts.Genotype(normal, (2, 3), REDUCE, (2, 3)) for name, normal in NORMAL.items()}
    assert darts_views.unmatched(NORMAL["old"], NORMAL["new"]) == [3] and darts_views.unmatched(NORMAL["new"], NORMAL["old"]) == [2]
    drawing = darts_views.cells_view(genotypes, "old", "new")
    filled = [sum(to_hex(patch.get_facecolor()) == HIGHLIGHT.lower() for patch in axes.patches) for axes in drawing.axes]
    assert filled == [1, 1] and "old and new: 1 of 4 edges differ in the normal cell." in drawing.get_label()
    assert "0 of 4 edges differ in the reduction cell" in darts_views.cells_view(genotypes, "old", "new", "reduce").get_label()
    with pytest.raises(ValueError, match="unknown genotype 'odl'. Did you mean 'old'"):
        darts_views.cells_view(genotypes, "odl", "new")
    with pytest.raises(ValueError, match="unknown cell 'reduction'"):
        darts_views.cells_view(genotypes, "old", "new", "reduction")
    first, second, cell = darts_views.explore_cells(genotypes).children[0].children
    assert (first.value, second.value, cell.value) == ("old", "new", "normal")
