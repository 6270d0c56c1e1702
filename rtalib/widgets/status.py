"""A run while it goes on: bars of what is done, running, failed and missing, drawn anew as it advances."""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.patches import Patch

from rtalib.cli import status
from rtalib.results.figures.style import BLUE, GREY, ORANGE, PAGE, PALE, RED, Drawing, figure, place, use_style
from rtalib.widgets.base import as_html

if TYPE_CHECKING:
    from ipywidgets import VBox

COLOURS = {"done": BLUE, "running": ORANGE, "failed": RED, "missing": PALE}
KINDS = {"ok": "done", "running": "running", "missing": "missing"}  # of notebooks; every other one has failed


def counts_of(facts: Mapping) -> dict[str, dict[str, int]]:
    """{'notebooks' or a table: {kind of COLOURS: how many}} of status.collect."""
    kinds = [KINDS.get(record["status"], "failed") for record in facts["notebooks"]]
    return {"notebooks": {name: kinds.count(name) for name in COLOURS}} | dict(facts["tables"])


def is_over(facts: Mapping) -> bool:
    """Whether something was begun, and nothing of it is running or missing."""
    counts = counts_of(facts)
    return bool(facts["tables"]) and not any(each["running"] or each["missing"] for each in counts.values())


def status_view(facts: Mapping) -> Drawing:
    """A bar for the notebooks and for every table that was begun: shares of what is done, running, failed and missing, and their numbers.

    facts: of status.collect.
    """
    counts = {name: each for name, each in counts_of(facts).items() if sum(each.values())}
    height = 0.22 * len(counts) + 0.6
    with use_style():
        drawing = figure(PAGE, height, layout=None)
        axes = place(drawing, 1.3, 0.08, 3.2, max(0.22 * len(counts), 0.1))
        for line, each in enumerate(counts.values()):
            start, total = 0.0, sum(each.values())
            for kind, tint in COLOURS.items():
                axes.barh(line, each[kind] / total, left=start, color=tint, height=0.7)
                start += each[kind] / total
            axes.text(1.02, line, _words(each), va="center", fontsize=6.5)
        axes.set(xlim=(0, 1), ylim=(max(len(counts), 1) - 0.5, -0.5), xticks=[])
        axes.set_yticks(range(len(counts)), list(counts))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        drawing.text(0.05 / PAGE, 1 - 0.05 / height, f"Run {facts['run']}", weight="bold", va="top")
        drawing.legend(
            [Patch(color=tint) for tint in COLOURS.values()],
            list(COLOURS),
            loc="upper left",
            bbox_to_anchor=(1.25 / PAGE, 1 - 0.2 / height),
            ncols=4,
            borderaxespad=0,
        )
        if not counts:
            axes.text(0, 0, "nothing was begun", color=GREY)
    drawing.set_label(f"Run {facts['run']}. " + "; ".join(f"{name}: {_words(each)}" for name, each in counts.items()))
    return drawing


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[kind]} {kind}" for kind in COLOURS if counts[kind])


def watch(run: str, *, every: float = 0.25) -> "VBox":
    """`status_view` of a run, drawn anew when something has changed, until nothing is left to wait for or the button is pressed.

    The run may go on in any process; the kernel stays free. every: seconds between two looks.
    """
    from ipywidgets import HTML, Button, VBox

    facts, halt = status.current(run), threading.Event()
    picture, button = HTML(as_html(status_view(facts))), Button(description="Stop watching")
    button.on_click(lambda _: halt.set())

    def follow() -> None:
        before = facts
        while not is_over(before) and not halt.wait(every):
            now = status.current(run)
            if counts_of(now) != counts_of(before):
                picture.value = as_html(status_view(now))
            before = now
        button.disabled, button.description = True, "Stopped" if halt.is_set() else "All done"

    threading.Thread(target=follow, daemon=True).start()
    return VBox([button, picture])
