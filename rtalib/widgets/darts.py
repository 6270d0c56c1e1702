"""A search, epoch by epoch, and two architectures compared: pure views, and controls around them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from rtalib.darts.genotype import Genotype
from rtalib.darts.space import EDGES, Space, get_space
from rtalib.errors import unknown
from rtalib.results.figures.arrays import frame_cell, heat
from rtalib.results.figures.cells import circuit, used
from rtalib.results.figures.style import GREY, PAGE, Drawing, figure, place, use_style
from rtalib.widgets.base import around

if TYPE_CHECKING:
    from ipywidgets import VBox

CELLS = {"normal": "Normal cell", "reduce": "Reduction cell"}


def mixing_weights(row: Mapping, cell: str) -> np.ndarray:
    """float (14, K): softmax of a trace row's alphas of a cell, 'normal' or 'reduce', over each edge's operations."""
    alphas = np.asarray(row[f"alphas_{cell}"], dtype=float)
    shifted = np.exp(alphas - alphas.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def search_view(trace: Sequence[Mapping], epoch: int, space: str | Space = "darts") -> Drawing:
    """Mixing weights of both cell types after an epoch, with frames around those that the genotype keeps, and its two cells.

    trace: of darts.search. epoch: 0 to len(trace) - 1, an index into it. Shades are relative to the greatest weight of the whole trace, so
    that edges strengthen from view to view. Raises ValueError for another epoch.
    """
    if not 0 <= epoch < len(trace):
        raise ValueError(f"epoch: expected 0 to {len(trace) - 1}, got {epoch}")
    row, space = trace[epoch], get_space(space)
    genotype = Genotype.parse(row["genotype"])
    top = max(mixing_weights(each, cell).max() for each in (trace[0], trace[-1], row) for cell in CELLS)
    with use_style():
        drawing = figure(PAGE, 8.1, layout=None)
        for column, (cell, name) in enumerate(CELLS.items()):
            heats = place(drawing, 0.75 + 3.5 * column, 5.45, 2.75, 2.4)
            _weights(heats, mixing_weights(row, cell), top, getattr(space, cell), getattr(genotype, cell))
            heats.set_title(name)
            wires = place(drawing, 0, 2.5 - 2.3 * column, PAGE, 2)
            circuit(wires, getattr(genotype, cell), used(genotype, cell))
            wires.set_title(name, x=0.02)
        entropy = f"entropy {row['entropy_normal']:.2f} and {row['entropy_reduce']:.2f} nats"
        facts = f"epoch {row['epoch'] + 1}: training loss {row['train_loss']:.2f}, {entropy}"
        words = f"{facts}, skips {row['skips_normal']} and {row['skips_reduce']}"
        drawing.text(0.99, 0.005, words, fontsize=7, color=GREY, ha="right", va="bottom")
    drawing.set_label(f"Mixing weights of a search after {facts}; genotype {row['genotype']}")
    return drawing


def _weights(axes: Axes, weights: np.ndarray, top: float, operations: Sequence[Sequence[str]], kept: Sequence[tuple[str, int]]) -> None:
    """One cell type's weights, shaded up to `top`, the greatest of each edge as a number, a frame around those that are kept."""
    texts = [[f"{value:.2f}".lstrip("0") if value == line.max() else "" for value in line] for line in weights]
    edges = [f"{_node(source)} → {node - 2}" for node, source in EDGES]
    same = len(set(operations)) == 1
    names = [op.replace("_", " ") for op in operations[0]] if same else [f"candidate {k + 1}" for k in range(len(operations[0]))]
    heat(axes, edges, names, np.minimum(weights / top, 1), texts)
    for k, (op, source) in enumerate(kept):
        edge = EDGES.index((2 + k // 2, source))
        frame_cell(axes, edge, operations[edge].index(op))


def _node(source: int) -> str:
    """Name of a feature map: the two inputs of a cell are the outputs of the previous cells, the others its own nodes."""
    return ("c(k-2)", "c(k-1)")[source] if source < 2 else str(source - 2)


def explore_search(trace: Sequence[Mapping], space: str | Space = "darts", **start: object) -> "VBox":
    """A slider over the epochs of a search, and a button that plays them."""
    from ipywidgets import IntSlider, Play, jslink

    last = len(trace) - 1
    slider, play = IntSlider(start.get("epoch", last), 0, last, description="epoch"), Play(0, 0, last, interval=700)
    jslink((play, "value"), (slider, "value"))
    code = "widgets.explore_search(trace, epoch={epoch})\nwidgets.search_view(trace, {epoch})"
    shown = around(lambda epoch: search_view(trace, epoch, space), {"epoch": slider}, name="search", code=code)
    shown.children = (play, *shown.children)
    return shown


# ---------------------------------------------------------------------------------------------------------- comparison


def unmatched(edges: Sequence[tuple[str, int]], others: Sequence[tuple[str, int]]) -> list[int]:
    """Positions of the edges that the same node of the other cell lacks."""
    return [k for k, edge in enumerate(edges) if edge not in others[k // 2 * 2 : k // 2 * 2 + 2]]


def cells_view(genotypes: Mapping[str, Genotype], first: str, second: str, cell: str = "normal") -> Drawing:
    """The normal or the reduction cell ('reduce') of two architectures; a filled box marks an edge that the other's node lacks.

    Raises ValueError for a name that is not among the genotypes, or another cell.
    """
    for name in (first, second):
        if name not in genotypes:
            raise unknown("genotype", name, genotypes)
    if cell not in CELLS:
        raise unknown("cell", cell, CELLS)
    edges = [getattr(genotypes[name], cell) for name in (first, second)]
    with use_style():
        drawing = figure(PAGE, 4.9, layout=None)
        for line, name in enumerate((first, second)):
            axes = place(drawing, 0, 2.45 * (1 - line), PAGE, 2.2)
            circuit(axes, edges[line], used(genotypes[name], cell), unmatched(edges[line], edges[1 - line]))
            axes.set_title(f"{name}: {CELLS[cell].lower()}", x=0.02)
    differ = f"{len(unmatched(*edges))} of {len(edges[0])} edges differ in the {CELLS[cell].lower()}"
    drawing.set_label(f"{first} and {second}: {differ}. {first}: {genotypes[first]}. {second}: {genotypes[second]}")
    return drawing


def explore_cells(genotypes: Mapping[str, Genotype], **start: object) -> "VBox":
    """Menus around `cells_view`: two architectures, and the cell. start: first values; default Org. DNN and CF-DARTS if they are there."""
    from ipywidgets import Dropdown

    names = list(genotypes)
    first = start.get("first", "Org. DNN" if "Org. DNN" in names else names[0])
    second = start.get("second", "CF-DARTS" if "CF-DARTS" in names else names[-1])
    cells = [(title, name) for name, title in CELLS.items()]
    return around(
        lambda first, second, cell: cells_view(genotypes, first, second, cell),
        {
            "first": Dropdown(options=names, value=first, description="first"),
            "second": Dropdown(options=names, value=second, description="second"),
            "cell": Dropdown(options=cells, value=start.get("cell", "normal"), description="cell"),
        },
        name="cells",
        code="widgets.explore_cells(genotypes, first={first}, second={second}, cell={cell})\n"
        "widgets.cells_view(genotypes, {first}, {second}, {cell})",
    )
