"""A cell architecture as a small value: validated, comparable, printable, independent of any model."""

import json
import re
from dataclasses import dataclass

import torch

from rtalib.darts.operations import KNOWN, OPERATIONS
from rtalib.data.bounds import parse_json
from rtalib.errors import unknown
from rtalib.infra.data_files import read_toml

Edge = tuple[str, int]
LONGEST = 2**14  # letters of a genotype's text; the published ones have 200
FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")


def _check_cell(cell: str, edges: tuple[Edge, ...], concat: tuple[int, ...]) -> None:
    if not edges or len(edges) % 2:
        raise ValueError(f"{cell}: expected two inputs for each node, got {len(edges)} inputs in all")
    nodes = 2 + len(edges) // 2
    for position, (name, source) in enumerate(edges):
        node = 2 + position // 2
        if name not in KNOWN[1:]:
            raise unknown("operation", name, KNOWN[1:])
        if not 0 <= source < node:
            raise ValueError(f"{cell}: node {node} takes {name} of node {source}; expected a source in 0..{node - 1}")
        if position % 2 and edges[position - 1][1] == source:
            raise ValueError(f"{cell}: node {node} takes node {source} twice; expected two different sources")
    if not concat or len(set(concat)) < len(concat) or not all(0 <= node < nodes for node in concat):
        raise ValueError(f"{cell}_concat: expected distinct nodes in 0..{nodes - 1}, got {concat}")


@dataclass(frozen=True)
class Genotype:
    """The normal and the reduction cell. Nodes 0 and 1 are the outputs of the two cells before; entries 2k and 2k+1 of `normal`
    are the (operation, source) pairs that node k+2 adds up; the cell's output concatenates the nodes `normal_concat`.

    Raises ValueError for an unknown operation, a source that is not an earlier node, two inputs from one source, or an odd number
    of inputs.
    """

    normal: tuple[Edge, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Edge, ...]
    reduce_concat: tuple[int, ...]

    def __post_init__(self):
        for cell in ("normal", "reduce"):
            edges = tuple((str(name), int(source)) for name, source in getattr(self, cell))
            concat = tuple(int(node) for node in getattr(self, f"{cell}_concat"))
            _check_cell(cell, edges, concat)
            object.__setattr__(self, cell, edges)
            object.__setattr__(self, f"{cell}_concat", concat)

    def __str__(self) -> str:
        """One line that `parse` reads back: 'normal: sep_conv_3x3(0) sep_conv_3x3(1), ... -> 2 3 4 5; reduce: ...'."""
        return "; ".join(_format(cell, getattr(self, cell), getattr(self, f"{cell}_concat")) for cell in ("normal", "reduce"))

    @classmethod
    def parse(cls, text: str) -> "Genotype":
        """The inverse of str(). ValueError if the text has another form."""
        match = re.fullmatch(r"\s*normal:(.*)->([\d\s]+);\s*reduce:(.*)->([\d\s]+)", text) if len(text) < LONGEST else None
        if match is None:
            raise ValueError(f"genotype: expected 'normal: op(source) op(source), ... -> 2 3 4 5; reduce: ...', got {text[:200]!r}")
        normal, normal_concat, reduce, reduce_concat = match.groups()
        return cls(_edges(normal), _nodes(normal_concat), _edges(reduce), _nodes(reduce_concat))

    def to_json(self) -> str:
        """A JSON object with the four fields; edges are [operation, source] pairs."""
        return json.dumps({field: getattr(self, field) for field in FIELDS})

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """The inverse of to_json(). ValueError if the text is no JSON object with exactly the four fields."""
        fields = parse_json(text, "genotype")
        if not isinstance(fields, dict) or set(fields) != set(FIELDS):
            raise ValueError(f"genotype: expected a JSON object with the fields {', '.join(FIELDS)}, got {text[:200]!r}")
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"genotype: expected [operation, source] pairs and lists of nodes, got {text[:200]!r}") from error

    def skips(self, cell: str = "normal") -> int:
        """How many inputs of a cell ('normal' or 'reduce') are skip connections: many of them announce a collapsed search."""
        return sum(name == "skip_connect" for name, _ in getattr(self, cell))


def _format(cell: str, edges: tuple[Edge, ...], concat: tuple[int, ...]) -> str:
    words = [f"{name}({source})" for name, source in edges]
    nodes = ", ".join(f"{a} {b}" for a, b in zip(words[::2], words[1::2], strict=True))
    return f"{cell}: {nodes} -> {' '.join(map(str, concat))}"


def _edges(text: str) -> tuple[Edge, ...]:
    words = text.replace(",", " ").split()
    matches = [re.fullmatch(r"(\w+)\((\d+)\)", word) for word in words]
    if not all(matches):
        raise ValueError(f"genotype: expected inputs of the form op(source), got {text.strip()!r}")
    return tuple((match[1], int(match[2])) for match in matches)


def _nodes(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split())


GENOTYPES = {name: Genotype.parse(text) for name, text in read_toml(__package__, "genotypes.toml").items()}  # published cells


def random_genotype(seed: int, operations: tuple[str, ...] = OPERATIONS[1:]) -> Genotype:
    """A cell pair drawn uniformly: per node two different sources and an operation for each. The same seed, the same cells."""
    generator = torch.Generator().manual_seed(seed)

    def cell() -> tuple[Edge, ...]:
        edges = []
        for node in range(2, 6):
            sources = torch.randperm(node, generator=generator)[:2].sort().values.tolist()
            choices = torch.randint(len(operations), (2,), generator=generator).tolist()
            edges += [(operations[choice], source) for choice, source in zip(choices, sources, strict=True)]
        return tuple(edges)

    return Genotype(cell(), (2, 3, 4, 5), cell(), (2, 3, 4, 5))
