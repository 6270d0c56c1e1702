"""Where runs write, of which layout that is, and the keys of what is there."""

import dataclasses
import functools
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LAYOUT = 1  # of folders, cards and rows; a store of a larger number is refused


class StoreError(RuntimeError):
    """A store, or an archive of one, that cannot be used."""


def outputs() -> Path:
    """The folder for everything that runs produce: $RTALIB_OUTPUTS, else outputs/ in the clone around the working folder, else here."""
    if chosen := os.environ.get("RTALIB_OUTPUTS"):
        return Path(chosen).absolute()
    here = Path.cwd()
    clones = (folder for folder in (here, *here.parents) if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").exists())
    return next(clones, here) / "outputs"


def root() -> Path:
    """outputs(), after a look at the version of what lies there: StoreError where a newer rtalib has written it."""
    folder = outputs()
    _check_layout(folder / "store" / "VERSION")
    return folder


@functools.lru_cache(maxsize=64)
def _check_layout(path: Path) -> None:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return
    if not text.strip().isdecimal():
        raise StoreError(f"{path}: expected the number of the store's layout, got {text[:20]!r}")
    if int(text) > LAYOUT:
        advice = "update rtalib, or set RTALIB_OUTPUTS to another folder"
        raise StoreError(f"{path.parent} was written by a newer rtalib (layout {int(text)}, this one knows {LAYOUT}): {advice}")


def plain(value: Any, where: str = "parameters") -> Any:
    """`value` as JSON types: dataclasses become dicts, tuples lists. Other types raise; floats must be finite."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: {value} cannot be part of a key; expected a finite number")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{where}: {type(value).__name__} cannot be part of a key; expected JSON types, tuples or dataclasses")


def key(recipe: str, version: int, parameters: Any) -> str:
    """16 hex digits. Equal for any order of names and for tuple or list; 1 and 1.0 differ, and so do versions."""
    text = json.dumps([recipe, version, plain(parameters)], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
