"""The report as Markdown: the same facts, figures as links; readable in a terminal and on GitHub."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from rtalib.report.html import MARKS, WORDS
from rtalib.results import papers
from rtalib.results.style import p_value

if TYPE_CHECKING:
    from rtalib.report.collect import Report, Section


def text(report: "Report") -> str:
    """The whole of REPORT.md."""
    return "\n".join([*_head(report), *_claims(report), *_papers(report), *_faults(report), *_run(report)]) + "\n"


def table(header: Sequence[str], lines: Iterable[Sequence[object]], right: Sequence[int] = ()) -> list[str]:
    """A Markdown table between empty lines; `right`: the columns set to the right."""
    rule = ["---:" if column in right else "---" for column in range(len(header))]
    rows = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in (header, rule, *lines)]
    return ["", *("| " + " | ".join(row) + " |" for row in rows), ""]


def _signed(value: float, digits: int = 1) -> str:
    return "" if math.isnan(value) else f"{value:+z.{digits}f}"


def _verdict(name: str) -> str:
    return f"{MARKS[name]} {WORDS.get(name, name)}"


def _head(report: "Report") -> Iterator[str]:
    yield f"# {report.title}"
    yield ""
    yield "Every published number of RTA + iterative search and of CF-DARTS, beside what this run measured. As one page with the"
    yield "figures: report.html, which `python -m rtalib report` writes."
    yield ""
    names = {"scale": "scale", "dataset": "data set", "protocol": "protocol", "seed": "seeds"}
    facts = [f"{text} **{report.facts[name]}**" for name, text in names.items() if name in report.facts]
    yield ", ".join(facts) + "." if facts else "No measured rows."
    if facts and report.facts.get("scale") != "paper":
        yield "This is not the papers' setting: levels do not compare with the published ones, only orders and differences do."


def _claims(report: "Report") -> Iterator[str]:
    yield from ("", "## Claims and verdicts", "")
    yield "Two-sided paired t-tests on matched seeds; reproduced: the claimed sign with p < .05 over two seeds or more; not"
    yield "reproduced: the other sign, as surely; undecided: neither. Differences in points, [95 % interval], n seeds."
    yield from ("", ", ".join(f"{count} {_verdict(name)}" for name, count in report.tally.items()) + ".")
    yield "The keys of the rows behind each claim stand in [claims.csv](claims.csv)."
    header = ("claim", "", "published", "measured", "p", "n", "verdict")
    for (name, group), claims in report.claims.groupby(["table", "group"], sort=False):
        if (claims["verdict"] != "missing").any():
            yield from ("", f"**{report.named(name)}** {group}".rstrip())
            yield from table(header, [_claim(claim) for claim in claims.itertuples()], right=(2, 3, 4, 5))
        else:
            yield from ("", f"**{report.named(name)}**: none of its {len(claims)} claims was measured.")


def _claim(claim: object) -> list[str]:
    span = "" if math.isnan(claim.low) else f" [{claim.low:+.1f}, {claim.high:+.1f}]"
    numbers = [_signed(claim.published), _signed(claim.difference) + span, p_value(claim.p), str(claim.seeds or "")]
    return [claim.claim, claim.text, *numbers, _verdict(claim.verdict)]


def _papers(report: "Report") -> Iterator[str]:
    for paper, name in [*papers.NAMES.items(), (None, "Beyond the papers")]:
        sections = report.of(paper)
        if sections:
            yield from ("", f"## {name}")
        for section in sections:
            yield from _section(section)


def _section(section: "Section") -> Iterator[str]:
    yield from ("", f"### {section.heading}", "")
    if not section.blocks:
        yield "Not measured in this run."
    for block in section.blocks:
        yield f"{block.name or 'scale not stated'}: seeds {block.seeds}, {len(block.rows)} cells, {block.seconds:,.1f} s."
        if block.error:
            yield f"Not shown: {block.error}"
        if block.comparison is not None:
            yield from _comparison(block.comparison if block.parts is None else block.parts)
        if section.published is None:
            yield from ("", f"Rows: [rows/{section.id}](rows/{section.id})", "")
    for figure in section.figures:
        yield f"- [{figure.title}]({figure.path})"
    if section.published:
        yield from ("", *(f"> {note}  " for note in section.published.notes))


def _comparison(shown: pd.DataFrame) -> Iterator[str]:
    """Published, measured ± half width of the 95 % interval, difference; a line each per method, or a line per method if one column."""
    columns = list(dict.fromkeys(shown.index.get_level_values("column")))
    digits = 1 if shown.attrs["unit"] == "percent" else 2
    if len(columns) == 1:
        lines = [[method, *_cells(row, digits), int(row["seeds"])] for method, row in shown.droplevel("column").iterrows()]
        header = ["method", *(f"{papers.label(columns[0])}, {part}" for part in ("published", "measured", "difference")), "n"]
        yield from table(header, lines, right=range(1, 5))
        return
    lines = []
    for method, rows in shown.groupby(level="method", sort=False):
        rows = rows.droplevel("method").loc[columns]
        cells = list(zip(*(_cells(row, digits) for _, row in rows.iterrows()), strict=True))
        for part, found in zip(("published", "measured", "difference"), cells, strict=True):
            if any(found):
                lines.append([method, part, *found, int(rows["seeds"].max()) if part == "measured" else ""])
    yield from table(["method", "", *map(papers.label, columns), "n"], lines, right=range(2, len(columns) + 3))


def _cells(row: pd.Series, digits: int) -> tuple[str, str, str]:
    """Published, measured ± interval, difference."""
    published, measured = ("" if math.isnan(row[name]) else f"{row[name]:.{digits}f}" for name in ("published", "measured"))
    half = "" if math.isnan(row["interval"]) else f" ± {row['interval']:.{digits}f}"
    return published, measured + half, _signed(row["difference"], digits)


def _faults(report: "Report") -> Iterator[str]:
    yield from ("", "## Faults of the papers", "")
    yield "Where the papers are silent, contradict themselves or claim more than they show, and what is done about it here."
    for paper, name in papers.NAMES.items():
        lines = [(fault.place, fault.fault, fault.resolution) for fault in report.faults if fault.paper == paper]
        yield from ("", f"### {name}: faults")
        yield from table(("where", "what", "here"), lines)
    lines = [
        (f"{published.id}, {conflict.method}, {papers.label(conflict.column)}", conflict.printed, conflict.other or "", conflict.note)
        for published, conflict in report.conflicts
    ]
    yield from ("", "### Numbers printed in two ways, or that cannot mean what their column says")
    yield from table(("cell", "printed", "elsewhere", "note"), lines, right=(1, 2))


def _run(report: "Report") -> Iterator[str]:
    links = {
        "Figures": [f"[{figure.title}]({figure.path})" for figure in report.figures],
        "Saved tables": [f"[{saved.name}]({saved.path}), {len(saved.table)} lines" for saved in report.saved],
        "Notebooks": [f"[{path}]({path})" for path in report.notebooks],
    }
    for heading, found in links.items():
        if found:
            yield from ("", f"## {heading}", "", *(f"- {link}" for link in found))
    yield from ("", "## Cost")
    costs = [[c["table"], c["method"], c["cells"], *(f"{c[name]:,.1f}" for name in ("mean", "most", "total"))] for c in report.costs]
    yield from table(("table", "method", "cells", "seconds per cell", "longest", "total"), costs, right=(2, 3, 4, 5))
    yield "## Provenance"
    for stamp in report.stamps:
        yield from ("", f"{stamp['rows']} rows, {stamp['first']} to {stamp['last']}:")
        yield from table(("fact", "value"), stamp["facts"].items())
