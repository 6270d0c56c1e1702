"""The explorers as pages without Python show them: every state of a chosen grid is drawn once, and a script changes the picture.

`install` replaces the functions of rtalib.widgets by these, in the kernel that runs a notebook for the book.
"""

import html
import io
import itertools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from ipywidgets import IntSlider, VBox
from PIL import Image, ImageDraw, ImageFont

from rtalib import widgets
from rtalib.results.figures.style import BLUE, PAGE, PALE_BLUE, Drawing, use_style
from rtalib.widgets import base, coreset
from rtalib.widgets.comparison import Comparison

ALL = None  # every value of the control
CELLS = ("Org. DNN", "RF-DARTS", "CF-DARTS", "AU-DARTS", "Random cell")
# {function: {control: its values in the book}}. A control that is not named keeps the value that the notebook opens it with.
FEWER = {  # in notebook 00, which only gives a taste
    "explore_corruptions": {"name": ALL, "severity": ALL},
    "explore_attacks": {"source": ALL, "eps": (1, 2, 4, 8, 16)},
    "explore_core": {"rule": ALL},
}
STATES = {
    "explore_corruptions": {"picture": ("shapes10", "cat"), "name": ALL, "severity": ALL},
    "explore_attacks": {"picture": ("shapes10", "cat"), "source": ALL, "attack": ("FGSM", "PGD", "ODI-BIM"), "eps": (1, 2, 4, 8, 16)},
    "explore_set": {"operation": ALL},
    "explore_core": {"rule": ALL, "budget": (1, 2, 3, 5, 10, 20, 40)},
    "explore_search": {"epoch": ALL},
    "explore_cells": {"first": CELLS[:3], "second": CELLS[1:], "cell": ALL},
    "explore_results": {"table": ALL, "show": ALL},
}
SIDE, GAP = 224, 12  # of a picture among pixels, and to the next
PIXELS_PER_INCH, QUALITY = 120, 82  # of the pictures, which are WebP
Overlay = Callable[[Path], str]


class Explorer:
    """What a cell of the book shows instead of the widget: controls of HTML around the picture of the first state."""

    def __init__(self, name: str, box: VBox, states: dict, overlay: Overlay | None = None) -> None:
        self.id = _next_id()
        self.folder = Path(os.environ["RTALIB_BOOK_PICTURES"]) / self.id
        self.folder.mkdir(parents=True)
        self.name, self.box = name, box
        self.values = {key: _values(box.controls[key], wanted) for key, wanted in states.items()}
        self.fixed = {key: control.value for key, control in box.controls.items() if key not in states}
        self.overlay = overlay(self.folder) if overlay else ""

    def _repr_html_(self) -> str:
        words = {}
        for places in itertools.product(*(range(len(options)) for options in self.values.values())):
            state = {key: options[at][1] for at, (key, options) in zip(places, self.values.items(), strict=True)}
            name = "-".join(map(str, places))
            words[name] = self._draw(state | self.fixed, self.folder / f"{name}.webp")
        start = [_position(self.box.controls[key].value, options) for key, options in self.values.items()]
        width, height = Image.open(self.folder / f"{'-'.join(map(str, start))}.webp").size
        where, first = f"../_static/explorers/{self.id}", "-".join(map(str, start))
        controls = "".join(
            _control(self.box.controls[key], key, options, at) for (key, options), at in zip(self.values.items(), start, strict=True)
        )
        scale = PIXELS_PER_INCH / base.SCREEN
        picture = (
            f'<img src="{where}/{first}.webp" alt="{html.escape(words[first])}" width="{width / scale:.0f}" height="{height / scale:.0f}">'
        )
        foot = '<p class="said" aria-live="polite"></p><p><a class="save" download>Save the picture</a> · the address keeps the state</p>'
        data = json.dumps(words).replace("</", "<\\/")
        return (
            f'<div class="explorer" id="{self.id}" data-folder="{where}"><div class="controls">{controls}</div>'
            f'<div class="shown">{picture}{self.overlay}</div>{foot}<script type="application/json">{data}</script></div>'
        )

    def _draw(self, state: dict, path: Path) -> str:
        """Write the picture of a state; returns it in words."""
        if hasattr(self.box, "compared"):  # of images: pixels side by side, which takes a tenth of a figure's time
            return _compose(self.box.compared(**state), path)
        return _save(self.box.view(**state), path)


