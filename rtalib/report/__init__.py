"""The report of a run: every published number beside the measured one, verdicts, figures, costs, provenance, errata of the papers.

`write` makes it from what is in the run's folder alone: report.html, one file that holds its pictures and opens without a network; every
executed notebook as HTML beside it; REPORT.md, the same facts for a terminal; tables/<table>.tex; and claims.csv, every claim with the keys
of its rows. The same folder gives the same bytes.
"""

import warnings
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from rtalib.infra.store import write_atomic
from rtalib.report import collect, html, markdown, notebooks
from rtalib.report.collect import CLAIMS, MARKS, WORDS, claims
from rtalib.report.notebook import Notebook
from rtalib.results import papers
from rtalib.results.errata import ERRATA
from rtalib.results.papers import TITLES
from rtalib.results.style import latex, p_value, signed

SETTINGS = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
PAGES = Environment(loader=PackageLoader("rtalib.report"), autoescape=select_autoescape(["html.jinja"]), **SETTINGS)
PAGES.globals |= {
    "papers": papers.NAMES,
    "published": papers.PUBLISHED,
    "errata": ERRATA,
    "marks": MARKS,
    "words": WORDS,
    "named": collect.named,
}
PAGES.filters |= {"signed": signed, "p": p_value, "label": papers.label, "row": markdown.row, "comparison": markdown.comparison}
FILTERS = (html.anchor, html.differences, html.duration, html.listing, html.picture, html.place, html.published_alone, html.styled)
PAGES.filters |= {function.__name__: function for function in (*FILTERS, notebooks.page_of)}


def write(run: Path | str, *, title: str = "rtalib") -> Path:
    """Write report.html, REPORT.md, claims.csv and tables/<table>.tex into a run's folder; return the page's path.

    `run` is a run's name below the outputs folder (str), or its folder (Path). FileNotFoundError if the folder does not exist. Damaged
    files are left out; the page names them, and so does a warning.
    """
    report = collect.collect(run, title)
    notebooks.write(report.folder, report.left_out)
    for line in report.left_out:
        warnings.warn(f"left out of the report: {line}", stacklevel=2)
    for section in report.sections:
        for number, block in enumerate(section.blocks, 1):  # a table in several blocks has a file for each
            if block.detailed is not None:
                write_atomic(report.folder / "tables" / f"{section.id}{f'-{number}' if number > 1 else ''}.tex", latex(block.detailed))
    write_atomic(report.folder / "claims.csv", report.claims.to_csv(index=False))
    for name, pages in (("REPORT.md", PAGES.overlay(finalize=markdown.plain)), ("report.html", PAGES)):
        write_atomic(report.folder / name, pages.get_template(f"{name}.jinja").render(report=report))
    return report.folder / "report.html"
