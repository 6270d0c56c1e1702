"""Figures of repairs: what each rung gains against what it costs, and core failures against those of other selectors."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from rtalib.results.figures import style
from rtalib.results.figures.arrays import difference_dots


def ladder_figure(rows: Sequence[Mapping], facts: Mapping) -> style.Drawing:
    """A line for each rung: its gain on held-out images of the failing condition, what it costs on clean images, seconds and labels.

    rows, facts: of a Ladder. Intervals are 95 % over images. A rung that does not apply, or whose gain is not known, has an empty line.
    """
    with style.use_style():
        drawing = style.figure(style.PAGE, 0.3 * len(rows) + 1.15)
        gain, clean, cost = drawing.subplots(1, 3, sharey=True, width_ratios=[3, 2, 2])
        for line, row in enumerate(rows):
            if row["gain"] is not None:
                _interval(gain, line, row["gain"], row["low"], row["high"], style.GREEN if row["reaches"] else style.BLUE)
            if row["clean"] is not None:
                _interval(clean, line, row["clean"], row["clean_low"], row["clean_high"], style.ORANGE)
                cost.plot([row["cpu_seconds"]], [line], "o", color=style.DARK, ms=5)
                words = f"{row['cpu_seconds']:.3g} s" + (f", {row['labels']} labels" if row["labels"] else "")
                cost.annotate(words, (row["cpu_seconds"], line), (7, 0), textcoords="offset points", va="center", fontsize=6.5)
        gain.axvline(facts["goal"], color=style.GREEN, lw=0.8, ls="--")
        gain.set(xlabel=f"points on failing images (goal {facts['goal']:+g})", title=_title(facts), ylim=(len(rows) - 0.5, -0.5))
        gain.set_yticks(range(len(rows)), [row["rung"] for row in rows])
        clean.set(xlabel="points on clean images", title="Price")
        seconds = [row["cpu_seconds"] for row in rows if row["cpu_seconds"]] or [1.0]
        cost.set(xscale="log", xlim=(min(seconds) / 2, max(seconds) * 40), xlabel="CPU seconds of repair", title="Cost")
        cost.minorticks_off()
        for axes in (gain, clean, cost):
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="x")
        for axes in (gain, clean):
            axes.axvline(0, color=style.BLACK, lw=0.6)
    drawing.set_label(_words(rows, facts))
    return drawing


def _interval(axes: Axes, line: int, value: float, low: float, high: float, color: str) -> None:
    axes.plot([low, high], [line, line], color=color, lw=1.4)
    axes.plot([value], [line], "o", color=color, ms=5)


def selector_dots(differences: pd.DataFrame, foot: str) -> style.Drawing:
    """Core minus each selector by budget, with 95 % intervals; differences: of core_or_random.differences."""
    table = differences.reset_index()
    names, budgets = list(dict.fromkeys(table["selector"])), list(dict.fromkeys(table["budget"]))
    by_budget = {budget: table[table["budget"] == budget].set_index("selector") for budget in budgets}
    series = {
        f"{budget} failures" if budget != "all" else "mean over budgets": part.reindex(names)[["difference", "low", "high"]].to_numpy()
        for budget, part in by_budget.items()
    }
    return difference_dots(series, names, axis="core minus this selector, points of accuracy on corrupted images", foot=foot)


def _title(facts: Mapping) -> str:
    before = facts["before"]["held"]
    return facts["condition"] + ("" if before is None else f", {before:.1f} % before")


def _words(rows: Sequence[Mapping], facts: Mapping) -> str:
    said = [
        f"{row['rung']} {row['gain']:+.1f} points in {row['seconds']:.1f} s"
        if row["gain"] is not None
        else f"{row['rung']}: {row['note'] or 'not measured'}"
        for row in rows
    ]
    return f"{_title(facts)}; goal {facts['goal']:+g} points. " + "; ".join(said)
