"""The report is one file that stands alone, says what was measured and at which scale, and hides nothing that failed."""

import base64
import html.parser
import json
import re

import pytest
from made_up import cf_rows, rta_rows

from rtalib import figures, papers, report, tables

VOID = {"meta", "img", "br", "link", "input", "hr", "col"}


def lay_out(folder, table: str, rows: list[dict]) -> None:
    (folder / "rows" / table).mkdir(parents=True, exist_ok=True)
    for row in rows:
        (folder / "rows" / table / f"{row['key']}.json").write_text(json.dumps(row))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with two tables, a figure, a saved table, a notebook and rows that no paper has."""
    folder = tmp_path_factory.mktemp("run")
    lay_out(folder, "rta-table1", rta_rows())
    lay_out(folder, "cf-table2", cf_rows())
    lay_out(folder, "cf-deployed", [{"clean": 88.8, "key": "k", "seconds": 1.5, "scale": "demo", "dataset": "shapes10"}])
    figures.save(figures.accuracy_curves(cf_rows()), folder / "figures", "training_curves")
    tables.save(tables.wins(cf_rows()), folder / "tables", "wins")
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "03_rta.ipynb").write_text("{}")
    return folder, report.write(folder, title="A <test> run").read_text()


def words(text: str) -> str:
    """The page without its styles, pictures and tags."""
    text = re.sub(r"<style.*?</style>", "", text, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text))


class Nesting(html.parser.HTMLParser):
    """Fails on a tag that is closed out of order; collects ids and local links."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.sources = [], [], [], []

    def handle_starttag(self, tag, attributes):
        facts = dict(attributes)
        self.ids += [facts["id"]] if "id" in facts else []
        self.links += [facts["href"]] if "href" in facts else []
        self.sources += [facts["src"]] if "src" in facts else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("p", "li", "td", "th", "tr") and tag != self.open[-1]:
            raise AssertionError(f"</{tag}> closes <{self.open[-1]}>")
        assert self.open.pop() == tag


def test_page_is_well_formed_and_stands_alone(run):
    folder, text = run
    page = Nesting()
    page.feed(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    for link in page.links:
        assert (link[1:] in page.ids) if link.startswith("#") else (folder / link).exists(), link
    assert not re.search(r"https?://|@import|<script", text)


def test_figure_is_inside(run):
    folder, text = run
    assert base64.b64encode((folder / "figures" / "training_curves.png").read_bytes()).decode() in text


def test_all_published_tables_are_listed(run):
    shown = words(run[1])
    for table in papers.PUBLISHED.values():
        assert table.title.replace("'", "&#39;") in shown
    assert shown.count("Not measured in this run.") == len(papers.PUBLISHED) - 2


def test_scale_hardware_and_source_are_on_its_face(run):
    head = words(run[1].split('id="verdicts"')[0])
    for fact in ("A &lt;test&gt; run", "scale demo", "data set shapes10", "seeds 0, 1, 2", "A CPU", "0123456789", "uncommitted changes"):
        assert fact in head
    assert "not the papers&#39; setting" in head or "not the papers' setting" in head


def test_verdicts_are_those_of_tables(run):
    shown = words(run[1])
    found = [tables.verdicts(cf_rows(), papers.CLAIMS["cf-table2"]), tables.verdicts(rta_rows(), papers.CLAIMS["rta-table1"])]
    assert f"{sum((table['verdict'] == 'reproduced').sum() for table in found)} reproduced" in shown
    assert "Control: CF-DARTS is above the retrained original" in shown


def test_notebooks_costs_and_own_rows_are_shown(run):
    shown = words(run[1])
    assert "notebooks/03_rta.ipynb" in shown
    assert "cf-table2 CF-DARTSE 3 4.0 4.0 12.0" in shown
    assert "Beyond the papers" in shown and "88.8" in shown


def test_same_rows_give_the_same_file(run):
    folder, text = run
    assert report.write(folder, title="A <test> run").read_text() == text


def test_two_scales_are_shown_apart(tmp_path):
    lay_out(tmp_path, "rta-table1", rta_rows() + [row | {"key": "s" + row["key"]} for row in rta_rows(scale="small")])
    shown = words(report.write(tmp_path).read_text())
    assert "demo · shapes10" in shown and "small · shapes10" in shown


def test_rows_that_must_not_be_mixed_are_named_in_the_table_s_place(tmp_path):
    rows = cf_rows()
    rows[0] |= {"corruption": "fog"}
    lay_out(tmp_path, "cf-table2", rows)
    assert "Not shown: rows of" in words(report.write(tmp_path).read_text())


def test_plan_decides_which_rows_count(tmp_path):
    rows = cf_rows()
    lay_out(tmp_path, "cf-table2", rows)
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "cf-table2.json").write_text(json.dumps([row["key"] for row in rows if row["seed"] == 1] + ["not yet done"]))
    shown = words(report.write(tmp_path).read_text())
    assert "seeds 1 · 11 cells of 12 planned" in shown


def test_run_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    (tmp_path / "demo").mkdir()
    assert report.write("demo") == tmp_path / "demo" / "report.html"


def test_empty_run_gives_a_page(tmp_path):
    assert "no measured rows" in report.write(tmp_path).read_text()


def test_broken_row_and_missing_folder_are_named(tmp_path):
    lay_out(tmp_path, "cf-table2", cf_rows()[:1])
    (tmp_path / "rows" / "cf-table2" / "cut.json").write_text('{"method": ')
    with pytest.raises(ValueError, match="cut.json: not a JSON object"):
        report.write(tmp_path)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        report.write(tmp_path / "nowhere")
