"""A search, epoch by epoch: a pure view of one row of its trace, and a slider over the epochs; what it found beside chance."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Rectangle

from rtalib.array_figures import heat
from rtalib.cell_drawing import circuit, used
from rtalib.darts.genotype import Genotype
from rtalib.darts.space import EDGES, Space, get_space
from rtalib.plot_style import COLUMN, GREY, PAGE, RED, Drawing, figure, use_style
from rtalib.widgets import around

if TYPE_CHECKING:
    from ipywidgets import VBox


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
    top = max(mixing_weights(each, cell).max() for each in (trace[0], trace[-1], row) for cell in ("normal", "reduce"))
    with use_style():
        drawing = figure(PAGE, 7.2)
        grid = drawing.add_gridspec(3, 2, height_ratios=(1.75, 1, 1))
        for column, (cell, name) in enumerate((("normal", "Normal cell"), ("reduce", "Reduction cell"))):
            weights, operations, axes = mixing_weights(row, cell), getattr(space, cell), drawing.add_subplot(grid[0, column])
            heat(axes, np.minimum(weights / top, 1), [[f"{value:.2f}".lstrip("0") for value in line] for line in weights])
            for k, (op, source) in enumerate(getattr(genotype, cell)):
                edge = EDGES.index((2 + k // 2, source))
                corner = operations[edge].index(op) - 0.5, edge - 0.5
                axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=RED, linewidth=1.3, zorder=3))
            axes.set(yticks=range(len(EDGES)), yticklabels=[f"{_node(source)} → {node - 2}" for node, source in EDGES], title=name)
            same = len(set(operations)) == 1
            texts = [op.replace("_", " ") for op in operations[0]] if same else [f"candidate {k + 1}" for k in range(len(operations[0]))]
            axes.set_xticks(range(len(texts)), texts, rotation=40, ha="right", rotation_mode="anchor")
            circuit(drawing.add_subplot(grid[1 + column, :]), getattr(genotype, cell), used(genotype, cell))
        entropy = f"entropy {row['entropy_normal']:.2f} and {row['entropy_reduce']:.2f} nats"
        facts = f"epoch {row['epoch'] + 1}: training loss {row['train_loss']:.2f}, {entropy}"
        drawing.supxlabel(f"{facts}, skips {row['skips_normal']} and {row['skips_reduce']}", fontsize=7, color=GREY)
    drawing.set_label(f"Mixing weights of a search after {facts}; genotype {row['genotype']}")
    return drawing


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
