"""What a run has finished, what is under way and what is missing: per notebook and per table."""

import json
from pathlib import Path

from rtalib.infra import grid, nb, store

COUNTS = ("done", "running", "failed", "missing")


def collect(run: str, notebooks: list[Path]) -> dict:
    """{'run', 'notebooks': [record of each], 'tables': {table: counts of its cells}}. A table is listed once it was begun."""
    folder = store.outputs() / run
    records = [nb.status(folder / "notebooks" / f"{path.stem}.ipynb") for path in notebooks]
    return {"run": run, "notebooks": records, "tables": {table: grid.status(run, table) for table in store.tables(run)}}


def current(run: str) -> dict:
    """`collect` for the notebooks that the last `reproduce` of the run was asked for; none where there was no such call."""
    path = store.outputs() / run / "status.json"
    records = json.loads(path.read_text())["notebooks"] if path.exists() else []
    return collect(run, [Path(record["notebook"]) for record in records])


def save(facts: dict) -> None:
    """Write outputs()/<run>/status.json."""
    store.write_atomic(store.outputs() / facts["run"] / "status.json", json.dumps(facts, indent=1))


def text(facts: dict) -> str:
    """The same as two plain tables."""
    lines = [f"run {facts['run']}", "", f"{'notebook':<28} {'status':<8} {'time':>8}"]
    for record in facts["notebooks"]:
        took = clock(record["seconds"]) if record["status"] in nb.FINISHED else ""
        reason = record["error"].splitlines()[-1] if record["error"] else ""
        lines.append(f"{record['notebook']:<28} {record['status']:<8} {took:>8}  {reason}".rstrip())
    lines += ["", f"{'table':<28} " + " ".join(f"{name:>8}" for name in COUNTS)]
    for table, counts in facts["tables"].items():
        lines.append(f"{table:<28} " + " ".join(f"{counts[name]:>8}" for name in COUNTS))
    return "\n".join(lines if facts["tables"] else [*lines[:-1], "no table was begun"])


def clock(seconds: float) -> str:
    """1:05 or 2:01:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
