"""Build the book: a static site of the notebooks and the pages in docs/, which needs neither a server nor a network.

    make book                            # or: python docs/book/build.py [OUT]; default build/book
    python docs/book/build.py --only 01,12

The notebooks run over the committed rows of real runs, in a kernel in which nothing can be trained: cells with the tag `trains` are shown,
not run. Explorers are drawn state by state (explorers.py), formulas become MathML (conf.py).
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
sys.path[:0] = [str(ROOT), str(HERE)]

from rtalib import report  # noqa: E402  (behind the path)
from rtalib.infra import nb, nb_engine  # noqa: E402
from rtalib.report import record  # noqa: E402

PLUMBING = ("page.stamp()", "assert ")  # cells of the foot, which the book leaves out
BEGIN = "import explorers, no_training\n\nexplorers.install()\nno_training.install()"
SHOWN_ALONE = "30"  # the notebook that has nothing recorded, for it wants the reader's own pictures: none of its cells is run
ALONE = "**Nothing on this page is run in the book**: it is about your own pictures, and everything here trains. `make lab` runs it."
PAGES = ("docs/*.md", "notebooks/*.ipynb", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "outputs/record/README.md")
STATIC = [
    *(HERE / name for name in ("explorers.js", "book.css")),
    ROOT / "rtalib/report/templates/claims.css",
    *(ROOT / f"docs/images/{name}.png" for name in ("corruptions", "core-failures", "published-measured")),
]
GROUP = r'tabindex="0" role="group" aria-label'
READABLE = {  # in pages as Sphinx writes them: {pattern: what can be read by everybody, and scrolled by keyboard}
    'role="heading"': 'role="heading" aria-level="2"',
    "<pre>": '<pre tabindex="0">',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="the book">',
    '<aside class="toc-drawer[^"]*"': r'\g<0> aria-label="this page"',
    '<div class="table-wrapper[^"]*"': rf'\g<0> {GROUP}="table"',
    '<div class="output text_html"(?=>\\s*<(div>|style|table))': rf'\g<0> {GROUP}="table"',
    '<p>(?=<img [^>]*src="[^"]*/(corruptions|attacks|core-failures)\\.png")': f'<p class="drawn pixels" {GROUP}="figure">',
    "<p>(?=<img )": f'<p class="drawn chart" {GROUP}="figure">',
}
COPIED = {".csv", ".png", ".svg", ".tex", ".cff", ".bib"}  # of what pages link to and the book does not render


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "build" / "book")
    parser.add_argument("--only", default="", help="numbers of notebooks, such as 01,12; default all")
    arguments = parser.parse_args()
    wanted = [number for number in arguments.only.split(",") if number]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        write_sources(source, wanted)
        sphinx = [
            sys.executable,
            "-m",
            "sphinx",
            "-q",
            "-b",
            "html",
            *([] if wanted else ["-W", "--keep-going"]),
            str(source),
            str(Path(folder) / "html"),
        ]
        subprocess.run(sphinx, check=True, env=os.environ | {"PYTHONPATH": f"{ROOT}:{HERE}"})
        for page in Path(folder).glob("html/**/*.html"):
            text = page.read_text()
            for pattern, better in READABLE.items():
                text = re.sub(pattern, better, text)
            page.write_text(text)
        shutil.rmtree(arguments.out, ignore_errors=True)
        shutil.copytree(Path(folder) / "html", arguments.out, ignore=shutil.ignore_patterns(".doctrees", "_sources"))
    print(f"The book: {(arguments.out / 'index.html').resolve()}")


def write_sources(source: Path, wanted: list[str]) -> None:
    """What Sphinx reads: pages as they are, notebooks executed, and every file that these link to."""
    pictures = source / "_static" / "explorers"
    pictures.mkdir(parents=True)
    for file in STATIC:
        shutil.copy(file, source / "_static")
    for file in (HERE / "conf.py", HERE / "index.md", ROOT / "CITATION.cff"):
        shutil.copy(file, source)
    (source / "claims.md").write_text(claims_page())
    pages = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    pages = [path for path in pages if path.suffix == ".md" or not wanted or path.name[:2] in wanted]
    for page in pages:
        target = source / page.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if page.suffix == ".ipynb":
            execute(page, target, pictures)
        else:
            target.write_text(linked(page.read_text(), page, pages, source))
    for page in (path for path in pages if path.suffix == ".ipynb"):
        rewrite(source / page.relative_to(ROOT), page, pages, source)


def claims_page() -> str:
    """Every recorded claim with a picture of its difference, and buttons for the verdicts."""
    body = report.PAGES.get_template("recorded_claims.html.jinja").render(groups=report.collect.by_table(record.claims()))
    body = re.sub(r"\n\s*", "\n", body)  # Markdown ends a block of HTML at an empty line
    return f"# All claims in one picture\n\n{body}\n"


# ------------------------------------------------------------------------------------------------------------ notebooks


def execute(notebook: Path, target: Path, pictures: Path) -> None:
    """Run the notebook at its defaults with the book's explorers; cells that train become text."""
    book = json.loads(notebook.read_text())
    alone = notebook.name.startswith(SHOWN_ALONE)
    book["cells"] = [shown for cell in book["cells"] if (shown := _shown(cell, alone))]
    if alone:
        book["cells"].insert(1, {"cell_type": "markdown", "id": "alone", "metadata": {}, "source": ALONE})
    begin = {
        "cell_type": "code",
        "id": "begin",
        "metadata": {"tags": ["remove-cell"]},
        "outputs": [],
        "execution_count": None,
    }
    at = next(i for i, cell in enumerate(book["cells"]) if "parameters" in cell["metadata"].get("tags", ()))
    book["cells"].insert(at + 1, begin | {"source": BEGIN})
    draft = target.with_name(f".{target.name}")
    draft.write_text(json.dumps(book))
    os.environ |= {"RTALIB_BOOK_PICTURES": str(pictures), "RTALIB_BOOK_PAGE": notebook.stem, "PYTHONPATH": f"{ROOT}:{HERE}"}
    with tempfile.TemporaryDirectory() as outputs:
        os.environ["RTALIB_OUTPUTS"] = outputs
        status, error = nb_engine.execute(draft, target, {}, 1800)
    draft.unlink()
    if status != "ok":
        raise SystemExit(f"{notebook.name}: {status}\n{error}")


