"""Explorers: for each a pure view, which turns a state into a figure, and an `explore_...` that puts controls around it.

A view draws the same pixels for the same state, needs no widgets and is what a run without a screen draws. The controls are those of
ipywidgets alone, so they work by keyboard and wherever notebooks do.
"""

import atexit
import base64
import functools
import gc
import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import nn

from rtalib import attacks
from rtalib.array_figures import show_pixels
from rtalib.corruption_measures import psnr
from rtalib.corruptions import BENCHMARKS, CORRUPTIONS, corrupt
from rtalib.data import LabeledImages
from rtalib.errors import check_images, unknown
from rtalib.inference import predict
from rtalib.plot_style import BLUE, PAGE, PALE_BLUE, Drawing, figure, place, use_style

if TYPE_CHECKING:
    from ipywidgets import VBox, Widget

MAGNIFICATIONS = (16, 8, 4, 2, 1)
SHOWN_CLASSES = 3  # of the clean and of the changed image; at most twice as many bars
SIDE, FOOT = 1.5, 0.4  # of a picture, and the room below it, in inches
LONGEST_CLASS = 14  # characters of a class name beside its bar
LARGEST_SEED = 9999
DPI = 300  # of the views in a filmstrip
SCREEN = 120  # pixels of a page for an inch of a view
CONTROL = "280px"  # width of a control: three in a line above a view
KEYS = "Space opens, arrows choose, Enter takes"  # said by every menu
# (eps, steps) -> recipe; a step is eps/4, as 2/255 at 8/255, and what has restarts keeps to a few, so that a view is drawn at once.
ATTACKS = {
    "FGSM": lambda eps, steps: attacks.FGSM(eps),
    "BIM": lambda eps, steps: attacks.BIM(eps, eps / 4, steps),
    "MI-FGSM": lambda eps, steps: attacks.MIFGSM(eps, eps / 4, steps),
    "PGD": lambda eps, steps: attacks.PGD(eps, eps / 4, steps),
    "ODI-PGD": lambda eps, steps: attacks.ODIPGD(eps=eps, step_size=eps / 4, steps=steps, restarts=1),
    "ODI-BIM": lambda eps, steps: attacks.odi_bim_recipe(eps=eps, steps=steps, restarts=4),
}


# --------------------------------------------------------------------------------------------------------- corruptions


def corruption_view(
    image: torch.Tensor,
    name: str,
    severity: int,
    benchmark: str,
    seed: int,
    network: nn.Module | None = None,
    classes: Sequence[str] | None = None,
) -> Drawing:
    """One image, clean and corrupted, what changed, and what a network makes of both.

    image: uint8 (3,H,W). name, severity, benchmark, seed: as in `corrupt`. The difference is drawn around middle grey, magnified by the
    greatest of MAGNIFICATIONS that leaves 99 % of its values within the range of a byte.
    network: any module that takes pixels in [0,1]; the bars are its greatest softmax outputs. classes: their names, default their numbers.
    Returns a figure whose label says the same in words. Raises TypeError or ValueError that name the argument.
    """
    clean = _one(image)
    both = torch.cat([clean, corrupt(clean, name, severity, seed=seed, benchmark=benchmark)])
    title = f"{name.replace('_', ' ').capitalize()}, severity {severity}, {benchmark}: PSNR {float(psnr(both[1:], clean)):.1f} dB"
    return _compared(title, both, "corrupted", network, classes)


def explore_corruptions(data: LabeledImages, network: nn.Module | None = None) -> "VBox":
    """Controls for every argument of `corruption_view`, around the images of `data`."""
    from ipywidgets import BoundedIntText, Dropdown, IntSlider

    def view(index: int, **state: object) -> Drawing:
        return corruption_view(data.images[index], network=network, classes=data.classes, **state)

    for name in CORRUPTIONS:  # textures and tables are made here, not at the first move of a control
        corrupt(data.images[:1], name, 1)
    return around(
        view,
        index=BoundedIntText(0, 0, len(data) - 1, description="image"),
        name=Dropdown(options=[(name.replace("_", " "), name) for name in CORRUPTIONS], description="type"),
        severity=IntSlider(3, 1, 5, description="severity", continuous_update=False),
        benchmark=Dropdown(options=BENCHMARKS, description="benchmark"),
        seed=BoundedIntText(0, 0, LARGEST_SEED, description="seed"),
    )


