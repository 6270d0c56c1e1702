"""A cell architecture as a small value: validated, comparable, printable, independent of any model."""

import json
import operator
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from rtalib.darts.operations import CELL_OPERATIONS, OPERATIONS
from rtalib.darts.weights.texts import FIELDS, fields_of, quoted
from rtalib.errors import check_name, check_number, unknown
from rtalib.infra.data_files import read_toml

Edge = tuple[str, int]


def _check_cell(cell: str, edges: tuple[Edge, ...], concat: tuple[int, ...]) -> None:
    if not edges or len(edges) % 2:
        raise ValueError(f"{cell}: expected two inputs for each node, got {len(edges)} inputs in all")
    nodes = 2 + len(edges) // 2
    for position, (name, source) in enumerate(edges):
        node = 2 + position // 2
        check_name("operation", name, CELL_OPERATIONS)
        if not 0 <= source < node:
            raise ValueError(f"{cell}: node {node} takes {name} of node {source}; expected a source in 0..{node - 1}")
    if not concat or len(set(concat)) < len(concat) or not all(0 <= node < nodes for node in concat):
        raise ValueError(f"{cell}_concat: expected distinct nodes in 0..{nodes - 1}, got {concat}")


@dataclass(frozen=True)
class Genotype:
    """The normal and the reduction cell. Nodes 0 and 1 are the outputs of the two cells before; entries 2k and 2k+1 of `normal`
    are the (operation, source) pairs that node k+2 adds up; the cell's output concatenates the nodes `normal_concat`.

    A node may take one source twice, as in NASNet's cells; no search of this library finds such a cell. Raises ValueError for an unknown
    operation, a source that is not an earlier node, an odd number of inputs, or fields of another form.
    """

    normal: tuple[Edge, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Edge, ...]
    reduce_concat: tuple[int, ...]

    def __post_init__(self):
        for cell in ("normal", "reduce"):
            edges, concat = _edges_of(cell, getattr(self, cell)), _nodes_of(f"{cell}_concat", getattr(self, f"{cell}_concat"))
            _check_cell(cell, edges, concat)
            object.__setattr__(self, cell, edges)
            object.__setattr__(self, f"{cell}_concat", concat)

    def __str__(self) -> str:
        """One line that `parse` reads back: 'normal: sep_conv_3x3(0) sep_conv_3x3(1), ... -> 2 3 4 5; reduce: ...'."""
        return "; ".join(_format(cell, getattr(self, cell), getattr(self, f"{cell}_concat")) for cell in ("normal", "reduce"))

    @classmethod
    def parse(cls, text: str) -> "Genotype":
        """The inverse of str(); also reads JSON (see to_json) and a search's log: the last 'Genotype(normal=[("sep_conv_3x3", 1), ...],
        normal_concat=range(2, 6), ...)' in the text. Nothing is evaluated. ValueError for another form."""
        if not isinstance(text, str):
            raise TypeError(f"genotype: expected text, got {type(text).__name__}")
        return cls(**fields_of(text))

    @classmethod
    def of(cls, source: "Genotype | str | Path") -> "Genotype":
        """A genotype as it is; by its name in GENOTYPES; of its text in any form that `parse` reads; of a file that holds such a text."""
        if isinstance(source, Genotype):
            return source
        if isinstance(source, str) and source in GENOTYPES:
            return GENOTYPES[source]
        if isinstance(source, Path) or (isinstance(source, str) and re.fullmatch(r"[^\s(){};]+", source) and Path(source).is_file()):
            if not Path(source).is_file():
                raise FileNotFoundError(f"genotype: there is no file {source}")
            try:
                return cls.parse(Path(source).read_text(encoding="utf-8-sig"))
            except UnicodeDecodeError as error:
                raise ValueError(f"genotype: {source} is no text ({error})") from error
        if isinstance(source, str) and re.fullmatch(r"[\w.\-/]+", source):
            raise unknown("genotype", source, GENOTYPES)
        return cls.parse(source)

    def to_json(self) -> str:
        """A JSON object with the four fields; edges are [operation, source] pairs."""
        return json.dumps({field: getattr(self, field) for field in FIELDS})

    def skips(self, cell: str = "normal") -> int:
        """How many inputs of a cell ('normal' or 'reduce') are skip connections: many of them announce a collapsed search."""
        return sum(name == "skip_connect" for name, _ in getattr(self, cell))


def _edges_of(cell: str, edges: object) -> tuple[Edge, ...]:
    try:
        return tuple((str(name), operator.index(source)) for name, source in edges)
    except (TypeError, ValueError):
        raise ValueError(f"genotype: {cell}: expected pairs (operation, source), got {quoted(str(edges))}") from None


def _nodes_of(name: str, nodes: object) -> tuple[int, ...]:
    try:
        return tuple(operator.index(node) for node in nodes)
    except TypeError:
        raise ValueError(f"genotype: {name}: expected node numbers, got {quoted(str(nodes))}") from None


def _format(cell: str, edges: tuple[Edge, ...], concat: tuple[int, ...]) -> str:
    words = [f"{name}({source})" for name, source in edges]
    nodes = ", ".join(f"{a} {b}" for a, b in zip(words[::2], words[1::2], strict=True))
    return f"{cell}: {nodes} -> {' '.join(map(str, concat))}"


GENOTYPES = {name: Genotype.parse(text) for name, text in read_toml(__package__, "genotypes.toml").items()}  # published cells


def random_genotype(seed: int, operations: tuple[str, ...] = OPERATIONS[1:]) -> Genotype:
    """A cell pair drawn uniformly: per node two different sources and an operation for each. The same seed, the same cells."""
    check_number("seed", seed, integer=True)
    generator = torch.Generator().manual_seed(int(seed))

    def cell() -> tuple[Edge, ...]:
        edges = []
        for node in range(2, 6):
            sources = torch.randperm(node, generator=generator)[:2].sort().values.tolist()
            choices = torch.randint(len(operations), (2,), generator=generator).tolist()
            edges += [(operations[choice], source) for choice, source in zip(choices, sources, strict=True)]
        return tuple(edges)

    return Genotype(cell(), (2, 3, 4, 5), cell(), (2, 3, 4, 5))
