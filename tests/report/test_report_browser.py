"""The report in a real browser: nothing overflows, no request leaves the page, the button turns it dark, and everybody can read it."""

import base64
import itertools
import json
import shutil

import pytest
from made_up import cf_rows, rta_rows

from rtalib import figures, papers, report, tables
from rtalib.report import notebooks

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install rtalib[browser])")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
WIDTHS, SCHEMES = (400, 1280), ("light", "dark")
# Text and the color it stands on, blended through every translucent layer above it; pictures behind text (bars) are left out.
CONTRAST = """() => {
  const rgba = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (top, under) => under.map((value, i) => top[i] * top[3] + value * (1 - top[3]));
  const light = color => { const [r, g, b] = color.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const ground = element => {
    const up = element.parentElement ? ground(element.parentElement) : [255, 255, 255];
    return over(rgba(getComputedStyle(element).backgroundColor), up); };
  const faint = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(".skip, style, script")) continue;
    let opacity = 1;
    for (let e = element; e; e = e.parentElement) opacity *= Number(getComputedStyle(e).opacity);
    const under = ground(element), [r, g, b, a] = rgba(getComputedStyle(element).color);
    const [high, low] = [light(over([r, g, b, a * opacity], under)), light(under)].sort((x, y) => y - x);
    const ratio = (high + .05) / (low + .05);
    if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${element.tagName}.${element.className}: ${element.textContent.trim().slice(0, 40)}`);
  }
  return faint; }"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A run with a wide table, a narrow one, a figure, a saved table and everything folded open."""
    folder = tmp_path_factory.mktemp("run")
    for table, rows in (("rta-table1", rta_rows()), ("cf-table2", cf_rows())):
        (folder / "rows" / table).mkdir(parents=True)
        for row in rows:
            (folder / "rows" / table / f"{row['key']}.json").write_text(json.dumps(row))
    figures.save(figures.score_bars(rta_rows(), papers.RTA["table1"]), folder / "figures", "rta-table1")
    tables.save(tables.wins(cf_rows()), folder / "tables", "wins")
    return report.write(folder, title="A run")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser, page_file):
    """opened(width) -> page; at the end no message was printed and nothing but the file was asked for."""
    contexts, requests, messages = [], [], []

    def opened(width: int = 1280):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme="light"))
        tab = contexts[-1].new_page()
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda error: messages.append(str(error)))
        tab.goto(page_file.as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert messages == []
    assert {url for url in requests if not url.startswith("data:image/webp;base64,")} == {page_file.as_uri()}


@pytest.mark.parametrize("width", WIDTHS)
def test_no_overflow_and_text_that_can_be_read(page, width):
    tab = page(width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("[...document.querySelectorAll('.scroll')].some(box => box.scrollWidth > box.clientWidth)")  # the tables do
    beyond = """width => [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll')
        && e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert tab.evaluate(beyond, width) == []
    for scheme in SCHEMES:
        tab.emulate_media(color_scheme=scheme)
        assert tab.evaluate(CONTRAST) == [], scheme
    assert tab.evaluate("[...document.querySelectorAll('.tally li')].every(tile => tile.scrollWidth <= tile.clientWidth)")
    narrowest = tab.evaluate("Math.min(...[...document.querySelectorAll('figure img')].map(image => image.width))")
    assert narrowest >= 600  # pixels, on a phone, too: the box around a figure scrolls
    tab.add_style_tag(content="h1 { opacity: .4 }")
    assert [line.split()[1] for line in tab.evaluate(CONTRAST)] == ["H1.:"]  # the check can fail


def test_button_turns_the_page_dark_and_light_again(page):
    tab = page()
    color = lambda: tab.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    look = lambda: tab.evaluate("getComputedStyle(document.querySelector('figure img.chart')).filter")  # noqa: E731
    before, button = color(), tab.get_by_role("button", name="Dark page")
    assert look() == "none"
    button.focus()
    tab.keyboard.press("Enter")
    assert color() != before and "invert" in look()
    tab.get_by_role("button", name="Light page").click()
    assert color() == before and look() == "none"
    tab.emulate_media(color_scheme="dark")
    assert look() == "none"  # what was chosen counts, not what the system wants


def test_a_page_of_a_notebook_follows_the_system_and_its_figure_scrolls(browser, tmp_path):
    drawing = figures.score_bars(rta_rows(), papers.RTA["table1"])
    data = {"image/png": base64.b64encode(drawing._repr_png_()).decode()}
    shown = {"output_type": "display_data", "data": data, "metadata": drawing._repr_mimebundle_()[1]}
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": "drawing", "execution_count": 1, "outputs": [shown]}
    (tmp_path / "03_toy.ipynb").write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    notebooks.write(tmp_path, [])
    tab = browser.new_page(viewport={"width": 400, "height": 900})
    tab.goto((tmp_path / "03_toy.html").as_uri())
    seen = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.images[0]).filter]"
    for scheme, color, look in (("light", "rgb(255, 255, 255)", "none"), ("dark", "rgb(17, 17, 17)", "invert(0.92) hue-rotate(180deg)")):
        tab.emulate_media(color_scheme=scheme)
        assert tab.evaluate(seen) == [color, look] and tab.evaluate(CONTRAST) == []
    assert tab.evaluate("[document.images[0].width, document.documentElement.scrollWidth]") == [640, 400]
    tab.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_serious(page, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (pip install rtalib[browser])")
    tab = page(400)
    tab.emulate_media(color_scheme=scheme)
    found = axe.Axe().run(tab, options={"preload": False, "resultTypes": ["violations"]}).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:150]) for each in found if each["impact"] in ("serious", "critical")] == []


def test_structure_that_a_screen_reader_can_follow(page):
    tab = page()
    assert tab.evaluate("document.documentElement.lang") == "en"
    assert [tab.locator(name).count() for name in ("main", "nav[aria-label]", "h1")] == [1, 1, 1]
    levels = tab.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(heading => Number(heading.tagName[1]))")
    assert levels[0] == 1 and all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert tab.evaluate("[...document.images].every(image => image.alt.length > 20 && image.naturalWidth > 0)")
    assert tab.evaluate("[...document.querySelectorAll('table')].every(table => table.caption && table.caption.innerText.trim())")
    assert tab.evaluate("[...document.querySelectorAll('table')].every(table => table.querySelector('th'))")
    assert tab.locator("th:not([scope])").count() == 0
    assert tab.evaluate("[...document.querySelectorAll('.scroll')].every(box => box.tabIndex === 0 && box.getAttribute('aria-label'))")
    assert tab.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].every(a => document.getElementById(a.hash.slice(1)))")


def test_keyboard_skips_to_the_content_and_shows_where_it_is(page):
    tab = page()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
