"""A real JupyterLab on loopback and a page of Debian's Chromium in it, for the browser tests."""

import ast
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
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or ""
READY = 120  # seconds for the server, and for a notebook
NOISE = re.compile(r"/lsp/|/api/me\b|favicon|AudioContext|ResizeObserver loop")  # JupyterLab's own: what it asks for and need not get
SETTINGS = {"notebook-extension/tracker": '{"windowingMode": "none"}'}  # beside those of `make lab`
# The kernel of the notebook is connected: what is run before that is lost.
CONNECTED = """path => { const context = window.jupyterapp?.shell.currentWidget?.context;
    return context?.path === path && context.sessionContext.session?.kernel?.connectionStatus === 'connected'; }"""
BEGUN = r"() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].some(p => /\[[\d*]+\]/.test(p.textContent))"
# The kernel is as if new, but for its imports: neither names nor widgets, all of which the next notebook would load.
EMPTIED = "import ipywidgets; ipywidgets.Widget.close_all(); get_ipython().run_line_magic('reset', '-sf')"
LEAVE = """async code => {
    const widget = window.jupyterapp.shell.currentWidget, kernel = widget.context.sessionContext.session.kernel;
    await kernel.requestExecute({code}).done;
    window.left = {id: kernel.id};
    widget.dispose(); }"""
# Every code cell has its number: none is running or waiting. A folded cell shows none.
DONE = r"""() => { const prompts = [...document.querySelectorAll('.jp-Notebook:not(.lm-mod-hidden) .jp-CodeCell .jp-InputPrompt')]
        .map(prompt => prompt.textContent).filter(text => text);
    return prompts.length > 0 && prompts.every(text => /\[\d+\]/.test(text)); }"""

# What a control is made of, and the keys that take its next value, and the one before its last. A closed menu leaves arrows and letters
# to JupyterLab, an open one does not.
CONTROLS = {
    "select": (("Space", "ArrowDown", "Enter"), ("Space", "ArrowUp", "Enter")),
    ".noUi-handle": (("ArrowRight",), ("ArrowLeft",)),
    "input[type=number]": (("ArrowUp", "Enter"), ("ArrowDown", "Enter")),
}
AT_END = """element => element.options ? element.selectedIndex === element.options.length - 1
    : Number(element.value ?? element.getAttribute('aria-valuenow')) >= Number(element.max || element.getAttribute('aria-valuemax'))"""
# A control that has no other value: a search of one epoch, a page of one.
FIXED = """element => element.disabled || (element.options ? element.options.length < 2
    : (element.min ?? element.getAttribute('aria-valuemin')) === (element.max ?? element.getAttribute('aria-valuemax')))"""
# From the event that changes a value to the frame in which another picture is there, complete; in every frame on the way it is looked
# whether a complete picture is in its place, and how high the explorer is.
WATCH = """box => {
    const images = () => [...box.querySelectorAll('img')], sources = () => images().map(image => image.getAttribute('src')).join();
    const before = sources();
    const watched = {start: performance.now(), end: 0, gaps: 0, heights: []};
    let begun = false;
    const begin = event => {
        if (begun || event.target.matches('select, input') !== (event.type === 'change')) return;
        begun = true;
        watched.start = performance.now();
    };
    for (const type of ['change', 'keydown', 'click']) box.addEventListener(type, begin, true);
    const look = () => {
        const now = images(), there = now.length && now.every(image => image.complete && image.getBoundingClientRect().height > 0);
        const height = box.getBoundingClientRect().height;
        watched.gaps += !there;
        if (!watched.heights.includes(height)) watched.heights.push(height);
        if (!there || sources() === before) return requestAnimationFrame(look);
        for (const type of ['change', 'keydown', 'click']) box.removeEventListener(type, begin, true);
        watched.end = performance.now();
    };
    requestAnimationFrame(look);
    return watched; }"""


@dataclass(frozen=True)
class Change:
    """What was seen after a control was moved: seconds until the new picture, its text alternative, frames without a picture, heights."""

    seconds: float
    text: str
    gaps: int
    heights: list[float]


def shortened(source: Path, target: Path) -> None:
    """A notebook's explorers at scale smoke, and before them the cells that define what they need."""
    kept, wanted = [], set()
    for cell in reversed([cell for cell in json.loads(source.read_text())["cells"] if cell["cell_type"] == "code"]):
        text = "".join(cell["source"])
        defined, read = _names(text)
        if "explore_" in text or defined & wanted:
            kept.insert(0, text.replace('scale = "demo"', 'scale = "smoke"').replace('executor = "processes"', 'executor = "serial"'))
            wanted = (wanted | read) - defined
    _write(target, kept)


