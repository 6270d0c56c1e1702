"""The ladder's figure: what each rung gains on failures, against what it costs."""

from collections.abc import Mapping, Sequence

from rtalib.results.figures import style


def ladder_figure(rows: Sequence[Mapping], facts: Mapping) -> style.Drawing:
    """Gain on held-out images of the failing condition against seconds, with 95 % intervals, beside the change on clean images.

    rows, facts: of a Ladder. Rungs without a measured gain stand in the text alternative alone.
    """
    shown = [row for row in rows if row["applies"] and row["gain"] is not None]
    with style.use_style():
        drawing = style.figure(style.COLUMN * 1.25, 2.9)
        axes = drawing.subplots()
        axes.axhline(0, color=style.PALE, lw=1)
        axes.axhline(facts["goal"], color=style.ORANGE, lw=1, ls="--")
        axes.annotate(
            f"goal {facts['goal']:+g}", (0.99, facts["goal"]), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=6.5
        )
        for row in shown:
            axes.plot([row["seconds"]] * 2, [row["low"], row["high"]], color=style.BLUE, lw=1.2)
            axes.plot(row["seconds"], row["gain"], "o", color=style.BLUE, ms=5, mec="white", mew=0.5)
            clean = f"{row['rung']}\nclean {row['clean']:+.1f}" + (f", {row['labels']} labels" if row["labels"] else "")
            axes.annotate(clean, (row["seconds"], row["gain"]), (6, -3), textcoords="offset points", fontsize=6.5, va="top")
        if shown:
            axes.set_xscale("log")
            seconds = [max(row["seconds"], 1e-3) for row in shown]
            axes.set_xlim(min(seconds) / 1.6, max(seconds) * 6)
        axes.set(xlabel="seconds of repair", ylabel="gain on the failing condition, points", title=_title(facts))
        axes.grid(axis="y")
    drawing.set_label(_words(rows, facts))
    return drawing


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
