"""Explorers: for each a pure view, which turns a state into a figure, and an `explore_...` that puts controls around it.

A view draws the same pixels for the same state, needs no widgets and is what a run without a screen draws. The controls are those of
ipywidgets alone, so they work by keyboard and wherever notebooks do.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import nn

from rtalib import attacks
from rtalib.corruptions import BENCHMARKS, CORRUPTIONS, corrupt
from rtalib.corruptions.psnr import psnr
from rtalib.data.images import LabeledImages
from rtalib.errors import check_images, unknown
from rtalib.models.inference import predict
from rtalib.results.figures.arrays import show_pixels
from rtalib.results.figures.style import BLUE, PAGE, PALE_BLUE, Drawing, figure, place, use_style
from rtalib.widgets.base import around

if TYPE_CHECKING:
    from ipywidgets import VBox

MAGNIFICATIONS = (16, 8, 4, 2, 1)
SHOWN_CLASSES = 3  # of the clean and of the changed image; at most twice as many bars
SIDE, FOOT = 1.5, 0.4  # of a picture, and the room below it, in inches
LONGEST_CLASS = 14  # characters of a class name beside its bar
LARGEST_SEED = 9999
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
