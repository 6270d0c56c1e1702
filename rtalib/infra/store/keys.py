"""Where runs write, the version of that layout, and the keys and digests that name what is there."""

import dataclasses
import functools
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtalib.errors import check_kind, check_number

if TYPE_CHECKING:
    import torch

LAYOUT = 1  # version of folders, cards and rows; a store with a larger number is refused


class StoreError(RuntimeError):
    """A store that cannot be used."""


def outputs() -> Path:
    """The folder for everything that runs produce: $RTALIB_OUTPUTS, else outputs/ in the clone around the working folder, else here."""
    if chosen := os.environ.get("RTALIB_OUTPUTS"):
        return Path(chosen).absolute()
    here = Path.cwd()
    clones = (folder for folder in (here, *here.parents) if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").exists())
    return next(clones, here) / "outputs"


def root() -> Path:
    """outputs(); StoreError if a newer rtalib has written what is there."""
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
    check_kind("recipe", recipe, str, "the name of a recipe")
    check_number("version", version, 0, integer=True)
    text = json.dumps([recipe, version, plain(parameters)], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_digest(*parts: "str | torch.Tensor") -> str:
    """16 hex digits of the SHA-256 over texts and the values of tensors, row by row: device and memory format do not count."""
    import torch

    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            state.update(part.encode())
        else:
            for rows in torch.atleast_1d(part.detach()).split(4096):
                state.update(rows.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return state.hexdigest()[:16]
