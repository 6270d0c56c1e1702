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
from rtalib.results.figures.style import BLUE, PAGE, PALE_BLUE, Drawing, describe, look, use_style
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
GREY = (122, 122, 122)  # letters on a transparent ground, as well seen on a light page as on a dark one
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
        self.overlay, self.look = overlay(self.folder) if overlay else "", ""

    def _repr_html_(self) -> str:
        words = {}
        for places in itertools.product(*(range(len(options)) for options in self.values.values())):
            state = {key: options[at][1] for at, (key, options) in zip(places, self.values.items(), strict=True)}
            name = "-".join(map(str, places))
            words[name] = self._draw(state | self.fixed, self.folder / f"{name}.webp")
        start = [_position(self.box.controls[key].value, options) for key, options in self.values.items()]
        where, first = f"../_static/explorers/{self.id}", "-".join(map(str, start))
        controls = "".join(
            _control(self.box.controls[key], key, options, at) for (key, options), at in zip(self.values.items(), start, strict=True)
        )
        picture = _picture(self.folder / f"{first}.webp", where, words[first], self.look, self.overlay)
        foot = '<p class="said" aria-live="polite"></p><p><a class="save" download>Save the picture</a> · the address keeps the state</p>'
        foot += '<details><summary>The code that makes it</summary><pre class="code"></pre></details>'
        data = json.dumps(words).replace("</", "<\\/")
        code = html.escape(
            self.box.code.format_map({key: f"{{{key}}}" for key in self.values} | {k: repr(v) for k, v in self.fixed.items()})
        )
        return (
            f'<div class="explorer" id="{self.id}" data-folder="{where}" data-code="{code}"><div class="controls">{controls}</div>'
            f'{picture}{foot}<script type="application/json">{data}</script></div>'
        )

    def _draw(self, state: dict, path: Path) -> str:
        """Write the picture of a state; returns it in words."""
        if hasattr(self.box, "compared"):  # of images: pixels side by side, which takes a tenth of a figure's time
            return _compose(self.box.compared(**state), path)
        drawing = self.box.view(**state)
        self.look = look(drawing)
        return _save(drawing, path)


def _compose(found: Comparison, path: Path) -> str:
    """Clean, changed, difference and the network's bars."""
    sheet = Image.new("RGBA", (4 * (SIDE + GAP) if found.chances is not None else 3 * (SIDE + GAP), SIDE + 30))
    pen, font = (
        ImageDraw.Draw(sheet),
        ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"), 14),
    )
    for number, (text, image) in enumerate(found.pictures.items()):
        pen.text((number * (SIDE + GAP), 4), text, GREY, font)
        tile = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        sheet.paste(tile, (number * (SIDE + GAP), 30))
    legend = zip(("clean", found.change), (PALE_BLUE, BLUE), (0, 70), strict=True) if found.chances is not None else ()
    for text, tint, right in legend:
        pen.rectangle((3 * (SIDE + GAP) + right, 8, 3 * (SIDE + GAP) + right + 9, 17), tint)
        pen.text((3 * (SIDE + GAP) + right + 14, 4), text, GREY, font)
    for line, k in enumerate(found.shown if found.chances is not None else ()):
        left, top = 3 * (SIDE + GAP) + 90, 36 + 34 * line
        pen.text((left - 6, top), found.classes[k], GREY, font, anchor="ra")
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
    name, codes = html.escape(control.description), html.escape(json.dumps([repr(value) for _, value in options]))
    known = f'data-control="{key}" data-codes="{codes}"'
    if isinstance(control, IntSlider):
        labels = html.escape(json.dumps([label for label, _ in options]))
        slider = f'<input type="range" {known} data-labels="{labels}" min="0" max="{len(options) - 1}" value="{at}">'
        return f"<label>{name} {slider}<output>{options[at][0]}</output></label>"
    lines = "".join(f"<option{' selected' if i == at else ''}>{html.escape(label)}</option>" for i, (label, _) in enumerate(options))
    return f"<label>{name} <select {known}>{lines}</select></label>"


def _save(drawing: Drawing, path: Path) -> str:
    """Write the picture; returns it in words."""
    buffer = io.BytesIO()
    with use_style():
        drawing.savefig(buffer, format="png", dpi=PIXELS_PER_INCH)
    Image.open(buffer).convert("RGB").save(path, "WEBP", quality=QUALITY, method=2)
    return drawing.get_label()


def _next_id(kind: str = "explorer", counts: dict = {}) -> str:  # noqa: B006  (counts on)
    """<kind>-<notebook>-<number>."""
    counts[kind] = counts.get(kind, 0) + 1
    return f"{kind}-{os.environ['RTALIB_BOOK_PAGE'][:2]}-{counts[kind]}"


def _picture(path: Path, where: str, words: str, look: str, overlay: str = "") -> str:
    """A picture that scrolls where the page is narrow, with its words."""
    width, height = (round(side * base.SCREEN / PIXELS_PER_INCH) for side in Image.open(path).size)
    image = f'<img src="{where}/{path.name}" alt="{html.escape(words)}" width="{width}" height="{height}">'
    least = f' style="min-width:min({width}px, 40rem)"'
    return f'<div class="drawn {look}" tabindex="0" role="group" aria-label="figure"><div class="shown"{least}>{image}{overlay}</div></div>'


def _figure(drawing: Drawing) -> str:
    """What a cell of the book shows of a figure."""
    folder = Path(os.environ["RTALIB_BOOK_PICTURES"])
    path = folder / f"{_next_id('figure')}.webp"
    _save(drawing, path)
    return _picture(path, f"../_static/{folder.name}", describe(drawing), look(drawing))


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
    """Replace the explorers of rtalib.widgets, and show figures with their words."""
    Drawing._repr_html_ = _figure
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
