"""The scales smoke | demo | cpu | night | small | paper: every number that depends on size is in scales.toml, and here is its loader.

What each number means is said in `scale_settings`, which is offered here too. Scales of your own come from the file $RTALIB_SCALES.
"""

import os
import tomllib
from collections.abc import Mapping
from typing import Any

from rtalib.data.folders import run_label
from rtalib.errors import check_kind, check_name, unknown
from rtalib.infra.data_files import build, read_toml
from rtalib.scale_settings import OTHER_SHAPES, CorruptionScale, RepairScale, RtaScale, Scale, TogetherScale
from rtalib.sources.cards import SOURCES

__all__ = ["OTHER_SHAPES", "SCALES", "CorruptionScale", "RepairScale", "RtaScale", "Scale", "TogetherScale", "get", "run_name"]

FILE = "scales.toml"
PARTS = {"rta": RtaScale, "repair": RepairScale, "corruptions": CorruptionScale, "together": TogetherScale}
DEFAULTS = {"rta": {"sources": tuple(SOURCES)}}  # of a scale without a base


def load(tables: Mapping[str, dict]) -> dict[str, Scale]:
    """The scales of the tables of scales.toml. ValueError that names file, scale and key if a key is unknown or missing."""
    whole: dict[str, dict] = {}
    for name, table in tables.items():
        whole[name] = _complete(whole, name, **table)
    return {name: _scale(name, table) for name, table in whole.items()}


def _complete(earlier: Mapping[str, dict], name: str, /, base: str | None = None, **own: Any) -> dict:
    """A scale's own table over that of its base, which comes before it in the file."""
    if base is not None and base not in earlier:
        raise ValueError(f"{FILE}, {name}, base: {unknown('earlier scale', base, earlier)}")
    inherited = DEFAULTS if base is None else earlier[base]
    parts = {part: inherited.get(part, {}) | own.get(part, {}) for part in PARTS}
    return inherited | own | parts


def _scale(name: str, table: dict) -> Scale:
    parts = {part: build(kind, table[part], f"{FILE}, {name}.{part}") for part, kind in PARTS.items()}
    return build(Scale, {"name": name} | table | parts, f"{FILE}, {name}")


def _own() -> dict[str, dict]:
    """The tables of $RTALIB_SCALES, a file like scales.toml, whose scales may have one of its scales as their base."""
    path = os.environ.get("RTALIB_SCALES")
    if not path:
        return {}
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"RTALIB_SCALES: {path} cannot be read as TOML ({error})") from error


SCALES = load(read_toml(__package__, FILE) | _own())


def get(name: str) -> Scale:
    """The scale of that name; ValueError that suggests the nearest one otherwise."""
    check_name("scale", name, SCALES)
    return SCALES[name]


def run_name(scale: str, dataset: str) -> str:
    """Name of the run's folder: the scale on the embedded data set, scale-dataset otherwise; see folders.run_label."""
    check_kind("dataset", dataset, str, "a name or a path")
    if not dataset:  # an unset variable of a shell script
        raise ValueError("dataset: expected a name or a path, got nothing")
    return get(scale).name if dataset == "shapes10" else f"{get(scale).name}-{run_label(dataset)}"
