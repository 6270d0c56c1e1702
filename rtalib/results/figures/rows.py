"""Pure functions from result rows (flat dicts, see `tables`) to matplotlib figures; those from arrays lie in arrays.py.

Every figure is a `Drawing`: it shows itself in a notebook, needs no display and is in no registry. Every figure made from rows
says at its foot which scale, data set and seeds it shows. Intervals are 95 % Student-t intervals over seeds.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from rtalib.results.figures.arrays import (
    alpha_heatmap,
    difference_dots,
    heat,
    image_grid,
    selection_map,
    severity_gallery,
    transfer_heatmap,
)
from rtalib.results.figures.cells import draw_cell
from rtalib.results.figures.style import (
    BLACK,
    BLUE,
    COLUMN,
    CYCLE,
    GREY,
    ORANGE,
    PAGE,
    PALE,
    PALE_BLUE,
    Drawing,
    colour,
    figure,
    save,
    use_style,
)
from rtalib.results.papers import CORRUPTION_LABELS, FAMILIES, Published, label
from rtalib.results.tables import context, interval, values

__all__ = [
    "accuracy_curves",
    "alpha_heatmap",
    "corruption_dots",
    "difference_bars",
    "difference_dots",
    "draw_cell",
    "image_grid",
    "proxy_parts",
    "save",
    "score_bars",
    "selection_map",
    "severity_curves",
    "severity_gallery",
    "short_name",
    "transfer_heatmap",
    "use_style",
]

FIGURE_3 = ("AugMix", "CutMix", "DeepRepair", "AU-DARTSE", "RF-DARTSE", "CF-DARTSE")
FIGURE_2 = ("clean", "fail", "gaussian_noise", "shot_noise", "impulse_noise")
MARKERS = "osD^vPX*<>"
PUBLISHED = {"ms": 3, "color": ORANGE, "mec": BLACK, "mew": 0.4}  # a diamond
LEGEND = 5  # methods on a line of a legend


def short_name(method: str) -> str:
    """A method's name for an axis: "10,000 Ori + 4 × 10,000 Ori with FGSM" -> "+ FGSM"; other names stay."""
    if " with " in method and method.startswith("10,000 Ori"):
        return "+ " + method.rsplit(" with ", 1)[1].replace("(Ours)", "")
    return {"10,000 Ori(baseline)": "originals", "5 × 10,000 Ori": "5 × originals"}.get(method, method)


def _plain(method: str) -> bool:
    """Whether this is the variant of a guided search that does not train on the failures (no E at its end)."""
    return method.startswith(("AU-", "RF-", "CF-")) and not method.endswith("E")


def _methods(rows: Sequence[Mapping]) -> list[str]:
    if not rows:
        raise ValueError("rows: got none, expected at least one result row")
    return list(dict.fromkeys(str(row["method"]) for row in rows))


def foot(drawing: Drawing, rows: Sequence[Mapping]) -> None:
    """The scale, the data set and the seeds, on the figure's face."""
    facts = context(rows)
    parts = [f"{name} {facts[name]}" for name in ("scale", "dataset", "protocol", "seed") if name in facts]
    drawing.supxlabel(" · ".join(parts), fontsize=6, color=GREY, x=0.99, ha="right")


def score_bars(rows: Sequence[Mapping], published: Published | None = None, *, metric: str = "score") -> Drawing:
    """RTA's tables: measured bars with intervals and a dot per seed, and beside them, on an axis of its own, the paper's numbers.

    The two axes are apart because a score on the proxy parts and one on the contest's hidden set have different levels.
    """
    methods = _methods(rows)
    with use_style():
        drawing = figure(PAGE if published else COLUMN * 1.25, 0.26 * len(methods) + 0.85)
        panels = drawing.subplots(1, 2 if published else 1, sharey=True, squeeze=False, width_ratios=[3, 2] if published else None)[0]
        _measured_bars(panels[0], rows, methods, metric)
        if published:
            _published_dots(panels[1], published, methods, metric)
        foot(drawing, rows)
    return drawing


