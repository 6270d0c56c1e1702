"""Every explorer of every notebook in a real JupyterLab and a real browser: each control changes the picture, nothing complains.

Screenshots and the seconds from a change to its picture lie in $RTALIB_SCREENSHOTS, by default in pytest's temporary folder.
"""

import json
import os
from pathlib import Path

import pytest
from lab import CHROMIUM, ROOT, Page, server, shortened

from rtalib.widgets.base import LEGIBLE

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright)")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (pip install rtalib[browser])")
pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="no chromium in the path (apt-get install chromium)")]

# How many controls each explorer of a notebook has. That of notebook 31 changes labels, so its controls have a test of their own.
EXPLORERS = {
    "00": (6, 6, 1, 3),
    "01": (6,),
    "02": (6, 6),
    "03": (4, 4),
    "05": (4,),
    "11": (3, 3),
    "12": (3, 1, 3, 1),
    "31": (4,),
    "90": (3,),
}
WHOLE = "00"  # every cell of this notebook runs
TABBED = ("03", "12", "31", "90")  # whose explorers, with those of 00, are one of each kind


@pytest.fixture(scope="module")
def shots(tmp_path_factory) -> Path:
    folder = Path(os.environ.get("RTALIB_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory, notebook_outputs):
    """(its address, a tab of a browser): one of each for all notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    for source in (ROOT / "notebooks").glob("*.ipynb"):
        if source.name[:2] == WHOLE:
            (folder / f"{WHOLE}.ipynb").write_text(source.read_text())
        elif source.name[:2] in EXPLORERS:
            shortened(source, folder / f"{source.name[:2]}.ipynb")
    with server(folder, notebook_outputs) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield address, browser.new_page(viewport={"width": 1280, "height": 1300})
        browser.close()


@pytest.fixture(scope="module")
def page(lab, request):
    """The notebook of a number, whose cells have run."""
    address, tab = lab
    opened = Page(tab, address, f"{request.param}.ipynb")
    opened.name = request.param
    yield opened
    opened.close()


def notebook(*numbers: str):
    return pytest.mark.parametrize("page", numbers, indirect=True)


def found(page, number: int):
    explorer = page.explorers().nth(number)
    explorer.scroll_into_view_if_needed()
    return explorer


def test_no_explorer_is_left_out():
    calls = {path.name[:2]: path.read_text().count("explore_") for path in (ROOT / "notebooks").glob("*.ipynb")}
    imported = {"31": 1}
    assert {name: count - imported.get(name, 0) for name, count in calls.items() if count} == {n: len(e) for n, e in EXPLORERS.items()}


@notebook(*EXPLORERS)
def test_the_cells_ran_and_axe_finds_nothing_serious_in_the_explorers(page, shots):
    assert page.page.locator(".jp-OutputArea-output[data-mime-type*=error]").count() == 0
    assert page.page.locator(".jp-OutputArea-output[data-mime-type*=stderr]").count() == 0
    assert [len(page.controls(explorer)) for explorer in page.explorers().all()] == list(EXPLORERS[page.name])
    for number in range(len(EXPLORERS[page.name])):
        explorer = found(page, number)
        explorer.screenshot(path=shots / f"{page.name}-{number}.png")
        assert explorer.evaluate("e => [...e.querySelectorAll('.widget-label')].every(label => label.scrollWidth <= label.clientWidth + 1)")
    explorers = {"include": [[".jp-OutputArea-output .widget-vbox"]]}
    problems = axe.Axe().run(page.page, context=explorers, options={"preload": False, "resultTypes": ["violations"]}).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:150]) for each in problems if each["impact"] in ("serious", "critical")] == []


@notebook(*(name for name in EXPLORERS if name != "31"))
def test_each_control_changes_the_picture_by_keyboard_and_nothing_flickers(page, shots):
    for number in range(len(EXPLORERS[page.name])):
        explorer = found(page, number)
        first = page.words(explorer)
        # the first controls narrow what the last ones can show
        controls = page.movable(explorer)[::-1]
        changes = [page.after(explorer, lambda control=control: page.press(control)) for control in controls]
        explorer.screenshot(path=shots / f"{page.name}-{number}-changed.png")
        (shots / f"{page.name}-{number}.json").write_text(json.dumps([round(change.seconds, 3) for change in changes]))
        texts = [first, *(change.text for change in changes)]
        assert all(texts) and len(set(texts)) > len(controls) // 2
        assert [change.gaps for change in changes] == [0] * len(changes)  # no frame was without a picture
        if page.name != "90":  # whose tables have their own heights
            assert len({height for change in changes for height in change.heights}) <= 1


@notebook("00", *TABBED)
def test_every_control_is_reached_by_the_tab_key(page):
    for number in range(len(EXPLORERS[page.name])):
        controls = page.controls(found(page, number))
        controls[0].focus()
        reached = {0}
        for _ in range(4 * len(controls)):  # the number of a slider and the buttons are stops of their own
            page.page.keyboard.press("Tab")
            reached |= {i for i, control in enumerate(controls) if control.evaluate("element => element === document.activeElement")}
        assert reached == {i for i, control in enumerate(controls) if control.is_enabled()}  # a photograph has no number in the set


@notebook(WHOLE)
def test_figures_say_whether_a_dark_theme_may_turn_them(page):
    looks = page.page.locator(".jp-RenderedImage img").evaluate_all(
        "all => all.map(e => e.classList.contains('jp-needs-light-background'))"
    )
    assert set(looks) == {True, False}  # charts, and pictures of images


@notebook(WHOLE)
def test_in_a_narrow_window_a_figure_is_scrolled_in_its_place_and_nothing_else_is(page, shots):
    before = page.page.viewport_size
    page.page.set_viewport_size({"width": 400, "height": before["height"]})
    try:
        for number in range(len(EXPLORERS[page.name])):
            explorer = found(page, number)
            figures = explorer.locator("img.chart, img.pixels")
            assert figures.evaluate_all("all => all.map(e => e.getBoundingClientRect().width)") == [LEGIBLE] * figures.count()
            assert explorer.evaluate("e => e.scrollWidth <= e.clientWidth && e.clientWidth < 400")
            explorer.screenshot(path=shots / f"{page.name}-{number}-narrow.png")
        assert figures.count() == 1 and page.page.evaluate("document.documentElement.scrollWidth") == 400
    finally:
        page.page.set_viewport_size(before)


@notebook("11")
def test_a_click_on_the_map_shows_that_failure(page, shots):
    explorer = found(page, 0)
    point = explorer.locator("button[title^='failure 7:']")
    assert "Failure 7," in page.after(explorer, point.click).text
    assert explorer.locator("input[type=number]").input_value() == "7"
    explorer.screenshot(path=shots / "core-clicked.png")
    # what is clicked lies over what is drawn: the ring is black around the middle of the button
    picture, button = explorer.locator("img").first.bounding_box(), point.bounding_box()
    assert picture["x"] < button["x"] < picture["x"] + picture["width"] and picture["y"] < button["y"] < picture["y"] + picture["height"]


@notebook("12")
def test_a_saved_notebook_keeps_the_state_of_its_explorers(page):
    explorer = found(page, 1)
    moved = page.after(explorer, lambda: page.press(page.controls(explorer)[0])).text
    page.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    model = "window.jupyterapp.shell.currentWidget.context.model"
    kept = page.page.evaluate(f"() => JSON.stringify({model}.getMetadata('widgets'))")
    assert f'alt=\\"{moved[:41]}' in kept  # "Mixing weights of a search after epoch 2:"


@notebook("12")
def test_the_play_button_runs_through_the_epochs(page):
    explorer = found(page, 1)
    button = explorer.get_by_role("button", name="play or pause")
    change = page.after(explorer, button.click)
    button.click()  # pause: what still runs would miss its kernel when the notebook is closed
    assert change.text.startswith("Mixing weights of a search after epoch ")


@notebook("31")
def test_failures_are_looked_at_relabeled_dropped_kept_and_exported(page, notebook_outputs):
    explorer = found(page, 0)
    menu, number, row, label = page.controls(explorer)
    words = explorer.locator(".widget-html-content").first
    every = explorer.locator("img").count()
    page.after(explorer, lambda: page.press(menu))
    assert 0 < explorer.locator("img").count() < every
    page.press(row)
    page.press(label)
    for button, said in (("relabel", "1 relabeled"), ("drop", "1 dropped"), ("keep", "0 dropped"), ("export", "written")):
        explorer.get_by_role("button", name=button).click()
        sync_api.expect(words).to_contain_text(said)
    assert json.loads((notebook_outputs / "smoke" / "your-failures" / "review.json").read_text())["relabeled"].keys() == {"1"}


@notebook("03")
def test_a_flicker_would_be_seen(page):
    explorer = found(page, 0)
    blank = """box => { const img = box.querySelector('img'), place = img.parentElement, next = img.cloneNode();
        next.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==';
        img.remove();
        setTimeout(() => place.append(next), 100); }"""
    change = page.after(explorer, lambda: explorer.evaluate(blank))
    assert change.gaps > 0 and len(change.heights) > 1


@notebook(*EXPLORERS)
def test_no_errors_on_the_console(page):
    assert page.errors == []