# ------------------------------------------------------------------------------------------------------------- attacks


def attack_view(
    image: torch.Tensor,
    label: int,
    network: nn.Module,
    attack: str,
    eps: int = 8,
    steps: int = 10,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    source: str = "",
) -> Drawing:
    """One image, clean and attacked, the perturbation magnified, and what the network makes of both.

    image: uint8 (3,H,W); label: its class. network: any module that takes pixels in [0,1]. attack: a name of ATTACKS; eps: its radius in
    grey levels, 1 to 255; steps: of size eps/4, behind the two ODI steps where there are such; FGSM has one. seed: of random starts.
    The attacked image is the one that would be stored, in bytes. classes: names, default numbers. source: the network's name in the title.
    Returns a figure whose label says the same in words. Raises TypeError or ValueError that name the argument.
    """
    if attack not in ATTACKS:
        raise unknown("attack", attack, ATTACKS)
    if not 1 <= eps <= 255:
        raise ValueError(f"eps: expected 1 to 255 grey levels, got {eps}")
    clean = _one(image)
    found = attacks.attack(ATTACKS[attack](eps / 255, steps), network, clean, torch.tensor([label]), seed=seed)
    cost, right = int(found.gradients), int(predict(network, clean).argmax()) == label
    verdict = "wrong from the start" if not right else "fooled" if found.success else "not fooled"
    where = f"{attack}{source and ' on ' + source.replace('_', ' ')}, eps {eps}/255"
    title = f"{where}, {cost} gradient{'' if cost == 1 else 's'}: {verdict}, the class is {classes[label] if classes else label}"
    return _compared(title, torch.cat([clean, found.images]), "attacked", network, classes)


def explore_attacks(data: LabeledImages, networks: Mapping[str, nn.Module]) -> "VBox":
    """Controls for the source, the attack and its parameters, around the images of `data`; networks: {name in the menu: network}."""
    from ipywidgets import BoundedIntText, Dropdown, IntSlider

    if not networks:
        raise ValueError("networks: got none, expected at least one")

    def view(index: int, source: str, **state: object) -> Drawing:
        label, network = int(data.hard_labels[index]), networks[source]
        return attack_view(data.images[index], label, network, classes=data.classes, source=source, **state)

    return around(
        view,
        index=BoundedIntText(0, 0, len(data) - 1, description="image"),
        source=Dropdown(options=list(networks), description="source"),
        attack=Dropdown(options=list(ATTACKS), value="PGD", description="attack"),
        eps=IntSlider(8, 1, 16, description="eps / 255", continuous_update=False),
        steps=IntSlider(10, 1, 40, description="steps", continuous_update=False),
    )


# ------------------------------------------------------------------------------------------------------------- helpers


def _one(image: torch.Tensor) -> torch.Tensor:
    """uint8 (1,3,H,W) on the CPU, of one image (3,H,W)."""
    if image.ndim != 3:
        raise ValueError(f"image: expected shape (3,H,W), got {tuple(image.shape)}")
    check_images(image[None], "image")
    return image[None].cpu()


def _compared(title: str, both: torch.Tensor, change: str, network: nn.Module | None, classes: Sequence[str] | None) -> Drawing:
    """The figure of a view: uint8 (2,3,H,W), the clean image and what `change` made of it, their difference, and the network's bars."""
    with use_style():
        drawing = figure(3 * SIDE + 0.3 if network is None else PAGE, SIDE + FOOT + 0.45, layout=None)
        drawing.text(0.05 / drawing.get_figwidth(), 0.98, title, va="top")
        _pictures(drawing, both, change)
        bars = None if network is None else place(drawing, PAGE - 1.3, FOOT, 1.2, SIDE)
        words = "" if bars is None else _probability_bars(bars, network, both, change, classes)
    drawing.set_label(f"{title}.{words}")
    return drawing


