"""The book opens from a folder without a server or a network: links lead somewhere, controls change pictures, everybody can read it."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install rtalib[browser])")
pytest.importorskip("myst_nb", reason="the book's tools are not installed (pip install rtalib[book])")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (pip install rtalib[browser])")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
ROOT = Path(__file__).parent.parent
BUILT = "11"  # the notebook in the book of the tests: an explorer, formulas, cells that train
LIMIT = 3_000_000  # bytes that a page loads
WIDTH = "document.documentElement.scrollWidth"
PAGES = ("index.html", "claims.html", "docs/gallery.html", "docs/paper-scale.html", "notebooks/11_core_failure_set.html")
SEEN = [(1280, "light"), (400, "dark")]


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    if ready := os.environ.get("RTALIB_BOOK"):  # a book that was built before
        return Path(ready)
    folder = tmp_path_factory.mktemp("book") / "html"
    command = [sys.executable, str(ROOT / "docs" / "book" / "build.py"), str(folder), "--only", BUILT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser, book):
    """opened(page, width, scheme): a tab; at the end its console is empty and it asked for nothing but files."""
    contexts, complaints = [], []

    def tab(page: str, width: int = 1280, scheme: str = "light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        found = contexts[-1].new_page()
        found.on("console", lambda message: complaints.append(message.text))
        found.on("pageerror", lambda error: complaints.append(str(error)))
        found.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
        found.goto((book / page).as_uri())
        return found

    yield tab
    for context in contexts:
        context.close()
    assert complaints == []


def test_every_local_link_and_picture_is_there(book):
    missing = []
    for page in book.rglob("*.html"):
        if page.name in ("genindex.html", "search.html"):
            continue
        for address in re.findall(r'(?:href|src)="([^"#?:]+)[#?"]', page.read_text()):
            another = re.search(r"(^|/)(\d\d_\w+)\.html$", address)  # a notebook that the book of the tests leaves out
            if not (page.parent / address).exists() and not (another and (ROOT / "notebooks" / f"{another[2]}.ipynb").exists()):
                missing.append(f"{page.relative_to(book)}: {address}")
    assert missing == []


def test_every_link_to_a_part_of_a_page_finds_it(book):
    lost = []
    for page in book.rglob("*.html"):
        for address, part in re.findall(r'href="([^"#?:]*)#([^"]+)"', page.read_text()):
            target = page.parent / address if address else page
            left_out = part.endswith(".ipynb") or not target.exists()  # a notebook that the book of the tests lacks
            if not left_out and f'id="{part}"' not in target.read_text():
                lost.append(f"{page.relative_to(book)}: {address}#{part}")
    assert lost == []


def test_every_picture_is_said_in_words(book):
    said = [(page.name, alt) for page in book.rglob("*.html") for alt in re.findall(r'<img [^>]*alt="([^"]*)"', page.read_text())]
    assert len(said) > 20 and [(name, alt) for name, alt in said if " " not in alt] == []


def test_no_page_complains_or_is_wider_than_a_phone(opened, book):
    wide = [page for page in book.rglob("*.html") if opened(page.relative_to(book), 400, "dark").evaluate(WIDTH) > 400]
    assert wide == []


def test_nothing_comes_from_elsewhere(book):
    loads = re.compile(r"""<(?:script|img|link|iframe)\b[^>]*(?:src|href)=["'](?:https?:)?//[^"']+""")
    assert [(page.name, found) for page in book.rglob("*.html") for found in loads.findall(page.read_text())] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_little(browser, book, page):
    tab, files = browser.new_page(), set()
    tab.on("request", lambda request: request.url.startswith("file:") and files.add(Path(url2pathname(urlsplit(request.url).path))))
    tab.goto((book / page).as_uri())
    tab.wait_for_load_state("networkidle")
    tab.close()
    assert len(files) > 5 and sum(file.stat().st_size for file in files if file.is_file()) < LIMIT


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("width", "scheme"), SEEN)
def test_axe_finds_nothing_serious_and_nothing_overflows(opened, page, width, scheme):
    tab = opened(page, width, scheme)
    assert tab.evaluate(WIDTH) <= width
    found = axe.Axe().run(tab, options={"preload": False, "resultTypes": ["violations"]}).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:150]) for each in found if each["impact"] in ("serious", "critical")] == []


def test_a_dark_page_has_dark_charts_and_true_pictures(opened):
    looks = "look => [...document.querySelectorAll(`.${look} img`)].map(image => getComputedStyle(image).filter.includes('invert'))"
    for scheme, dark in (("light", False), ("dark", True)):
        tab = opened("docs/gallery.html", 1280, scheme)
        charts, pictures = (tab.evaluate(looks, look) for look in ("chart", "pixels"))
        assert set(charts) == {dark} and set(pictures) == {False}


@pytest.mark.parametrize(("width", "scheme"), SEEN)
def test_every_control_changes_picture_and_code_and_the_address_keeps_the_state(opened, book, width, scheme):
    tab = opened(PAGES[-1], width, scheme)
    explorer = tab.locator(".explorer").first
    image, code, seen = explorer.locator(".shown > img"), explorer.locator(".code"), set()
    for control in explorer.locator("[data-control]").all():
        before, lines = image.get_attribute("src"), code.text_content()
        control.focus()
        tab.keyboard.press("ArrowRight" if control.get_attribute("type") == "range" else "ArrowDown")
        assert image.get_attribute("src") != before and code.text_content() != lines
        ast.parse(code.text_content())
        assert explorer.locator(".save").get_attribute("href").endswith(image.get_attribute("src").removeprefix(".."))
        tab.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
        seen.add(image.get_attribute("alt"))
    assert len(seen) == explorer.locator("[data-control]").count() and all(seen)
    state, hash_ = image.get_attribute("src"), tab.evaluate("location.hash")
    again = opened(PAGES[-1])
    again.goto((book / PAGES[-1]).as_uri() + hash_)
    again.reload()
    assert again.locator(".explorer").first.locator(".shown > img").get_attribute("src") == state


def test_a_point_of_the_map_shows_its_thumbnail(opened):
    tab = opened(PAGES[-1])
    tab.locator(".points button").nth(3).dispatch_event("click")
    assert tab.locator(".thumbnail").is_visible() and "failure 3" in tab.locator(".thumbnail span").text_content()


def test_claims_are_chosen_by_verdict(opened):
    tab = opened("claims.html")
    every = tab.locator("#recorded-claims li").count()
    tab.locator("input[value=reproduced]").check()
    shown = tab.locator("#recorded-claims li:visible")
    assert 0 < shown.count() < every and {line.get_attribute("data-verdict") for line in shown.all()} == {"reproduced"}


def test_formulas_are_mathml(opened):
    assert opened(PAGES[-1]).locator("math").count() >= 5
