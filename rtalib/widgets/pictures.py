"""The pictures that an explorer can show: those of a data set by number, photographs, and the user's own by upload or path."""

import html
from typing import TYPE_CHECKING

import torch

from rtalib.data.images import LabeledImages
from rtalib.widgets.photos import SIDE, fitted, own, photographs

if TYPE_CHECKING:
    from ipywidgets import Widget


class Pictures:
    """name: the data set's, in the menu. others: {name in the menu: uint8 (3,side,side)}, to which the user's own are added."""

    def __init__(self, data: LabeledImages, with_photographs: bool, side: int = SIDE) -> None:
        self.data, self.side, self.name = data, side, data.name
        found = photographs(side) if with_photographs else None
        self.others = dict(zip(found.classes, found.images, strict=True)) if found else {}

    @property
    def names(self) -> list[str]:
        return [self.name, *self.others]

    def image(self, picture: str, index: int) -> torch.Tensor:
        return self.data.images[index] if picture == self.name else self.others[picture]


def picture_controls(shown: Pictures, start: dict) -> "dict[str, Widget]":
    """Controls `picture` (a menu) and `index` (of the data set's images); start["own"]: paths of pictures or folders of the user's."""
    from ipywidgets import BoundedIntText, Dropdown

    shown.others |= own(start.get("own", ()), shown.side)
    menu = Dropdown(options=shown.names, value=start.get("picture", shown.name), description="picture")
    index = BoundedIntText(start.get("index", 0), 0, len(shown.data) - 1, description="image")

    def only_of_the_set(_: object = None) -> None:
        index.disabled = menu.value != shown.name

    menu.observe(only_of_the_set, "value")
    only_of_the_set()
    return {"picture": menu, "index": index}


def upload(shown: Pictures, menu: "Widget") -> "Widget":
    """A button that takes a picture from the user's disk into the menu, and says why if it cannot be read."""
    from ipywidgets import HTML, FileUpload, HBox

    button, words = FileUpload(accept="image/*", description="Your own picture"), HTML()
    button.layout.width = "max-content"

    def take(_: object) -> None:
        for file in button.value:
            try:
                shown.others[file["name"]] = fitted(file["name"], bytes(file["content"]), shown.side)
            except ValueError as error:
                words.value = html.escape(str(error))
                return
            words.value, menu.options, menu.value = "", shown.names, file["name"]

    button.observe(take, "value")
    return HBox([button, words])