def _pictures(drawing: Drawing, both: torch.Tensor, change: str) -> None:
    """Clean, changed, and the difference."""
    difference, factor = _magnified(both)
    pictures = {"Clean": both[0], change.capitalize(): both[1], f"Difference × {factor}": difference}
    for i, (text, picture) in enumerate(pictures.items()):
        axes = place(drawing, 0.05 + i * (SIDE + 0.1), FOOT, SIDE, SIDE)
        show_pixels(axes, picture.numpy())
        axes.set_title(text)


def _magnified(both: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(uint8 (3,H,W), factor): the second image less the first, times the factor, around middle grey."""
    reach = float((both[1].int() - both[0].int()).abs().float().quantile(0.99))
    factor = next((factor for factor in MAGNIFICATIONS if factor * reach <= 127), 1)
    return magnified(both[0], both[1], factor), factor


def magnified(clean: torch.Tensor, changed: torch.Tensor, factor: int) -> torch.Tensor:
    """uint8 images that show `changed` less `clean`, uint8 of shapes that broadcast, times the factor around middle grey."""
    return (128 + factor * (changed.int() - clean.int())).clamp(0, 255).to(torch.uint8)


def _probability_bars(axes: Axes, network: nn.Module, both: torch.Tensor, change: str, classes: Sequence[str] | None) -> str:
    """The greatest probabilities of the clean and of the changed image as pairs of bars; returns the two predictions in words."""
    chances = predict(network, both).cpu().softmax(dim=1)
    names = [str(name) for name in classes] if classes else [str(number) for number in range(chances.shape[1])]
    best = chances.argsort(dim=1, descending=True, stable=True)[:, :SHOWN_CLASSES]
    shown = list(dict.fromkeys(best.flatten().tolist()))
    places = np.arange(len(shown))
    for line, (text, tint) in enumerate((("clean", PALE_BLUE), (change, BLUE))):
        axes.barh(places + 0.38 * line, chances[line, shown].numpy(), height=0.36, color=tint, label=text)
    axes.set_yticks(places + 0.19, [_short(names[k]) for k in shown])
    axes.set(xlim=(0, 1), ylim=(2 * SHOWN_CLASSES - 0.4, -0.4), xticks=[0, 0.5, 1], xlabel="probability")
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower right", bbox_to_anchor=(1.05, 1), ncols=2, handlelength=1, columnspacing=1, borderaxespad=0.4)
    clean, changed = (f"{names[k]} {float(chances[line, k]):.2f}" for line, k in enumerate(best[:, 0].tolist()))
    return f" The network sees {clean} in the clean image and {changed} in the {change} one."


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_CLASS else name[: LONGEST_CLASS - 1] + "…"


def around(view: Callable[..., Drawing], **controls: "Widget") -> "VBox":
    """Controls above what `view(**values)` draws, which is drawn anew whenever one of them changes; its label is the text alternative.

    The picture is replaced in its place, so that nothing flickers and the focus stays. What a view raises is shown there, and raised.
    By keyboard: arrows move sliders and numbers; Space opens a menu, arrows choose there, Enter takes. Of a closed menu, as of all that is
    no text field, JupyterLab takes arrows and letters for its own commands.
    What lives in the process when a control first moves is from then on left out of the search for cyclic garbage.
    """
    from ipywidgets import HTML, Dropdown, HBox, Layout, VBox

    picture = HTML()

    def show(change: object = None) -> None:
        if change:
            _spare_what_is_there()
        try:
            picture.value = as_html(view(**{name: control.value for name, control in controls.items()}))
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
    return VBox([HBox(list(controls.values()), layout=layout), picture])


@functools.cache
def _spare_what_is_there() -> None:
    """Keep the collector from looking through libraries and controls at every second figure, which takes a third of a second."""
    gc.freeze()
    atexit.register(gc.unfreeze)


def as_html(drawing: Drawing) -> str:
    """The drawing as an image element with its label as text alternative; as wide as the page allows, up to SCREEN pixels an inch."""
    width, height = (round(side * SCREEN) for side in drawing.get_size_inches())
    source, alt = base64.b64encode(drawing._repr_png_()).decode(), html.escape(drawing.get_label())
    look = "display: block; max-width: 100%; height: auto"
    return f'<img alt="{alt}" width="{width}" height="{height}" style="{look}" decoding="sync" src="data:image/png;base64,{source}">'


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
