"""An image beside what was made of it, their difference, and what a network sees in both: as a figure, and as HTML."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import nn

from rtalib.data.thumbnails import png
from rtalib.models.inference import predict
from rtalib.results.figures.arrays import show_pixels
from rtalib.results.figures.style import BLUE, PAGE, PALE_BLUE, Drawing, figure, place, use_style

MAGNIFICATIONS = (16, 8, 4, 2, 1)
SHOWN_CLASSES = 3  # of the clean and of the changed image; at most twice as many bars
SIDE, FOOT = 1.5, 0.4  # of a picture, and the room below it, in inches
LONGEST_CLASS = 14  # characters of a class name beside its bar
PIXELS = 190  # of a page, for the side of a picture


@dataclass(frozen=True, eq=False)
class Comparison:
    """both: uint8 (2,3,H,W), the clean image and what `change` made of it. chances: float (2,K), the network's softmax, or None."""

    title: str
    both: torch.Tensor
    change: str
    chances: torch.Tensor | None
    classes: tuple[str, ...]

    @property
    def shown(self) -> list[int]:
        """The most probable classes of either image."""
        best = self.chances.argsort(dim=1, descending=True, stable=True)[:, :SHOWN_CLASSES]
        return list(dict.fromkeys(best.flatten().tolist()))

    @property
    def words(self) -> str:
        """The whole of it in words: the text alternative."""
        if self.chances is None:
            return f"{self.title}."
        best = self.chances.max(dim=1)
        clean, changed = (f"{self.classes[k]} {value:.2f}" for value, k in zip(best.values.tolist(), best.indices.tolist(), strict=True))
        return f"{self.title}. The network sees {clean} in the clean image and {changed} in the {self.change} one."

    @property
    def pictures(self) -> dict[str, torch.Tensor]:
        difference, factor = _magnified(self.both)
        return {"Clean": self.both[0], self.change.capitalize(): self.both[1], f"Difference × {factor}": difference}

    def figure(self) -> Drawing:
        with use_style():
            drawing = figure(3 * SIDE + 0.3 if self.chances is None else PAGE, SIDE + FOOT + 0.45, layout=None)
            drawing.text(0.05 / drawing.get_figwidth(), 0.98, self.title, va="top")
            for i, (text, picture) in enumerate(self.pictures.items()):
                axes = place(drawing, 0.05 + i * (SIDE + 0.1), FOOT, SIDE, SIDE)
                show_pixels(axes, picture.numpy())
                axes.set_title(text)
            if self.chances is not None:
                _bars(place(drawing, PAGE - 1.3, FOOT, 1.2, SIDE), self)
        drawing.set_label(self.words)
        return drawing

    def page(self) -> str:
        """The same as HTML: pictures from arrays, bars as boxes, letters in the page's own color."""
        alts = [self.words, "", ""]
        images = "".join(
            f"<figure style='margin:0; flex:1 1 120px; max-width:{PIXELS}px'><figcaption>{html.escape(text)}</figcaption>"
            f"<img alt='{html.escape(alt)}' width='{PIXELS}' height='{PIXELS}' decoding='sync' src='{png(picture)}' "
            "style='image-rendering:pixelated; object-fit:contain; width:100%; height:auto; aspect-ratio:1'></figure>"
            for alt, (text, picture) in zip(alts, self.pictures.items(), strict=True)
        )
        look = "display:flex; flex-wrap:wrap; gap:12px; line-height:1.4; font-size:13px"
        return f"<div style='font-size:13px'><b>{html.escape(self.title)}</b></div><div style='{look}'>{images}{self._boxes()}</div>"

    def _boxes(self) -> str:
        if self.chances is None:
            return ""
        lines = []
        for k in [*self.shown, *[None] * (2 * SHOWN_CLASSES)][: 2 * SHOWN_CLASSES]:  # always as many, so that nothing moves
            name, pair = ("&nbsp;", (0.0, 0.0)) if k is None else (html.escape(_short(self.classes[k])), self.chances[:, k].tolist())
            boxes = [
                f"<i style='display:block; height:8px; width:{100 * value:.1f}%; background:{tint}'></i>"
                for value, tint in zip(pair, (PALE_BLUE, BLUE), strict=True)
            ]
            lines.append(f"<span style='text-align:right'>{name}</span><span style='align-self:center'>{''.join(boxes)}</span>")
        head = (
            f"<b>probability</b>: clean <i style='background:{PALE_BLUE}'>&emsp;</i> {self.change} <i style='background:{BLUE}'>&emsp;</i>"
        )
        grid = "display:grid; grid-template-columns:auto 130px; column-gap:8px"
        return f"<div>{head}<div style='{grid}'>{''.join(lines)}</div></div>"


def comparison(title: str, both: torch.Tensor, change: str, network: nn.Module | None, classes: Sequence[str] | None) -> Comparison:
    """What the network, if there is one, sees in both; classes: their names, default their numbers."""
    chances = None if network is None else predict(network, both).cpu().softmax(dim=1)
    count = 0 if chances is None else chances.shape[1]
    return Comparison(title, both, change, chances, tuple(map(str, classes)) if classes else tuple(map(str, range(count))))


def _magnified(both: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(uint8 (3,H,W), factor): the second image less the first, times the factor, around middle grey."""
    reach = float((both[1].int() - both[0].int()).abs().float().quantile(0.99))
    factor = next((factor for factor in MAGNIFICATIONS if factor * reach <= 127), 1)
    return magnified(both[0], both[1], factor), factor


def magnified(clean: torch.Tensor, changed: torch.Tensor, factor: int) -> torch.Tensor:
    """uint8 images that show `changed` less `clean`, uint8 of shapes that broadcast, times the factor around middle grey."""
    return (128 + factor * (changed.int() - clean.int())).clamp(0, 255).to(torch.uint8)


def _bars(axes: Axes, found: Comparison) -> None:
    """The greatest probabilities of the clean and of the changed image as pairs of bars."""
    places = np.arange(len(found.shown))
    for line, (text, tint) in enumerate((("clean", PALE_BLUE), (found.change, BLUE))):
        axes.barh(places + 0.38 * line, found.chances[line, found.shown].numpy(), height=0.36, color=tint, label=text)
    axes.set_yticks(places + 0.19, [_short(found.classes[k]) for k in found.shown])
    axes.set(xlim=(0, 1), ylim=(2 * SHOWN_CLASSES - 0.4, -0.4), xticks=[0, 0.5, 1], xlabel="probability")
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower right", bbox_to_anchor=(1.05, 1), ncols=2, handlelength=1, columnspacing=1, borderaxespad=0.4)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_CLASS else name[: LONGEST_CLASS - 1] + "…"
