"""The failures of a network to go through by hand: relabel, drop or keep each, and write what is kept as a data set."""

import base64
import html
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import nn

from rtalib.data.images import LabeledImages
from rtalib.errors import unknown
from rtalib.models.inference import predict

if TYPE_CHECKING:
    from ipywidgets import VBox

PAGE_SIZE = 24  # pictures at a time
SHOWN = 96  # pixels of a picture on the screen


@dataclass(eq=False)
class Review:
    """Failures under review. predicted, confidence (N,): what the network says, and how sure it is. labels: changed ones by row.

    dropped: rows that are left out of an export. Rows are those of `failures`, the surest error first.
    """

    failures: LabeledImages
    predicted: torch.Tensor
    confidence: torch.Tensor
    labels: dict[int, int] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)

    def relabel(self, row: int, name: str) -> None:
        """Give a failure another label; ValueError for a class that there is not."""
        if name not in self.failures.classes:
            raise unknown("class", name, self.failures.classes)
        self.labels[self._row(row)] = self.failures.classes.index(name)

    def drop(self, row: int) -> None:
        self.dropped.add(self._row(row))

    def keep(self, row: int) -> None:
        self.dropped.discard(self._row(row))

    def slices(self) -> list[tuple[str, str, int]]:
        """(true class, class it is taken for, how many), most frequent first."""
        pairs = torch.stack([self.failures.hard_labels, self.predicted], 1)
        found, counts = pairs.unique(dim=0, return_counts=True)
        order = counts.argsort(descending=True, stable=True).tolist()
        names = self.failures.classes
        return [(names[found[k, 0]], names[found[k, 1]], int(counts[k])) for k in order]

    def kept(self) -> LabeledImages:
        """What is left, with the labels as they are now; ValueError if everything was dropped."""
        rows = [row for row in range(len(self.failures)) if row not in self.dropped]
        if not rows:
            raise ValueError("dropped: every failure was dropped; keep at least one")
        labels = self.failures.hard_labels.clone()
        for row, label in self.labels.items():
            labels[row] = label
        data = self.failures.subset(rows)
        return LabeledImages(data.images, labels[rows], data.classes, f"{data.name}/reviewed")

    def export(self, folder: Path | str) -> list[Path]:
        """Write what is kept as data.npz, which load_dataset reads, and what was done as review.json."""
        folder, data = Path(folder), self.kept()
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / "data.npz", images=data.images.numpy(), labels=data.labels.numpy())
        changed = {row: data.classes[label] for row, label in sorted(self.labels.items())}
        done = {"failures": len(self.failures), "kept": len(data), "dropped": sorted(self.dropped), "relabeled": changed}
        (folder / "review.json").write_text(json.dumps(done | {"classes": data.classes}, indent=1))
        return [folder / "data.npz", folder / "review.json"]

    def _row(self, row: int) -> int:
        if not 0 <= row < len(self.failures):
            raise ValueError(f"row: expected 0 to {len(self.failures) - 1}, got {row}")
        return row


def review(network: nn.Module, data: LabeledImages) -> Review:
    """The images of `data` that the network gets wrong; ValueError if there is none."""
    probabilities = predict(network, data.images).softmax(1)
    confidence, predicted = probabilities.max(1)
    wrong = (predicted != data.hard_labels).nonzero().flatten()
    if not len(wrong):
        raise ValueError(f"data: the network is right on all {len(data)} images of {data.name!r}")
    wrong = wrong[confidence[wrong].argsort(descending=True, stable=True)]
    return Review(data.subset(wrong), predicted[wrong], confidence[wrong])


def gallery(found: Review, slice_: str = "all", page: int = 0) -> str:
    """A page of failures as HTML: picture, row, label and prediction; slice_: 'all' or 'TRUE taken for PREDICTED'."""
    rows = rows_of(found, slice_)[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
    names = found.failures.classes
    cells = []
    for row in rows:
        label = names[found.labels.get(row, int(found.failures.hard_labels[row]))]
        words = f"{row}: {label}, taken for {names[found.predicted[row]]} ({found.confidence[row]:.0%})"
        look = "opacity: 0.3" if row in found.dropped else ""
        size = f"width={SHOWN} height={SHOWN} style='image-rendering: pixelated'"
        picture = f"<img alt='{html.escape(words, quote=True)}' {size} src='{_png(found, row)}'>"
        frame = f"<figure style='margin: 4px; width: {SHOWN + 16}px; {look}'>"
        cells.append(f"{frame}{picture}<figcaption>{html.escape(words)}</figcaption></figure>")
    return f"<div style='display: flex; flex-wrap: wrap; font-size: 11px; line-height: 1.2'>{''.join(cells)}</div>"


def rows_of(found: Review, slice_: str) -> list[int]:
    if slice_ == "all":
        return list(range(len(found.failures)))
    true, _, taken = slice_.partition(" taken for ")
    names = found.failures.classes
    pairs = zip(found.failures.hard_labels.tolist(), found.predicted.tolist(), strict=True)
    return [row for row, (label, predicted) in enumerate(pairs) if (names[label], names[predicted]) == (true, taken)]


def _png(found: Review, row: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(found.failures.images[row].permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def explore_failures(found: Review, folder: Path | str) -> "VBox":
    """Controls around `gallery`: choose a slice and a page; relabel, drop or keep a row; export to `folder`."""
    from ipywidgets import HTML, BoundedIntText, Button, Dropdown, HBox, Layout, VBox

    slices = ["all", *(f"{true} taken for {taken}" for true, taken, _ in found.slices())]
    chosen = Dropdown(options=slices, description="slice")
    page = BoundedIntText(0, 0, (len(found.failures) - 1) // PAGE_SIZE, description="page")
    row = BoundedIntText(0, 0, len(found.failures) - 1, description="row")
    label = Dropdown(options=found.failures.classes, description="label")
    picture, said = HTML(), HTML()

    def show(*_: object) -> None:
        page.max = max(0, (len(rows_of(found, chosen.value)) - 1) // PAGE_SIZE)
        picture.value = gallery(found, chosen.value, page.value)
        said.value = f"{len(found.failures)} failures, {len(found.dropped)} dropped, {len(found.labels)} relabeled"

    def button(text: str, act: Callable[[], None]) -> Button:
        made = Button(description=text, layout=Layout(width="auto"))
        made.on_click(lambda _: (act(), show()))
        return made

    buttons = [
        button("relabel", lambda: found.relabel(row.value, label.value)),
        button("drop", lambda: found.drop(row.value)),
        button("keep", lambda: found.keep(row.value)),
    ]
    export = Button(description="export", layout=Layout(width="auto"))
    export.on_click(lambda _: setattr(said, "value", f"written: {', '.join(map(str, found.export(folder)))}"))
    for control in (chosen, page):
        control.observe(show, "value")
    show()
    wrap = Layout(flex_flow="row wrap")
    return VBox([HBox([chosen, page], layout=wrap), HBox([row, label, *buttons, export], layout=wrap), said, picture])
