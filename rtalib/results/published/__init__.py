"""What the two papers say, as data: cells, notes, claims and errata, each read by the module of `rtalib.results` that bears its name."""

import csv
import io
from importlib import resources

FOLDER = resources.files(__name__)


def read_csv(name: str) -> csv.DictReader:
    """The lines of <name>.csv as {column: text}; `fieldnames` are its columns."""
    return csv.DictReader(io.StringIO(FOLDER.joinpath(f"{name}.csv").read_text(encoding="utf-8")))
