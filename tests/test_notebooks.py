"""The committed notebooks: thin, clean, alike in head and foot, and every one runs at scale smoke.

A notebook begins with a markdown title cell: the question, what it reproduces, and three lines that are read by machines too:
    Minutes: demo 2 · small 30 · paper 4000 (demo measured on ...; the others are guesses)
    Writes: `tables/rta-table1.csv`, `figures/rta-table1.png`          (in the run's folder; patterns with * may be used)
    ← [02 before](02_before.ipynb) · [04 after](04_after.ipynb) →
It says how to read its result under "What to conclude"; one that reproduces something has its method with an equation, and where the
paper differs.
"""

import ast
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from matplotlib.mathtext import MathTextParser

from rtalib import nb, store
from rtalib.scales import SCALES, run_name

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COMMON = {"scale": "demo", "dataset": "shapes10", "seeds": [0], "executor": "processes"}
LINES_PER_CELL, LINES_PER_NOTEBOOK, LINES_PER_FUNCTION, IMPORTS = 25, 150, 10, 8


def violations(notebook: Path) -> list[str]:
    """Every convention that the notebook breaks."""
    cells = nb.cells_of(notebook)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    prose = [nb.source_of(cell) for cell in cells if cell["cell_type"] == "markdown"]
    return [
        *_format(notebook, cells, code),
        *_head(notebook, cells),
        *_minutes(notebook, cells),
        *_sections(prose),
        *_links(notebook, prose),
        *(text for source in prose for text in _maths(source)),
        *_foot(code),
        *_thin(code),
        *(text for cell in code for text in _logic(cell)),
    ]


def _format(notebook: Path, cells: list[dict], code: list[dict]) -> list[str]:
    book = json.loads(notebook.read_text())
    found = []
    if (book["nbformat"], book["nbformat_minor"]) != (4, 5):
        return ["is not of notebook format 4.5"]
    try:
        nbformat.validate(book)
    except nbformat.ValidationError as error:
        found.append(f"is not valid: {str(error).splitlines()[0]}")
    wanted = [f"{notebook.stem[:2]}-{i:02d}" for i in range(len(cells))]
    if [cell.get("id") for cell in cells] != wanted:
        found.append(f"has cell ids other than {wanted[0]}, {wanted[1]}, ...")
    if any(cell["outputs"] or cell["execution_count"] for cell in code):
        found.append("has outputs or execution counts")
    if not re.fullmatch(r"\d\d_[a-z0-9_]+", notebook.stem):
        found.append("is not named NN_topic")
    return found


def _head(notebook: Path, cells: list[dict]) -> list[str]:
    title = nb.source_of(cells[0])
    found = [] if cells[0]["cell_type"] == "markdown" and title.startswith("# ") else ["does not begin with a markdown title"]
    if not re.search(r"^Reproduces ", title, flags=re.MULTILINE):
        found.append("does not state what it reproduces")
    if (line := navigation(notebook)) not in title.splitlines():
        found.append(f"does not link its neighbours in a line of its title cell: {line}")
    if not nb.writes(notebook):
        found.append("does not state what it writes")
    try:
        defaults = nb.declared(notebook)
    except ValueError as error:
        return [*found, str(error)]
    return found + [
        f"declares {name} = {defaults.get(name)!r}, not {value!r}" for name, value in COMMON.items() if defaults.get(name) != value
    ]


def navigation(notebook: Path) -> str:
    """The line that links a notebook to the ones before and after it in its folder."""
    books = sorted(notebook.parent.glob("*.ipynb"))
    at = books.index(notebook)
    before, after = ([f"[{path.stem.replace('_', ' ')}]({path.name})" for path in part] for part in (books[:at][-1:], books[at + 1 :][:1]))
    return " · ".join([*(f"← {link}" for link in before), *(f"{link} →" for link in after)])


def _minutes(notebook: Path, cells: list[dict]) -> list[str]:
    """Numbers of scales that cost more or less than demo are either measured or called guesses."""
    stated = nb.minutes(notebook)
    line = next((line for line in nb.source_of(cells[0]).splitlines() if line.startswith("Minutes")), "")
    found = [] if "demo" in stated else ["does not state its minutes at scale demo"]
    found += [f"states minutes of no scale: {name}" for name in stated.keys() - SCALES.keys()]
    unmeasured = any(stated.get(scale, stated.get("demo")) != stated.get("demo") for scale in ("small", "paper"))
    if "measured" not in line or (unmeasured and "guesses" not in line):
        found.append("does not state which of its minutes are measured and which are guesses")
    return found


