"""Figures of the CF-DARTS tables that have none in the paper: gains over a network, the size of the failure set, the cost."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import TwoSlopeNorm

from rtalib.figures import MARKERS, foot
from rtalib.papers import CORRUPTION_LABELS, Published, label, split_guide
from rtalib.plot_style import BLACK, BLUE, COLUMN, ORANGE, PAGE, Drawing, colour, figure, use_style
from rtalib.repair_tables import PAPER_SIZES
from rtalib.tables import interval, values

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
