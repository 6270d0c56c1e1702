"""What every notebook does around its experiment: find its folder, save and show figures and tables, state where numbers come from."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from rtalib import scales
from rtalib.infra import provenance, store
from rtalib.report import record
from rtalib.results import errata, papers, style, tables
from rtalib.results.claims import CLAIMS
from rtalib.results.figures.style import Drawing, save


class Notebook:
    """A notebook's page at one scale on one data set.

    scale: its numbers (scales.Scale). folder: of the run, below the outputs folder. Raises ValueError for an unknown scale.
    """

    def __init__(self, scale: str, dataset: str) -> None:
        self.scale = scales.get(scale)
        self.run = scales.run_name(scale, dataset)
        self.folder: Path = store.outputs() / self.run

    def rows(self, table: str) -> list[dict]:
        """The finished rows of a table of this run."""
        return store.rows(self.run, table)

    def recorded(self, table: str) -> list[dict]:
        """The committed rows of a table, of the largest real run that has it: to be shown before anything was run here.

        LookupError if no run has the table, as outside a clone of the repository.
        """
        return record.rows(table)

    def show_recorded(self, id: str, columns: Sequence[str] | None = None) -> Styler:
        """Measured beside published as in `compare`, of the committed rows; the caption says so. Nothing is saved.

        Of a table that no paper has, these columns of its rows.
        """
        if id not in papers.PUBLISHED:
            table = tables.frame(rows := record.rows(id))[list(columns)]
            return table.style.hide().format(precision=1).set_caption(f"{record.NOTE} {tables.conditions(rows)}")
        table = tables.compare(record.rows(id), papers.PUBLISHED[id], columns=columns)
        table.attrs["caption"] = f"{record.NOTE} {table.attrs['caption']}"
        return style.style(table)

    def figure(self, drawing: Drawing, name: str) -> Drawing:
        """Save a figure as figures/<name> and return it, so that a cell that ends with this call shows it.

        It becomes a PNG, and what $RTALIB_FIGURES asks for, such as png,svg,pdf: the three take four times as long as the PNG.
        """
        save(drawing, self.folder / "figures", name, kinds=os.environ.get("RTALIB_FIGURES", "png").split(","))
        return drawing

    def save(self, table: pd.DataFrame, name: str) -> pd.DataFrame:
        """Save a table as tables/<name>.csv and .tex and return it."""
        style.save(table, self.folder / "tables", name)
        return table

    def table(self, table: pd.DataFrame, name: str) -> Styler:
        """Save a table of `tables` (compare, verdicts, wins) and return it styled."""
        return style.style(self.save(table, name))

    def compare(self, rows: Sequence[dict], id: str, columns: Sequence[str] | None = None) -> Styler:
        """Measured beside published, saved as tables/<id>. id: of papers.PUBLISHED, such as 'cf-table2'."""
        return self.table(tables.compare(rows, papers.PUBLISHED[id], columns=columns), id)

    def verdicts(self, rows: Sequence[dict], id: str) -> Styler:
        """The paper's claims about a table, tested on these rows over seeds; saved as tables/<id>-verdicts."""
        return self.table(tables.verdicts(rows, CLAIMS[id]), f"{id}-verdicts")

    def errata(self, *ids: str) -> Styler:
        """Where the paper differs from itself or is silent about these tables; about all of them without ids."""
        return style.style(errata.table(*ids))

    def stamp(self) -> str:
        """Source, versions and hardware in one line."""
        facts = provenance.stamp()
        packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
        source = f"rtalib {facts['rtalib']} at {facts['git'] or 'no git'}{' (changed)' if facts['dirty'] else ''}"
        return f"{source} · {facts['gpu'] or facts['cpu']} · Python {facts['python']}, {packages} · {facts['time']}"
