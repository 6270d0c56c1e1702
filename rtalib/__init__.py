"""Robust image classifiers: robust data (RTA + iterative search) and robust architectures (CF-DARTS)."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__version__ = "0.1.0"


def lazily(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that offers its modules, and names of them, each loaded on first use.

    modules: {module, relative to the package: names that the package offers, separated by spaces}. A name may be that of a module in a
    package, and ours=theirs if it is another one there.
    """
    pairs = [(module, *text.partition("=")) for module, names in modules.items() for text in names.split()]
    places = {name: (module, inner or name) for module, name, _, inner in pairs}

    def load(name: str) -> Any:
        if name in places:
            owner, inner = importlib.import_module(f".{places[name][0]}", package), places[name][1]
            return getattr(owner, inner) if hasattr(owner, inner) else importlib.import_module(f".{inner}", owner.__name__)
        if name in modules:
            return importlib.import_module(f".{name}", package)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, lambda: sorted({*places, *modules})


MODULES = {
    **dict.fromkeys(("attacks", "augment", "coreset", "darts", "models", "report", "scales", "sources", "training", "widgets"), ""),
    "corruptions": "CORRUPTIONS corrupt generate=on_disk",
    "data": "export load_dataset shapes10",
    "experiments": "rta iterative_search=rta.iterative_search",
    "infra": "grid nb provenance store",
    "results": "claims figures papers tables",
    "yours": "repair your_images",
}
__getattr__, __dir__ = lazily(__name__, MODULES)