def _names(source: str) -> tuple[set[str], set[str]]:
    """Those that a cell defines, and those that it reads."""
    defined, read = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.FunctionDef):
            defined.add(node.name)
    return defined, read


def _write(path: Path, sources: list[str]) -> None:
    """A notebook of these code cells."""
    cells = [
        {"cell_type": "code", "id": f"c-{i}", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
        for i, source in enumerate(sources)
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


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
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'helpers'}",
        "RTALIB_OUTPUTS": str(outputs),
        "JUPYTER_NO_CONFIG": "1",
    }
    environment |= {f"JUPYTER_{name}_DIR": str(folder / f".{name.lower()}") for name in ("CONFIG", "RUNTIME")}
    options = ["--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=", "--ServerApp.password=", "--ip=127.0.0.1"]
    options += ["--LabApp.expose_app_in_browser=True", f"--LabApp.app_settings_dir={ROOT / 'docs' / 'lab' / 'settings'}"]
    options += [f"--LabApp.user_settings_dir={folder / '.settings'}", "--LabApp.news_url="]
    options += [f"--LabApp.workspaces_dir={folder / '.workspaces'}", f"--ServerApp.root_dir={folder}"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/api", process, folder / "server.log")
        yield address
    finally:
        process.terminate()
        process.wait(30)


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    """Return when the server answers; RuntimeError with its last lines if it does not."""
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

    def __init__(self, tab, address: str, name: str, *, seconds: int = READY) -> None:
        """tab: of the browser; JupyterLab is loaded there with the first notebook, and the next ones take over its kernel, whose imports
        are half of what a notebook costs. seconds: how long the cells may take."""
        self.page = tab
        self.errors: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self._note(f"{message.text} {message.location.get('url', '')}"))
        self.page.on("pageerror", lambda error: self._note(str(error)))
        if tab.url == "about:blank":
            tab.goto(f"{address}/doc/tree/{name}", wait_until="domcontentloaded")
        else:
            tab.evaluate("path => { window.jupyterapp.commands.execute('docmanager:open', {path, kernel: window.left}); }", name)
        tab.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=1000 * READY)
        tab.wait_for_function(CONNECTED, arg=name, timeout=1000 * READY)
        for look in range(4 * READY):
            if look % 20 == 0:  # a notebook that is not yet the active one does not hear the command
                self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")  # without waiting for it
            self.page.wait_for_timeout(250)
            if self.page.evaluate(BEGUN):
                break
        self.page.wait_for_function(DONE, timeout=1000 * seconds)

    def close(self) -> None:
        """Leave the kernel to the next notebook, and close this one as it was saved."""
        self.page.evaluate(LEAVE, EMPTIED)

    def _note(self, text: str) -> None:
        if not NOISE.search(text):
            self.errors.append(text)

    def explorers(self):
        """The boxes of widgets, in the order of the cells."""
        return self.page.locator(".jp-OutputArea-output > .widget-vbox, .jp-OutputArea-output .jupyter-widgets-view > .widget-vbox")

    def controls(self, explorer) -> list:
        """Every control of an explorer, in their order."""
        return explorer.locator(", ".join(CONTROLS)).all()

    def movable(self, explorer) -> list:
        """Those that have another value."""
        return [control for control in self.controls(explorer) if not control.evaluate(FIXED)]

    def after(self, explorer, act) -> Change:
        """Do something to an explorer and wait for another picture."""
        watched = explorer.evaluate_handle(WATCH)
        act()
        self.page.wait_for_function("watched => watched.end", arg=watched, timeout=20_000)
        found = watched.evaluate(
            "watched => ({seconds: (watched.end - watched.start) / 1000, gaps: watched.gaps, heights: watched.heights})"
        )
        return Change(text=self.words(explorer), **found)

    def words(self, explorer) -> str:
        """The text alternatives of an explorer's pictures."""
        return explorer.locator("img").evaluate_all("images => images.map(image => image.alt).join(' ')")

    def press(self, control) -> None:
        """Another value of a control, by keyboard alone: the next one, or the one before the last."""
        kind = next(kind for kind in CONTROLS if control.evaluate("(element, kind) => element.matches(kind)", kind))
        control.focus()
        first, last = CONTROLS[kind]
        for key in last if control.evaluate(AT_END) else first:
            self.page.keyboard.press(key)
