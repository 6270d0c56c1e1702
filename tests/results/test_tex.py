"""LaTeX that booktabs alone can set: as many cells in every line, braces in pairs, nothing that needs another package."""

import re

import pandas as pd
import pytest
from made_up import cf_rows, rta_rows

from rtalib import papers, tables
from rtalib.results import tex
from rtalib.results.style import latex

TABLES = {
    "one column": lambda: tables.compare(rta_rows(), papers.RTA["table1"]),
    "several columns": lambda: tables.compare(cf_rows(), papers.CF_DARTS["table2"]),
    "a figure": lambda: tables.compare(cf_rows(), papers.CF_DARTS["figure4"]),
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


def test_numbers_are_those_of_the_table():
    table = tables.compare(rta_rows(), papers.RTA["table1"])
    row = table.loc[("10,000 Ori + 4 × 10,000 Ori with RTA(Ours)", "score")]
    line = next(line for line in latex(table).splitlines() if "RTA(Ours)" in line)
    wanted = [f"{row.published:.1f}", rf"{row.measured:.1f} $\pm$ {row.interval:.1f}", "3", f"${row.difference:+.1f}$"]
    assert line.removesuffix(r" \\").split(" & ")[1:] == wanted


def test_escape_covers_what_latex_takes_for_commands():
    assert tex.escape(r"a_b & 50 % \x {#} ~^ 10³ × ± Δ") == (
        r"a\_b \& 50 \% \textbackslash{}x \{\#\} \textasciitilde{}\textasciicircum{} 10$^{3}$ $\times$ $\pm$ $\Delta$"
    )
    assert tex.number(-0.25, 2) == "$-0.25$" and tex.number(float("nan")) == "" and tex.number(7) == "7"


def test_span_of_seeds():
    assert [tex.span(pd.Series(counts)) for counts in ([3, 3], [2, 3, 0], [0, 0], [])] == ["3", "2-3", "0", "0"]
