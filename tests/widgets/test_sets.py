"""A robust set to look through: which images a filter keeps, what a page shows, what stored sets and searches give."""

import pytest
import torch

from rtalib import augment, scales, shapes10
from rtalib.experiments.rta.iterative_search import Search, Settings
from rtalib.training.recipes import RECIPES
from rtalib.widgets import sets as set_views
from rtalib.widgets.sets import ORIGINALS, RobustSet, explore_set, set_view


@pytest.fixture(scope="module")
def found():
    return RobustSet(shapes10.make("test", 60), ("fog", "snow") * 30, ("copy 1",) * 40 + ("copy 2",) * 20, ("",) * 59 + ("1 of 2 wrong",))


def test_filters_are_joined(found):
    label = found.data.classes[int(found.data.hard_labels[41])]
    kept = found.select("snow", label, "copy 2")
    expected = [i for i in range(41, 60, 2) if int(found.data.hard_labels[i]) == int(found.data.hard_labels[41])]
    assert kept == expected and 41 in kept and found.select() == list(range(60))
    for arguments, message in ((("snwo",), "unknown operation 'snwo'. Did you mean 'snow'"), (("snow", "all", "copy 3"), "unknown part")):
        with pytest.raises(ValueError, match=message):
            found.select(*arguments)


def test_a_page_shows_its_images_with_what_made_them(found):
    drawing = set_view(found, part="copy 2")
    (page,) = drawing.axes
    assert len(page.images) == 20 and drawing.get_label().startswith("20 of 60 images")
    assert (page.images[-1].get_array() == found.data.images[59].permute(1, 2, 0).numpy()).all()
    assert page.texts[-1].get_text().splitlines()[1:] == ["snow", "1 of 2 wrong"]
    assert [len(set_view(found, page=number).axes[0].images) for number in (3, 1)] == [12, 24]
    with pytest.raises(ValueError, match="page: expected 1 to 3, got 4"):
        set_view(found, page=4)


def test_a_filter_that_leaves_less_shortens_the_pages(found):
    box = explore_set(found)
    operation, _, _, page = box.children[0].children
    page.value = 3
    operation.value = "fog"
    assert (page.max, page.value) == (2, 2) and "page: 2 of 2" in box.children[1].value


def test_lengths_are_checked(found):
    with pytest.raises(ValueError, match="notes: expected 60, one for each image, got 1"):
        RobustSet(found.data, found.operations, found.parts, ("",))


def test_a_drawn_set_has_its_originals_and_copies():
    setup = scales.get("smoke").rta
    drawn = set_views.drawn_set("10,000 Ori + 4 × 10,000 Ori with Corruptions", 0, "shapes10", "disjoint", setup)
    assert drawn.parts.count(ORIGINALS) == setup.originals == drawn.operations.count("original")
    copies = {part: drawn.parts.count(part) for part in drawn.parts[setup.originals :]}
    assert copies == {f"copy {k}": setup.originals for k in (1, 2, 3, 4)}


def test_a_mined_set_tells_the_rounds():
    class Small(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1))

    targets = {name: lambda: Small(3072, 10) for name in ("a", "b")}
    settings = Settings(pieces=3, recipe=RECIPES["fast"].scaled(1), offered=2)
    search = Search(shapes10.make("train", 60), targets, augment.Bank(), settings, 0)
    mined = set_views.mined_set(search)
    assert list(dict.fromkeys(mined.parts)) == ["piece 1, drawn", "mined in round 1", "mined in round 2"]
    wrong = search.trace().wrong.sum(1).tolist()
    assert [note for note in mined.notes if note] == [f"{count} of 2 wrong" for count in wrong[len(search.pool.cuts[0]) :]]
