"""Robust image classifiers: robust data (RTA + iterative search) and robust architectures (CF-DARTS)."""

import importlib
from typing import Any

__version__ = "0.1.0"

MODULES = (
    "attacks augment coreset corruptions darts data export figures generate grid iterative_search models nb papers provenance repair "
    "report rta scales shapes10 sources store tables training widgets your_images"
).split()


def __getattr__(name: str) -> Any:
    """Submodules load on first use, so that `import rtalib` stays light; load_dataset and corrupt are offered here, too."""
    if name in MODULES:
        return importlib.import_module(f"rtalib.{name}")
    if name == "load_dataset":
        return importlib.import_module("rtalib.data").load_dataset
    if name == "corrupt":
        return importlib.import_module("rtalib.corruptions").corrupt
    raise AttributeError(f"module 'rtalib' has no attribute {name!r}")
