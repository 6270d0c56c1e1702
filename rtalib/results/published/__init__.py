"""What the two papers say, as data: cells, notes, claims and errata, each read by the module of `rtalib.results` that bears its name."""

import csv
from importlib import resources

from rtalib.infra import data_files

FOLDER = resources.files(__name__)


def read_csv(name: str) -> csv.DictReader:
    """The lines of <name>.csv as {column: text}; `fieldnames` are its columns."""
    return data_files.read_csv(__name__, f"{name}.csv")