def _compose(found: Comparison, path: Path) -> str:
    """Clean, changed, difference and the network's bars."""
    sheet = Image.new("RGB", (4 * (SIDE + GAP) if found.chances is not None else 3 * (SIDE + GAP), SIDE + 30), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 14)
    for number, (text, image) in enumerate(found.pictures.items()):
        pen.text((number * (SIDE + GAP), 4), text, "black", font)
        tile = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        sheet.paste(tile, (number * (SIDE + GAP), 30))
    for line, k in enumerate(found.shown if found.chances is not None else ()):
        left, top = 3 * (SIDE + GAP) + 90, 36 + 34 * line
        pen.text((left - 6, top), found.classes[k], "black", font, anchor="ra")
        for half, (value, tint) in enumerate(zip(found.chances[:, k].tolist(), (PALE_BLUE, BLUE), strict=True)):
            pen.rectangle((left, top + 11 * half, left + 120 * value, top + 11 * half + 9), tint)
    sheet.save(path, "WEBP", quality=QUALITY, method=2)
    return found.words


def _values(control: object, wanted: Sequence | None) -> list[tuple[str, object]]:
    """[(label, value)] of a control, all of them or those that are wanted and there."""
    if isinstance(control, IntSlider):
        every = [(str(value), value) for value in range(control.min, control.max + 1)]
    else:
        every = [option if isinstance(option, tuple) else (str(option), option) for option in control.options]
    return [option for option in every if wanted is None or option[1] in wanted]


def _position(value: object, options: list[tuple[str, object]]) -> int:
    return next((at for at, (_, known) in enumerate(options) if known == value), 0)


def _control(control: object, key: str, options: list[tuple[str, object]], at: int) -> str:
    name = html.escape(control.description)
    if isinstance(control, IntSlider):
        labels = html.escape(json.dumps([label for label, _ in options]))
        slider = f'<input type="range" data-control="{key}" data-labels="{labels}" min="0" max="{len(options) - 1}" value="{at}">'
        return f"<label>{name} {slider}<output>{options[at][0]}</output></label>"
    lines = "".join(f"<option{' selected' if i == at else ''}>{html.escape(label)}</option>" for i, (label, _) in enumerate(options))
    return f'<label>{name} <select data-control="{key}">{lines}</select></label>'


def _save(drawing: Drawing, path: Path) -> str:
    """Write the picture; returns it in words."""
    buffer = io.BytesIO()
    with use_style():
        drawing.savefig(buffer, format="png", dpi=PIXELS_PER_INCH)
    Image.open(buffer).convert("RGB").save(path, "WEBP", quality=QUALITY, method=2)
    return drawing.get_label()


def _next_id() -> str:
    """explorer-<notebook>-<number>."""
    _next_id.count = getattr(_next_id, "count", 0) + 1
    return f"explorer-{os.environ['RTALIB_BOOK_PAGE'][:2]}-{_next_id.count}"


# ------------------------------------------------------------------------------------------------------- the core map


def points(found: coreset.CoreMap) -> Overlay:
    """Buttons over the failures of the map, which show their thumbnails: all pictures lie side by side in one file."""

    def write(folder: Path) -> str:
        tiles = found.failures.images.permute(0, 2, 3, 1).numpy()
        side, columns = tiles.shape[1], 20
        sheet = Image.new("RGB", (columns * side, -(-len(tiles) // columns) * side))
        for k, tile in enumerate(tiles):
            sheet.paste(Image.fromarray(tile), (k % columns * side, k // columns * side))
        sheet.save(folder / "failures.webp", "WEBP", lossless=True)
        low, high = coreset.limits(found)
        left, bottom, width, height = coreset.MAP
        buttons = []
        for k, (x, y) in enumerate(((found.places - low) / (high - low)).tolist()):
            across, down = 100 * (left + x * width) / PAGE, 100 * (1 - (bottom + y * height) / coreset.HEIGHT)
            note = html.escape(f"failure {k}: {found.notes[k]}".replace("\n", ", "))
            buttons.append(
                f'<button style="left:{across:.2f}%;top:{down:.2f}%" data-tile="{k}" aria-label="{note}" tabindex="-1"></button>'
            )
        look = f'data-sheet="../_static/explorers/{folder.name}/failures.webp" data-columns="{columns}" data-side="{side}"'
        return f'<div class="points" {look}>{"".join(buttons)}<div class="thumbnail" hidden><i></i><span></span></div></div>'

    return write


def install() -> None:
    """Replace the explorers of rtalib.widgets."""
    for name, states in (STATES | (FEWER if os.environ["RTALIB_BOOK_PAGE"].startswith("00") else {})).items():
        setattr(widgets, name, _replacement(name, getattr(widgets, name), states))


def _replacement(name: str, function: Callable, states: dict) -> Callable:
    def explore(first: object, *arguments: object, **start: object) -> Explorer:
        overlay = points(first) if name == "explore_core" else None
        if name == "explore_results":  # published numbers alone are no news
            first = {key: pair for key, pair in first.items() if pair[0]["measured"].notna().any()}
        box = function(first, *arguments, **start)
        return Explorer(name, box.children[-1] if not hasattr(box, "controls") else box, states, overlay)

    return explore
