"""Search spaces: which operations compete on each edge of a cell."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rtalib.darts.operations import KNOWN
from rtalib.errors import check_name
from rtalib.infra.data_files import build, read_toml

if TYPE_CHECKING:
    from rtalib.darts.genotype import Genotype

NODES = 4  # intermediate nodes of a cell
EDGES = tuple((node, source) for node in range(2, 2 + NODES) for source in range(node))  # 14, by destination, then source


@dataclass(frozen=True)
class Space:
    """Candidate operations per edge, in the order of `EDGES`; all edges of a cell type have equally many.

    Edges may differ from each other, as in the reduced spaces of RobustDARTS (Zela et al., ICLR 2020).
    """

    normal: tuple[tuple[str, ...], ...]
    reduce: tuple[tuple[str, ...], ...]

    def __post_init__(self):
        for cell, edges in (("normal", self.normal), ("reduce", self.reduce)):
            if len(edges) != len(EDGES) or len({len(names) for names in edges}) != 1:
                raise ValueError(f"{cell}: expected {len(EDGES)} edges with equally many operations, got {[len(names) for names in edges]}")
            for name in (name for names in edges for name in names):
                check_name("operation", name, KNOWN)

    def check(self, genotype: "Genotype") -> None:
        """ValueError unless a search in this space can find `genotype`: two inputs for each of the four nodes, offered on their edges."""
        for cell in ("normal", "reduce"):
            inputs, offered = getattr(genotype, cell), getattr(self, cell)
            if len(inputs) != 2 * NODES:
                raise ValueError(f"genotype: {cell} has {len(inputs) // 2} nodes, expected {NODES} as in the space")
            for position, (name, source) in enumerate(inputs):
                if position % 2 and inputs[position - 1][1] == source:
                    raise ValueError(
                        f"genotype: {cell} takes node {source} twice in node {2 + position // 2}; in the space, two sources differ"
                    )
                names = offered[EDGES.index((2 + position // 2, source))]
                if name not in names:
                    node = 2 + position // 2
                    raise ValueError(f"genotype: {cell} takes {name} from node {source} to {node}; this space offers {', '.join(names)}")


def uniform(*operations: str) -> Space:
    """The same candidates on every edge of both cell types."""
    return Space((operations,) * len(EDGES), (operations,) * len(EDGES))


def _spaces() -> dict[str, Space]:
    """The spaces of spaces.toml: the same operations on every edge, or a list of them for each edge of both cell types."""
    spaces = {}
    for name, table in read_toml(__package__, "spaces.toml").items():
        spaces[name] = uniform(*table) if isinstance(table, list) else build(Space, table, f"spaces.toml, {name}")
    return spaces


SPACES = _spaces()


def get_space(space: str | Space) -> Space:
    """A space by its name in `SPACES`, or the space itself."""
    if isinstance(space, Space):
        return space
    check_name("search space", space, SPACES)
    return SPACES[space]
