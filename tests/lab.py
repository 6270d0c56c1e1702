"""A real JupyterLab on loopback and a page of Debian's Chromium in it, for the browser tests."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or ""
READY = 120  # seconds for the server, and for a notebook
NOISE = re.compile(r"/lsp/|/api/me\b|favicon|AudioContext|ResizeObserver loop")  # JupyterLab's own: what it asks for and need not get
SETTINGS = {
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
# The kernel is connected: what is run before that is lost.
CONNECTED = "window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel?.connectionStatus === 'connected'"
BEGUN = r"() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].some(p => /\[[\d*]+\]/.test(p.textContent))"
# Every code cell has its number: none is running or waiting.
DONE = r"""() => { const prompts = [...document.querySelectorAll('.jp-Notebook:not(.lm-mod-hidden) .jp-CodeCell .jp-InputPrompt')];
    return prompts.length > 0 && prompts.every(p => /\[\d+\]/.test(p.textContent)); }"""


def notebook(path: Path, sources: list[str]) -> Path:
    """A notebook of these code cells."""
    cells = [
        {"cell_type": "code", "id": f"c-{i}", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
        for i, source in enumerate(sources)
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return path


@contextmanager
def server(folder: Path, outputs: Path) -> Iterator[str]:
    """The address of a JupyterLab that serves the folder, with settings of its own and all cells of a notebook on the page."""
    for name, text in SETTINGS.items():
        path = folder / ".settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "RTALIB_OUTPUTS": str(outputs), "JUPYTER_NO_CONFIG": "1"}
    environment |= {f"JUPYTER_{name}_DIR": str(folder / f".{name.lower()}") for name in ("CONFIG", "RUNTIME")}
    options = ["--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=", "--ServerApp.password=", "--ip=127.0.0.1"]
    options += ["--LabApp.expose_app_in_browser=True", f"--LabApp.user_settings_dir={folder / '.settings'}", "--LabApp.news_url="]
    options += [f"--LabApp.workspaces_dir={folder / '.workspaces'}", f"--ServerApp.root_dir={folder}"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(f"{address}/api", process, folder / "server.log")
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _wait(address: str, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + READY
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not answer at {address}:\n{log.read_text()[-2000:]}")


class Page:
    """A browser page with a notebook whose cells have run; `errors` are the errors on its console."""

    def __init__(self, browser, address: str, name: str) -> None:
        self.page = browser.new_page(viewport={"width": 1280, "height": 1300})
        self.errors: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self._note(f"{message.text} {message.location.get('url', '')}"))
        self.page.on("pageerror", lambda error: self._note(str(error)))
        self.page.goto(f"{address}/doc/tree/{name}", wait_until="domcontentloaded")
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=1000 * READY)
        self.page.wait_for_function(CONNECTED, timeout=1000 * READY)
        for _ in range(READY // 5):  # a notebook that is not yet the active one does not hear the command
            self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")  # without waiting for it
            self.page.wait_for_timeout(5000)
            if self.page.evaluate(BEGUN):
                break
        self.page.wait_for_function(DONE, timeout=1000 * READY)

    def _note(self, text: str) -> None:
        if not NOISE.search(text):
            self.errors.append(text)

    def explorers(self):
        """The boxes of widgets, in the order of the cells."""
        return self.page.locator(".jp-OutputArea-output > .widget-vbox, .jp-OutputArea-output .jupyter-widgets-view > .widget-vbox")

    def after(self, explorer, act) -> tuple[float, str]:
        """Do something to an explorer and wait for another picture: (seconds until it is on the screen, its text alternative)."""
        picture = explorer.locator("img").first
        before = picture.get_attribute("src")
        handle = explorer.element_handle()
        start = time.monotonic()
        act()
        changed = "([box, old]) => { const img = box.querySelector('img'); return img && img.complete && img.getAttribute('src') !== old; }"
        self.page.wait_for_function(changed, arg=[handle, before], polling="raf", timeout=20_000)
        return time.monotonic() - start, picture.get_attribute("alt")