def _measured_bars(axes: Axes, rows: Sequence[Mapping], methods: list[str], metric: str) -> None:
    places = np.arange(len(methods))
    series = [values(rows, method, metric) for method in methods]
    means = np.array([found.mean() for found in series])
    reach = np.array([interval(found) for found in series])
    tints = [BLUE if method.endswith(("(Ours)", "search")) else PALE_BLUE for method in methods]
    axes.barh(places, means, color=tints, height=0.62, zorder=2)
    axes.errorbar(means, places, xerr=np.nan_to_num(reach), fmt="none", ecolor=BLACK, elinewidth=0.8, capsize=1.8, zorder=4)
    for place, found in zip(places, series, strict=True):
        axes.plot(found, np.full(len(found), place), "o", ms=2.2, color="white", mec=BLACK, mew=0.4, zorder=3)
    low, high = np.nanmin(means - np.nan_to_num(reach)), np.nanmax(means + np.nan_to_num(reach))
    start = max(0.0, low - 0.25 * (high - low) - 1)
    for place, mean, half, found in zip(places, means, np.nan_to_num(reach), series, strict=True):
        end = np.fmax(mean + half, found.max())  # a seed may lie beyond the interval
        axes.annotate(f"{mean:.1f}", (end, place), (4, 0), textcoords="offset points", va="center", fontsize=6.5)
    axes.set(xlim=(start, high + 0.12 * (high - start)), yticks=places, yticklabels=[short_name(m) for m in methods])
    axes.set(xlabel=f"{label(metric)}, percent (axis from {start:.0f})", title="Measured")
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def _published_dots(axes: Axes, published: Published, methods: list[str], metric: str) -> None:
    found = [(i, published.value(method, metric)) for i, method in enumerate(methods)]
    places, numbers = zip(*[(i, value) for i, value in found if value is not None], strict=True)
    span = max(numbers) - min(numbers) or 1.0
    axes.hlines(places, min(numbers) - 0.1 * span, numbers, color=PALE, lw=1.2, zorder=1)
    axes.plot(numbers, places, "D", ms=4, color=ORANGE, mec=BLACK, mew=0.4, zorder=3)
    for place, number in zip(places, numbers, strict=True):
        axes.annotate(f"{number:.1f}", (number, place), (6, 0), textcoords="offset points", va="center", fontsize=6.5)
    axes.set(
        xlim=(min(numbers) - 0.1 * span, max(numbers) + 0.22 * span), title="Published", xlabel=f"{label(metric)}, percent, hidden set"
    )
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def proxy_parts(rows: Sequence[Mapping], *, parts: Sequence[str]) -> Drawing:
    """Method x part of the proxy score: percent in every cell, shaded within its column, the best of a column bold."""
    methods = _methods(rows)
    table = np.array([[values(rows, method, part).mean() for part in parts] for method in methods])
    low, span = np.nanmin(table, axis=0), np.ptp(np.nan_to_num(table, nan=np.nanmin(table)), axis=0)
    with use_style():
        drawing = figure(PAGE, 0.27 * len(methods) + 0.95)
        axes = drawing.subplots()
        heat(axes, (table - low) / np.where(span > 0, span, 1), [[f"{v:.1f}" for v in line] for line in table], bold=table.argmax(axis=0))
        axes.set(yticks=range(len(methods)), yticklabels=[short_name(m) for m in methods])
        axes.set(xticks=range(len(parts)), xticklabels=[label(part).replace(" ", "\n", 1) for part in parts])
        axes.set_title("Proxy parts, top-1 in percent, shaded by column")
        foot(drawing, rows)
    return drawing


