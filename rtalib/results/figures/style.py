"""One look for all figures: colors, sizes, fonts, the parts that figures share, and how a figure is written."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from rtalib.errors import check_name
from rtalib.results.style import BLACK, BLUE, GREEN, ORANGE, PINK, RED, SKY

COLUMN, PAGE = 3.5, 7.1  # widths of one and of two columns of a paper, in inches
DARK, GREY, PALE = "#4D4D4D", "#7F7F7F", "#D9D9D9"
PALE_BLUE = "#9DBFD9"
METHOD_COLORS = {
    "Org. DNN (retrained)": DARK,
    "Org. DNN": GREY,
    "DARTS": GREY,
    "DeepRepair": PINK,
    "AugMix": ORANGE,
    "CutMix": RED,
    "AU-": GREEN,
    "RF-": SKY,
    "CF-": BLUE,
}
CYCLE = (BLUE, RED, GREEN, ORANGE, PINK, SKY, DARK, BLACK)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*", "<", ">")
KINDS = ("png", "svg", "pdf")
LEGEND = 5  # entries on a line of a legend above a figure
# On top of seaborn's "ticks" style in its "paper" context.
THEME = {
    "figure.dpi": 110,
    "savefig.dpi": 300,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "patch.force_edgecolor": False,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "ps.fonttype": 42,
    "svg.hashsalt": "rtalib",
    "svg.fonttype": "path",
}


class Drawing(Figure):
    """A figure outside pyplot's registry: a notebook shows it once, as a cell's result; it needs no display and no closing."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with use_style():
            self.savefig(buffer, format="png", dpi=160)
        return buffer.getvalue()

    def _repr_mimebundle_(self, **options: object) -> tuple[dict, dict]:
        """Nothing but what JupyterLab may do with the picture on a dark page (docs/lab/custom.css)."""
        return {}, {"needs_background": "light"} if look(self) == "chart" else {}


@contextmanager
def use_style() -> Iterator[None]:
    """Context in which figures have this library's look: seaborn's theme for papers with our palette. All figures are drawn inside it."""
    import seaborn  # only when the first figure is drawn, since it loads pandas and SciPy

    with matplotlib.rc_context():
        seaborn.set_theme("paper", "ticks", CYCLE, font="DejaVu Sans", font_scale=0.8, color_codes=False, rc=THEME)
        yield


def figure(width: float, height: float, *, layout: str | None = "constrained") -> Drawing:
    """An empty figure, its size in inches. The constrained layout keeps labels apart; None is faster. Call inside `use_style`."""
    drawing = Drawing(figsize=(width, height), layout=layout)
    FigureCanvasAgg(drawing)  # can lay out and draw, whatever backend pyplot has
    return drawing


@contextmanager
def sheet(
    width: float, height: float, foot: str = "", *, shape: tuple[int, int] = (1, 1), **options: object
) -> Iterator[tuple[Drawing, Axes]]:
    """Context for drawing a figure: inside the style, yields the figure and the first of its `shape` panels.

    foot: the origin of the numbers, in small letters below. options: of Figure.subplots.
    """
    with use_style():
        drawing = figure(width, height)
        drawing.subplots(*shape, **options)
        yield drawing, drawing.axes[0]
        if foot:
            drawing.supxlabel(foot, fontsize=6, color=DARK, x=0.99, ha="right")


def place(drawing: Drawing, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, in a figure without a layout: faster to draw, and at the same place in every figure."""
    across, along = drawing.get_size_inches()
    return drawing.add_axes((left / across, bottom / along, width / across, height / along))


def color(method: str, position: int = 0) -> str:
    """A method's own color (by exact name, else by prefix), or the color at its position in the cycle."""
    prefixed = (tint for name, tint in METHOD_COLORS.items() if name.endswith("-") and method.startswith(name))
    return METHOD_COLORS.get(method) or next(prefixed, CYCLE[position % len(CYCLE)])


def slanted(axes: Axes, names: Sequence[str], *, first: float = 0) -> None:
    """Slanted names below the x axis, at first, first + 1, ..."""
    axes.set_xticks([first + place for place in range(len(names))], names, rotation=40, ha="right", rotation_mode="anchor")


def legend_above(drawing: Drawing, *panels: Axes, columns: int = LEGEND) -> None:
    """Move the legends of the panels, all the same, to one above the figure."""
    handles, names = panels[0].get_legend_handles_labels()
    entries = dict(zip(names, handles, strict=True))
    for axes in panels:
        if axes.get_legend():
            axes.get_legend().remove()
    drawing.legend(entries.values(), entries, loc="outside upper center", ncols=min(len(entries), columns))


def save(
    figure: Figure, folder: Path | str, name: str, *, kinds: Sequence[str] = KINDS, metadata: Mapping[str, str] | None = None
) -> list[Path]:
    """Write <name>.png, .svg and .pdf, the same bytes for the same figure; return the paths. `metadata`: text chunks of the PNG.

    kinds: write only these, and those that are there from before. PNG and SVG carry `describe(figure)` as their Description, unless
    `metadata` has one, and a PNG its `look`. ValueError for an unknown kind.
    """
    folder = Path(folder)
    for kind in kinds:
        check_name("kind of figure (RTALIB_FIGURES)", kind, KINDS)
    folder.mkdir(parents=True, exist_ok=True)
    words = {"Description": text} if (text := describe(figure)) else {}
    dates = {"png": {"Software": None, "Look": look(figure), **words, **(metadata or {})}, "svg": {"Date": None, **words}}
    dates["pdf"] = {"CreationDate": None, "ModDate": None}
    paths = {kind: path for kind in KINDS if (path := folder / f"{name}.{kind}").exists() or kind in kinds}
    with use_style():
        for kind, path in paths.items():
            figure.savefig(path, metadata=dates[kind])
            figure.set_layout_engine("none")  # the other kinds, and the notebook, show the parts where they now are
    return list(paths.values())


def look(figure: Figure) -> str:
    """Whether a dark page may turn the colors of a figure: "pixels" if there are pictures in it, else "chart"."""
    return "pixels" if any(axes.images for axes in figure.axes) else "chart"


def describe(figure: Figure) -> str:
    """The figure in words, for those who cannot see it: its label if it has one, else its titles, axes, legends and foot."""
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
    """The labels of an axis if they are names; nothing if they are numbers."""
    found = [tick.get_text() for tick in labels]
    return found if any(letter.isalpha() for text in found for letter in text) else []
