"""Claims in one picture: what was published against what was measured, with intervals, and what can be said of each."""

import pandas as pd

from rtalib.results.figures import style
from rtalib.results.style import VERDICT_COLORS

LINEAR = 2.0  # points up to which the axes are linear; beyond, they are logarithmic, because published gains go from 0.02 to 70 points
TICKS = (-10, -3, -1, 0, 1, 3, 10, 30, 70)


def published_against_measured(claims: pd.DataFrame, foot: str = "") -> style.Drawing:
    """A dot a claim: the published difference across, the measured one with its 95 % interval up, both in points.

    claims: of `tables.verdicts` or of a run's claims.csv; those without a published difference or an interval are left out. A dot on the
    diagonal is as far apart as published. Filled dots survive the correction for the number of claims of their table. ValueError if none is
    left.
    """
    shown = claims[claims["published"].notna() & claims["low"].notna() & (claims["metric"] != "columns")]
    if not len(shown):
        raise ValueError("claims: none has a published difference and a measured interval; expected at least one")
    with style.sheet(style.COLUMN, 3.6, foot) as (drawing, axes):
        for verdict, tint in VERDICT_COLORS.items():
            part = shown[shown["verdict"] == verdict]
            filled = verdict in ("reproduced", "not reproduced")
            if len(part):
                errors = [part["difference"] - part["low"], part["high"] - part["difference"]]
                look = {"color": tint, "mfc": tint if filled else "white", "zorder": 4 if filled else 3}
                axes.errorbar(
                    part["published"], part["difference"], errors, fmt="o", ms=4.5, lw=0.9, label=f"{verdict} ({len(part)})", **look
                )
        for scale in (axes.set_xscale, axes.set_yscale):
            scale("symlog", linthresh=LINEAR, linscale=0.8)
        axes.set(xlim=(-0.4, 90), ylim=(-11, 90), xlabel="published difference, points", ylabel="measured difference, points, 95 %")
        ticks = {tick: f"{tick:+d}" if tick else "0" for tick in TICKS}
        axes.set_xticks([tick for tick in ticks if tick >= 0], [text for tick, text in ticks.items() if tick >= 0])
        axes.set_yticks(list(ticks), list(ticks.values()))
        axes.minorticks_off()
        axes.axline((0, 0), (1, 1), color=style.GREY, lw=0.7, ls=(0, (4, 3)), zorder=1)
        axes.axhline(0, color=style.BLACK, lw=0.6, zorder=1)
        axes.grid(alpha=0.5)
        style.legend_above(drawing, axes, columns=2)
    return drawing
