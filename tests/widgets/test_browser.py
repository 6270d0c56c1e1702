"""Every explorer in a real JupyterLab and a real browser: it opens, each control changes the picture, nothing complains.

Screenshots and the seconds from a change to its picture lie in $RTALIB_SCREENSHOTS, by default in pytest's temporary folder.
"""

import json
import os
from pathlib import Path

import pytest
from lab import CHROMIUM, ROOT, Page, notebook, server

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright)")
pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="no chromium in the path (apt-get install chromium)")]

# Small data, made on the fly; the explorers are those of the notebooks.
CELLS = {
    "setup": """
import made_up, torch
from rtalib import corrupt, darts, shapes10, widgets
torch.manual_seed(0)
data = shapes10.make("test", 60)
networks = {name: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10)).eval() for name in ("first", "second")}
small = {"channels": 4, "layers": 3, "epochs": 2, "steps_per_epoch": 1, "batch_size": 8, "arch_lr": 0.5}
trace = darts.search(data, data, **small).trace""",
    "attacks": "widgets.explore_attacks(data, networks)",
    "set": """
operations, parts = ["fog", "contrast"] * 30, ["copy 1"] * 40 + ["mined in round 1"] * 20
made = torch.cat([corrupt(image[None], name, 3) for image, name in zip(data.images, operations)])
widgets.explore_set(widgets.RobustSet(data.with_images(made), operations, parts, [""] * 40 + ["1 of 2 wrong"] * 20))""",
    "core": """
candidates, centers = torch.randn(60, 8) * 2, torch.randn(100, 8)
found = widgets.core_map(data, [f"{data.classes[k]}\\nas ring" for k in data.hard_labels], candidates, centers, 30)
widgets.explore_core(found)""",
    "search": "widgets.explore_search(trace)",
    "cells": """
widgets.explore_cells({name: darts.Genotype.parse(row["genotype"]) for name, row in zip(("deployed", "refined"), trace)})""",
    "results": "widgets.explore_results(widgets.compared({'rta-table1': made_up.rta_rows(), 'cf-table2': made_up.cf_rows()}))",
}
NAMES = [name for name in CELLS if name != "setup"]
# How many controls each explorer has.
CONTROLS = {"corruptions": 6, "attacks": 6, "set": 4, "core": 3, "search": 1, "cells": 3, "results": 3}


@pytest.fixture(scope="module")
def shots(tmp_path_factory) -> Path:
    folder = Path(os.environ.get("RTALIB_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """(pages by the name of the notebook, the outputs folder): one server and one browser for all tests."""
    folder, outputs = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("lab-outputs")
    notebook(folder / "explorers.ipynb", list(CELLS.values()))
    source = (ROOT / "notebooks" / "01_corruptions.ipynb").read_text()
    (folder / "01_corruptions.ipynb").write_text(source.replace('scale = \\"demo\\"', 'scale = \\"smoke\\"'))
    with server(folder, outputs) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield {name: Page(browser, address, f"{name}.ipynb") for name in ("explorers", "01_corruptions")}, outputs
        browser.close()


def found(lab, name: str):
    """(page, explorer) of a name."""
    pages, _ = lab
    page = pages["01_corruptions" if name == "corruptions" else "explorers"]
    explorer = page.explorers().nth(0 if name == "corruptions" else NAMES.index(name))
    explorer.scroll_into_view_if_needed()
    return page, explorer


@pytest.mark.parametrize("name", CONTROLS)
def test_each_control_changes_the_picture_by_keyboard_and_nothing_flickers(lab, shots, name):
    page, explorer = found(lab, name)
    controls = page.controls(explorer)
    assert len(controls) == CONTROLS[name]
    first = page.words(explorer)
    explorer.screenshot(path=shots / f"{name}.png")
    # the first controls narrow what the last ones can show
    changes = [page.after(explorer, lambda control=control: page.press(control)) for control in reversed(controls)]
    explorer.screenshot(path=shots / f"{name}-changed.png")
    (shots / f"{name}.json").write_text(json.dumps([round(change.seconds, 3) for change in changes]))
    texts = [first, *(change.text for change in changes)]
    assert all(texts) and len(set(texts)) > len(controls) // 2
    assert [change.gaps for change in changes] == [0] * len(changes)  # no frame was without a picture
    if name != "results":  # whose tables have their own heights
        assert len({height for change in changes for height in change.heights}) == 1
    assert explorer.evaluate("box => [...box.querySelectorAll('.widget-label')].every(label => label.scrollWidth <= label.clientWidth + 1)")


@pytest.mark.parametrize("name", CONTROLS)
def test_every_control_is_reached_by_the_tab_key(lab, name):
    page, explorer = found(lab, name)
    controls = page.controls(explorer)
    controls[0].focus()
    reached = {0}
    for _ in range(4 * len(controls)):  # the number of a slider and the buttons are stops of their own
        page.page.keyboard.press("Tab")
        reached |= {i for i, control in enumerate(controls) if control.evaluate("element => element === document.activeElement")}
    assert reached == {i for i, control in enumerate(controls) if control.is_enabled()}  # a photograph has no number in the set


def test_a_click_on_the_map_shows_that_failure(lab, shots):
    page, explorer = found(lab, "core")
    point = explorer.locator("button[title^='failure 7:']")
    assert "Failure 7," in page.after(explorer, point.click).text
    assert explorer.locator("input[type=number]").input_value() == "7"
    explorer.screenshot(path=shots / "core-clicked.png")
    # what is clicked lies over what is drawn: the ring is black around the middle of the button
    picture, button = explorer.locator("img").first.bounding_box(), point.bounding_box()
    assert picture["x"] < button["x"] < picture["x"] + picture["width"] and picture["y"] < button["y"] < picture["y"] + picture["height"]


def test_a_saved_notebook_keeps_the_state_of_its_explorers(lab):
    page, explorer = found(lab, "search")
    moved = page.after(explorer, lambda: page.press(page.controls(explorer)[0])).text
    page.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    model = "window.jupyterapp.shell.currentWidget.context.model"
    kept = page.page.evaluate(f"() => JSON.stringify({model}.getMetadata('widgets'))")
    assert f'alt=\\"{moved[:41]}' in kept  # "Mixing weights of a search after epoch 2:"


def test_the_play_button_runs_through_the_epochs(lab):
    page, explorer = found(lab, "search")
    change = page.after(explorer, explorer.locator("button").first.click)
    assert change.text.startswith("Mixing weights of a search after epoch ")


def test_the_true_notebook_ran_without_an_error(lab, shots):
    page = lab[0]["01_corruptions"]
    assert page.page.locator(".jp-OutputArea-output[data-mime-type*=error]").count() == 0
    assert page.page.locator(".jp-OutputArea-output[data-mime-type*=stderr]").count() == 0
    page.page.screenshot(path=shots / "notebook-01.png")


def test_a_flicker_would_be_seen(lab):
    page, explorer = found(lab, "set")
    blank = """box => { const img = box.querySelector('img'), place = img.parentElement, next = img.cloneNode();
        next.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==';
        img.remove();
        setTimeout(() => place.append(next), 100); }"""
    change = page.after(explorer, lambda: explorer.evaluate(blank))
    assert change.gaps > 0 and len(change.heights) > 1


def test_no_errors_on_the_consoles(lab):
    assert {name: page.errors for name, page in lab[0].items()} == {"explorers": [], "01_corruptions": []}
