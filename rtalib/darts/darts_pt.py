"""Perturbation-based selection (DARTS-PT, Wang et al., ICLR 2021, algorithm 1): an operation is worth what the validation
accuracy loses without it.

All candidates of a decision are measured on the same images, cropped and ordered alike; the original draws them anew for each candidate. If
a node's edges are removed one after the other, removed ones stay away while the next is chosen.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from rtalib import rng
from rtalib.darts.batches import Batch, cropped
from rtalib.darts.select import INPUTS
from rtalib.darts.space import EDGES, NODES, Space
from rtalib.darts.supernet.plain import Supernet
from rtalib.data.images import LabeledImages
from rtalib.errors import check_name, check_number

if TYPE_CHECKING:
    from rtalib.darts.steps import Steps

CELLS = ("normal", "reduce")
UNDECIDED = -1
Mixing = tuple[torch.Tensor, torch.Tensor]  # weights (14, operations) of the normal and the reduction cells
CRITERIA = ("accuracy", "loss")
Measure = Callable[[list[Mixing]], list[float]]  # what each mixing is worth on the validation set: higher is better


@dataclass(frozen=True)
class Projection:
    """The second phase: a decision per cell type every `interval` epochs, until 14 operations and the inputs of three nodes are decided.

    lr: of the weights, throughout; None: a tenth of the search's, as published. criterion: 'accuracy' or 'loss' on the validation set, or
    on `images` of it, drawn for each decision.
    """

    interval: int = 5
    lr: float | None = None
    criterion: str = "accuracy"
    images: int | None = None

    def __post_init__(self):
        check_number("projection.interval", self.interval, 1, integer=True)
        if self.lr is not None:
            check_number("projection.lr", self.lr, 0)
        if self.images is not None:
            check_number("projection.images", self.images, 1, integer=True)
        check_name("criterion", self.criterion, CRITERIA)

    @property
    def decisions(self) -> int:
        """Per cell type: the operation of each edge, then the inputs of each node that has more than two."""
        return len(EDGES) + NODES - 1

    @property
    def epochs(self) -> int:
        """The last decision is followed by one epoch."""
        return self.interval * (self.decisions - 1) + 1


def edges_into(node: int) -> list[int]:
    """Positions in EDGES of a node's incoming edges, by source."""
    return [edge for edge, (destination, _) in enumerate(EDGES) if destination == node]


