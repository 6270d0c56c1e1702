"""The report is one file that stands alone, says what was measured and at which scale, and hides nothing that failed."""

import base64
import html.parser
import io
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from made_up import cf_rows, rta_rows
from PIL import Image

from rtalib import figures, papers, report, tables
from rtalib.experiments.repair import chance
from rtalib.report import collect, markdown, notebooks, record
from rtalib.report import html as page
from rtalib.results.errata import ERRATA
from rtalib.results.style import VERDICT_COLORS

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
    deployed = {"clean": 88.8, "seconds": 1.5, "scale": "demo", "dataset": "shapes10", "corruption": "fog"}
    lay_out(folder, "cf-deployed", [deployed | {"key": "k"}, deployed | {"key": "l", "corruption": "pixelate"}])
    figures.save(figures.accuracy_curves(cf_rows()), folder / "figures", "training_curves")
    tables.save(tables.wins(cf_rows()), folder / "tables", "wins")
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "03_rta.ipynb").write_text("{}")
    return folder, report.write(folder, title="A <test> run").read_text()


def words(text: str) -> str:
    """The page without its styles, pictures and tags."""
    text = re.sub(r"<(style|script).*?</\1>", "", text, flags=re.S)
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
    assert all(source.startswith("data:image/webp;base64,") for source in page.sources)
    for link in page.links:
        assert (link[1:] in page.ids) if link.startswith("#") else (folder / link).exists(), link
    assert not re.search(r"https?://|@import|url\(|<script [^>]*src|fetch\(|XMLHttpRequest", text)


def test_every_table_says_what_it_is_and_what_its_cells_are_under(run):
    tables_of = re.findall(r"<table.*?</table>", run[1], flags=re.S)
    assert len(tables_of) > 10
    for table in tables_of:
        assert "<caption><span>" in table or "<caption>" in table
        assert all("scope=" in tag for tag in re.findall(r"<th\b[^>]*>", table)), table[:300]


def test_figure_is_inside(run):
    inside = re.search(r'<img class="chart" src="data:image/webp;base64,([^"]+)"', run[1])[1]
    shown, saved = (
        Image.open(file).convert("L") for file in (io.BytesIO(base64.b64decode(inside)), run[0] / "figures/training_curves.png")
    )
    difference = np.abs(np.asarray(shown, float) - np.asarray(saved.resize(shown.size, Image.Resampling.LANCZOS), float))
    assert difference.mean() < 2 and shown.width < saved.width  # the same picture in fewer pixels and colors


def test_all_published_tables_are_listed(run):
    shown = words(run[1])
    for table in papers.PUBLISHED.values():
        assert table.title.replace("'", "&#39;") in shown
    assert shown.count("Not measured in this run.") == len(papers.PUBLISHED) - 2


def test_scale_hardware_and_source_are_on_its_face(run):
    head = words(run[1].split('id="claims"')[0])
    for fact in ("A &lt;test&gt; run", "scale demo", "data set shapes10", "seeds 0, 1, 2", "A CPU", "0123456789", "uncommitted changes"):
        assert fact in head
    assert "not the papers&#39; setting" in head or "not the papers' setting" in head


def test_verdicts_are_those_of_tables(run):
    shown = words(run[1])
    found = [tables.verdicts(cf_rows(), papers.CLAIMS["cf-table2"]), tables.verdicts(rta_rows(), papers.CLAIMS["rta-table1"])]
    assert f"{sum((table['verdict'] == 'reproduced').sum() for table in found)} ✓ reproduced" in shown
    assert "Control: CF-DARTS is above the retrained original" in shown
    every = report.claims(run[0])
    assert list(every["claim"]) == [claim.id for listed in report.CLAIMS.values() for claim in listed]
    written = pd.read_csv(run[0] / "claims.csv", keep_default_na=False)
    assert list(written["claim"]) == list(every["claim"]) and list(written["rows"]) == list(every["rows"])
    measured = every[every["verdict"] != "missing"]
    assert set(measured["table"]) == {"cf-table2", "rta-table1"} and set(measured["group"]) == {
        "demo · shapes10",
        "demo · shapes10 · disjoint",
    }
    first = measured.iloc[0]
    assert f"{first.low:+.1f} to {first.high:+.1f}" in shown


