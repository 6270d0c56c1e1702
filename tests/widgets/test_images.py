"""A view is a function of its state; its controls draw it anew; neither a network nor ipywidgets is needed for it."""

import base64
import datetime
import html
import importlib
import io
import json
import re
import sys
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from rtalib import attacks, nb
from rtalib.corruptions import BENCHMARKS, CORRUPTIONS, corrupt
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.models.inference import predict
from rtalib.results.figures.style import PAGE, Drawing
from rtalib.widgets import base, comparison
from rtalib.widgets import images as widgets


@pytest.fixture(scope="module")
def data() -> LabeledImages:
    return load_dataset("shapes10", "test", limit=4)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10)).eval()


def pixels(drawing: Drawing) -> np.ndarray:
    drawing.canvas.draw()
    return np.asarray(drawing.canvas.buffer_rgba()).copy()


def pictures(drawing: Drawing) -> list[torch.Tensor]:
    """The images that are shown, uint8 (3,H,W)."""
    return [torch.from_numpy(np.asarray(axes.images[0].get_array())).permute(2, 0, 1) for axes in drawing.axes if axes.images]


# ---------------------------------------------------------------------------------------------------------------- views


def test_same_state_gives_the_same_pixels(data, network):
    state = (data.images[1], "snow", 4, "tiny-imagenet-c", 7, network, data.classes)
    first = pixels(widgets.corruption_view(*state))
    widgets.corruption_view(data.images[0], "fog", 1, "cifar10-c", 0)
    assert (pixels(widgets.corruption_view(*state)) == first).all()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_view_shows_every_type_of_every_benchmark(data, name):
    image = data.images[2]
    for severity, benchmark in enumerate(BENCHMARKS, start=2):
        corrupted = corrupt(image[None], name, severity, seed=3, benchmark=benchmark)[0]
        shown = pictures(widgets.corruption_view(image, name, severity, benchmark, 3))
        assert len(shown) == 3 and torch.equal(shown[0], image) and torch.equal(shown[1], corrupted)


