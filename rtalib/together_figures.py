"""Figures of what neither paper tries: a factorial of architectures and training sets, effects, points per hour, guides and families."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from rtalib.array_figures import difference_dots
from rtalib.figures import MARKERS, foot
from rtalib.gain_parts import gain_matrix, neighbours
from rtalib.papers import label
from rtalib.plot_style import BLACK, BLUE, CYCLE, GREY, ORANGE, PAGE, Drawing, figure, use_style
from rtalib.severity_budget import returns
from rtalib.tables import context, interval, values

METRICS = ("clean", "mean", "fail", "transfer_pgd")
TITLES = {"clean": "Clean", "mean": "15 corruptions, mean", "fail": "Failing examples", "transfer_pgd": "PGD, transferred"}


def factorial(rows: Sequence[Mapping], cells: Sequence[str], sets: Sequence[str], *, metrics: Sequence[str] = METRICS) -> Drawing:
    """A panel per metric: the training sets across, accuracy up, a line per architecture with 95 % intervals and a dot per seed.

    rows: of together.run_table, whose methods are "<cell>, <set>". Lines that are not parallel are an interaction.
    """
    with use_style():
        drawing = figure(PAGE, 2.5)
        panels = drawing.subplots(1, len(metrics), squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            for k, (cell, tint) in enumerate(zip(cells, (ORANGE, BLUE), strict=True)):
                found = [values(rows, f"{cell}, {data}", metric) for data in sets]
                places = np.arange(len(sets)) + 0.16 * (k - 0.5)
                reach = np.nan_to_num([interval(sample) for sample in found])
                means = [sample.mean() for sample in found]
                axes.errorbar(places, means, yerr=reach, fmt=f"{MARKERS[k]}-", color=tint, ms=4, elinewidth=0.8, capsize=1.8, label=cell)
                for place, sample in zip(places, found, strict=True):
                    axes.plot(np.full(len(sample), place), sample, ".", ms=3, color=GREY, zorder=1)
            axes.set_xticks(
                range(len(sets)), [name.replace(" + ", " +\n") for name in sets], rotation=40, ha="right", rotation_mode="anchor"
            )
            axes.set(title=TITLES.get(metric, label(metric)), xlim=(-0.5, len(sets) - 0.5))
            axes.grid(axis="y")
        panels[0].set_ylabel("top-1, percent")
        drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(cells))
        foot(drawing, rows)
    return drawing


def effect_dots(tables: Mapping[str, pd.DataFrame], rows: Sequence[Mapping], *, axis: str = "points of top-1") -> Drawing:
    """Effects with their intervals: a line per effect, a colour per table of contrasts.effects; {name of the series: table}."""
    names = list(dict.fromkeys(name for table in tables.values() for name in table["effect of"]))
    empty = [float("nan")] * 3
    series = {}
    for title, table in tables.items():
        found = table.set_index("effect of")[["effect", "low", "high"]]
        series[title] = np.array([found.loc[name] if name in found.index else empty for name in names], dtype=float)
    facts = context(rows)
    words = " · ".join(f"{name} {facts[name]}" for name in ("scale", "dataset", "protocol", "seed") if name in facts)
    return difference_dots(series, names, axis=axis, foot=words)


def frontier(rows: Sequence[Mapping]) -> Drawing:
    """Score against hours of making the set and training on it (minutes, where all are below one hour): a colour per severity, a marker
    per number of copies, a line through the sets that no other beats on both.

    rows: of the question 'severity-budget'.
    """
    table = returns(rows)
    unit, factor = ("hours", 1) if table["hours"].max() >= 1 else ("minutes", 60)
    table[["hours", "± hours"]] *= factor
    device = " and ".join(sorted(set(table["device"])))
    with use_style():
        drawing = figure(PAGE * 0.72, 2.9)
        axes = drawing.subplots()
        best = table[table["frontier"]].sort_values("hours")
        axes.plot(best["hours"], best["score"], color=BLACK, lw=0.8, ls="--", zorder=1, label="frontier")
        severities, copies = sorted(set(table["severity"])), sorted(set(table["copies"]))
        for line in table.to_dict("records"):
            tint = GREY if not line["severity"] else CYCLE[severities.index(line["severity"]) - 1]
            mark = MARKERS[copies.index(line["copies"])]
            reach = [np.nan_to_num(line["± hours"]), np.nan_to_num(line["± score"])]
            axes.errorbar(line["hours"], line["score"], *reach[::-1], fmt=mark, ms=5, color=tint, elinewidth=0.6, label=line["method"])
        axes.set(xlabel=f"{device}-{unit} for one target, its set included", ylabel="score on the proxy suite, percent")
        axes.grid(True)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=6)
        foot(drawing, rows)
    return drawing


def neighbour_heatmap(rows: Sequence[Mapping], methods: Sequence[str] = ("CF-DARTS", "CF-DARTSE")) -> Drawing:
    """Guide x corruption for each method: points above the deployed architecture trained again, mean over seeds; a frame around the guide's
    family, its own cell thick. rows: of the question 'neighbours'."""
    matrices = {method: gain_matrix(rows, method) for method in methods}
    reach = max(1.0, *(float(np.nanpercentile(np.abs(matrix.to_numpy()), 95)) for matrix in matrices.values()))
    with use_style():
        drawing = figure(PAGE, sum(0.24 * len(matrix) + 0.45 for matrix in matrices.values()) + 0.8)
        panels = drawing.subplots(len(methods), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (method, matrix) in zip(panels, matrices.items(), strict=True):
            axes.imshow(matrix, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
            for (i, j), gap in np.ndenumerate(matrix.to_numpy()):
                shade = "white" if abs(gap) > 0.75 * reach else BLACK
                axes.text(j, i, f"{gap:+z.1f}", ha="center", va="center", fontsize=6, color=shade)
            for i, guide in enumerate(matrix.index):
                own = list(matrix.columns).index(guide)
                family = [own, *(list(matrix.columns).index(name) for name in neighbours(guide))]
                axes.add_patch(Rectangle((min(family) - 0.5, i - 0.5), len(family), 1, fill=False, edgecolor=BLACK, linewidth=0.9))
                axes.add_patch(Rectangle((own - 0.44, i - 0.44), 0.88, 0.88, fill=False, edgecolor=BLACK, linewidth=1.6))
            axes.set_yticks(range(len(matrix)), [label(name) for name in matrix.index])
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            axes.set(title=f"{method}, points above the original trained again", ylabel="guide")
        columns = matrices[methods[-1]].columns
        panels[-1].set_xticks(range(len(columns)), [label(name) for name in columns], rotation=40, ha="right", rotation_mode="anchor")
        panels[-1].set_xlabel("corruption that is measured")
        foot(drawing, rows)
    drawing.set_label(_matrix_words(matrices))
    return drawing


def _matrix_words(matrices: Mapping[str, pd.DataFrame]) -> str:
    """What the heat map says, for those who cannot see it."""
    lines = []
    for method, matrix in matrices.items():
        for guide, gains in matrix.iterrows():
            near = gains[list(neighbours(str(guide)))].mean()
            rest = gains.drop([str(guide), *neighbours(str(guide))]).mean()
            lines.append(
                f"{method} guided by {label(str(guide))}: itself {gains[guide]:+z.1f}, its family {near:+z.1f}, the others {rest:+z.1f}"
            )
    return "Gain in points by guide and corruption. " + "; ".join(lines)
