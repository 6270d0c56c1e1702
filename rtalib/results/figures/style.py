"""One look for all figures: colours, sizes, fonts, and how a figure is written."""

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from rtalib.results.style import BLACK, BLUE, GREEN, ORANGE, PINK, RED, SKY

COLUMN, PAGE = 3.5, 7.1  # widths of one and of two columns of a paper, in inches
GREY, PALE = "#7F7F7F", "#D9D9D9"
PALE_BLUE = "#9DBFD9"
METHOD_COLOURS = {
    "Org. DNN (retrained)": "#4D4D4D",
    "Org. DNN": GREY,
    "DARTS": GREY,
    "DeepRepair": PINK,
    "AugMix": ORANGE,
    "CutMix": RED,
    "AU-": GREEN,
    "RF-": SKY,
    "CF-": BLUE,
}
CYCLE = (BLUE, RED, GREEN, ORANGE, PINK, SKY, GREY, BLACK)
STYLE = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs everywhere
    "font.size": 7.5,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.hashsalt": "rtalib",
    "svg.fonttype": "path",
}


class Drawing(Figure):
    """A figure outside pyplot's registry: it shows itself once as a notebook's result, needs no closing and no display."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with use_style():
            self.savefig(buffer, format="png", dpi=160)
        return buffer.getvalue()


def use_style() -> AbstractContextManager:
    """Context in which figures get this library's look; everything in `figures` runs inside it."""
    return matplotlib.rc_context(STYLE)


def figure(width: float, height: float, *, layout: str | None = "constrained") -> Drawing:
    """An empty figure of that size in inches, laid out so that labels do not overlap, or not at all. Call inside `use_style`."""
    drawing = Drawing(figsize=(width, height), layout=layout)
    FigureCanvasAgg(drawing)  # a canvas that can lay out and draw, whatever backend pyplot has
    return drawing


def place(drawing: Drawing, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches, in a figure without a layout: quicker to draw, and the same place in every figure."""
    across, along = drawing.get_size_inches()
    return drawing.add_axes((left / across, bottom / along, width / across, height / along))


def colour(method: str, position: int = 0) -> str:
    """Colour of a method: its own where it has one (by exact name, else by prefix), else the one of its position in the cycle."""
    named = METHOD_COLOURS.get(method) or next(
        (c for name, c in METHOD_COLOURS.items() if name.endswith("-") and method.startswith(name)), None
    )
    return named or CYCLE[position % len(CYCLE)]


def save(figure: Figure, folder: Path | str, name: str, *, metadata: Mapping[str, str] | None = None) -> list[Path]:
    """Write <name>.png, .svg and .pdf, the same bytes for the same figure; returns the paths. `metadata`: text chunks of the PNG.

    PNG and SVG carry `describe(figure)` as their Description, unless `metadata` has another.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    words = {"Description": text} if (text := describe(figure)) else {}
    dates = {"png": {"Software": None, **words, **(metadata or {})}, "svg": {"Date": None, **words}}
    dates["pdf"] = {"CreationDate": None, "ModDate": None}
    paths = [folder / f"{name}.{kind}" for kind in dates]
    with use_style():
        for path, facts in zip(paths, dates.values(), strict=True):
            figure.savefig(path, metadata=facts)
    return paths


def describe(figure: Figure) -> str:
    """What a figure shows, for those who cannot see it: its own label, else its titles, axes, legends and foot."""
    panels = [axes for axes in figure.axes if axes.axison]
    legends = [legend for holder in (figure, *panels) for legend in ([*getattr(holder, "legends", []), getattr(holder, "legend_", None)])]
    named = {
        "": [figure.get_suptitle(), *(axes.get_title(loc) for axes in figure.axes for loc in ("left", "center"))],
        "across: ": [axes.get_xlabel() for axes in panels],
        "up: ": [*(axes.get_ylabel() for axes in panels), figure.get_supylabel()],
        "series: ": [text.get_text() for legend in legends if legend for text in legend.get_texts()],
        "columns: ": _names(panels[-1].get_xticklabels()) if panels else [],
        "rows: ": _names(panels[0].get_yticklabels()) if panels else [],
    }
    parts = [start + ", ".join(found) for start, texts in named.items() if (found := dict.fromkeys(filter(None, map(_line, texts))))]
    return figure.get_label() or ". ".join([*parts, *filter(None, [_line(figure.get_supxlabel())])])


def _line(text: str) -> str:
    return " ".join(text.split())


def _names(labels: Sequence[Text]) -> list[str]:
    """The labels of an axis, where it has names and not numbers."""
    found = [tick.get_text() for tick in labels]
    return found if any(letter.isalpha() for text in found for letter in text) else []
