"""Views of a search: weights, frames and cells of an epoch."""

import numpy as np
import pytest

from rtalib import darts, darts_views, shapes10


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
        frames = {(patch.get_x() + 0.5, patch.get_y() + 0.5) for patch in axes.patches}
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
    play, row, _ = box.children
    slider = row.children[0]
    assert (slider.min, slider.max, slider.value) == (0, 1, 1) and (play.min, play.max) == (0, 1)