def test_claims_beyond_the_papers_are_tested_on_the_medians(tmp_path):
    rows = [
        {
            "method": "DARTS" if number == 0 else chance.DRAWN,
            "seed": seed,
            "number": number,
            "clean": 50.0 + 3 * seed - 5 * number,
            "key": f"{seed}{number}",
        }
        for seed in range(3)
        for number in range(3)
    ]
    lay_out(tmp_path, "search-or-chance", rows)
    claim = report.claims(tmp_path).set_index("claim").loc["chance.1"]
    assert (claim.difference, claim.seeds) == (7.5, 3)


def test_errata_stand_on_the_page_and_in_the_text(run):
    page, text = (html.unescape(content) for content in (run[1], (run[0] / "REPORT.md").read_text()))
    assert len(ERRATA) > 30 and {erratum.paper for erratum in ERRATA} == {"rta", "cf"}
    assert len({(erratum.paper, erratum.issue) for erratum in ERRATA}) == len(ERRATA)
    assert all(erratum.issue in page and erratum.resolution in page and erratum.issue in text for erratum in ERRATA)
    assert "cf-table2, AugMix, Fail" in page


def test_errata_name_settings_that_there_are():
    from rtalib import attacks, darts, iterative_search, repair, rta, scales

    paper = scales.get("paper").repair
    assert [name for name in scales.SCALES if scales.get(name).protocol == "paper"] == ["paper"]
    assert (paper.steps_per_epoch, paper.search_batch, paper.order, len(paper.robust_grid)) == (520, 64, 2, 4)
    assert not darts.Settings().weights_first and darts.PRESETS["pc-darts"]["refinement"].warm_up == 6
    assert (iterative_search.Settings().rule, attacks.EPS, attacks.BIM().steps) == ("most-models", 8 / 255, 10)
    assert "disjoint" in rta.PROTOCOLS and "disjoint" in repair.PROTOCOLS


def test_text_says_the_same_and_links_the_figures(run):
    folder, text = run[0], (run[0] / "REPORT.md").read_text()
    assert [link for link in re.findall(r"\]\(([^)]+)\)", text) if not (folder / link).exists()] == []
    assert "figures/training_curves.png" in text and "![" not in text
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
    claim = tables.verdicts(rta_rows(), papers.CLAIMS["rta-table1"]).iloc[0]
    assert f"{claim.difference:+.1f} [{claim.low:+.1f}, {claim.high:+.1f}]" in text


def test_latex_of_every_measured_table(run):
    folder = run[0] / "tables"
    assert {path.stem for path in folder.glob("*.tex")} == {"cf-table2", "rta-table1", "wins"}
    for path in folder.glob("c*.tex"):
        text = path.read_text()
        assert "scale demo" in text and "seeds 0, 1, 2" in text and "A CPU" in text and "$n$" in text
    one = (folder / "rta-table1.tex").read_text()
    assert "Held" not in one and "Seen corr." in one  # the parts of the score that were measured


def test_a_saved_table_decides_the_columns_of_its_latex(tmp_path):
    lay_out(tmp_path, "rta-table1", rta_rows())
    chosen = tables.compare(rta_rows(), papers.RTA["table1"], columns=["score", "clean"])
    saved = tables.save(chosen, tmp_path / "tables", "rta-table1")[1].read_bytes()
    report.write(tmp_path)
    assert (tmp_path / "tables" / "rta-table1.tex").read_bytes() == saved


def test_figure_carries_its_words_to_the_page(run):
    alt = re.search(r'alt="([^"]*)"', run[1])[1]
    assert "top-1" in alt and "epoch" in alt


def test_verdicts_are_told_by_words_and_marks():
    assert set(collect.MARKS) == set(VERDICT_COLORS) and len(set(collect.MARKS.values())) == 6
    assert markdown.row(["x|y", 1, "a\nb"]) == "| x\\|y | 1 | a b |"


def test_notebooks_costs_and_own_rows_are_shown(run):
    shown = words(run[1])
    assert "notebooks/03_rta.html" in shown and (run[0] / "notebooks" / "03_rta.html").exists()
    assert "cf-table2 CF-DARTSE 3 4 s 4 s 12 s" in shown
    assert "Beyond the papers" in shown and "88.8" in shown