@lru_cache(2 * len(CELLS))  # so that no pass of a recorded step copies to the device
def _masks(
    operations: tuple[int, ...], removed: tuple[bool, ...], candidates: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """1 for undecided edges (14,1), for the operations of decided ones (14,candidates), and for edges that are left (14,1)."""
    chosen = torch.tensor(operations)
    open_edges = (chosen == UNDECIDED).to(dtype)[:, None]
    kept = F.one_hot(chosen.clamp_min(0), candidates).to(dtype) * (1 - open_edges)
    left = 1 - torch.tensor(removed).to(dtype)[:, None]
    return open_edges.to(device), kept.to(device), left.to(device)


class Decisions:
    """Which operation each edge has kept, and which edges are gone, per cell type; loaded and saved like the state of an optimizer."""

    def __init__(self, space: Space):
        self.names = {cell: getattr(space, cell) for cell in CELLS}
        self.operation = {cell: [UNDECIDED] * len(EDGES) for cell in CELLS}  # index of the edge's operation
        self.removed = {cell: [False] * len(EDGES) for cell in CELLS}

    def state_dict(self) -> dict:
        return {"operation": self.operation, "removed": self.removed}

    def load_state_dict(self, state: dict) -> None:
        self.operation, self.removed = state["operation"], state["removed"]

    def apply(self, mixing: Mixing) -> Mixing:
        """The weights with decided edges at 1 for their operation and 0 for the others, removed ones at 0 altogether."""
        return tuple(self._apply(cell, weights) for cell, weights in zip(CELLS, mixing, strict=True))

    def _apply(self, cell: str, weights: torch.Tensor) -> torch.Tensor:
        operations, removed = tuple(self.operation[cell]), tuple(self.removed[cell])
        open_edges, kept, left = _masks(operations, removed, weights.shape[1], weights.dtype, weights.device)
        return (weights * open_edges + kept) * left

    def without(self, mixing: Mixing, cell: str, edge: int, operation: int | None = None) -> Mixing:
        """`mixing` with one operation of an edge at weight 0, the others as they are (not renormalized); by default the whole edge."""
        changed = list(self.apply(mixing))
        weights = changed[CELLS.index(cell)].clone()
        weights[edge, slice(None) if operation is None else operation] = 0.0
        changed[CELLS.index(cell)] = weights
        return tuple(changed)

    def undecided(self, cell: str) -> list[int]:
        return [edge for edge, operation in enumerate(self.operation[cell]) if operation == UNDECIDED]

    def crowded(self, cell: str) -> list[int]:
        """Nodes that still have more than two inputs."""
        return [n for n in range(2, 2 + NODES) if sum(not self.removed[cell][edge] for edge in edges_into(n)) > INPUTS]

    def decide_operation(self, cell: str, edge: int, mixing: Mixing, measure: Measure) -> dict:
        """Keep the operation whose removal costs most, the first of equals; 'none' is no candidate. One measurement per candidate."""
        names = self.names[cell][edge]
        candidates = [position for position, name in enumerate(names) if name != "none"]
        worths = measure([self.without(mixing, cell, edge, position) for position in candidates])
        self.operation[cell][edge] = candidates[worths.index(min(worths))]
        return {"cell": cell, "edge": edge, "operation": names[self.operation[cell][edge]], "measured": worths}

    def decide_inputs(self, cell: str, node: int, mixing: Mixing, measure: Measure) -> dict:
        """Remove the edge that is missed least, the first of equals, until two are left."""
        measured = []
        while len(left := [edge for edge in edges_into(node) if not self.removed[cell][edge]]) > INPUTS:
            worths = measure([self.without(mixing, cell, edge) for edge in left])
            self.removed[cell][left[worths.index(max(worths))]] = True
            measured += worths
        return {"cell": cell, "node": node, "inputs": [EDGES[edge][1] for edge in left], "measured": measured}

    def decide(self, mixing: Mixing, measure: Measure, *, seed: int, epoch: int) -> list[dict]:
        """The next decision of each cell type: the operation of an edge, drawn at random, while there are open ones; then a node's inputs.

        Returns what was decided, one dict per cell type with cell, edge and operation or node and inputs (sources), and the measurements.
        """
        made = []
        for cell in CELLS:
            word = rng.word(seed, epoch, rng.stream("darts-pt", cell))
            if edges := self.undecided(cell):
                made.append(self.decide_operation(cell, edges[word * len(edges) >> 32], mixing, measure))
            elif nodes := self.crowded(cell):
                made.append(self.decide_inputs(cell, nodes[word * len(nodes) >> 32], mixing, measure))
        return made


def due(projection: Projection | None, epochs: int, epoch: int) -> bool:
    """Whether decisions are made before training in `epoch`, if the search itself has `epochs`."""
    tuned = epoch - epochs
    return projection is not None and 0 <= tuned < projection.epochs and tuned % projection.interval == 0


def decide_if_due(steps: "Steps", val: LabeledImages, *, seed: int, epoch: int) -> list[dict]:
    """The decisions that are due before training in `epoch`, see Decisions.decide; none in most epochs."""
    settings = steps.settings
    if not due(settings.projection, settings.epochs, epoch):
        return []

    def worths(mixings: list[Mixing]) -> list[float]:
        batches = draw_pass(val, settings.batch_size, seed=seed, epoch=epoch, stream="decision", limit=settings.projection.images)
        return measure(steps.supernet, batches, mixings, settings.projection.criterion)

    with torch.no_grad():
        return steps.decisions.decide(steps.supernet.mixing(), worths, seed=seed, epoch=epoch)


def draw_pass(data: LabeledImages, size: int, *, seed: int, epoch: int, stream: str, limit: int | None = None) -> Iterator[Batch]:
    """Batches of `size` that make up one pass over `data` in random order, cropped and flipped; the last may be smaller.

    limit: the pass ends after that many images.
    """
    position = (epoch << 32) + torch.arange(len(data), device=data.images.device)
    words = rng.words(seed, position, rng.stream("darts-search", stream), 5)
    order = torch.argsort((words[:, 0] << 31) | (words[:, 4] >> 1), stable=True)[:limit]
    for pick in order.split(size):
        yield cropped(data.images[pick], words[pick, 1:4]), data.labels[pick]


@torch.no_grad()
def measure(supernet: Supernet, batches: Iterable[Batch], mixings: list[Mixing], criterion: str) -> list[float]:
    """Accuracy in [0,1] ('accuracy') or minus the mean cross-entropy ('loss') of the supernet with each mixing, over all `batches`.

    Noise and the like come from torch's global generators, the same for each mixing.
    """
    check_name("criterion", criterion, CRITERIA)
    totals, count = [torch.zeros((), dtype=torch.float64) for _ in mixings], 0
    for images, labels in batches:
        hard = labels if labels.ndim == 1 else labels.argmax(dim=1)
        count += len(labels)
        for i, mixing in enumerate(mixings):
            with torch.random.fork_rng([images.device.index] if images.is_cuda else [], enabled=i + 1 < len(mixings)):
                logits = supernet(images, mixing)
            right = (logits.argmax(dim=1) == hard).sum() if criterion == "accuracy" else -F.cross_entropy(logits, labels, reduction="sum")
            totals[i] = totals[i].to(right.device) + right
    return [float(total) / count for total in totals]
