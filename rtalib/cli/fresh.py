"""Which notebooks a second `reproduce` skips. It asks as make does: is all that they depend on as it was, and is there what they wrote?"""

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any

from rtalib import scales
from rtalib.data import folders
from rtalib.infra import nb, provenance, store

PACKAGE = Path(__file__).parents[1]
RECORD = PACKAGE.parent / "outputs" / "record"  # what notebooks show of earlier runs


def inputs(notebook: Path, parameters: dict[str, Any]) -> str:
    """A digest of all that a notebook shows depends on: its text, parameters, this library, packages, settings, data and the record.

    Files outside the library count by name, size and time of change. Notebooks that ran before it are left to `is_fresh`.
    """
    settings = sorted((name, value) for name, value in os.environ.items() if name.startswith("RTALIB_") and name != "RTALIB_OUTPUTS")
    texts = (text for value in parameters.values() if isinstance(value, str) for text in value.split(","))
    given = (text.partition(":")[0] for text in texts)  # of FILE.py:FUNCTION the file
    state = [parameters, settings, scales.get(parameters["scale"]), _library(), _files(*given)]
    return store.key(notebook.read_text(encoding="utf-8"), 1, state)


@cache
def _library() -> list[str]:
    sources = (path for path in sorted(PACKAGE.rglob("*")) if path.is_file() and path.suffix != ".pyc")
    versions = [f"{name} {provenance.version(name)}" for name in provenance.PACKAGES]
    return versions + [f"{path.relative_to(PACKAGE)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in sources]


@cache
def _files(*names: str) -> list[str]:
    """The files at these names, those of the record, and all data if none of the names is the built-in set's."""
    root = folders.root_folder()
    places = {path for name in names if name for path in folders.places(name, root) if os.path.exists(path)}
    places |= {RECORD} if "shapes10" in names else {RECORD, root}
    files = {path for place in places for path in (place, *place.rglob("*")) if path.is_file()}
    return sorted(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)


def is_fresh(notebook: Path, output: Path, given: str, earlier: list[Path]) -> bool:
    """Whether the last run was ok, had these inputs, began after the `earlier` notebooks of the run were last over, and its files exist."""
    record = nb.status(output)
    if record["status"] != "ok" or record.get("inputs") != given or not output.exists():
        return False
    over = [nb.status(other).get("written", "") for other in earlier]
    return max(over, default="") <= record["started"] and all(any(output.parents[1].glob(name)) for name in nb.writes(notebook))


def is_newest(report: Path) -> bool:
    """Whether the report of a run is there, and younger than all its rows and plans, and than the start of every notebook.

    A notebook that writes the report, as 90 does, began before it.
    """
    if not report.exists():
        return False
    written = report.stat().st_mtime
    made = [path for folder in ("rows", "plans") for path in (report.parent / folder).rglob("*") if path.is_file()]
    begun = [nb.status(path).get("started", "") for path in report.parent.glob("notebooks/*.ipynb")]
    return all(path.stat().st_mtime <= written for path in made) and max(begun, default="") < nb.moment(written)