def test_same_rows_give_the_same_file(run):
    folder, text = run
    before = {path: path.read_bytes() for path in (folder / "REPORT.md", *(folder / "tables").iterdir())}
    assert report.write(folder, title="A <test> run").read_text() == text
    assert {path: path.read_bytes() for path in before} == before


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
    further = f"cf-table2: {sum(row['seed'] != 1 for row in rows)} further rows are stored, of seeds that its last plan does not name"
    with pytest.warns(UserWarning, match=further):
        shown = words(report.write(tmp_path).read_text())
    assert "seeds 1 · 11 cells of 12 planned" in shown and further in shown


def test_parts_that_several_tables_plan_are_not_called_left_out(tmp_path):
    rows = [{"method": "RTA", "seed": seed, "key": f"{seed:016x}"} for seed in range(3)]
    lay_out(tmp_path, "rta-sets", rows)
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "rta-sets.json").write_text(json.dumps([rows[0]["key"]]))
    assert collect.collect(tmp_path).left_out == []


def test_run_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    (tmp_path / "demo").mkdir()
    assert report.write("demo") == tmp_path / "demo" / "report.html"


def test_empty_run_gives_a_page(tmp_path):
    assert "no measured rows" in report.write(tmp_path).read_text()


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1))",
    "![a](http://example.org/a.png)",
    "x\n\n<b>",
]
HOSTILE += [
    "![a][b]",
    "$\\input{x}$",
    "\\write18{x}",
    "| a | b |",
    "`",
    "{{ 7 * 7 }}",
    "</td>",
    "'\"><svg/onload=alert(1)>",
    "<https://example.org>",
]


def test_texts_from_rows_and_names_stay_texts(tmp_path):
    """Neither a tag nor a link, nor a picture from elsewhere."""
    rows = [{"key": f"{k}", "method": text, "corruption": text, "seed": k, "scale": text, "seconds": 1.0} for k, text in enumerate(HOSTILE)]
    lay_out(tmp_path, "cf-table2", [row | {"clean": 1.0, "fail": 2.0} for row in rows])
    lay_out(
        tmp_path, "mine <b>[a](javascript:x)", [row | {"value": row["method"], "stamp": {row["method"]: row["method"]}} for row in rows]
    )
    (tmp_path / "javascript:alert(1)#?%.ipynb").write_text("{}")
    page = report.write(tmp_path).read_text()
    text = (tmp_path / "REPORT.md").read_text()
    assert not re.search(r"<(script|img|b|svg|https?:)", text) and "](javascript:" not in text and "](http" not in text and "][" not in text
    assert "](javascript%3Aalert%281%29%23%3F%25.ipynb)" in text
    assert (
        len(re.findall("<script", page)) == 1
        and "javascript:alert(1)#" not in re.sub(">.*?<", "><", page)
        and "onerror=" not in re.sub("&lt;.*?&gt;", "", page)
    )
    for tex in (tmp_path / "tables").glob("*.tex"):
        assert not re.search(r"(?<!\textbackslash)\\(input|write18)", tex.read_text())