def difference_bars(
    rows: Sequence[Mapping],
    published: Published | None = None,
    *,
    methods: Sequence[str] = FIGURE_3,
    reference: str = "Org. DNN",
) -> Drawing:
    """CF-DARTS figure 3: per method a panel of (method - reference) on clean, failing examples and every corruption.

    Intervals are over matched seeds, and cut off where they leave the panel. Diamonds: the same difference in `published`, at the panel's
    edge and with their number where they lie beyond it. Methods without rows are left out.
    """
    present = _methods(rows)
    methods = [method for method in methods if method in present] or [method for method in present if method != reference]
    columns = [name for name in ("clean", "fail", *CORRUPTION_LABELS) if any(row.get(name) is not None for row in rows)]
    base = {column: values(rows, reference, column) for column in columns}
    if reference not in present:
        raise ValueError(f"rows: none of the reference method {reference!r}; methods: {', '.join(present)}")
    with use_style():
        drawing = figure(PAGE, 0.82 * len(methods) + 0.9)
        panels = drawing.subplots(len(methods), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        heights = []
        for axes, method in zip(panels, methods, strict=True):
            gaps = [values(rows, method, column) - base[column] for column in columns]
            _difference_panel(axes, [gap.dropna() for gap in gaps], colour(method))
            heights += [gap.mean() for gap in gaps]
            axes.set_title(method, fontsize=7.5, pad=2)
            _families(axes, columns, named=axes is panels[0], lift=11)  # above the panel's title
        panels[-1].set_xticks(range(len(columns)), [label(column) for column in columns], rotation=40, ha="right", rotation_mode="anchor")
        low, high = min(0, np.nanmin(heights)), max(0, np.nanmax(heights))
        panels[0].set_ylim(low - 0.2 * (high - low), high + 0.35 * (high - low))
        drawing.supylabel(f"accuracy minus {reference}, points", fontsize=7.5)
        if published:
            for axes, method in zip(panels, methods, strict=True):
                _published_gaps(axes, published, method, reference, columns)
            panels[0].plot([], [], "D", **PUBLISHED, label="published; with a number: beyond the panel")
            drawing.legend(loc="outside upper right")
        foot(drawing, rows)
    return drawing


def _difference_panel(axes: Axes, gaps: list, tint: str) -> None:
    means = np.array([gap.mean() if len(gap) else np.nan for gap in gaps])
    reach = np.nan_to_num([interval(gap) for gap in gaps])
    bars = axes.bar(range(len(gaps)), means, color=tint, width=0.68, zorder=2)
    for bar, mean in zip(bars, means, strict=True):
        if mean < 0:
            bar.set(facecolor="white", edgecolor=tint, hatch="/////", linewidth=0.7)
    axes.errorbar(range(len(gaps)), means, yerr=reach, fmt="none", ecolor=BLACK, elinewidth=0.7, capsize=1.4, zorder=3)
    axes.axhline(0, color=BLACK, lw=0.6)
    axes.grid(axis="y")
    axes.margins(x=0.01)
    axes.tick_params(axis="x", length=0)


def _published_gaps(axes: Axes, published: Published, method: str, reference: str, columns: Sequence[str]) -> None:
    for i, column in enumerate(columns):
        both = published.value(method, column), published.value(reference, column)
        if None in both:
            continue
        gap, (low, high) = both[0] - both[1], axes.get_ylim()
        inside, edge = low <= gap <= high, 0.1 * (high - low)
        shown = gap if inside else high - edge if gap > high else low + edge
        axes.plot([i], [shown], "D", **PUBLISHED, zorder=4)
        if not inside:
            axes.annotate(f"{gap:.0f}", (i, shown), (4, 0), textcoords="offset points", va="center", fontsize=5.5)


def _families(axes: Axes, columns: Sequence[str], *, named: bool, lift: float = 3) -> None:
    """Thin lines between noise, blur, weather and digital, named above when asked."""
    start = sum(column in ("clean", "fail") for column in columns)
    for name, members in FAMILIES.items():
        if members[-1] not in columns:
            continue
        axes.axvline(start - 0.5, color=PALE, lw=0.8, zorder=0)
        end = columns.index(members[-1]) + 1
        if named:
            axes.annotate(
                name.capitalize(),
                ((start + end - 1) / 2, 1),
                (0, lift),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="center",
            )
        start = end


def corruption_dots(rows: Sequence[Mapping], *, methods: Sequence[str] | None = None) -> Drawing:
    """Accuracy of every method on clean, failing examples and every corruption: a dot and an interval each (CF-DARTS figure 4).

    Hollow: the variant that only searches with the failures; filled: the E variant that also trains on them.
    """
    methods = list(methods or _methods(rows))
    columns = [name for name in ("clean", "fail", *CORRUPTION_LABELS) if any(row.get(name) is not None for row in rows)]
    looks = [(colour(method, i), "white" if _plain(method) else colour(method, i)) for i, method in enumerate(methods)]
    with use_style():
        drawing = figure(PAGE, 2.75 + 0.15 * -(-len(methods) // LEGEND))
        axes = drawing.subplots()
        offsets = (np.arange(len(methods)) - (len(methods) - 1) / 2) * min(0.2, 0.8 / len(methods))
        for i, (method, offset) in enumerate(zip(methods, offsets, strict=True)):
            series = [values(rows, method, column) for column in columns]
            means, reach = [s.mean() for s in series], np.nan_to_num([interval(s) for s in series])
            tint, fill = looks[i] if len(set(looks)) == len(methods) else (CYCLE[i % len(CYCLE)],) * 2
            axes.errorbar(
                np.arange(len(columns)) + offset,
                means,
                yerr=reach,
                fmt=MARKERS[i % len(MARKERS)],
                ms=3.4,
                color=tint,
                mfc=fill,
                mew=0.8,
                elinewidth=0.8,
                label=method,
            )
        _families(axes, columns, named=True)
        axes.set_xticks(range(len(columns)), [label(column) for column in columns], rotation=40, ha="right", rotation_mode="anchor")
        axes.set(ylabel="top-1, percent", xlim=(-0.5, len(columns) - 0.5))
        axes.grid(axis="y")
        drawing.legend(loc="outside upper center", ncols=min(len(methods), LEGEND))
        foot(drawing, rows)
    return drawing


def accuracy_curves(rows: Sequence[Mapping], *, metrics: Sequence[str] = FIGURE_2, methods: Sequence[str] | None = None) -> Drawing:
    """CF-DARTS figure 2: accuracy along training, a panel per metric, a line per method: mean over seeds, band from least to greatest.

    Reads row["history"], a list of dicts with "epoch" and the metrics in percent. ValueError where no row has one.
    """
    with_history = [row for row in rows if row.get("history") and (methods is None or row["method"] in methods)]
    metrics = [metric for metric in metrics if any(metric in point for row in with_history for point in row["history"])]
    if not metrics:
        raise ValueError("rows: none has a history with these metrics; expected row['history'] = [{'epoch': 1, 'clean': 41.2, ...}, ...]")
    with use_style():
        shown = _methods(with_history)
        drawing = figure(PAGE, 1.9 + 0.15 * -(-len(shown) // LEGEND))
        panels = drawing.subplots(1, len(metrics), sharex=True, squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            for i, method in enumerate(shown):
                _curve(axes, [row["history"] for row in with_history if row["method"] == method], metric, colour(method, i), method)
            axes.set(title=label(metric), xlabel="epoch")
            axes.locator_params(axis="x", integer=True)
            axes.grid(axis="y")
        drawing.supylabel("top-1, percent", fontsize=7.5)
        handles, names = panels[0].get_legend_handles_labels()
        drawing.legend(handles, names, loc="outside upper center", ncols=min(len(names), LEGEND))
        foot(drawing, with_history)
    return drawing


def _curve(axes: Axes, histories: list[list[Mapping]], metric: str, tint: str, name: str) -> None:
    by_epoch: dict[int, list[float]] = {}
    for point in (point for history in histories for point in history):
        if metric in point:
            by_epoch.setdefault(int(point["epoch"]), []).append(float(point[metric]))
    epochs = sorted(by_epoch)
    axes.plot(epochs, [np.mean(by_epoch[e]) for e in epochs], "--" if _plain(name) else "-", color=tint, label=name, lw=1.2)
    axes.fill_between(epochs, [min(by_epoch[e]) for e in epochs], [max(by_epoch[e]) for e in epochs], color=tint, alpha=0.18, lw=0)


def severity_curves(rows: Sequence[Mapping], *, metric: str = "psnr", unit: str = "PSNR, dB", columns: int = 5) -> Drawing:
    """A corruption measure along the severity: a panel per type, a line per benchmark, all on one axis.

    rows: those of `corruptions.psnr.distances`, with "benchmark", "corruption", "severity" and the metric.
    """
    if not rows:
        raise ValueError("rows: got none, expected at least one row")
    types, benchmarks = (list(dict.fromkeys(row[name] for row in rows)) for name in ("corruption", "benchmark"))
    columns = min(columns, len(types))
    lines = -(-len(types) // columns)
    with use_style():
        drawing = figure(PAGE, 1.15 * lines + 0.65)
        panels = drawing.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes, name in zip(panels.flat, types, strict=False):
            for benchmark, tint, marker in zip(benchmarks, CYCLE, MARKERS, strict=False):
                points = sorted(
                    (row["severity"], row[metric]) for row in rows if (row["corruption"], row["benchmark"]) == (name, benchmark)
                )
                axes.plot(*zip(*points, strict=True), marker=marker, ms=3, lw=1.2, color=tint, label=benchmark)
            axes.set(title=name.replace("_", " "), xticks=sorted({row["severity"] for row in rows}))
            axes.locator_params(axis="y", nbins=6)
            axes.grid(axis="y")
        for axes in panels.flat[len(types) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel(unit)
        for axes in panels[-1]:
            axes.set_xlabel("severity")
        drawing.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(benchmarks))
        foot(drawing, rows)
    return drawing
