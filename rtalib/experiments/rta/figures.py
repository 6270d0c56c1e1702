"""Figures of iterative search: which operations the networks mine, piece by piece, and how much they still get wrong."""

from collections.abc import Mapping, Sequence

import numpy as np

from rtalib.experiments.rta.iterative_search import Trace
from rtalib.results.figures.arrays import heat
from rtalib.results.figures.style import BLACK, COLUMN, CYCLE, GREY, PAGE, Drawing, figure, use_style
from rtalib.results.papers import FAMILIES, label

CLEAN_SOURCES = ("clean_resnet50", "clean_wideresnet")


def family(operation: str) -> str:
    """'noise', 'blur', 'weather', 'digital'; 'attacks, clean' and 'attacks, robust' by the source; 'identity'."""
    found = next((name for name, members in FAMILIES.items() if operation in members), None)
    if found or operation == "identity":
        return found or operation
    return "attacks, clean" if operation in CLEAN_SOURCES else "attacks, robust"


def shares(trace: Trace) -> np.ndarray:
    """float (pieces, operations): percent of each piece's images that every operation made."""
    pieces = int(trace.piece.max()) + 1
    counts = np.zeros((pieces, len(trace.operations)))
    np.add.at(counts, (trace.piece.numpy(), trace.operation.numpy()), 1)
    return 100 * counts / counts.sum(1, keepdims=True)


def mined_operations(traces: Sequence[Trace], *, title: str = "What is mined", foot: str = "") -> Drawing:
    """Stacked areas over the pieces: percent of the images by family of operations, mean over the traces (seeds); piece 1 is the draw."""
    table = np.mean([shares(trace) for trace in traces], axis=0)
    names = list(dict.fromkeys(family(name) for name in traces[0].operations))
    areas = [table[:, [family(name) == area for name in traces[0].operations]].sum(1) for area in names]
    with use_style():
        drawing = figure(COLUMN * 1.5, 2.5)
        axes = drawing.subplots()
        pieces = np.arange(1, len(table) + 1)
        axes.stackplot(pieces, areas, labels=names, colors=CYCLE[: len(names)], alpha=0.85, edgecolor="white", linewidth=0.6)
        axes.set(xlabel="piece", ylabel="images, percent", xlim=(1, len(table)), ylim=(0, 100), title=title)
        axes.set_xticks(pieces, ["1, drawn", *map(str, pieces[1:])])
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        drawing.supxlabel(foot, fontsize=6, color=GREY, x=0.99, ha="right")
    return drawing


def operation_heatmap(traces: Sequence[Trace], *, title: str = "Percent of each piece", foot: str = "") -> Drawing:
    """Piece x operation: percent of the images, mean over the traces; the shade is relative to the largest."""
    table = np.mean([shares(trace) for trace in traces], axis=0)
    names = traces[0].operations
    with use_style():
        drawing = figure(PAGE, 0.24 * len(table) + 1.35)
        axes = drawing.subplots()
        heat(axes, table / table.max(), [[f"{value:.0f}" for value in line] for line in table])
        axes.set(yticks=range(len(table)), yticklabels=["1, drawn", *map(str, range(2, len(table) + 1))], ylabel="piece", title=title)
        axes.set_xticks(range(len(names)), [label(name) for name in names], rotation=45, ha="right", rotation_mode="anchor")
        drawing.supxlabel(foot, fontsize=6, color=GREY, x=0.99, ha="right")
    return drawing


def misclassified(
    rounds: Mapping[str, Sequence[Sequence[float]]], *, title: str = "Candidates that are misclassified", foot: str = ""
) -> Drawing:
    """One line per name: percent after 1, 2, ... pieces, the mean over the name's sequences and each of them as a dot."""
    with use_style():
        drawing = figure(COLUMN * 1.4, 2.3)
        axes = drawing.subplots()
        for number, (name, lines) in enumerate(rounds.items()):
            table, tint = np.asarray(lines, dtype=float), CYCLE[number % len(CYCLE)]
            at = np.arange(1, table.shape[1] + 1)
            published = name.startswith("published")
            axes.plot(
                at,
                table.mean(0),
                color=GREY if published else tint,
                linestyle="--" if published else "-",
                label=name,
                marker="o",
                markersize=3,
            )
            axes.plot(np.tile(at, len(table)), table.ravel(), ".", color=GREY if published else tint, markersize=3, alpha=0.5)
        axes.set(xlabel="pieces trained on", ylabel="candidates, percent", ylim=(0, None), title=title)
        axes.set_xticks(at)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
        axes.tick_params(colors=BLACK)
        drawing.supxlabel(foot, fontsize=6, color=GREY, x=0.99, ha="right")
    return drawing
