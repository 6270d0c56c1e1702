"""A robust training set to look through: what was drawn for every image, or mined, and in which round."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from rtalib.data.images import LabeledImages
from rtalib.errors import unknown
from rtalib.experiments.rta import tables as rta
from rtalib.experiments.rta.iterative_search import Search
from rtalib.results.figures.style import GREY, PAGE, Drawing, figure, place, use_style
from rtalib.scale_settings import RtaScale
from rtalib.widgets.base import around

if TYPE_CHECKING:
    from ipywidgets import VBox

ALL = "all"
LINES, COLUMNS = 3, 8  # of images on a page
ORIGINALS = "originals"


@dataclass(frozen=True, eq=False)
class RobustSet:
    """Images, and for each of them the operation that made it, the part of the set that it is in, and a note (or '')."""

    data: LabeledImages
    operations: tuple[str, ...]
    parts: tuple[str, ...]
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("operations", "parts", "notes"):
            if len(getattr(self, name)) != len(self.data):
                raise ValueError(f"{name}: expected {len(self.data)}, one for each image, got {len(getattr(self, name))}")

    def select(self, operation: str = ALL, label: str = ALL, part: str = ALL) -> list[int]:
        """Positions of the images of an operation, a class and a part; ValueError for a name that the set does not have."""
        known = {"operation": self.operations, "class": self.data.classes, "part": self.parts}
        wanted = (operation, label, part)
        for name, (kind, names) in zip(wanted, known.items(), strict=True):
            if name != ALL and name not in names:
                raise unknown(kind, name, dict.fromkeys(names))
        labels = [self.data.classes[k] for k in self.data.hard_labels.tolist()]
        lines = enumerate(zip(self.operations, labels, self.parts, strict=True))
        return [i for i, line in lines if all(name in (ALL, got) for name, got in zip(wanted, line, strict=True))]


def drawn_set(method: str, seed: int, dataset: str, protocol: str, setup: RtaScale) -> RobustSet:
    """A training set of paper one's Table 1 (see rta.training_set): the originals, then copy after copy."""
    data, entry = rta.training_set(method, seed, dataset, protocol, setup)
    copies = json.loads((entry.path / "drawn.json").read_text())
    count = len(data) - sum(map(len, copies))
    operations = ["original"] * count + [name for copy in copies for name in copy]
    parts = [ORIGINALS] * count + [f"copy {number}" for number, copy in enumerate(copies, start=1) for _ in copy]
    return RobustSet(data, tuple(operations), tuple(parts), ("",) * len(data))


def mined_set(search: Search) -> RobustSet:
    """What an iterative search made: its pieces, drawn or mined in a round, and how many networks were wrong about the choice."""
    trace, rule = search.trace(), search.settings.rule
    parts = [f"piece {t + 1}, drawn" if t == 0 or rule == "random" else f"mined in round {t}" for t in trace.piece.tolist()]
    blamed = [f"{count} of {len(trace.models)} wrong" for count in trace.wrong.sum(1).tolist()]
    notes = [text if part.startswith("mined") else "" for part, text in zip(parts, blamed, strict=True)]
    return RobustSet(search.training_set(), tuple(trace.operations[k] for k in trace.operation.tolist()), tuple(parts), tuple(notes))


def pages(count: int) -> int:
    """How many pages that many images fill; at least one."""
    return max(1, -(-count // (LINES * COLUMNS)))


def set_view(found: RobustSet, operation: str = ALL, label: str = ALL, part: str = ALL, page: int = 1) -> Drawing:
    """A page of the images of an operation, a class and a part, each with its class and operation, and its note.

    Raises ValueError for a name that the set does not have, or a page that there is not.
    """
    at = found.select(operation, label, part)
    if not 1 <= page <= pages(len(at)):
        raise ValueError(f"page: expected 1 to {pages(len(at))}, got {page}")
    shown = at[(page - 1) * LINES * COLUMNS :][: LINES * COLUMNS]
    chosen = {"operation": operation.replace("_", " "), "class": label, "part": part, "page": f"{page} of {pages(len(at))}"}
    words = " · ".join([f"{len(at)} of {len(found.data)} images", *(f"{name}: {value}" for name, value in chosen.items())])
    step, height = (PAGE - 0.1) / COLUMNS, LINES * 1.28 + 0.35
    with use_style():
        drawing = figure(PAGE, height, layout=None)
        drawing.text(0.05 / PAGE, 0.99, words, va="top")
        canvas = place(drawing, 0, 0, PAGE, height)  # one pair of axes, in inches: 24 of them would take most of the time
        for number, i in enumerate(shown):
            line, column = divmod(number, COLUMNS)
            left, bottom = 0.05 + column * step, height - 1.1 - line * 1.28
            _tile(canvas, found.data.images[i].numpy(), left, bottom, step - 0.08, 0.8)
            caption = f"{found.data.classes[found.data.hard_labels[i]]}\n{found.operations[i].replace('_', ' ')}\n{found.notes[i]}"
            canvas.text(left + (step - 0.08) / 2, bottom - 0.03, caption, ha="center", va="top", fontsize=5.5)
        canvas.set(xlim=(0, PAGE), ylim=(0, height), aspect="auto")
        canvas.axis("off")
        if not shown:
            drawing.text(0.5, 0.5, "none", ha="center", color=GREY)
    drawn = [found.operations[i].replace("_", " ") for i in shown]
    drawing.set_label(f"{words}. Made by: {', '.join(dict.fromkeys(drawn)) or 'none'}")
    return drawing


def _tile(axes: Axes, image: np.ndarray, left: float, bottom: float, width: float, height: float) -> None:
    """An image (3,H,W) in the middle of a place on the axes, as large as it fits there, pixels square and sharp."""
    scale = min(width / image.shape[2], height / image.shape[1])
    across, along = scale * image.shape[2], scale * image.shape[1]
    left, bottom = left + (width - across) / 2, bottom + (height - along) / 2
    axes.imshow(image.transpose(1, 2, 0), extent=(left, left + across, bottom, bottom + along), interpolation="nearest", aspect="auto")


def explore_set(found: RobustSet, **start: object) -> "VBox":
    """Filters by operation, class and part, and the page, around `set_view`; start: first values of the filters."""
    from ipywidgets import BoundedIntText, Dropdown

    page = BoundedIntText(1, 1, pages(len(found.data)), description="page")

    def view(page_number: int, **filters: str) -> Drawing:
        page.max = pages(len(found.select(**filters)))  # which draws again where the page was beyond
        return set_view(found, **filters, page=min(page_number, page.max))

    def menu(names: Sequence[str], description: str) -> Dropdown:
        return Dropdown(options=[(name.replace("_", " "), name) for name in dict.fromkeys((ALL, *names))], description=description)

    menus = {
        "operation": menu(sorted(found.operations), "operation"),
        "label": menu(found.data.classes, "class"),
        "part": menu(found.parts, "part"),
    }
    for name, control in menus.items():
        control.value = start.get(name, ALL)
    return around(
        view,
        {**menus, "page_number": page},
        name="set",
        code="widgets.explore_set(found, operation={operation}, label={label}, part={part})\n"
        "widgets.set_view(found, {operation}, {label}, {part}, {page_number})",
    )
