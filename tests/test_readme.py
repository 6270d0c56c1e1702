"""The README says what was measured: its numbers are those of the committed results, its map is that of the house."""

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RESULTS = (ROOT / "docs" / "results.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs").glob("*.md"),
    *ROOT.glob("outputs/record/README.md"),
    ROOT / "benchmarks" / "README.md",
]
RECORD = ROOT / "outputs" / "record"


def results() -> list[tuple[str, str, str]]:
    """(table, method, cell text) of every measured number in docs/results.md: `| method | ... | 61.2 ± 3.4 |` under a linked CSV."""
    found, table, columns = [], "", []
    for line in RESULTS.splitlines():
        if link := re.search(r"\(\.\./(outputs/record/\S+\.csv)\)", line):
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


def test_the_factorial_is_that_of_the_committed_table():
    table = pd.read_csv(RECORD / "cpu-cifar10" / "tables" / "together.csv").set_index("architecture, training set")
    for name, row in table.iterrows():
        assert f"| {name} | {row.clean:.1f} | {row['mean']:.1f} | {row.fail:.1f} | {row.transfer_pgd:.1f} |" in RESULTS


def claims_of(scale: str) -> pd.DataFrame:
    """The claims of a run that were tested; of a table in several groups the first."""
    claims = pd.read_csv(RECORD / f"{scale}-cifar10" / "claims.csv").query("seeds > 0")
    return claims.drop_duplicates("claim").set_index("claim")


def in_short(row: pd.Series) -> str:
    return f"{row.difference:+z.1f} [{row.low:+z.1f}, {row.high:+z.1f}]"


CLAIMS = re.findall(r"^\| ([a-z0-9-]+\.\d+) \| .+? \| (.*?) \| (.*?) \| (\w+), (\d+) \| (.*?) \|$", README + RESULTS, flags=re.MULTILINE)


VERDICTS = {"reproduced", "not after correction", "cannot be decided", "not found", "not reproduced"}


def test_claims_are_found():
    assert len(CLAIMS) >= 24 and {verdict.partition(" (")[0] for *_, verdict in CLAIMS} == VERDICTS


@pytest.mark.parametrize("claim, published, measured, scale, seeds, verdict", CLAIMS)
def test_claims_are_those_of_the_committed_runs(claim, published, measured, scale, seeds, verdict):
    row = claims_of(scale).loc[claim]
    assert published == ("" if pd.isna(row.published) else f"{row.published:+.1f}")
    assert measured == in_short(row) and row.seeds == int(seeds)
    power = f" (power {row.power:.0%})".replace("%", " %") if row.verdict in ("cannot be decided", "not found") else ""
    assert verdict == row.verdict + power


SENTENCES = re.findall(r"([+-]\d+\.\d \[[^]]*\])\s\((cpu|night),\s([a-z0-9-]+\.\d+)\)", README + RESULTS)


def test_sentences_with_a_claim_are_found():
    assert len(SENTENCES) >= 40 and {run for _, run, _ in SENTENCES} == {"cpu", "night"}


@pytest.mark.parametrize("measured, scale, claim", SENTENCES)
def test_sentences_that_name_a_claim_have_its_numbers(measured, scale, claim):
    assert measured == in_short(claims_of(scale).loc[claim])


def section(title: str) -> str:
    return README.split(f"**{title}**")[1].split("**")[0]


@pytest.mark.parametrize(
    "title, verdicts",
    [
        ("Holds here", {"reproduced"}),
        ("Does not hold here", {"not reproduced", "not found"}),
        ("Cannot be known at this scale", {"cannot be decided", "not after correction"}),
    ],
)
def test_readme_sorts_claims_by_their_verdicts(title, verdicts):
    named = re.findall(r"\((cpu|night),\s([a-z0-9-]+\.\d+)\)", section(title))
    assert named and {claims_of(scale).loc[claim].verdict for scale, claim in named} <= verdicts


def test_the_picture_of_the_claims_counts_them():
    shown = pd.concat(
        [claims_of("night").query("table == 'cf-table2'"), claims_of("cpu")[lambda claims: claims["table"].str.startswith("rta")]]
    )
    shown = shown[shown["published"].notna() & shown["low"].notna() & (shown["metric"] != "columns")]
    assert (shown["verdict"] == "reproduced").sum() == 6 and (shown["verdict"] == "not reproduced").sum() == 2
    assert "six of the tested claims survive the correction with the published sign, two with the opposite one" in README


def test_map_names_every_room():
    house = README[README.index("## The house") :].split("\n## ")[0]
    rooms = {path.parent.name for path in (ROOT / "rtalib").glob("*/__init__.py")}
    assert {name for name in rooms if f"(rtalib/{name})" not in house} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_linked_file_exists(page):
    found = re.findall(r"\]\(([^)#\s]+)[)#]", page.read_text()) + re.findall(r'src="([^"]+)"', page.read_text())
    assert [link for link in found if "://" not in link and not (page.parent / link).exists()] == []


def test_pictures_are_few_and_light():
    sizes = [path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()]
    assert 0 < len(sizes) <= 8 and max(sizes) < 250_000 and sum(sizes) < 700_000


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
