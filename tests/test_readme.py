"""The README says what was measured: its numbers are those of the committed results, its map is that of the house."""

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RECORD = ROOT / "outputs" / "record"


def results() -> list[tuple[str, str, str]]:
    """(table, method, cell text) of every measured number in the README's results: `| method | ... | 61.2 ± 3.4 |` under a linked CSV."""
    found, table, columns = [], "", []
    for line in README.splitlines():
        if link := re.search(r"\((outputs/record/\S+\.csv)\)", line):
            table = link[1]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| method"):
            columns = cells
        elif line.startswith("| ") and not line.startswith("| ---") and columns and len(cells) == len(columns) and table:
            found += [(table, cells[0], f"{name}={cell}") for name, cell in zip(columns, cells, strict=True) if "measured" in name]
        elif not line.startswith("|"):
            columns = []
    return found


def test_results_are_found():
    assert len(results()) >= 14


@pytest.mark.parametrize("table, method, cell", results())
def test_results_are_those_of_the_committed_tables(table, method, cell):
    name, text = cell.split("=")
    column = name.removesuffix(", measured")
    rows = pd.read_csv(ROOT / table).set_index(["method", "column"])
    row = rows.loc[(method, column)]
    wanted = f"{row.measured:.1f}" if pd.isna(row.interval) else f"{row.measured:.1f} ± {row.interval:.1f}"
    assert text.replace("**", "") == wanted


def test_map_names_every_module_and_no_other():
    house = README[README.index("## The house") :]
    house = house[: house.index("\n## ", 5)]
    named = set(re.findall(r"\b([a-z_0-9]+)\.py\b", house)) | set(re.findall(r"[a-z_0-9]+", house))
    modules = {path.stem for path in (ROOT / "rtalib").glob("*.py")} - {"__init__", "__main__"}
    packages = {path.parent.name for path in (ROOT / "rtalib").glob("*/__init__.py")}
    assert (modules | packages) - named == set()
    assert {name for name in re.findall(r"\b([a-z_0-9]+)\.py\b", house)} <= modules | {"api"}


def test_every_linked_file_exists():
    found = re.findall(r"\]\(([^)#\s]+)[)#]", README) + re.findall(r'src="([^"]+)"', README)
    links = [link for link in found if "://" not in link]
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_pictures_are_few_and_light():
    sizes = [path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()]
    assert 0 < len(sizes) <= 4 and max(sizes) < 250_000 and sum(sizes) < 700_000


def test_record_holds_rows_with_provenance_and_no_heavy_file():
    rows = list(RECORD.glob("*/rows/*/*.json"))
    assert rows and all('"git"' in path.read_text() for path in rows)
    assert max(path.stat().st_size for path in RECORD.rglob("*") if path.is_file()) < 5_000_000


def test_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        names: dict = {}
        exec(block, names)
        assert names["attacked"].shape == names["noisy"].shape and len(set(names["picked"].tolist())) == 10
