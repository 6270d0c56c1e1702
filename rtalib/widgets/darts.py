"""A search, epoch by epoch, what it found beside chance, and two architectures compared: pure views, and controls around them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from rtalib.darts.genotype import Genotype
from rtalib.darts.space import EDGES, Space, get_space
from rtalib.errors import unknown
from rtalib.results.figures.arrays import heat
from rtalib.results.figures.cells import circuit, used
from rtalib.results.figures.style import COLUMN, GREY, PAGE, RED, Drawing, figure, place, use_style
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
    """Mixing weights of both cell types after an epoch, the edges that the genotype keeps framed, and the cells it stands for.

    trace: of darts.search. epoch: 0 to len(trace) - 1, a row of it. Shades are relative to the greatest weight of the whole trace, so that
    edges strengthen from view to view. Raises ValueError for an epoch that there is not.
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
    """One cell type's weights, shaded up to `top`, the greatest of each edge as a number, with a frame around each that is kept."""
    texts = [[f"{value:.2f}".lstrip("0") if value == line.max() else "" for value in line] for line in weights]
    heat(axes, np.minimum(weights / top, 1), texts)
    for k, (op, source) in enumerate(kept):
        edge = EDGES.index((2 + k // 2, source))
        corner = operations[edge].index(op) - 0.5, edge - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=RED, linewidth=1.3, zorder=3))
    axes.set(yticks=range(len(EDGES)), yticklabels=[f"{_node(source)} → {node - 2}" for node, source in EDGES])
    same = len(set(operations)) == 1
    names = [op.replace("_", " ") for op in operations[0]] if same else [f"candidate {k + 1}" for k in range(len(operations[0]))]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")


def chance_dots(rows: Sequence[Mapping], *, foot: str = "") -> Drawing:
    """Accuracy of searched cells beside that of random ones of the same size, seed by seed; the bar is the random cells' median.

    rows: of chance.run.
    """
    with use_style():
        drawing = figure(COLUMN * 1.3, 2.4)
        axes = drawing.subplots()
        seeds = list(dict.fromkeys(row["seed"] for row in rows))
        for place, seed in enumerate(seeds):
            found, drawn = (
                [row["clean"] for row in rows if row["seed"] == seed and bool(row["number"]) == other] for other in (False, True)
            )
            axes.plot(np.full(len(drawn), place), drawn, "o", ms=4, color=GREY, alpha=0.7, label=None if place else "random cells")
            axes.plot([place - 0.25, place + 0.25], [np.median(drawn)] * 2, color=GREY, lw=1.2, label=None if place else "their median")
            axes.plot([place], found, "D", ms=5, color=RED, label=None if place else "searched cell")
        axes.set_xticks(range(len(seeds)), [str(seed) for seed in seeds])
        axes.set(xlabel="seed", ylabel="top-1, percent", xlim=(-0.6, len(seeds) - 0.4))
        drawing.legend(loc="outside upper center", ncols=3)
        drawing.supxlabel(foot, fontsize=6, color=GREY, x=0.99, ha="right")
    drawing.set_label("Top-1 of searched cells and of random cells of the same size, by seed")
    return drawing


def _node(source: int) -> str:
    """The two inputs of a cell are the cells before it; the others are its own nodes."""
    return ("c(k-2)", "c(k-1)")[source] if source < 2 else str(source - 2)


def explore_search(trace: Sequence[Mapping], space: str | Space = "darts") -> "VBox":
    """A slider over the epochs of a search, and a button that plays them."""
    from ipywidgets import IntSlider, Play, jslink

    last = len(trace) - 1
    slider, play = IntSlider(last, 0, last, description="epoch", continuous_update=False), Play(0, 0, last, interval=700)
    jslink((play, "value"), (slider, "value"))
    shown = around(lambda epoch: search_view(trace, epoch, space), epoch=slider)
    shown.children = (play, *shown.children)
    return shown


# ---------------------------------------------------------------------------------------------------------- comparison


def unmatched(edges: Sequence[tuple[str, int]], others: Sequence[tuple[str, int]]) -> list[int]:
    """Positions of the edges that the same node of another cell does not have."""
    return [k for k, edge in enumerate(edges) if edge not in others[k // 2 * 2 : k // 2 * 2 + 2]]


def cells_view(genotypes: Mapping[str, Genotype], first: str, second: str, cell: str = "normal") -> Drawing:
    """The normal or the reduction cell ('reduce') of two architectures; boxes are filled where the other has no such edge at that node.

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


def explore_cells(genotypes: Mapping[str, Genotype]) -> "VBox":
    """Menus of two architectures, at first the first and the last, and of the cell, around `cells_view`."""
    from ipywidgets import Dropdown

    names = list(genotypes)
    return around(
        lambda first, second, cell: cells_view(genotypes, first, second, cell),
        first=Dropdown(options=names, description="first"),
        second=Dropdown(options=names, value=names[-1], description="second"),
        cell=Dropdown(options=[(title, name) for name, title in CELLS.items()], description="cell"),
    )