REFUSED = (
    {"seconds": "ten"},
    {"stamp": "x"},
    {"scale": []},
    {"seed": "zero"},
    {"seed": {}},
    {"method": 3},
    {"corruption": []},
    {"key": 3},
    {"protocol": {}},
    {"dataset": 1},
)
TAKEN = (
    ({"score": {}}, {"entries": None}, {"seed": None}, {"history": 3}),
    ({"score": float("nan")}, {"score": "x"}, {"entries": [1]}, {"method": None}),
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("changes", [REFUSED, *TAKEN], ids=["refused", "taken-1", "taken-2"])
def test_rows_of_other_types_stop_no_report(tmp_path, changes):
    """Each change in a row of another method or seed, so that none hides what another one does; what is refused is so file by file."""
    for table, rows in (("cf-table2", cf_rows()), ("rta-table1", rta_rows())):
        for place in (table, "mine"):
            lay_out(tmp_path, place, rows[len(changes) :])
            for number, (row, change) in enumerate(zip(rows, changes, strict=False)):
                (tmp_path / "rows" / place / f"odd-{table}-{number}.json").write_text(json.dumps(row | change))
    shown = report.write(tmp_path).read_text()
    assert "mine" in shown
    for number, change in enumerate(changes):
        named = [f"cf-table2/odd-cf-table2-{number}.json: {key}: expected" in shown for key in change]
        assert named == [changes is REFUSED]


def test_broken_row_and_missing_folder_are_named(tmp_path):
    lay_out(tmp_path, "cf-table2", cf_rows()[:1])
    (tmp_path / "rows" / "cf-table2" / "cut.json").write_text('{"method": ')
    (tmp_path / "rows" / "cf-table2" / "list.json").write_text("[]")
    for name, data in {
        "figures/bad.png": b"\x89PNG",
        "figures/cf-table2.png": b"",
        "tables/bad.csv": b"",
        "tables/cf-table2.csv": b"\xff\xfe\0",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    with pytest.warns(UserWarning, match="left out of the report: .*cut.json: no JSON"):
        shown = words(report.write(tmp_path).read_text())
    text = (tmp_path / "REPORT.md").read_text()
    for name in ("cut.json", "list.json", "bad.png", "cf-table2.png", "bad.csv", "cf-table2.csv"):
        assert f"{name}: " in shown and f"{name}: " in text
    assert "1 cell " in shown
    with pytest.raises(FileNotFoundError, match="is no folder"):
        report.write(tmp_path / "nowhere")


def test_a_rare_color_of_a_figure_stays(tmp_path):
    pixels = np.full((300, 400, 3), 255, np.uint8)
    pixels[:200] = np.repeat(np.arange(200, dtype=np.uint8), 3).reshape(200, 1, 3)  # all greys, as around letters
    pixels[150:156, 200:206] = orange = (213, 94, 0)
    Image.fromarray(pixels).save(tmp_path / "map.png")
    source = page.picture(tmp_path / "map.png", 400)
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as shown:
        assert np.abs(np.array(shown.getpixel((203, 153))) - orange).max() < 10 and shown.getpixel((398, 298)) == (255, 255, 255)


def test_claims_are_one_picture_and_every_dot_leads_to_its_line(run):
    claims = report.claims(run[0])
    measured = claims[claims["difference"].notna()]
    dots = re.findall(r'<a class="dot v-([a-z-]+)" href="#([^"]+)" style="left:([\d.]+)%', run[1])
    assert len(dots) == len(measured) and all(f'<li id="{name}"' in run[1] for _, name, _ in dots)
    for (verdict, _, left), claim in zip(dots, measured.itertuples(), strict=True):
        assert verdict == claim.verdict.replace(" ", "-")
        assert float(left) == pytest.approx(50 + 48 * max(-1, min(1, claim.difference / page.REACH)), abs=0.06)


def test_the_recorded_run_of_most_rows_makes_a_small_report(tmp_path):
    folder = max(record.runs(), key=lambda folder: len(list(folder.glob("rows/*/*.json"))))
    assert report.write(shutil.copytree(folder, tmp_path / folder.name)).stat().st_size < 3_000_000


def test_durations_are_those_of_people():
    assert [page.duration(seconds) for seconds in (0.4, 48, 720, 20_590.4)] == ["0 s", "48 s", "12 min", "5.7 h"]


def test_a_page_of_a_notebook_stands_alone(tmp_path):
    picture = {"text/plain": "VBox()", "text/html": "<img alt='seen'>", "application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    shown = {"output_type": "display_data", "data": picture, "metadata": {}}
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["$$x^2$$ and `$HOME` ", "([next](04_next.ipynb))"]},
        {"cell_type": "code", "id": "b", "metadata": {}, "source": "ui", "execution_count": 1, "outputs": [shown]},
    ]
    (tmp_path / "03_toy.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    assert notebooks.listed(tmp_path) == ["03_toy.ipynb"]
    notebooks.write(tmp_path, [])
    text = (tmp_path / "03_toy.html").read_text()
    assert "<math" in text and "<code>$HOME</code>" in text and 'href="04_next.html"' in text and 'alt="seen"' in text
    assert not re.search(r"""<(script|link|img)[^>]*(src|href)=["']https?:""", text)


def test_recorded_rows_are_those_of_the_largest_run():
    assert {row["scale"] for row in record.rows("cf-table2")} == {"night"} and {row["scale"] for row in record.rows("rta-table1")} == {
        "cpu"
    }
    claims = record.claims()
    assert claims["claim"].is_unique and "missing" not in set(claims["verdict"])
    with pytest.raises(LookupError, match="has rows of 'rta-table9'"):
        record.rows("rta-table9")
