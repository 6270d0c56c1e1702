"""Explorers: for each a pure view, which turns a state into a figure, and an `explore_...` that puts controls around it.

A view draws the same pixels for the same state, needs no widgets and is what a run without a screen draws. The controls are those of
ipywidgets alone, so they work by keyboard and wherever notebooks do.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from rtalib import attacks
from rtalib.corruptions import BENCHMARKS, CORRUPTIONS, corrupt
from rtalib.corruptions.psnr import psnr
from rtalib.data.images import LabeledImages
from rtalib.errors import check_images, unknown
from rtalib.models.inference import predict
from rtalib.results.figures.style import Drawing
from rtalib.widgets.base import around
from rtalib.widgets.comparison import Comparison, comparison, magnified
from rtalib.widgets.pictures import Pictures, picture_controls, upload

if TYPE_CHECKING:
    from ipywidgets import VBox

__all__ = ["ATTACKS", "attack_view", "corruption_view", "explore_attacks", "explore_corruptions", "magnified"]
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
    return corrupted(image, name, severity, benchmark, seed, network, classes).figure()


def corrupted(
    image: torch.Tensor,
    name: str,
    severity: int,
    benchmark: str,
    seed: int,
    network: nn.Module | None = None,
    classes: Sequence[str] | None = None,
) -> Comparison:
    """What `corruption_view` draws."""
    clean = _one(image)
    both = torch.cat([clean, corrupt(clean, name, severity, seed=seed, benchmark=benchmark)])
    title = f"{name.replace('_', ' ').capitalize()}, severity {severity}, {benchmark}: PSNR {float(psnr(both[1:], clean)):.1f} dB"
    return comparison(title, both, "corrupted", network, classes)


def explore_corruptions(data: LabeledImages, network: nn.Module | None = None, *, photographs: bool = True, **start: object) -> "VBox":
    """Controls for every argument of `corruption_view`, around the images of `data`, photographs, and pictures of the user's own.

    network: sees the images of `data`; photographs have none of its classes. start: a control's first value by its name here, such as
    name="fog". The line that is saved with a picture opens the explorer in that state again.
    """
    from ipywidgets import BoundedIntText, Dropdown, IntSlider

    shown = Pictures(data, photographs)

    def compared(picture: str, index: int, **state: object) -> Comparison:
        seer = network if picture == shown.name else None
        return corrupted(shown.image(picture, index), network=seer, classes=data.classes, **state)

    for name in CORRUPTIONS:  # textures and tables are made here, not at the first move of a control
        corrupt(data.images[:1], name, 1)
    pictures = picture_controls(shown, start)
    box = around(
        lambda **state: compared(**state).figure(),
        {
            **pictures,
            "name": Dropdown(
                options=[(name.replace("_", " "), name) for name in CORRUPTIONS],
                value=start.get("name", next(iter(CORRUPTIONS))),
                description="type",
            ),
            "severity": IntSlider(start.get("severity", 3), 1, 5, description="severity"),
            "benchmark": Dropdown(options=BENCHMARKS, value=start.get("benchmark", BENCHMARKS[0]), description="benchmark"),
            "seed": BoundedIntText(start.get("seed", 0), 0, LARGEST_SEED, description="seed"),
        },
        live=lambda **state: compared(**state).page(),
        more=[upload(shown, pictures["picture"])],
        name="corruption",
        code="widgets.explore_corruptions(data, picture={picture}, index={index}, name={name}, severity={severity}, benchmark={benchmark}, "
        "seed={seed})\ncorrupt(images, {name}, {severity}, seed={seed}, benchmark={benchmark})",
    )
    box.compared = compared
    return box


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
    return attacked(image, label, network, attack, eps, steps, seed, classes, source).figure()


def attacked(
    image: torch.Tensor,
    label: int,
    network: nn.Module,
    attack: str,
    eps: int = 8,
    steps: int = 10,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    source: str = "",
) -> Comparison:
    """What `attack_view` draws."""
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
    return comparison(title, torch.cat([clean, found.images]), "attacked", network, classes)


def explore_attacks(data: LabeledImages, networks: Mapping[str, nn.Module], *, photographs: bool = True, **start: object) -> "VBox":
    """Controls for the source, the attack and its parameters, around the images of `data`, photographs, and pictures of the user's own.

    networks: {name in the menu: network}. A photograph has no class of theirs: the attack leads away from what the network sees in it.
    start: a control's first value by its name here, such as eps=4.
    """
    from ipywidgets import Dropdown, IntSlider

    if not networks:
        raise ValueError("networks: got none, expected at least one")
    shown = Pictures(data, photographs, side=data.images.shape[-1])  # the size that the networks take

    def compared(picture: str, index: int, source: str, **state: object) -> Comparison:
        image, network = shown.image(picture, index), networks[source]
        label = int(data.hard_labels[index]) if picture == shown.name else int(predict(network, image[None]).argmax())
        return attacked(image, label, network, classes=data.classes, source=source, **state)

    pictures = picture_controls(shown, start)
    box = around(
        lambda **state: compared(**state).figure(),
        {
            **pictures,
            "source": Dropdown(options=list(networks), value=start.get("source", next(iter(networks))), description="source"),
            "attack": Dropdown(options=list(ATTACKS), value=start.get("attack", "PGD"), description="attack"),
            "eps": IntSlider(start.get("eps", 8), 1, 16, description="eps / 255"),
            "steps": IntSlider(start.get("steps", 10), 1, 40, description="steps"),
        },
        live=lambda **state: compared(**state).page(),
        more=[upload(shown, pictures["picture"])],
        name="attack",
        code="widgets.explore_attacks(data, networks, picture={picture}, index={index}, source={source}, attack={attack}, eps={eps}, "
        "steps={steps})\nwidgets.attack_view(image, label, networks[{source}], {attack}, {eps}, {steps})",
    )
    box.compared = compared
    return box


def _one(image: torch.Tensor) -> torch.Tensor:
    """uint8 (1,3,H,W) on the CPU, of one image (3,H,W)."""
    if image.ndim != 3:
        raise ValueError(f"image: expected shape (3,H,W), got {tuple(image.shape)}")
    return check_images(image[None], "image").cpu()