def test_view_of_large_oblong_images():
    image = torch.randint(0, 256, (3, 50, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert [tuple(picture.shape) for picture in pictures(widgets.corruption_view(image, "fog", 3, "imagecorruptions", 0))] == [
        (3, 50, 90)
    ] * 3


@pytest.mark.parametrize("change, factor", [(0, 16), (7, 16), (8, 8), (40, 2), (64, 1), (200, 1)])
def test_difference_is_magnified_as_far_as_it_stays_in_range(change, factor):
    both = torch.full((2, 3, 4, 4), 30, dtype=torch.uint8)
    both[1] += change
    difference, found = comparison._magnified(both)
    assert found == factor and (difference == min(255, 128 + factor * change)).all()
    assert (comparison._magnified(both.flip(0))[0] == max(0, 128 - factor * change)).all()


def test_bars_are_the_network_s_probabilities(data, network):
    image = data.images[0]
    drawing = widgets.corruption_view(image, "contrast", 5, "cifar10-c", 0, network, data.classes)
    chances = predict(network, torch.stack([image, corrupt(image[None], "contrast", 5)[0]])).softmax(dim=1)
    axes = drawing.axes[3]
    shown = [data.classes.index(tick.get_text()) for tick in axes.get_yticklabels()]
    assert len(shown) == len(set(shown)) and set(shown) == set(chances.topk(3).indices.flatten().tolist())
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(chances[:, shown].flatten().tolist())
    best = chances.max(dim=1)
    words = [f"{data.classes[k]} {float(value):.2f}" for value, k in zip(*best, strict=True)]
    assert f"The network sees {words[0]} in the clean image and {words[1]} in the corrupted one." in drawing.get_label()


def test_classes_are_numbers_or_short_names(data, network):
    def names(classes):
        view = widgets.corruption_view(data.images[0], "fog", 1, "cifar10-c", 0, network, classes)
        return [tick.get_text() for tick in view.axes[3].get_yticklabels()]

    assert all(name in "0123456789" for name in names(None))
    assert set(map(len, names(["a very long name of a class"] * 10))) == {comparison.LONGEST_CLASS}


def test_title_and_label_name_the_state(data):
    drawing = widgets.corruption_view(data.images[0], "glass_blur", 2, "imagecorruptions", 0)
    assert drawing.texts[0].get_text().startswith("Glass blur, severity 2, imagecorruptions: PSNR ")
    assert drawing.get_label() == drawing.texts[0].get_text() + "."


def test_texts_stay_on_the_page(data, network):
    names = ["a very long name of a class"] * 10
    drawing = widgets.corruption_view(data.images[0], "elastic_transform", 3, "imagecorruptions", 0, network, names)
    narrow = widgets.corruption_view(data.images[0], "elastic_transform", 3, "imagecorruptions", 0)
    for view in (drawing, narrow):
        view.canvas.draw()
        boxes = [axes.get_tightbbox() for axes in view.axes] + [text.get_window_extent() for text in view.texts]
        assert all(view.bbox.x0 <= box.x0 and box.x1 <= view.bbox.x1 and view.bbox.y0 <= box.y0 and box.y1 <= view.bbox.y1 for box in boxes)
    assert drawing.axes[3].get_tightbbox().x0 > drawing.axes[2].get_window_extent().x1


def test_bad_states_are_named(data):
    with pytest.raises(ValueError, match=r"image: expected shape \(3,H,W\), got \(4, 3, 32, 32\)"):
        widgets.corruption_view(data.images, "fog", 1, "cifar10-c", 0)
    with pytest.raises(TypeError, match="image: expected dtype torch.uint8"):
        widgets.corruption_view(data.images[0] / 255, "fog", 1, "cifar10-c", 0)
    with pytest.raises(ValueError, match="Did you mean 'fog'"):
        widgets.corruption_view(data.images[0], "fogg", 1, "cifar10-c", 0)
    with pytest.raises(ValueError, match="severity: expected 1 to 5"):
        widgets.corruption_view(data.images[0], "fog", 6, "cifar10-c", 0)


@pytest.mark.parametrize("attack", widgets.ATTACKS)
def test_attack_view_shows_the_stored_bytes_of_every_attack(data, network, attack):
    image, label = data.images[1], int(data.hard_labels[1])
    drawing = widgets.attack_view(image, label, network, attack, 4, 3, 5, data.classes)
    recipe = widgets.ATTACKS[attack](4 / 255, 3)
    found = attacks.attack(recipe, network, image[None], torch.tensor([label]), seed=5)
    shown = pictures(drawing)
    assert torch.equal(shown[0], image) and torch.equal(shown[1], found.images[0])
    assert (shown[1].int() - image.int()).abs().max() <= 4
    assert torch.equal(shown[2], comparison.magnified(image, shown[1], 16)) and drawing.axes[2].get_title(loc="left") == "Difference × 16"
    right = int(predict(network, image[None]).argmax()) == label
    verdict = "wrong from the start" if not right else "fooled" if found.success else "not fooled"
    cost = f"{int(found.gradients)} gradient" + "s" * (int(found.gradients) != 1)
    assert drawing.get_label().startswith(f"{attack}, eps 4/255, {cost}: {verdict}, the class is {data.classes[label]}. The network sees ")
    assert drawing.get_label().endswith("in the attacked one.")


def test_attacks_of_the_explorer_take_their_parameters(data, network):
    batch = data.images / 255, data.hard_labels
    gradients = {name: int(build(8 / 255, 10).record(network, *batch).gradients.max()) for name, build in widgets.ATTACKS.items()}
    assert gradients | {"ODI-BIM": 0} == {"FGSM": 1, "BIM": 10, "MI-FGSM": 10, "PGD": 10, "ODI-PGD": 12, "ODI-BIM": 0}
    assert widgets.ATTACKS["PGD"](8 / 255, 10) == attacks.PGD(steps=10)


def test_title_of_an_attack_says_what_became_of_the_image(data):
    class Bright(torch.nn.Module):
        """Class 1 for an image that is brighter than `level`, else class 0."""

        def __init__(self, level):
            super().__init__()
            self.level = torch.nn.Parameter(torch.tensor(level))

        def forward(self, x):
            score = x.mean((1, 2, 3)) - self.level
            return torch.stack([-score, score], dim=1)

    image = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    for level, label, verdict in ((101 / 255, 0, "fooled"), (200 / 255, 0, "not fooled"), (200 / 255, 1, "wrong from the start")):
        drawing = widgets.attack_view(image, label, Bright(level), "FGSM", 8, classes=["dark", "bright"], source="by_hand")
        expected = f"FGSM on by hand, eps 8/255, 1 gradient: {verdict}, the class is {('dark', 'bright')[label]}"
        assert drawing.texts[0].get_text() == expected


def test_same_attack_gives_the_same_pixels(data, network):
    first, again = (pixels(widgets.attack_view(data.images[0], 3, network, "PGD", seed=2)) for _ in range(2))
    assert (first == again).all()


def test_bad_attacks_are_named(data, network):
    for arguments, message in [
        ((data.images, 0, network, "PGD"), "image: expected shape"),
        ((data.images[0], 0, network, "PGDD"), "Did you mean 'PGD'"),
        ((data.images[0], 0, network, "PGD", 0), "eps: expected 1 to 255 grey levels, got 0"),
        ((data.images[0], 0, network, "PGD", 8, 0), "steps: expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            widgets.attack_view(*arguments)


def test_filmstrip_shows_the_views_in_order(data, network):
    views = [widgets.corruption_view(data.images[0], "fog", severity, "cifar10-c", 0, network) for severity in (1, 5)]
    strip = base.filmstrip(views)
    height = views[0].get_figheight()
    assert tuple(strip.get_size_inches()) == pytest.approx((PAGE, 2 * height))
    shown = [np.asarray(axes.images[0].get_array()) for axes in strip.axes]
    assert shown[0].shape == (round(height * base.DPI), round(PAGE * base.DPI), 4) and (shown[0] != shown[1]).any()
    assert strip.axes[0].get_position().y0 == pytest.approx(0.5) and strip.axes[1].get_position().y0 == 0
    assert views[0].get_dpi() != base.DPI  # the views are left as they were
    with pytest.raises(ValueError, match="drawings: got none"):
        base.filmstrip([])


# ------------------------------------------------------------------------------------------------------------- controls


def alternative(explorer: ipywidgets.VBox) -> str:
    """The text alternative of the picture that an explorer shows."""
    return html.unescape(re.search(r"alt=['\"](.*?)['\"] width", explorer.children[1].value, flags=re.DOTALL)[1])


def sources(explorer: ipywidgets.VBox) -> list[torch.Tensor]:
    """The pictures of an explorer, decoded, uint8 (3,H,W)."""
    found = re.findall(r"base64,([^'\"]+)", explorer.children[1].value)
    return [torch.from_numpy(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).copy()).permute(2, 0, 1) for text in found]


CORRUPTIONS_BEGIN = {"picture": "shapes10", "index": 0, "name": "gaussian_noise", "severity": 3, "benchmark": "cifar10-c", "seed": 0}


def test_every_control_shows_the_view_of_its_state(data, network):
    explorer, state = widgets.explore_corruptions(data, network), dict(CORRUPTIONS_BEGIN)
    assert {name: control.value for name, control in explorer.controls.items()} == state
    for name, value in {"index": 3, "name": "fog", "severity": 5, "benchmark": "imagecorruptions", "seed": 11}.items():
        before = sources(explorer)
        explorer.controls[name].value = state[name] = value
        _, index, *rest = state.values()
        expected = widgets.corruption_view(data.images[index], *rest, network, data.classes)
        assert all(torch.equal(*pair) for pair in zip(sources(explorer), pictures(expected), strict=True)), name
        assert not torch.equal(before[1], sources(explorer)[1]), name
        assert alternative(explorer) == expected.get_label()
        assert explorer.view(**state).get_label() == expected.get_label()
    assert plt.get_fignums() == []


def test_every_control_of_the_attacks_shows_the_view_of_its_state(data, network):
    torch.manual_seed(1)
    networks = {"first": network, "second": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10)).eval()}
    explorer = widgets.explore_attacks(data, networks, photographs=False)
    state = {"picture": "shapes10", "index": 0, "source": "first", "attack": "PGD", "eps": 8, "steps": 10}
    assert {name: control.value for name, control in explorer.controls.items()} == state
    for name, value in {"index": 3, "source": "second", "attack": "ODI-BIM", "eps": 3, "attack ": "BIM", "steps": 2}.items():
        before = explorer.children[1].value
        explorer.controls[name.strip()].value = state[name.strip()] = value
        _, index, source, *rest = state.values()
        label = int(data.hard_labels[index])
        expected = widgets.attack_view(data.images[index], label, networks[source], *rest, classes=data.classes, source=source)
        assert all(torch.equal(*pair) for pair in zip(sources(explorer), pictures(expected), strict=True)), name
        assert before != explorer.children[1].value, name
        assert alternative(explorer) == expected.get_label()
    with pytest.raises(ValueError, match="networks: got none"):
        widgets.explore_attacks(data, {})


def test_bars_of_the_page_are_the_network_s_probabilities(data, network):
    found = widgets.corrupted(data.images[0], "contrast", 5, "cifar10-c", 0, network, data.classes)
    widths = [float(text) for text in re.findall(r"height:8px; width:([\d.]+)%", found.page())]
    shown = 100 * found.chances[:, found.shown].T.flatten()
    assert widths[: len(shown)] == pytest.approx(shown.tolist(), abs=0.051) and not any(widths[len(shown) :])
    assert len(widths) == 4 * comparison.SHOWN_CLASSES  # always as many, so that the page keeps its height


def test_a_photograph_and_a_picture_of_one_s_own(data, network, tmp_path):
    Image.new("RGB", (300, 200), (200, 30, 30)).save(tmp_path / "mine.png")
    (tmp_path / "notes.txt").write_text("no picture")
    explorer = widgets.explore_corruptions(data, network, picture="cat", own=[tmp_path], name="contrast")
    assert explorer.controls["picture"].options == ("shapes10", "cat", "astronaut", "coffee", "rocket", "mine.png")
    assert sources(explorer)[0].shape == (3, 128, 128) and explorer.controls["index"].disabled
    assert "The network sees" not in alternative(explorer)  # a cat is none of its classes
    explorer.controls["picture"].value = "mine.png"
    assert (sources(explorer)[0] == torch.tensor([200, 30, 30])[:, None, None]).all()


def test_an_uploaded_picture_joins_the_menu_and_a_broken_one_is_named(data, tmp_path):
    Image.new("RGB", (64, 64), (0, 90, 0)).save(tmp_path / "leaf.png")
    explorer = widgets.explore_corruptions(data)
    button, words = explorer.children[2].children[1].children
    file = {"name": "leaf.png", "type": "image/png", "size": 1, "content": memoryview((tmp_path / "leaf.png").read_bytes())}
    file["last_modified"] = datetime.datetime.now(datetime.UTC)
    button.value = (file,)
    assert explorer.controls["picture"].value == "leaf.png" and words.value == ""
    button.value = (file | {"name": "torn.png", "content": memoryview(b"torn")},)
    assert "torn.png" in words.value and explorer.controls["picture"].value == "leaf.png"


def test_the_saved_code_opens_the_same_state_again(data, tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    explorer = widgets.explore_corruptions(data, name="snow", severity=5)
    button, words = explorer.children[2].children[0].children
    button.click()
    assert {path.name for path in (tmp_path / "explorers").iterdir()} == {"corruption.png", "corruption.svg", "corruption.pdf"}
    opens, draws = html.unescape(re.search(r"<pre.*?>(.*)</pre>", words.value, flags=re.DOTALL)[1]).splitlines()
    names = {"widgets": widgets, "data": data, "corrupt": corrupt, "images": data.images[:1]}
    assert alternative(eval(opens, names)) == alternative(explorer)
    assert torch.equal(eval(draws, names)[0], sources(explorer)[1])


def test_without_a_screen_the_picture_stands_for_the_explorer(data):
    bundle = widgets.explore_corruptions(data)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle and "<img alt=" in bundle["text/html"]


def test_explorer_works_without_a_network_and_refuses_what_is_out_of_range(data):
    controls = widgets.explore_corruptions(data).controls
    for name, value, kept in (("index", 99, 3), ("severity", 9, 5), ("seed", -1, 0)):
        controls[name].value = value
        assert controls[name].value == kept


def test_controls_are_named_core_widgets_whose_names_are_not_cut(data):
    controls = widgets.explore_corruptions(data).controls.values()
    assert all(control.description and type(control).__module__.startswith("ipywidgets.") for control in controls)
    assert all(control.style.description_width == "initial" for control in controls)
    assert [control.tooltip for control in controls if isinstance(control, ipywidgets.Dropdown)] == [base.KEYS] * 3


def test_picture_keeps_its_shape_and_escapes_its_text(data):
    drawing = widgets.corruption_view(data.images[0], "fog", 1, "cifar10-c", 0)
    drawing.set_label('a "quoted" <word>')
    text = base.as_html(drawing)
    width, height = (round(side * base.SCREEN) for side in drawing.get_size_inches())
    assert f'width="{width}" height="{height}"' in text and 'alt="a &quot;quoted&quot; &lt;word&gt;"' in text


def test_what_a_view_raises_is_shown_and_raised(data):
    def view(number: int) -> Drawing:
        if number:
            raise ValueError("number: got <1>")
        return widgets.corruption_view(data.images[0], "fog", 1, "cifar10-c", 0)

    number = ipywidgets.IntText(0, description="number")
    explorer = base.around(view, {"number": number}, code="", name="toy")
    with pytest.raises(ValueError):
        number.value = 1
    assert explorer.children[1].value == "<pre role='alert'>ValueError: number: got &lt;1&gt;</pre>"


def test_views_need_no_ipywidgets(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    again = importlib.reload(widgets)
    assert len(again.corruption_view(data.images[0], "fog", 1, "cifar10-c", 0).axes) == 3
    with pytest.raises(ImportError):
        again.explore_corruptions(data)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_head_names_every_filmstrip(path):
    head, *cells = ("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])
    for cell in cells:
        if "widgets.filmstrip(" in cell:
            name = re.search(r'page.figure[(].*, "([a-z-]+)"', cell)[1]
            assert f"`figures/{name}.png`" in head


CELLS = [
    "scale = 'smoke'",
    "from rtalib import load_dataset, widgets\nui = widgets.explore_corruptions(load_dataset('shapes10', 'test', limit=3))\nui",
    "before = ui.children[1].value\nui.controls['severity'].value = 5",
    "after = ui.children[1].value\nassert before != after",
    'assert "alt=\'Gaussian noise, severity 5, cifar10-c: PSNR " in after',
]


@pytest.mark.slow
def test_picture_changes_in_a_kernel(tmp_path):
    cells = [
        {"cell_type": "code", "id": f"toy-{i}", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
        for i, source in enumerate(CELLS)
    ]
    cells[0]["metadata"] = {"tags": ["parameters"]}
    toy = tmp_path / "07_toy.ipynb"
    toy.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    result = nb.run(toy, tmp_path / "out.ipynb", {}, timeout=300)
    assert result.status == "ok", result.error