def _shown(cell: dict, alone: bool) -> dict | None:
    """The cell as the book shows it: code folded, plumbing left out, what trains as text."""
    source, tags = nb.source_of(cell), cell["metadata"].get("tags", [])
    if cell["cell_type"] == "markdown":
        return cell
    if source.startswith(PLUMBING):
        return None
    if "trains" in tags or (alone and "parameters" not in tags):
        text = f"<details><summary>Code that is not run in the book</summary>\n\n```python\n{source}\n```\n\n</details>"
        return {"cell_type": "markdown", "id": cell["id"], "metadata": {}, "source": text}
    hidden = cell["metadata"].get("jupyter", {}).get("source_hidden")
    return cell | {"metadata": {"tags": [*tags, "remove-cell" if hidden else "hide-input"]}}


def rewrite(path: Path, page: Path, pages: list[Path], source: Path) -> None:
    """Links of an executed notebook, as `linked`."""
    book = json.loads(path.read_text())
    for cell in book["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = linked(nb.source_of(cell), page, pages, source)
    path.write_text(json.dumps(book))


def linked(text: str, page: Path, pages: list[Path], source: Path) -> str:
    """The text with links to what is not in the book copied beside it, if they are results, or left as words."""

    def change(link: re.Match) -> str:
        words, address = link[1], link[2].split("#")[0]
        if not address or "://" in address:
            return link[0]
        file = (page.parent / address).resolve()
        if file in pages:
            return link[0]
        if file.suffix in COPIED and file.is_file():
            target = source / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
            return link[0]
        return words

    return re.sub(r"!?\[([^\]]*)\]\(([^)\s]+)\)", change, text)


if __name__ == "__main__":
    main()
