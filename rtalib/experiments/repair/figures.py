"""Figures of the CF-DARTS tables that have none in the paper: gains over a network, the size of the failure set, the cost."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.patches import Rectangle

from rtalib.experiments.repair.gain_parts import gain_matrix, neighbours
from rtalib.experiments.repair.tables import PAPER_SIZES
from rtalib.experiments.rta.severity_budget import returns
from rtalib.results.figures.arrays import difference_dots
from rtalib.results.figures.rows import MARKERS, foot
from rtalib.results.figures.style import BLACK, BLUE, COLUMN, CYCLE, GREY, ORANGE, PAGE, Drawing, colour, figure, use_style
from rtalib.results.papers import CORRUPTION_LABELS, Published, label, split_guide
from rtalib.results.tables import context, interval, values

STEPS = ("selection", "search", "retraining")


def gain_heatmap(rows: Sequence[Mapping], pairs: Sequence[tuple[str, str]], *, columns: Sequence[str] = (), title: str = "") -> Drawing:
    """A line per (method, reference): mean difference in points over matched seeds, on clean, failing examples and every corruption.

    Methods may have a guide ("gb: CF-DARTS"). Blue: the method is above its reference, red: below. ValueError where none was measured.
    """
    columns = list(columns) or [name for name in ("clean", "fail", *CORRUPTION_LABELS) if any(row.get(name) is not None for row in rows)]
    pairs = [
        (method, reference) for method, reference in pairs if len(values(rows, method, "clean")) and len(values(rows, reference, "clean"))
    ]
    if not pairs:
        raise ValueError("pairs: neither method nor reference of any pair was measured")
    gaps = np.array([[(values(rows, method, c) - values(rows, reference, c)).mean() for c in columns] for method, reference in pairs])
    reach = max(1.0, float(np.nanpercentile(np.abs(gaps), 95)))
    with use_style():
        drawing = figure(PAGE, 0.24 * len(pairs) + 1.1)
        axes = drawing.subplots()
        axes.imshow(gaps, cmap="RdBu", norm=TwoSlopeNorm(0, -reach, reach), aspect="auto")
        for (i, j), gap in np.ndenumerate(gaps):
            shade = "white" if abs(gap) > 0.75 * reach else BLACK
            axes.text(j, i, "" if np.isnan(gap) else f"{gap:+z.1f}", ha="center", va="center", fontsize=6, color=shade)
        axes.set_yticks(range(len(pairs)), [f"{method} − {split_guide(reference)[1]}" for method, reference in pairs])
        axes.set_xticks(range(len(columns)), [label(column) for column in columns], rotation=40, ha="right", rotation_mode="anchor")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(title or "Difference in points")
        foot(drawing, rows)
    return drawing


def size_curves(
    rows: Sequence[Mapping],
    methods: Mapping[str, Sequence[str]],
    *,
    metrics: Sequence[str] = ("clean", "gaussian_noise", "fail"),
    published: Published | None = None,
    reference: str | None = None,
) -> Drawing:
    """Accuracy against the size of the failure set, a panel per metric; methods: name of a line -> its rows, by rising size.

    Measured with 95 % intervals where there are several seeds; the paper's numbers as diamonds, dashed, at the sizes that
    stand for its own; `reference`: a method without failures, as a line across.
    """
    sizes = {row["method"]: row.get("budget", "") for row in rows}
    with use_style():
        drawing = figure(PAGE, 2.3)
        panels = drawing.subplots(1, len(metrics), squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            for k, (name, series) in enumerate(methods.items()):
                found = [values(rows, method, metric) for method in series]
                means, reach = [v.mean() for v in found], np.nan_to_num([interval(v) for v in found])
                look = {"fmt": f"{MARKERS[k]}-", "color": colour(name, k), "ms": 3.5, "elinewidth": 0.7, "capsize": 1.5}
                axes.errorbar(range(len(series)), means, yerr=reach, label=name, **look)
                if published:
                    given = [published.value(method, metric) for method in series]
                    printed = [np.nan if v is None else v for v in given]
                    look = {"ms": 3, "lw": 0.8, "color": ORANGE, "mec": colour(name, k)}
                    axes.plot(range(len(series)), printed, "D--", label=f"{name}, published", **look)
            if reference:
                axes.axhline(values(rows, reference, metric).mean(), color=BLACK, lw=0.8, ls=":", label=reference)
            ticks = [str(sizes.get(method, "")) for method in next(iter(methods.values()))]
            if published:
                ticks = [f"{ours}\n({theirs // 1000}k)" for ours, theirs in zip(ticks, PAPER_SIZES, strict=False)]
            axes.set_xticks(range(len(ticks)), ticks)
            axes.set(title=label(metric), xlabel="failure examples" + " (published)" * (published is not None))
            axes.grid(axis="y")
        drawing.supylabel("top-1, percent", fontsize=7.5)
        drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
        foot(drawing, rows)
    return drawing


def cost_bars(rows: Sequence[Mapping], published: Published, *, method: str = "CF-DARTS: ratio (%)") -> Drawing:
    """CF-DARTS table 7 as two stacked bars: the share of each step in the time, published and measured (mean over seeds)."""
    given = [published.value(method, step) for step in STEPS]
    found = [values(rows, method, step).mean() for step in STEPS]
    with use_style():
        drawing = figure(COLUMN * 1.5, 1.5)
        axes = drawing.subplots()
        for place, (shares, tint) in enumerate(((given, ORANGE), (found, BLUE))):
            start = 0.0
            for step, share, alpha in zip(STEPS, shares, (1.0, 0.65, 0.35), strict=True):
                axes.barh(place, share, left=start, height=0.6, color=tint, alpha=alpha, edgecolor="white")
                if share > 4:
                    axes.text(start + share / 2, place, f"{step}\n{share:.1f} %", ha="center", va="center", fontsize=6.5)
                start += share
        axes.set(yticks=(0, 1), yticklabels=("published", "measured"), xlabel="share of the time, percent", xlim=(0, 100))
        axes.invert_yaxis()
        foot(drawing, rows)
    return drawing


# ----------------------------------------------------------------------------------------------------- better together

# Figures of what neither paper tries: a factorial of architectures and training sets, effects, points per hour, guides and families.

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
