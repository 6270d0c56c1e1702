"""Figures of paper one: gain against distance, what iterative search mines, and what the networks still get wrong."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn

from rtalib.experiments.rta.iterative_search import Trace
from rtalib.experiments.rta.overlap import means, slopes
from rtalib.results.figures import style
from rtalib.results.figures.arrays import heat
from rtalib.results.figures.samples import origin, short_name
from rtalib.results.papers import FAMILIES, label
from rtalib.results.statistics import interval

CLEAN_SOURCES = ("clean_resnet50", "clean_wideresnet")


def family(operation: str) -> str:
    """'noise', 'blur', 'weather', 'digital'; 'attacks, clean' and 'attacks, robust' by the source; 'identity'."""
    found = next((name for name, members in FAMILIES.items() if operation in members), None)
    if found or operation == "identity":
        return found or operation
    return "attacks, clean" if operation in CLEAN_SOURCES else "attacks, robust"


def shares(traces: Sequence[Trace]) -> pd.DataFrame:
    """Pieces x operations: percent of a piece's images that an operation made, mean over the traces (seeds). Piece 1 is the draw."""
    found = [pd.crosstab(trace.piece.numpy(), trace.operation.numpy(), normalize="index") for trace in traces]
    names = traces[0].operations
    table = 100 * sum(each.reindex(columns=range(len(names)), fill_value=0) for each in found) / len(found)
    return table.set_axis(names, axis=1).set_axis(["1, drawn", *map(str, range(2, len(table) + 1))])


def mined_operations(traces: Sequence[Trace], *, title: str = "What is mined", foot: str = "") -> style.Drawing:
    """A stacked bar per piece: percent of the images by family of operations, mean over the traces (seeds); piece 1 is the draw."""
    table = shares(traces).T.groupby(family, sort=False).sum().T
    frame = table.rename_axis("piece").reset_index().melt("piece", var_name="family", value_name="percent")
    look = {"multiple": "stack", "shrink": 0.8, "alpha": 0.85, "edgecolor": "white", "linewidth": 0.6}
    tints = dict(zip(table.columns, style.CYCLE, strict=False))
    with style.sheet(style.COLUMN, 2.3, foot) as (drawing, axes):
        shared = {"hue": "family", "hue_order": table.columns[::-1], "palette": tints, "ax": axes}
        seaborn.histplot(frame, x="piece", weights="percent", **shared, **look)
        seaborn.move_legend(axes, "center left", bbox_to_anchor=(1.01, 0.5), title=None)
        axes.set(ylabel="images, percent", ylim=(0, 100), title=title)
    return drawing


def operation_heatmap(traces: Sequence[Trace], *, title: str = "Percent of each piece", foot: str = "") -> style.Drawing:
    """Piece x operation: percent of the images, mean over the traces; the shade is relative to the largest."""
    table = shares(traces)
    with style.sheet(style.PAGE, 0.24 * len(table) + 1.35, foot) as (drawing, axes):
        heat(axes, table.index, list(map(label, table)), table.to_numpy() / table.to_numpy().max(), table.to_numpy(), fmt=".0f")
        axes.set(ylabel="piece", title=title)
    return drawing


def misclassified(rounds: Mapping[str, Sequence[Sequence[float]]], *, foot: str = "") -> style.Drawing:
    """One line per name: percent after 1, 2, ... pieces, the mean over the name's sequences and each of them as a dot.

    Names that begin with "published" are grey and dashed.
    """
    found = [(name, piece, value) for name, lines in rounds.items() for line in lines for piece, value in enumerate(line, start=1)]
    frame = pd.DataFrame(found, columns=["name", "pieces", "percent"])
    published = {name: name.startswith("published") for name in rounds}
    tints = {name: style.GREY if published[name] else style.CYCLE[k % len(style.CYCLE)] for k, name in enumerate(rounds)}
    look = {"dashes": {name: (3, 1.5) if published[name] else "" for name in rounds}, "marker": "o", "ms": 3, "mew": 0}
    with style.sheet(style.COLUMN, 2.7, foot) as (drawing, axes):
        shared = {"data": frame, "x": "pieces", "y": "percent", "hue": "name", "palette": tints, "ax": axes}
        seaborn.lineplot(**shared, style="name", errorbar=None, **look)
        seaborn.scatterplot(**shared, s=8, alpha=0.5, legend=False)
        style.legend_above(drawing, axes, columns=2)
        title = "Candidates that are misclassified"
        axes.set(xlabel="pieces trained on", ylabel="candidates, percent", ylim=(0, None), title=title)
        axes.set_xticks(sorted(set(frame["pieces"])))
    return drawing


def gain_against_distance(rows: Sequence[Mapping]) -> style.Drawing:
    """A panel per training set, a point per corruption: points gained over 5 × originals against the distance; means over seeds.

    rows: of `overlap.run`. Filled: the types that RTA trains on; hollow: those unlike them. The line is the least squares fit of
    all panels together; above it stands its slope with a 95 % interval over seeds.
    """
    frame = pd.DataFrame(means(rows))
    frame["panel"] = frame["method"].map(short_name)
    slope, offset = np.polyfit(frame["distance"], frame["gain"], 1)
    each = list(slopes(rows).values())
    half = interval(each)
    title = f"Gain falls by {-np.mean(each):.0f}" + ("" if np.isnan(half) else f" ± {half:.0f}") + " points from full overlap to none"
    panels = list(dict.fromkeys(frame["panel"]))
    lines = -(-len(panels) // 3)
    with style.sheet(style.PAGE, 0.5 + 1.6 * lines, origin(rows), shape=(lines, 3), sharex=True, sharey=True) as (drawing, _):
        for axes, name in zip(drawing.axes, panels, strict=False):
            found = frame[frame["panel"] == name]
            axes.axhline(0, color=style.PALE, lw=0.8)
            axes.plot([0, 1], [offset, offset + slope], color=style.GREY, lw=0.8, ls="--")
            for trained, fill, words in ((True, style.BLUE, "types that RTA trains on"), (False, "none", "types unlike them")):
                part = found[found["trained"] == trained]
                axes.scatter(part["distance"], part["gain"], s=12, facecolor=fill, edgecolor=style.BLUE, linewidth=0.8, label=words)
            axes.set(title=name, xlim=(-0.05, 1.05))
        for axes in drawing.axes[len(panels) :]:
            axes.axis("off")
        drawing.axes[3 * (lines - 1) + 1].set_xlabel("distance: 0 the set has the corruption, 1 nothing like it")
        drawing.axes[3 * (lines // 2)].set_ylabel("gain over 5 × originals, points")
        style.legend_above(drawing, drawing.axes[0])
        drawing.legends[0].set_title(title)
    return drawing
