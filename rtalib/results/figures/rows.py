"""Figures of result rows (flat dicts, see `tables`): scores, differences, accuracy by corruption, curves.

Every figure states at its foot the scale, the data set, the protocol and the seeds of its rows. Intervals are 95 % Student-t intervals
over seeds.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes

from rtalib.results.figures import style
from rtalib.results.figures.arrays import heat
from rtalib.results.figures.samples import measured, method_names, origin, points, short_name, student, tidy
from rtalib.results.papers import CORRUPTION_LABELS, FAMILIES, Published, label
from rtalib.results.tables import values

FIGURE_3 = ("AugMix", "CutMix", "DeepRepair", "AU-DARTSE", "RF-DARTSE", "CF-DARTSE")
REFERENCE = "Org. DNN"
FIGURE_2 = ("clean", "fail", "gaussian_noise", "shot_noise", "impulse_noise")
COLUMNS = ("clean", "fail", *CORRUPTION_LABELS)
PUBLISHED = {"marker": "D", "ms": 3, "ls": "", "color": style.ORANGE, "mec": style.BLACK, "mew": 0.4, "zorder": 5}


def _only_searches(method: str) -> bool:
    """Whether this is the variant of a guided search that does not train on the failures (no E at its end)."""
    return method.startswith(("AU-", "RF-", "CF-")) and not method.endswith("E")


# ---------------------------------------------------------------------------------------------------------- tables of RTA


def score_bars(rows: Sequence[Mapping], published: Published | None = None, *, metric: str = "score") -> style.Drawing:
    """RTA's tables: measured bars with intervals and a dot per seed; beside them, on their own axis, the paper's numbers.

    The axes differ because a score on the proxy parts and a score on the contest's hidden set have different levels.
    """
    methods = method_names(rows)
    width, shape = (style.PAGE, {"shape": (1, 2), "sharey": True, "width_ratios": [3, 2]}) if published else (style.COLUMN, {})
    with style.sheet(width, 0.26 * len(methods) + 0.85, origin(rows), **shape) as (drawing, _):
        start = _measured_bars(drawing.axes[0], tidy(rows, methods, [metric]), methods)
        drawing.axes[0].set_xlabel(f"{label(metric)}, percent (axis from {start:.0f})")
        if published:
            _published_dots(drawing.axes[1], [published.value(method, metric) for method in methods])
            drawing.axes[1].set_xlabel(f"{label(metric)}, percent, hidden set")
        for axes in drawing.axes:
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="x")
    return drawing


def _measured_bars(axes: Axes, frame: pd.DataFrame, methods: Sequence[str]) -> float:
    """Draw the bars; returns where their axis begins."""
    tints = {method: style.BLUE if method.endswith(("(Ours)", "search")) else style.PALE_BLUE for method in methods}
    look = {"capsize": 0.25, "err_kws": {"color": style.BLACK, "linewidth": 0.8}, "saturation": 1, "width": 0.62}
    shared = {"data": frame, "x": "percent", "y": "method", "order": methods, "ax": axes}
    seaborn.barplot(**shared, hue="method", palette=tints, errorbar=student, **look)
    seaborn.stripplot(**shared, jitter=False, size=2.2, color="white", edgecolor=style.BLACK, linewidth=0.4, zorder=3)
    samples = frame.groupby("method")["percent"]
    means, lows = samples.mean(), samples.agg(lambda sample: np.fmin(sample.mean(), student(sample)[0]))
    ends = samples.agg(lambda sample: np.fmax(sample.max(), student(sample)[1]))  # a seed may lie beyond the interval
    for method, mean in means.items():
        at = ends[method], methods.index(method)
        axes.annotate(f"{mean:.1f}", at, (4, 0), textcoords="offset points", va="center", fontsize=6.5)
    low, high = lows.min(), ends.max()
    start = max(0.0, low - 0.25 * (high - low) - 1)
    axes.set(xlim=(start, high + 0.12 * (high - start)), ylabel="", title="Measured")
    axes.set_yticks(range(len(methods)), [short_name(method) for method in methods])
    return start


def _published_dots(axes: Axes, numbers: Sequence[float | None]) -> None:
    given = pd.Series(numbers, dtype=float).dropna()
    span = given.max() - given.min() or 1.0
    axes.hlines(given.index, given.min() - 0.1 * span, given, color=style.PALE, lw=1.2, zorder=1)
    axes.plot(given, given.index, **PUBLISHED | {"ms": 4})
    for place, number in given.items():
        axes.annotate(f"{number:.1f}", (number, place), (6, 0), textcoords="offset points", va="center", fontsize=6.5)
    axes.set(xlim=(given.min() - 0.1 * span, given.max() + 0.25 * span), title="Published")
    axes.locator_params(axis="x", nbins=5)


def proxy_parts(rows: Sequence[Mapping], *, parts: Sequence[str]) -> style.Drawing:
    """Method x part of the proxy score: percent in every cell, shaded within its column, the best of a column bold."""
    methods = method_names(rows)
    table = np.array([[values(rows, method, part).mean() for part in parts] for method in methods])
    low, span = np.nanmin(table, axis=0), np.ptp(np.nan_to_num(table, nan=np.nanmin(table)), axis=0)
    best = list(zip(table.argmax(axis=0), range(len(parts)), strict=True))
    lines, columns = [short_name(method) for method in methods], [label(part).replace(" ", "\n", 1) for part in parts]
    with style.sheet(style.PAGE, 0.27 * len(methods) + 0.95, origin(rows)) as (drawing, axes):
        heat(axes, lines, columns, (table - low) / np.where(span > 0, span, 1), table, fmt=".1f", bold=best)
        axes.set_xticks(axes.get_xticks(), columns, rotation=0, ha="center")
        axes.set_title("Proxy parts, top-1 in percent, shaded by column")
    return drawing


# ----------------------------------------------------------------------------------------------------- figures of CF-DARTS


def difference_bars(rows: Sequence[Mapping], published: Published | None = None, *, methods: Sequence[str] = FIGURE_3) -> style.Drawing:
    """CF-DARTS figure 3: per method a panel of (method - REFERENCE) on clean, failing examples and every corruption.

    Intervals are over matched seeds and end at the edge of the panel. Diamonds show the same difference in `published`; those beyond the
    panel stand at its edge with their number. Methods without rows are left out. ValueError if the reference has none.
    """
    present = method_names(rows)
    if REFERENCE not in present:
        raise ValueError(f"rows: none of the reference method {REFERENCE!r}; methods: {', '.join(present)}")
    methods = [method for method in methods if method in present] or [method for method in present if method != REFERENCE]
    columns = measured(rows, COLUMNS)
    frame = tidy(rows, methods, columns, minus=REFERENCE)
    means = frame.groupby(["method", "column"])["percent"].mean()
    low, high = min(0, means.min()), max(0, means.max())
    size = style.PAGE, 0.82 * len(methods) + 0.9
    with style.sheet(*size, origin(rows), shape=(len(methods), 1), sharex=True, sharey=True) as (drawing, _):
        panels = drawing.axes
        panels[0].set_ylim(low - 0.2 * (high - low), high + 0.35 * (high - low))
        for axes, method in zip(panels, methods, strict=True):
            _difference_panel(axes, frame[frame["method"] == method], columns, style.color(method))
            axes.set_title(method, fontsize=7.5, pad=2)
            _families(axes, columns, lift=11 if axes is panels[0] else None)  # above the panel's title
            if published:
                _published_gaps(axes, published, method, columns)
        style.slanted(panels[-1], [label(column) for column in columns])
        drawing.supylabel(f"accuracy minus {REFERENCE}, points", fontsize=7.5)
        if published:
            panels[0].plot([], [], **PUBLISHED, label="published; with a number: beyond the panel")
            drawing.legend(loc="outside upper right")
    return drawing


def _difference_panel(axes: Axes, frame: pd.DataFrame, columns: Sequence[str], tint: str) -> None:
    look = {"color": tint, "saturation": 1, "width": 0.68, "capsize": 0.15, "err_kws": {"color": style.BLACK, "linewidth": 0.7}}
    seaborn.barplot(frame, x="column", y="percent", order=columns, errorbar=student, ax=axes, **look)
    for bar in axes.patches:
        if bar.get_height() < 0:
            bar.set(facecolor="white", edgecolor=tint, hatch="/////", linewidth=0.7)
    axes.axhline(0, color=style.BLACK, lw=0.6)
    axes.grid(axis="y")
    axes.tick_params(axis="x", length=0)
    axes.set(xlabel="", ylabel="", xlim=(-0.6, len(columns) - 0.4))


def _published_gaps(axes: Axes, published: Published, method: str, columns: Sequence[str]) -> None:
    low, high = axes.get_ylim()
    inset = 0.06 * (high - low)  # of a diamond at the edge
    for place, column in enumerate(columns):
        both = published.value(method, column), published.value(REFERENCE, column)
        if None in both:
            continue
        gap = both[0] - both[1]
        shown = gap if low <= gap <= high else high - inset if gap > high else low + inset
        axes.plot([place], [shown], **PUBLISHED, clip_on=False, in_layout=False)  # whole at the very edge, too
        if shown != gap:
            axes.annotate(f"{gap:.0f}", (place, shown), (4, 0), textcoords="offset points", va="center", fontsize=6)


def _families(axes: Axes, columns: Sequence[str], *, lift: float | None) -> None:
    """Thin lines between noise, blur, weather and digital; their names stand `lift` points above the axes, or nowhere if it is None."""
    for name, members in FAMILIES.items():
        places = [place for place, column in enumerate(columns) if column in members]
        if not places:
            continue
        axes.axvline(places[0] - 0.5, color=style.PALE, lw=0.8, zorder=0)
        if lift is not None:
            at = sum(places) / len(places), 1
            axes.annotate(name.capitalize(), at, (0, lift), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center")


def corruption_dots(rows: Sequence[Mapping], *, methods: Sequence[str] | None = None) -> style.Drawing:
    """Accuracy of every method on clean, failing examples and every corruption: a dot and an interval each (CF-DARTS figure 4).

    Hollow: the variant that only searches with the failures; filled: the E variant that also trains on them.
    """
    methods = list(methods or method_names(rows))
    columns = measured(rows, COLUMNS)
    own = len({(style.color(method, i), _only_searches(method)) for i, method in enumerate(methods)}) == len(methods)
    tints = {method: style.color(method, i) if own else style.CYCLE[i % len(style.CYCLE)] for i, method in enumerate(methods)}
    look = {"palette": tints, "markers": [style.MARKERS[i % len(style.MARKERS)] for i in range(len(methods))], "linestyle": "none"}
    look |= {"capsize": 0, "markeredgewidth": 0.8, "dodge": (len(methods) - 1) * min(0.2, 0.8 / len(methods))}
    frame = tidy(rows, methods, columns)
    with style.sheet(style.PAGE, 2.75 + 0.15 * -(-len(methods) // style.LEGEND), origin(rows)) as (drawing, axes):
        seaborn.pointplot(frame, x="column", y="percent", hue="method", order=columns, hue_order=methods, ax=axes, **points(**look))
        dots = [line for line in axes.lines if line.get_marker() in style.MARKERS]  # of the methods, then of the legend
        for method, line in zip(methods * 2, dots, strict=True):
            line.set(zorder=3, markerfacecolor="white" if own and _only_searches(method) else tints[method])
        _families(axes, columns, lift=3)
        style.slanted(axes, [label(column) for column in columns])
        axes.set(xlabel="", ylabel="top-1, percent", xlim=(-0.5, len(columns) - 0.5))
        axes.grid(axis="y")
        style.legend_above(drawing, axes)
    return drawing


def accuracy_curves(rows: Sequence[Mapping]) -> style.Drawing:
    """CF-DARTS figure 2: accuracy along training, a panel per metric, a line per method: mean over seeds, band from least to greatest.

    Reads row["history"], a list of dicts with "epoch" and metrics of FIGURE_2 in percent. ValueError if no row has one.
    """
    kept = [row for row in rows if row.get("history")]
    frame = pd.DataFrame([{**point, "method": row["method"]} for row in kept for point in row["history"]])
    metrics = [metric for metric in FIGURE_2 if metric in frame]
    if not metrics:
        raise ValueError("rows: none has a history with these metrics; expected row['history'] = [{'epoch': 1, 'clean': 41.2, ...}, ...]")
    shown = method_names(kept)
    look = {"palette": {method: style.color(method, i) for i, method in enumerate(shown)}, "linewidth": 1.2, "errorbar": ("pi", 100)}
    look |= {"style": "method", "dashes": {method: (3, 1.5) if _only_searches(method) else "" for method in shown}}
    size = style.PAGE, 1.9 + 0.15 * -(-len(shown) // style.LEGEND)
    with style.sheet(*size, origin(kept), shape=(1, len(metrics)), sharex=True) as (drawing, _):
        for axes, metric in zip(drawing.axes, metrics, strict=True):
            seaborn.lineplot(frame, x="epoch", y=metric, hue="method", err_kws={"alpha": 0.18, "linewidth": 0}, ax=axes, **look)
            axes.set(title=label(metric), ylabel="")
            axes.locator_params(axis="x", integer=True)
            axes.grid(axis="y")
        drawing.supylabel("top-1, percent", fontsize=7.5)
        style.legend_above(drawing, *drawing.axes)
    return drawing


def severity_curves(rows: Sequence[Mapping]) -> style.Drawing:
    """PSNR of the corruptions along the severity: a panel per type, a line per benchmark, all on one axis.

    rows: those of `corruptions.psnr.distances`, with "benchmark", "corruption", "severity" and "psnr".
    """
    if not rows:
        raise ValueError("rows: got none, expected at least one row")
    frame = pd.DataFrame(rows)
    types, benchmarks = frame["corruption"].unique(), list(frame["benchmark"].unique())
    columns = min(5, len(types))
    lines = -(-len(types) // columns)
    look = {"hue_order": benchmarks, "style_order": benchmarks, "markers": list(style.MARKERS[: len(benchmarks)]), "dashes": False}
    with style.sheet(style.PAGE, 1.15 * lines + 0.65, origin(rows), shape=(lines, columns), sharex=True, sharey=True) as (drawing, _):
        for axes, name in zip(drawing.axes, types, strict=False):
            data = frame[frame["corruption"] == name]
            shared = {"x": "severity", "y": "psnr", "hue": "benchmark", "style": "benchmark", "errorbar": None, "ax": axes}
            seaborn.lineplot(data, **shared, **look, ms=3, mew=0, linewidth=1.2)
            axes.set(title=name.replace("_", " "), xticks=sorted(frame["severity"].unique()), ylabel="PSNR, dB")
            axes.locator_params(axis="y", nbins=6)
            axes.grid(axis="y")
            axes.label_outer()
        for axes in drawing.axes[len(types) :]:
            axes.set_visible(False)
        style.legend_above(drawing, *drawing.axes[: len(types)])
    return drawing
