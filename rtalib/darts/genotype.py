"""A cell architecture as a small value: validated, comparable, printable, independent of any model."""

import json
import re
from dataclasses import dataclass

import torch

from rtalib.darts.operations import KNOWN, OPERATIONS, SHORT
from rtalib.errors import unknown

Edge = tuple[str, int]
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
        match = re.fullmatch(r"\s*normal:(.*)->([\d\s]+);\s*reduce:(.*)->([\d\s]+)", text)
        if match is None:
            raise ValueError(f"genotype: expected 'normal: op(source) op(source), ... -> 2 3 4 5; reduce: ...', got {text!r}")
        normal, normal_concat, reduce, reduce_concat = match.groups()
        return cls(_edges(normal), _nodes(normal_concat), _edges(reduce), _nodes(reduce_concat))

    def to_json(self) -> str:
        """A JSON object with the four fields; edges are [operation, source] pairs."""
        return json.dumps({field: getattr(self, field) for field in FIELDS})

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """The inverse of to_json(). ValueError if the text is no JSON object with exactly the four fields."""
        fields = json.loads(text)
        if not isinstance(fields, dict) or set(fields) != set(FIELDS):
            raise ValueError(f"genotype: expected a JSON object with the fields {', '.join(FIELDS)}, got {text[:200]!r}")
        return cls(**fields)

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


def _published(normal: str, reduce: str) -> Genotype:
    def cell(text: str) -> tuple[Edge, ...]:
        return tuple((SHORT[word[:-1]], int(word[-1])) for word in text.split())

    return Genotype(cell(normal), (2, 3, 4, 5), cell(reduce), (2, 3, 4, 5))


# Each word is an operation and its source; two words per node.
GENOTYPES = {
    # Liu et al., ICLR 2019: first order, second order
    "darts_v1": _published("sep31 sep30 skip0 sep31 skip0 sep31 sep30 skip2", "max0 max1 skip2 max0 max0 skip2 skip2 avg0"),
    "darts_v2": _published("sep30 sep31 sep30 sep31 sep31 skip0 skip0 dil32", "max0 max1 skip2 max1 max0 skip2 skip2 max1"),
    # Xu et al., ICLR 2020: searched on CIFAR-10, on ImageNet
    "pc_darts_cifar": _published("sep31 skip0 sep30 dil31 sep50 sep31 avg0 dil31", "sep51 max0 sep51 sep52 sep30 sep33 sep31 sep32"),
    "pc_darts_imagenet": _published("skip1 sep30 sep30 skip1 sep31 sep33 sep31 dil54", "sep30 skip1 dil52 max1 sep32 sep31 sep50 sep33"),
    # Wang et al., ICLR 2021, by seed (github.com/ruocwang/darts-pt): perturbation-based selection, and with the alphas fixed
    "darts_pt_s0": _published("sep30 sep31 sep50 dil31 skip0 skip2 skip0 max4", "sep30 avg1 dil51 dil32 avg0 max2 sep32 skip4"),
    "darts_pt_s1": _published("sep30 sep31 sep30 dil31 max0 skip2 skip0 dil34", "dil50 avg1 max0 sep52 max1 dil33 sep50 sep34"),
    "darts_pt_s2": _published("skip0 sep31 sep30 dil31 skip2 dil33 max1 skip2", "avg0 max1 avg0 sep31 dil52 skip3 sep32 sep54"),
    "darts_pt_s3": _published("sep30 sep31 sep30 sep31 skip0 skip2 sep31 skip3", "avg0 sep51 max1 skip2 dil51 max3 sep52 skip3"),
    "darts_pt_fixed_s0": _published("sep30 sep51 sep30 sep31 avg1 skip3 max0 avg2", "skip0 sep51 dil31 sep52 max0 skip3 max0 max2"),
    "darts_pt_fixed_s1": _published("avg0 avg1 sep30 max2 skip2 sep33 sep50 sep51", "max0 dil51 sep30 skip1 avg2 max3 sep53 sep54"),
    "darts_pt_fixed_s2": _published("avg0 dil31 sep50 max1 max0 skip1 sep51 avg2", "sep30 avg1 avg0 sep51 max0 sep53 max2 dil54"),
    "darts_pt_fixed_s3": _published("sep30 sep31 sep30 skip1 max2 sep33 avg0 sep51", "dil50 sep51 sep50 dil31 avg1 skip2 max0 skip4"),
}


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