def _sections(prose: list[str]) -> list[str]:
    text = "\n\n".join(prose)
    wanted = {"what to conclude": r"^## What to conclude$"}
    if re.search(r"^Reproduces (?!nothing)", text, flags=re.MULTILINE):
        wanted |= {"its method": r"^## Method\b", "where the paper differs": r"^## Where the papers? differs? or (is|are) silent$"}
        wanted["an equation"] = r"^\$\$"
    return [f"does not say {what}" for what, pattern in wanted.items() if not re.search(pattern, text, flags=re.MULTILINE)]


def _links(notebook: Path, prose: list[str]) -> list[str]:
    links = [link for source in prose for link in re.findall(r"\]\(([^)\s]+)\)", _without_code(source))]
    local = [link.split("#")[0] for link in links if not re.match(r"https?://|#", link)]
    return [f"links to nothing: {link}" for link in local if not (notebook.parent / link).exists()]


def _maths(source: str) -> list[str]:
    """Formulas that do not render, and dollars that belong to none; what renders is judged by matplotlib's parser of TeX."""
    formula = r"\$\$([^$]+)\$\$|\$([^$\s](?:[^$]*[^$\s])?)\$"
    text = _without_code(source)
    found = ["has a $ outside of maths"] if "$" in re.sub(formula, "", text) else []
    for displayed, inline in re.findall(formula, text):
        try:
            MathTextParser("agg").parse(f"${' '.join((displayed or inline).split())}$")
        except ValueError as error:
            found.append(f"cannot be rendered: {displayed or inline} ({str(error).splitlines()[-1]})")
    return found


def _without_code(source: str) -> str:
    return re.sub(r"```.*?```|`[^`]*`", "", source, flags=re.DOTALL)


def _foot(code: list[dict]) -> list[str]:
    names = {getattr(node, "attr", getattr(node, "id", "")) for node in ast.walk(ast.parse(nb.source_of(code[-1])))}
    return [] if "stamp" in names else ["does not end with the provenance stamp"]


def _thin(code: list[dict]) -> list[str]:
    lengths = [len(nb.source_of(cell).splitlines()) for cell in code]
    found = [f"has a cell of {length} lines" for length in lengths if length > LINES_PER_CELL]
    lines = [line for cell in code for line in nb.source_of(cell).splitlines() if re.match(r"(from \S+ )?import ", line)]
    if (names := sum(line.count(",") + 1 for line in lines)) > IMPORTS:
        found.append(f"imports {names} names")
    return found + ([f"has {sum(lengths)} lines of code"] if sum(lengths) > LINES_PER_NOTEBOOK else [])


def _logic(cell: dict) -> list[str]:
    source = nb.source_of(cell)
    if magic := re.search(r"^\s*[%!].*", source, flags=re.MULTILINE):
        return [f"runs a shell command or magic: {magic[0]}"]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.While):
            found.append(f"holds a while loop (line {node.lineno})")
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.end_lineno - node.lineno >= LINES_PER_FUNCTION:
            found.append(f"defines {node.name} in more than {LINES_PER_FUNCTION} lines")
        if isinstance(node, ast.Attribute) and node.attr in ("backward", "step", "zero_grad"):
            found.append(f"trains by hand: .{node.attr}")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"(/|~/|[A-Za-z]:\\)\w", node.value):
            found.append(f"names an absolute path: {node.value}")
    return found


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_conventions(notebook):
    assert violations(notebook) == []


def test_numbers_are_unique():
    numbers = [path.stem[:2] for path in NOTEBOOKS]
    assert len(numbers) == len(set(numbers))


def test_ruff_is_content():
    folders = [str(ROOT / "notebooks")]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *folders], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------------------------------------ the checks can fail

GOOD = [
    (
        "markdown",
        "# Toy\n\nReproduces nothing.\n\nMinutes: demo 0.1 · small 1 (guesses, demo measured)\n\nWrites: `tables/toy.csv`",
    ),
    ("parameters", "\n".join(f"{name} = {value!r}" for name, value in COMMON.items())),
    ("code", "from rtalib import provenance"),
    ("markdown", "## What to conclude\n\nNothing: $n = 0$. It costs no `$`."),
    ("code", "provenance.stamp()"),
]
TITLE = GOOD[0][1]


def toy(folder: Path, parts: list[tuple[str, str]], **changes: object) -> Path:
    cells = []
    for number, (kind, source) in enumerate(parts):
        cell = {"cell_type": "markdown", "id": f"07-{number:02d}", "metadata": {}, "source": source}
        if kind != "markdown":
            cell |= {"cell_type": "code", "outputs": [], "execution_count": None}
            cell["metadata"] = {"tags": ["parameters"]} if kind == "parameters" else {}
        cells.append(cell | changes)
    path = folder / "07_toy.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_a_good_notebook_has_no_violations(tmp_path):
    assert violations(toy(tmp_path, GOOD)) == []
    assert nb.writes(toy(tmp_path, GOOD)) == ["tables/toy.csv"]


