"""LaTeX that booktabs alone can set: as many cells in every line, braces in pairs, nothing that needs another package."""

import re

import pandas as pd
import pytest
from made_up import cf_rows, rta_rows

from rtalib import papers, tables
from rtalib.results.style import latex

TABLES = {
    "one column": lambda: tables.compare(rta_rows(), papers.RTA["table1"]),
    "several columns": lambda: tables.compare(cf_rows(), papers.CF_DARTS["table2"]),
    "a figure": lambda: tables.compare(cf_rows(), papers.CF_DARTS["figure4"]),
    "two columns": lambda: tables.compare([], papers.RTA["table4"]),
    "hours": lambda: tables.compare([], papers.CF_DARTS["table7"]),
    "verdicts": lambda: tables.verdicts(rta_rows(), papers.CLAIMS["rta-table1"]),
    "wins": lambda: tables.wins(cf_rows()),
    "plain": lambda: pd.DataFrame({"name_of": ["a & b", "50 %"], "count": [1, 2], "value": [-0.5, float("nan")]}),
    "two levels": lambda: pd.DataFrame({("cifar10-c", 1): [1.0], ("cifar10-c", 2): [2.0]}, index=pd.Index(["fog"], name="corruption")),
}


@pytest.mark.parametrize("name", TABLES)
def test_structure(name):
    text = latex(TABLES[name]())
    assert text.isascii() and text.count(r"\begin{") == text.count(r"\end{") == 2
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    preamble = re.search(r"\\begin\{tabular\}\{(.*)\}\n", text)[1]
    columns = len(re.sub(r"\{[^}]*\}", "", preamble))
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {columns}
    bare = re.sub(r"\\[{}$&%#_]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert not re.search(r"multirow|siunitx|\bnan\b|%", bare)


@pytest.mark.parametrize(
    "name,preamble",
    {"one column": "lrrrr", "two columns": "llrrr", "verdicts": "lp{6cm}rrrrrrrrrl", "wins": "lrrr", "plain": "lrr"}.items(),
)
def test_names_are_set_to_the_left_and_numbers_to_the_right(name, preamble):
    assert rf"\begin{{tabular}}{{{preamble}}}" in latex(TABLES[name]())


def test_numbers_are_those_of_the_table():
    table = tables.compare(rta_rows(), papers.RTA["table1"])
    row = table.loc[("10,000 Ori + 4 × 10,000 Ori with RTA(Ours)", "score")]
    line = next(line for line in latex(table).splitlines() if "RTA(Ours)" in line)
    wanted = [f"{row.published:.1f}", rf"{row.measured:.1f} $\pm$ {row.interval:.1f}", "3", f"${row.difference:+.1f}$"]
    assert line.removesuffix(r" \\").split(" & ")[1:] == wanted


def test_escape_covers_what_latex_takes_for_commands():
    hostile = r"a_b & 50 % \x {#} ~^ 10³ × ± Δ"
    escaped = r"a\_b \& 50 \% \textbackslash x \{\#\} \textasciitilde \textasciicircum 10$^{3}$ $\times$ $\pm$ $\Delta$"
    table = pd.DataFrame({hostile: [hostile]})
    table.attrs["caption"] = hostile
    found = re.sub(r"(\{\}|\\space| )+", " ", latex(table))
    assert found.count(escaped) == 3 and rf"\caption{{{escaped}}}" in found


def test_signed_numbers_are_in_math_mode_and_what_is_missing_is_empty():
    lines = latex(pd.DataFrame({"a": [-0.25, float("nan")], "b": [7, -7], "c": ["+1.5", "x -2 y"]})).splitlines()
    assert lines[6:8] == [r"$-0.2$ & 7 & $+1.5$ \\", r" & $-7$ & x -2 y \\"]


def test_span_of_seeds():
    rows = [row | {"fail": None} if (row["method"], row["seed"]) == ("AugMix", 0) else row for row in cf_rows()]
    lines = tables.wide(tables.compare(rows, papers.CF_DARTS["table2"]))["n"]
    assert (lines["AugMix", "measured"], lines["CutMix", "measured"], lines["CutMix", "published"]) == ("2-3", "3", "")
