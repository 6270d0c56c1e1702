"""Figures of the CF-DARTS tables that have none in the paper, and of the questions that neither paper asks."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from rtalib.experiments.repair.gain_parts import gain_matrix, neighbours
from rtalib.experiments.repair.tables import PAPER_SIZES
from rtalib.experiments.rta.severity_budget import returns
from rtalib.results.figures import style
from rtalib.results.figures.arrays import difference_dots, frame_cell, heat
from rtalib.results.figures.rows import COLUMNS, PUBLISHED
from rtalib.results.figures.samples import measured, origin, points, tidy
from rtalib.results.papers import Published, label, split_guide
from rtalib.results.tables import interval, values

METRICS = ("clean", "mean", "fail", "transfer_pgd")
TITLES = {"clean": "Clean", "mean": "15 corruptions, mean", "fail": "Failing examples", "transfer_pgd": "PGD, transferred"}
RATIO = "CF-DARTS: ratio (%)"  # a line of Table 7
STEPS = {"selection": style.RED, "search": style.BLUE, "retraining": style.PALE_BLUE}


# ------------------------------------------------------------------------------------------------------------------ gains


def _signed(gaps: np.ndarray) -> dict:
    """How a heat map shows differences: blue above zero, red below, full at the 95th percentile of their sizes, at least at one point."""
    reach = max(1.0, float(np.nanpercentile(np.abs(gaps), 95)))
    return {"cmap": "RdBu", "vmin": -reach, "vmax": reach, "linewidths": 0, "fmt": "+z.1f", "annot_kws": {"size": 6}}


def gain_heatmap(rows: Sequence[Mapping], pairs: Sequence[tuple[str, str]], *, columns: Sequence[str] = ()) -> style.Drawing:
    """A line per (method, reference): mean difference in points over matched seeds, on clean, failing examples and every corruption.

    Methods may have a guide ("gb: CF-DARTS"). Blue: the method is above its reference, red: below. Gray: the interval includes zero, or
    there is one seed. ValueError if no pair was measured.
    """
    columns = list(columns) or measured(rows, COLUMNS)
    pairs = [pair for pair in pairs if all(len(values(rows, method, "clean")) for method in pair)]
    if not pairs:
        raise ValueError("pairs: neither method nor reference of any pair was measured")
    samples = [[values(rows, method, c) - values(rows, reference, c) for c in columns] for method, reference in pairs]
    gaps = np.array([[sample.mean() for sample in line] for line in samples])
    undecided = np.array([[not abs(sample.mean()) > interval(sample) for sample in line] for line in samples]) & ~np.isnan(gaps)
    lines = [f"{method} − {split_guide(reference)[1]}" for method, reference in pairs]
    with style.sheet(style.PAGE, 0.24 * len(pairs) + 1.1, origin(rows)) as (drawing, axes):
        heat(axes, lines, [label(column) for column in columns], gaps, gaps, **_signed(gaps))
        _gray(axes, undecided)
        axes.set_title("Difference in points")
    return drawing


def _gray(axes: Axes, cells: np.ndarray) -> None:
    """Cover the colors of these cells of a heat map, and set their numbers back."""
    for line, column in np.argwhere(cells):
        axes.add_patch(Rectangle((column, line), 1, 1, color="#EDEDED", linewidth=0, zorder=1.5))
    for text in axes.texts:
        column, line = map(int, text.get_position())
        if cells[line, column]:
            text.set(color=style.DARK, zorder=3)


def neighbour_heatmap(rows: Sequence[Mapping]) -> style.Drawing:
    """Guide x corruption for CF-DARTS and CF-DARTSE: points above the deployed architecture trained again, mean over seeds.

    A frame marks the guide's family, a thick one the guide itself. rows: of the question 'neighbours'.
    """
    matrices = {method: gain_matrix(rows, method) for method in ("CF-DARTS", "CF-DARTSE")}
    look = _signed(pd.concat(matrices).to_numpy())
    height = sum(0.24 * len(matrix) + 0.45 for matrix in matrices.values()) + 0.8
    with style.sheet(style.PAGE, height, origin(rows), shape=(len(matrices), 1), sharex=True) as (drawing, _):
        for axes, (method, matrix) in zip(drawing.axes, matrices.items(), strict=True):
            heat(axes, list(map(label, matrix.index)), list(map(label, matrix)), matrix.to_numpy(), matrix.to_numpy(), **look)
            for line, guide in enumerate(matrix.index):
                family = [matrix.columns.get_loc(name) for name in (guide, *neighbours(guide))]
                frame_cell(axes, line, min(family), columns=len(family), color=style.BLACK, width=0.9)
                frame_cell(axes, line, family[0], inset=0.06, color=style.BLACK, width=1.6)
            axes.set(title=f"{method}, points above the original trained again", ylabel="guide")
        axes.set_xlabel("corruption that is measured")
    drawing.set_label(_in_words(matrices))
    return drawing


def _in_words(matrices: Mapping[str, pd.DataFrame]) -> str:
    lines = []
    for method, matrix in matrices.items():
        for guide, gains in matrix.iterrows():
            near = gains[list(neighbours(guide))].mean()
            rest = gains.drop([guide, *neighbours(guide)]).mean()
            found = f"itself {gains[guide]:+z.1f}, its family {near:+z.1f}, the others {rest:+z.1f}"
            lines.append(f"{method} guided by {label(guide)}: {found}")
    return "Gain in points by guide and corruption. " + "; ".join(lines)


def effect_dots(tables: Mapping[str, pd.DataFrame], rows: Sequence[Mapping]) -> style.Drawing:
    """Effects with their intervals: a line per effect, a color per table of contrasts.effects; {name of the series: table}."""
    names = list(dict.fromkeys(name for table in tables.values() for name in table["effect of"]))
    effects = {title: table.set_index("effect of")[["effect", "low", "high"]].reindex(names) for title, table in tables.items()}
    return difference_dots(
        {title: table.to_numpy(float) for title, table in effects.items()}, names, axis="points of top-1", foot=origin(rows)
    )


# ------------------------------------------------------------------------------------------------------- means, intervals


def size_curves(
    rows: Sequence[Mapping],
    methods: Mapping[str, Sequence[str]],
    *,
    metrics: Sequence[str] = ("clean", "gaussian_noise", "fail"),
    published: Published | None = None,
    reference: str | None = None,
) -> style.Drawing:
    """Accuracy against the size of the failure set, a panel per metric; methods: {name of a line: its rows' methods, by rising size}.

    Measured with 95 % intervals; the paper's numbers as dashed diamonds, at the sizes that stand for its own; `reference`: a method
    without failures, as a line across.
    """
    place = {method: (name, k) for name, series in methods.items() for k, method in enumerate(series)}
    frame = tidy(rows, list(place), metrics)
    frame[["line", "size"]] = [place[method] for method in frame["method"]]
    tints = {name: style.color(name, k) for k, name in enumerate(methods)}
    look = points(palette=tints, markers=list(style.MARKERS[: len(methods)]), dodge=0.15 * (len(methods) > 1), capsize=0.08)
    with style.sheet(style.PAGE, 2.3, origin(rows), shape=(1, len(metrics))) as (drawing, _):
        for axes, metric in zip(drawing.axes, metrics, strict=True):
            data = frame[frame["column"] == metric]
            seaborn.pointplot(data, x="size", y="percent", hue="line", hue_order=methods, ax=axes, **look)
            for name, series in methods.items() if published else ():
                printed = pd.Series([published.value(method, metric) for method in series], dtype=float)
                axes.plot(printed, label=f"{name}, published", **PUBLISHED | {"ls": "--", "lw": 0.8, "mec": tints[name], "mew": 0.8})
            if reference:
                axes.axhline(values(rows, reference, metric).mean(), color=style.BLACK, lw=0.8, ls=":", label=reference)
            sizes = _sizes(rows, next(iter(methods.values())), published is not None)
            axes.set_xticks(range(len(sizes)), sizes)
            axes.set(title=label(metric), xlabel="failure examples" + " (published)" * (published is not None), ylabel="")
            axes.grid(axis="y")
        drawing.supylabel("top-1, percent", fontsize=7.5)
        style.legend_above(drawing, *drawing.axes)
    return drawing


def _sizes(rows: Sequence[Mapping], methods: Sequence[str], published: bool) -> list[str]:
    """Sizes of the failure sets, with the paper's sizes that they stand for."""
    sizes = {row["method"]: str(row.get("budget", "")) for row in rows}
    ours = [sizes.get(method, "") for method in methods]
    return [f"{size}\n({theirs // 1000}k)" for size, theirs in zip(ours, PAPER_SIZES, strict=False)] if published else ours


def factorial(rows: Sequence[Mapping], cells: Sequence[str], sets: Sequence[str], *, metrics: Sequence[str] = METRICS) -> style.Drawing:
    """A panel per metric: the training sets across, accuracy up, a line per architecture with 95 % intervals and a dot per seed.

    rows: of together.run_table, whose methods are "<cell>, <set>". Lines that are not parallel show an interaction.
    """
    frame = tidy(rows, [f"{cell}, {data}" for cell in cells for data in sets], metrics)
    frame[["cell", "set"]] = [method.split(", ", 1) for method in frame["method"]]
    apart = 0.16  # between the two architectures, in steps from set to set
    frame["place"] = [sets.index(data) + apart * (cells.index(cell) - 0.5) for cell, data in zip(frame["cell"], frame["set"], strict=True)]
    shared = {"x": "set", "y": "percent", "hue": "cell", "order": sets, "hue_order": cells}
    look = points(palette=[style.ORANGE, style.BLUE], markers=list(style.MARKERS[:2]), dodge=apart)
    with style.sheet(style.PAGE, 2.5, origin(rows), shape=(1, len(metrics))) as (drawing, first):
        for axes, metric in zip(drawing.axes, metrics, strict=True):
            data = frame[frame["column"] == metric]
            seaborn.pointplot(data, ax=axes, **shared, **look)
            axes.plot(data["place"], data["percent"], ".", ms=3, color=style.GREY, zorder=1)
            style.slanted(axes, [name.replace(" + ", " +\n") for name in sets])
            axes.set(title=TITLES.get(metric, label(metric)), xlim=(-0.5, len(sets) - 0.5), xlabel="", ylabel="")
            axes.grid(axis="y")
        first.set_ylabel("top-1, percent")
        style.legend_above(drawing, *drawing.axes)
    return drawing


def chance_dots(rows: Sequence[Mapping], *, foot: str = "") -> style.Drawing:
    """Accuracy of searched cells beside that of random ones of the same size, seed by seed; a bar marks the random cells' median.

    rows: of chance.run.
    """
    frame = pd.DataFrame(rows)
    drawn, found = frame[frame["number"] > 0], frame[frame["number"] == 0]
    medians = drawn.groupby("seed", sort=False)["clean"].median()
    places = np.arange(len(medians))
    with style.sheet(style.COLUMN, 2.2, foot) as (drawing, axes):
        shared = {"x": "seed", "y": "clean", "order": medians.index, "jitter": False, "ax": axes}
        seaborn.stripplot(drawn, **shared, size=4, color=style.GREY, alpha=0.7, label="random cells")
        axes.hlines(medians, places - 0.25, places + 0.25, color=style.GREY, lw=1.2, label="their median")
        seaborn.stripplot(found, **shared, size=5, marker="D", color=style.RED, label="searched cell")
        axes.set(ylabel="top-1, percent")
        style.legend_above(drawing, axes)
    drawing.set_label("Top-1 of searched cells and of random cells of the same size, by seed")
    return drawing


# ------------------------------------------------------------------------------------------------------------------- cost


def cost_bars(rows: Sequence[Mapping], published: Published) -> style.Drawing:
    """CF-DARTS table 7 as two stacked bars: the share of each step in the time, published and measured (mean over seeds)."""
    start = np.zeros(2)
    with style.sheet(style.COLUMN, 1.5, origin(rows)) as (drawing, axes):
        for step, tint in STEPS.items():
            shares = np.array([published.value(RATIO, step), values(rows, RATIO, step).mean()])
            bars = axes.barh(["published", "measured"], shares, left=start, height=0.6, color=tint, edgecolor="white", label=step)
            ink = style.BLACK if tint == style.PALE_BLUE else "white"
            axes.bar_label(bars, [f"{share:.1f}" if share > 6 else "" for share in shares], label_type="center", fontsize=6.5, color=ink)
            start += shares
        axes.set(xlabel="share of the time, percent", xlim=(0, 100))
        axes.invert_yaxis()
        style.legend_above(drawing, axes)
    return drawing


def frontier(rows: Sequence[Mapping]) -> style.Drawing:
    """Score against hours of making the set and training on it (minutes if all are below one hour): a color per severity, a marker per
    number of copies, a line through the sets that no other beats on both.

    rows: of the question 'severity-budget'.
    """
    table = returns(rows)
    unit, factor = ("hours", 1) if table["hours"].max() >= 1 else ("minutes", 60)
    table[["hours", "± hours"]] *= factor
    device = " and ".join(sorted(set(table["device"])))
    tints = dict(zip(("originals", "1", "2", "3", "4", "5"), [style.BLACK, *style.CYCLE], strict=False))
    table["severity"] = table["severity"].map(list(tints).__getitem__)
    marks = dict(zip(sorted(set(table["copies"])), style.MARKERS, strict=False))
    with style.sheet(style.COLUMN, 2.6, origin(rows)) as (drawing, axes):
        best = table[table["frontier"]].sort_values("hours")
        axes.plot(best["hours"], best["score"], color=style.BLACK, lw=0.8, ls="--", zorder=1, label="frontier")
        for severity, sets in table.groupby("severity"):
            reach = {"xerr": sets["± hours"].fillna(0), "yerr": sets["± score"].fillna(0)}
            axes.errorbar(sets["hours"], sets["score"], **reach, fmt="none", ecolor=tints[severity], elinewidth=0.6)
        present = [name for name in tints if name in set(table["severity"])]
        look = {"hue": "severity", "hue_order": present, "palette": tints, "style": "copies", "markers": marks, "s": 25, "zorder": 3}
        seaborn.scatterplot(table, x="hours", y="score", ax=axes, **look)
        axes.set(xlabel=f"{device}-{unit} for one target, its set included", ylabel="score on the proxy suite, percent")
        axes.grid(True)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return drawing
