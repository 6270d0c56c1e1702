"""Tables of numbers beside the modules that use them, as TOML and CSV: they are read and edited without any code."""

import csv
import dataclasses
import io
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any, TypeVar

from rtalib.errors import unknown

T = TypeVar("T")


def read_toml(package: str, name: str) -> dict[str, Any]:
    """The tables of the TOML file `name` in the folder of a package."""
    return tomllib.loads(_text(package, name))


def read_csv(package: str, name: str) -> csv.DictReader:
    """The lines of the CSV file `name` in the folder of a package as {column: text}; `fieldnames` are its columns."""
    return csv.DictReader(io.StringIO(_text(package, name)))


def inherited(tables: Mapping[str, dict]) -> dict[str, dict]:
    """{name: its table over that of its `base`, the name of an earlier table, if it has one}."""
    whole: dict[str, dict] = {}
    for name, table in tables.items():
        base = whole[table["base"]] if "base" in table else {}
        whole[name] = base | {key: value for key, value in table.items() if key != "base"}
    return whole


def build(kind: type[T], values: Mapping[str, Any], place: str) -> T:
    """The dataclass `kind` with the values of a TOML table, whose arrays become tuples.

    Raises ValueError that names `place` and the key if a key is unknown or missing.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in values:
        if key not in fields:
            raise ValueError(f"{place}: {unknown('key', key, fields)}")
    for key, field in fields.items():
        if key not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{place}: the key {key!r} is missing")
    return kind(**{key: _tuples(value) for key, value in values.items()})


def _tuples(value: Any) -> Any:
    """A value of a TOML file with its arrays as tuples, also the nested ones."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
