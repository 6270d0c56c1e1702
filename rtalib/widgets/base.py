"""What all explorers share: controls around a view, and views as HTML."""

import atexit
import base64
import functools
import gc
import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rtalib.infra.store import outputs
from rtalib.results.figures.style import PAGE, Drawing, figure, look, place, use_style
from rtalib.results.figures.style import save as save_figure

if TYPE_CHECKING:
    from ipywidgets import VBox, Widget

DPI = 300  # of the views in a filmstrip
SCREEN = 120  # pixels of a page for an inch of a view
LEGIBLE = 640  # pixels that a view keeps: in a narrower place it is scrolled
CONTROL = "280px"  # width of a control: three in a line above a view
KEYS = "Space opens, arrows choose, Enter takes"  # said by every menu
# ipywidgets leaves the handle of a slider and the buttons of Play without a name for a screen reader. A style tells when the explorer is on
# the page (a script in a widget's HTML does not run); from then on what is drawn anew, as a handle with its slider's limits, is named too.
NAMES = """<style onload="
    const box = this.closest('.widget-vbox');
    const name = () => {
        for (const handle of box.querySelectorAll('[role=slider]'))
            handle.ariaLabel = handle.closest('.widget-slider').querySelector('.widget-label').textContent;
        for (const play of box.querySelectorAll('.widget-play'))
            ['play or pause', 'stop', 'repeat'].forEach((word, i) => play.children[i].ariaLabel = play.children[i].title = word);
    };
    new MutationObserver(name).observe(box, {childList: true, subtree: true});
    name();"></style>"""


def around(
    view: Callable[..., Drawing],
    controls: Mapping[str, "Widget"],
    *,
    code: str,
    name: str,
    live: Callable[..., str] | None = None,
    more: Sequence["Widget"] = (),
) -> "VBox":
    """Controls above a picture, which is drawn anew whenever one of them changes; below it, what saves it and the code that makes it.

    view: draws a figure of the controls' values by name; its label is the text alternative. live: the same as HTML without a figure, fast
    enough to follow a slider; default the figure itself. code: a line of Python that opens the explorer in this state, and then one that
    draws the picture, with the values in braces. name: of the files that are saved. more: what stands beside the button that saves them.

    The picture is replaced in its place, so that nothing flickers and the focus stays. What a view raises is shown there, and raised.
    By keyboard: arrows move sliders and numbers; Space opens a menu, arrows choose there, Enter takes. Of a closed menu, as of all that is
    no text field, JupyterLab takes arrows and letters for its own commands.
    """
    from ipywidgets import HTML, Dropdown, HBox, Layout, VBox

    picture = HTML(layout=Layout(overflow="auto"))

    def values() -> dict:
        return {name: control.value for name, control in controls.items()}

    def show(change: object = None) -> None:
        if change:
            _spare_what_is_there()
        try:
            picture.value = live(**values()) if live else as_html(view(**values()))
        except Exception as error:
            picture.value = f"<pre role='alert'>{html.escape(f'{type(error).__name__}: {error}')}</pre>"
            raise

    for control in controls.values():
        control.style.description_width = "initial"  # descriptions are not cut off
        control.layout.width = control.layout.width or CONTROL
        control.observe(show, "value")
        if isinstance(control, Dropdown):
            control.tooltip = KEYS
    show()
    layout = Layout(flex_flow="row wrap", max_width=f"{round(PAGE * SCREEN)}px")  # no wider than the picture
    box = VBox(
        [
            HBox(list(controls.values()), layout=layout),
            picture,
            HBox([_foot(view, values, code, name), *more, HTML(NAMES)], layout=Layout(flex_flow="row wrap")),
        ]
    )
    box.view, box.controls, box.code = view, dict(controls), code
    shown = box._repr_mimebundle_
    box._repr_mimebundle_ = lambda **options: shown(**options) | {"text/html": picture.value}  # where no widget can be shown
    return box


def _foot(view: Callable[..., Drawing], values: Callable[[], dict], code: str, name: str) -> "Widget":
    """A button that saves the picture into outputs/explorers, and beside it where it lies and the code of the state that was saved."""
    from ipywidgets import HTML, Button, HBox

    button, words = Button(description="Save picture and code"), HTML()
    button.layout.width = "max-content"

    def save(_: object) -> None:
        state = values()
        path, *_ = save_figure(view(**state), outputs() / "explorers", name)
        lines = html.escape(code.format_map({key: repr(value) for key, value in state.items()}))
        words.value = f"<div>Saved as {html.escape(str(path))}<pre style='margin:0'>{lines}</pre></div>"

    button.on_click(save)
    return HBox([button, words])


@functools.cache
def _spare_what_is_there() -> None:
    """Keep the collector from looking through libraries and controls at every second figure, which takes a third of a second."""
    gc.freeze()
    atexit.register(gc.unfreeze)


def as_html(drawing: Drawing) -> str:
    """The drawing as an image element with its label as text alternative: as wide as its place, from LEGIBLE to SCREEN pixels an inch."""
    width, height = (round(side * SCREEN) for side in drawing.get_size_inches())
    source, alt = base64.b64encode(drawing._repr_png_()).decode(), html.escape(drawing.get_label())
    size = f'width="{width}" height="{height}" style="display: block; max-width: max(100%, {LEGIBLE}px); height: auto"'
    return f'<img alt="{alt}" class="{look(drawing)}" {size} decoding="sync" src="data:image/png;base64,{source}">'


def filmstrip(drawings: Sequence[Drawing]) -> Drawing:
    """Views of several states, one above the other as pixels in one figure: what an explorer leaves in a run without a screen."""
    if not drawings:
        raise ValueError("drawings: got none, expected at least one")
    pictures = [_pixels(drawing) for drawing in drawings]
    heights = [picture.shape[0] / DPI for picture in pictures]
    with use_style():
        strip = figure(max(picture.shape[1] for picture in pictures) / DPI, sum(heights), layout=None)
        for i, picture in enumerate(pictures):
            axes = place(strip, 0, sum(heights[i + 1 :]), picture.shape[1] / DPI, heights[i])
            axes.imshow(picture, aspect="auto")
            axes.axis("off")
    strip.set_label(" Then: ".join(filter(None, (drawing.get_label() for drawing in drawings))))
    return strip


def _pixels(drawing: Drawing) -> np.ndarray:
    """uint8 (H,W,4) at DPI."""
    buffer = io.BytesIO()
    with use_style():
        drawing.savefig(buffer, format="rgba", dpi=DPI)
    width, height = (round(side * DPI) for side in drawing.get_size_inches())
    return np.frombuffer(buffer.getvalue(), np.uint8).reshape(height, width, 4)
