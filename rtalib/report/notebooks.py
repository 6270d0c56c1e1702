"""Executed notebooks as HTML pages that need neither a server nor a network: formulas become MathML, nothing is loaded from elsewhere."""

import functools
import json
import re
from pathlib import Path

from latex2mathml.converter import convert

from rtalib.infra import nb
from rtalib.infra.store import write_atomic
from rtalib.report import files

FORMULA = re.compile(r"(```.*?```|`[^`]*`)|\$\$([^$]+)\$\$|\$([^$\s](?:[^$]*[^$\s])?)\$", re.DOTALL)
# A page follows the system's choice of light or dark, as the report does, by JupyterLab's dark theme. Figures as in docs/lab/custom.css.
STYLE = """<style>@media (prefers-color-scheme: dark) { %s
:root { color-scheme: dark; }
img.chart, .jp-RenderedImage img.jp-needs-light-background { filter: invert(.92) hue-rotate(180deg); }
img.pixels, .jp-RenderedImage img:not(.jp-needs-light-background) { filter: brightness(.85); } }
.jp-OutputArea-output { overflow-x: auto; } .jp-OutputArea .jp-RenderedImage img { max-width: max(100%%, 640px); }</style></head>"""
REMOTE = dict.fromkeys(("require_js_url", "mathjax_url", "jquery_url", "mermaid_js_url", "widget_renderer_url"), "")


def mathml(text: str) -> str:
    """Markdown with $...$ and $$...$$ as MathML; code stays as it is."""

    def change(found: re.Match) -> str:
        code, displayed, inline = found.groups()
        return code or convert(" ".join((displayed or inline).split()), display="block" if displayed else "inline")

    return FORMULA.sub(change, text)


def page_of(path: str) -> str:
    """notebooks/03_rta.html for notebooks/03_rta.ipynb."""
    return path.removesuffix(".ipynb") + ".html"


def listed(folder: Path) -> list[str]:
    """The executed notebooks of a run, paths from its folder, and the one that runs now and writes the report: its page follows."""
    begun = (path.with_suffix(".ipynb") for path in folder.glob("notebooks/[0-9]*.json"))
    found = {*folder.rglob("*.ipynb"), *(path for path in begun if nb.status(path)["status"] == "running")}
    return sorted(path.relative_to(folder).as_posix() for path in found if ".ipynb_checkpoints" not in path.parts)


def write(folder: Path, left_out: list[str]) -> None:
    """Write a page beside each of a run's notebooks that is newer than its page. Damaged notebooks join `left_out`."""
    pages = {path: folder / page_of(name) for name in listed(folder) if (path := folder / name).exists()}
    stale = [notebook for notebook, page in pages.items() if not page.exists() or page.stat().st_mtime < notebook.stat().st_mtime]
    for notebook, text in files.whole(html, stale, left_out).items():
        write_atomic(pages[notebook], text)


def html(notebook: Path) -> str:
    """The page of an executed notebook."""
    import nbformat
    from nbformat.v4.rwbase import rejoin_lines  # files hold lists of lines

    empty = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    book = rejoin_lines(nbformat.from_dict(empty | json.loads(notebook.read_bytes())))
    book.metadata.pop("widgets", None)
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\((\d\d_\w+)\.ipynb", r"](\1.html", mathml(cell.source))
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)  # there is no kernel: the picture in it is shown
    exporter = _exporter()
    body, _ = exporter.from_notebook_node(book, resources={"metadata": {"name": notebook.stem}})
    dark, *_ = exporter.environment.loader.get_source(exporter.environment, "static/theme-dark.css")
    return body.replace('<script src=""></script>', "").replace("</head>", STYLE % dark, 1)


@functools.cache
def _exporter():
    from nbconvert import HTMLExporter

    return HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True, **REMOTE)
