"""The map of failures: the plane, what is drawn for a state, and the controls around it."""

import pytest
import torch

from rtalib import shapes10
from rtalib.coreset.selection import covering_radius, k_center_greedy
from rtalib.widgets.coreset import RULES, SHOWN, compare_rules, core_map, core_view, explore_core, principal_plane


@pytest.fixture(scope="module")
def found():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(12, 6, generator=generator).repeat_interleave(5, 0)
    candidates, centers = base * 3 + 0.1 * torch.randn(60, 6, generator=generator), torch.randn(40, 6, generator=generator)
    failures = shapes10.make("test", 60)
    result = core_map(failures, [f"note {i}" for i in range(60)], candidates, centers, 25)
    return result, candidates, centers


def test_the_plane_is_that_of_the_singular_vectors():
    x, y = (
        torch.randn(30, 5, generator=torch.Generator().manual_seed(1)),
        torch.randn(20, 5, generator=torch.Generator().manual_seed(2)) * torch.tensor([5.0, 3, 1, 1, 1]),
    )
    (a, b), share = principal_plane(x, y)
    rows = torch.cat([x, y]) - torch.cat([x, y]).mean(0)
    _, sizes, axes = torch.linalg.svd(rows, full_matrices=False)
    expected = rows @ axes[:2].T
    assert torch.allclose(torch.cat([a, b]).abs(), expected.abs(), atol=1e-4)
    assert share == pytest.approx(float(sizes[:2].square().sum() / sizes.square().sum()), rel=1e-5)
    assert torch.equal(principal_plane(x, y)[0][0], a)


def test_picks_and_radii_are_those_of_the_rules(found):
    found, candidates, centers = found
    assert torch.equal(found.picks["k-center"], k_center_greedy(candidates, centers, 25)) and found.budget == 25
    assert all(len(found.radii[rule]) == 26 for rule in RULES)
    for rule in ("k-center", "farthest", "random"):
        assert float(found.radii[rule][9]) == pytest.approx(covering_radius(candidates, centers, found.picks[rule][:9]), rel=1e-5)
    assert len(found.picks["to the letter"]) == 1 and len(found.radii["to the letter"][1:].unique()) == 1


def test_the_view_shows_the_first_picks_and_where_they_are(found):
    found, _, _ = found
    drawing = core_view(found, "farthest", 12)
    plane, curves, looked_at, *pictures = drawing.axes
    assert (looked_at.images[0].get_array() == pictures[0].images[0].get_array()).all()  # the first pick, by default
    shown = plane.collections[2].get_offsets()
    assert torch.allclose(torch.tensor(shown.tolist()), found.places[found.picks["farthest"][:12]].float())
    assert [text.get_text() for text in plane.texts] == [str(k) for k in range(1, SHOWN + 1)]
    assert len(curves.lines) == len(RULES) + 1
    for axes, pick in zip(pictures, found.picks["farthest"], strict=False):
        assert (axes.images[0].get_array() == found.failures.images[pick].permute(1, 2, 0).numpy()).all()
        assert axes.texts[0].get_text() == f"note {int(pick)}"
    assert drawing.get_label().startswith("12 of 60 failures chosen by the rule farthest with a budget of 12; covering radius ")


def test_to_the_letter_one_picture_is_shown_whatever_the_budget(found):
    drawing = core_view(found[0], "to the letter", 25)
    assert drawing.get_label().startswith("1 of 60") and sum(bool(axes.images) for axes in drawing.axes[3:]) == 1


def test_near_duplicates_are_counted_as_one_group(found):
    rows = {row["rule"]: row for row in compare_rules(found[0], torch.arange(60) // 5, 12)}
    assert rows["k-center"]["groups"] == 12 > rows["farthest"]["groups"]
    assert rows["to the letter"]["examples"] == rows["to the letter"]["groups"] == 1
    assert rows["random"]["examples"] == 12 and rows["k-center"]["radius"] < rows["farthest"]["radius"]


def test_the_explorer_has_a_control_for_each_part_of_the_state(found):
    pytest.importorskip("ipywidgets")
    rule, budget, failure = explore_core(found[0]).children[0].children
    assert tuple(rule.options) == tuple(RULES) and (budget.min, budget.max, budget.value) == (1, 25, SHOWN)
    assert (failure.min, failure.max, failure.value) == (0, 59, int(found[0].picks["k-center"][0]))


def test_wrong_input_is_named(found):
    found, candidates, centers = found
    with pytest.raises(ValueError, match="unknown rule 'furthest'. Did you mean 'farthest'"):
        core_view(found, "furthest", 3)
    for budget in (0, 26):
        with pytest.raises(ValueError, match=f"budget: expected 1 to 25, got {budget}"):
            core_view(found, "random", budget)
    with pytest.raises(ValueError, match="notes: expected 60, one for each failure, got 2"):
        core_map(found.failures, ["a", "b"], candidates, centers, 5)
    with pytest.raises(ValueError, match="candidates: expected 60, one for each failure, got 9"):
        core_map(found.failures, found.notes, candidates[:9], centers, 5)


def test_a_click_on_a_point_looks_at_that_failure(found):
    box = explore_core(found[0])
    number, layer = box.children[0].children[2], box.children[1]
    picture, *points = layer.children
    point = points[-1]
    wanted = int(point.tooltip.split(":")[0].removeprefix("failure "))
    number.value = (wanted + 1) % 60
    before = picture.value
    point.click()
    assert number.value == wanted and picture.value != before and f"Failure {wanted}, note {wanted}:" in picture.value
    assert not any(button.tabbable for button in points)  # the number is the way by keyboard


def test_every_spot_of_the_map_has_one_button_and_every_first_pick_is_reached(found):
    found, _, _ = found
    points = explore_core(found).children[1].children[1:]
    numbers = [int(button.tooltip.split(":")[0].removeprefix("failure ")) for button in points]
    assert len(set(numbers)) == len(numbers) <= len(found.failures)
    assert int(found.picks["k-center"][0]) in numbers


def test_the_failure_looked_at_is_ringed_and_named(found):
    found, _, _ = found
    drawing = core_view(found, "k-center", 5, 17)
    ring = drawing.axes[0].collections[-1].get_offsets()
    assert torch.allclose(torch.tensor(ring.tolist())[0], found.places[17].float())
    assert "Failure 17, note 17: " in drawing.get_label()
    with pytest.raises(ValueError, match="failure: expected 0 to 59, got 60"):
        core_view(found, "k-center", 5, 60)
