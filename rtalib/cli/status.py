"""python -m rtalib status: what of a run is done, running, failed and missing, per notebook and per table."""

from collections.abc import Sequence

from rtalib.infra import grid, nb, store
from rtalib.infra.grid.progress import clock
from rtalib.results import papers

COUNTS = ("done", "running", "failed", "missing")


def text(run: str, notebooks: Sequence[str] = ()) -> str:
    """Two plain tables. notebooks: their stems; default those that were begun. A table is listed once it has begun."""
    folder = store.outputs() / run / "notebooks"
    lines = [f"run {run}", "", f"{'notebook':<28} {'status':<8} {'time':>8}"]
    for stem in notebooks or sorted(path.stem for path in folder.glob("[!.]*.json")):
        record = nb.status(folder / f"{stem}.ipynb")
        took = clock(record["seconds"]) if record["status"] in nb.FINISHED else ""
        reason = record["error"].splitlines()[-1] if record["error"] else ""
        lines.append(f"{record['notebook']:<28} {record['status']:<8} {took:>8}  {reason}".rstrip())
    tables = {table: grid.status(run, table) for table in store.tables(run)}
    if not tables:
        return "\n".join([*lines, "", "no table has begun"])
    lines += ["", f"{'table':<28} " + " ".join(f"{name:>8}" for name in COUNTS)]
    lines += [f"{table:<28} " + " ".join(f"{counts[name]:>8}" for name in COUNTS) for table, counts in tables.items()]
    lines += filter(None, (store.further(run, table) for table in tables if table not in papers.STEPS))
    return "\n".join(lines)