@pytest.mark.parametrize(
    ("position", "part", "message"),
    [
        (0, ("markdown", "Toy\n\nMinutes: demo 1\nWrites: `a`"), "markdown title"),
        (0, ("markdown", "# Toy\n\nMinutes: small 1\nWrites: `a`"), "minutes"),
        (0, ("markdown", "# Toy\n\nMinutes: demo 1"), "what it writes"),
        (0, ("markdown", TITLE.replace("Reproduces nothing.", "")), "what it reproduces"),
        (0, ("markdown", TITLE.replace("guesses, ", "")), "which are guesses"),
        (0, ("markdown", TITLE.replace("measured", "after 3")), "minutes of no scale: after"),
        (0, ("markdown", TITLE.replace("nothing", "Table 1")), "its method"),
        (0, ("markdown", TITLE.replace("nothing", "Table 1")), "where the paper differs"),
        (0, ("markdown", TITLE.replace("nothing", "Table 1")), "an equation"),
        (3, ("markdown", "## Well"), "what to conclude"),
        (3, ("markdown", "See [this](08_missing.ipynb#part)."), "links to nothing: 08_missing.ipynb"),
        (3, ("markdown", "It costs 5$."), "outside of maths"),
        (3, ("markdown", "With $a$ and $b."), "outside of maths"),
        (3, ("markdown", "$$\\frac{1}{n$$"), "cannot be rendered"),
        (3, ("markdown", "$\\argmin_x x$"), "cannot be rendered"),
        (1, ("code", "scale = 'demo'"), "tagged 'parameters'"),
        (1, ("parameters", "scale = 'smoke'"), "declares scale = 'smoke'"),
        (2, ("code", "while True:\n    pass"), "while loop"),
        (2, ("code", "for batch in data:\n    loss(batch).backward()"), ".backward"),
        (2, ("code", "def f():\n" + "    x = 1\n" * 10), "more than 10 lines"),
        (2, ("code", "open('/data/x')"), "absolute path"),
        (2, ("code", "!pip install x"), "shell command"),
        (2, ("code", "%cd .."), "magic"),
        (2, ("code", "x = 1\n" * 26), "a cell of 26 lines"),
        (2, ("code", "from math import " + ", ".join(dir(math)[-9:])), "imports 9 names"),
        (4, ("code", "print('bye')"), "provenance stamp"),
    ],
)
def test_a_bad_notebook_is_caught(tmp_path, position, part, message):
    parts = [*GOOD[:position], part, *GOOD[position + 1 :]]
    assert any(message in text for text in violations(toy(tmp_path, parts)))


def test_neighbours_are_linked_by_a_line_of_one_shape(tmp_path):
    for name in ("06_before.ipynb", "08_after_it.ipynb"):
        (tmp_path / name).write_text("{}")
    line = "← [06 before](06_before.ipynb) · [08 after it](08_after_it.ipynb) →"
    assert violations(toy(tmp_path, GOOD)) == [f"does not link its neighbours in a line of its title cell: {line}"]
    assert violations(toy(tmp_path, [("markdown", f"{TITLE}\n\n{line}"), *GOOD[1:]])) == []


def test_outputs_ids_and_length_are_caught(tmp_path):
    assert "has outputs or execution counts" in violations(toy(tmp_path, GOOD, execution_count=1))
    assert any("cell ids" in text for text in violations(toy(tmp_path, GOOD).rename(tmp_path / "08_toy.ipynb")))
    assert any("lines of code" in text for text in violations(toy(tmp_path, [*GOOD[:2], *[("code", "x = 1\n" * 25)] * 6, GOOD[-1]])))


# ----------------------------------------------------------------------------------------------------------- execution


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_at_smoke_scale(notebook, notebook_outputs, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(notebook_outputs))
    folder = notebook_outputs / run_name("smoke", "shapes10")
    output = folder / "notebooks" / notebook.name
    result = nb.run(notebook, output, {"scale": "smoke", "executor": "serial"}, timeout=300)
    assert result.status == "ok", result.error
    assert [pattern for pattern in nb.writes(notebook) if not any(path.stat().st_size for path in folder.glob(pattern))] == []
    for table in store.tables(folder.name):
        assert all(row.get("scale", "smoke") == "smoke" and row["stamp"] for row in store.rows(folder.name, table))
    assert all(page.stat().st_size < 3_000_000 for page in folder.glob("report.html"))
    executed = nbformat.read(output, as_version=4)
    assert "torch" in json.dumps(executed.cells[-1].outputs), "the last cell shows the provenance stamp"
