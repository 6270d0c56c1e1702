"""What a plan means for the notebooks: minutes of each, on one device, from the tables that it computes."""

import re
from collections.abc import Iterable
from pathlib import Path

from rtalib.infra import nb

# rta.run_table("table1", repair.run_table("figure4", together.run_table("coverage", chance.run(, overlap.run(
CALL = re.compile(r'\b(rta|repair|together)\.run_table\(\s*"([\w-]+)"|\b(chance|overlap)\.run\(')
PREFIX = {"rta": "rta-", "repair": "cf-", "together": ""}
ALONE = {"chance": "search-or-chance", "overlap": "rta-overlap"}


def tables_of(notebook: Path) -> list[str]:
    """The tables, by their names in the store, that a notebook computes."""
    text = "\n".join(nb.source_of(cell) for cell in nb.cells_of(notebook) if cell["cell_type"] == "code")
    found = (ALONE[alone] if alone else PREFIX[module] + table for module, table, alone in CALL.findall(text))
    return list(dict.fromkeys(found))


def of_notebooks(notebooks: Iterable[Path], tables: Iterable[tuple[str, float]]) -> dict[str, float]:
    """{number: minutes} of the notebooks that compute one of the tables, each for the first notebook that does.

    tables: (name, seconds) in the order of a plan, in which the parts of a table come before it.
    """
    owners: dict[str, str] = {}
    for notebook in notebooks:
        for table in tables_of(notebook):
            owners.setdefault(table, notebook.stem[:2])
    found, waiting = dict.fromkeys(owners.values(), 0.0), 0.0
    for name, seconds in tables:
        waiting += seconds / 60
        if name in owners:
            found[owners[name]] += waiting
            waiting = 0.0
    return {number: minutes for number, minutes in found.items() if minutes}
