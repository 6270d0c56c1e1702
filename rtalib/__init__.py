"""Robust image classifiers: robust data (RTA + iterative search) and robust architectures (CF-DARTS)."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__version__ = "0.1.0"

MODULES = {  # public name: where it is
    "attacks": "rtalib.attacks",
    "augment": "rtalib.augment",
    "claims": "rtalib.results.claims",
    "coreset": "rtalib.coreset",
    "corruptions": "rtalib.corruptions",
    "darts": "rtalib.darts",
    "data": "rtalib.data",
    "export": "rtalib.data.export",
    "figures": "rtalib.results.figures",
    "generate": "rtalib.corruptions.on_disk",
    "grid": "rtalib.infra.grid",
    "iterative_search": "rtalib.experiments.rta.iterative_search",
    "models": "rtalib.models",
    "nb": "rtalib.infra.nb",
    "papers": "rtalib.results.papers",
    "provenance": "rtalib.infra.provenance",
    "repair": "rtalib.yours.repair",
    "report": "rtalib.report",
    "rta": "rtalib.experiments.rta",
    "scales": "rtalib.scales",
    "shapes10": "rtalib.data.shapes10",
    "sources": "rtalib.sources",
    "store": "rtalib.infra.store",
    "tables": "rtalib.results.tables",
    "training": "rtalib.training",
    "widgets": "rtalib.widgets",
    "your_images": "rtalib.yours.your_images",
}
FUNCTIONS = {"load_dataset": "rtalib.data.loading", "corrupt": "rtalib.corruptions", "CORRUPTIONS": "rtalib.corruptions"}


def __getattr__(name: str) -> Any:
    """Public names are loaded on first use, so that `import rtalib` stays light."""
    if name in MODULES:
        return importlib.import_module(MODULES[name])
    if name in FUNCTIONS:
        return getattr(importlib.import_module(FUNCTIONS[name]), name)
    raise AttributeError(f"module 'rtalib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *MODULES, *FUNCTIONS])


def lazily(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that offers its modules, and names of them, each loaded on first use.

    modules: {module, relative to the package: names that the package offers, separated by spaces}.
    """
    places = {name: module for module, names in modules.items() for name in names.split()}

    def load(name: str) -> Any:
        if name in places:
            return getattr(importlib.import_module(f".{places[name]}", package), name)
        if name in modules:
            return importlib.import_module(f".{name}", package)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, lambda: sorted({*places, *modules})
