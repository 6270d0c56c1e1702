"""What `make lab` opens: notebook 00 with its table of contents, no pop-up, and the whole repository behind its links."""

import json
import os
import re
import socket
import subprocess
import sys

import pytest
from lab import CHROMIUM, READY, ROOT, wait_for

from rtalib.widgets.base import LEGIBLE

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install rtalib[browser])")
pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")

# How a chart or a picture of an explorer is shown on a page whose theme is light or dark.
FILTER = """([dark, look]) => {
    document.body.dataset.jpThemeLight = String(!dark);
    document.body.insertAdjacentHTML("beforeend", `<div class="widget-html"><img class="${look}"></div>`);
    return getComputedStyle(document.body.lastChild.firstChild).filter; }"""
# How wide a figure of a cell is in a window that is narrower.
WIDTH = """() => {
    document.body.insertAdjacentHTML("beforeend",
        '<div class="jp-OutputArea" style="width: 300px"><div class="jp-RenderedImage"><img width="1136"></div></div>');
    return document.body.lastChild.querySelector("img").getBoundingClientRect().width; }"""


def test_every_local_link_of_a_notebook_is_below_the_root_of_the_server():
    config = (ROOT / "docs" / "lab" / "jupyter_lab_config.py").read_text()
    assert "c.ServerApp.root_dir = str(HERE.parents[1])" in config
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = "".join("".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "markdown")
        for link in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in link:
                target = (notebook.parent / link).resolve()
                assert target.exists() and target.is_relative_to(ROOT), f"{notebook.name}: {link}"


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium in the path (apt-get install chromium)")
def test_the_lab_opens_the_first_notebook_with_its_contents_and_no_pop_up(tmp_path):
    own = tmp_path / "jupyter_config_dir" / "custom" / "custom.css"
    own.parent.mkdir(parents=True)
    own.write_text('[data-jp-theme-light="false"] .widget-html img.pixels { filter: sepia(1); }')  # the user's, which has the last word
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = {"JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTERLAB_SETTINGS_DIR"}
    environment = os.environ | {name: str(tmp_path / name.lower()) for name in names} | {"PYTHONPATH": str(ROOT)}
    lab = [sys.executable, "-m", "jupyterlab"]
    layout, config = ROOT / "docs" / "lab" / "layout.json", ROOT / "docs" / "lab" / "jupyter_lab_config.py"
    subprocess.run([*lab, "workspaces", "import", str(layout)], env=environment, check=True, capture_output=True)
    options = [f"--config={config}", "--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token="]
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen([*lab, *options], env=environment, stdout=log, stderr=log, cwd=tmp_path)
    try:
        wait_for(f"http://127.0.0.1:{port}/api", server, tmp_path / "server.log")
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.goto(f"http://127.0.0.1:{port}/")
            page.wait_for_selector(".jp-Notebook h1:has-text('Start here')", timeout=1000 * READY)
            page.wait_for_selector(".jp-TableOfContents-tree:visible", timeout=1000 * READY)
            page.wait_for_timeout(5000)
            assert page.locator(".Toastify__toast, .jp-Dialog").count() == 0
            looks = [page.evaluate(FILTER, each) for each in ((False, "chart"), (True, "chart"), (True, "pixels"))]
            assert looks == ["none", "invert(0.92) hue-rotate(180deg)", "sepia(1)"]
            assert page.evaluate(WIDTH) == LEGIBLE
            browser.close()
    finally:
        server.terminate()
        server.wait(30)
