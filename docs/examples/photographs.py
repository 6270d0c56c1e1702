"""EfficientNet-Lite0 on photographs: a network for ImageNet that nobody here trained, repaired with very few pictures.

    python docs/examples/photographs.py photos.npz
    python -m rtalib repair docs/examples/photographs.py:network --dataset photos.npz --corruption fog --goal 10 --out DIR

$RTALIB_DATA/photos holds 92 photographs on white from Debian's tuxpaint-stamps (GPL-2), 224 px, and imagenet-classes.csv: the classes of
ImageNet-1k that each may be called, picked by hand. Nine pictures have several, such as two species of bear; the first one is the label.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from published import efficientnet_lite0
from torch import Tensor, nn

from rtalib.data.decoding import decode_one
from rtalib.data.loading import root_folder


def network() -> nn.Module:
    """1,000 logits; the first of a picture's classes gets the largest of their logits, so that any of them is a right answer."""
    adapted = efficientnet_lite0()
    adapted.network = AnyOf(adapted.network, [group for group in accepted().values() if len(group) > 1])
    return adapted


def accepted() -> dict[str, list[int]]:
    """{file: its classes}."""
    table = pd.read_csv(root_folder() / "photos" / "imagenet-classes.csv", dtype=str)
    return {file: sorted(map(int, indices.split())) for file, indices in zip(table.iloc[:, 0], table.iloc[:, 1], strict=True)}


class AnyOf(nn.Module):
    """A network whose logit of the first class of each group is the largest of the group."""

    def __init__(self, network: nn.Module, groups: list[list[int]]):
        super().__init__()
        self.network, self.groups = network, groups
        self.register_buffer("first", torch.tensor([group[0] for group in groups]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        return logits.index_copy(1, self.first, torch.stack([logits[:, group].amax(1) for group in self.groups], 1))


def write(path: Path) -> None:
    """The photographs as arrays that load_dataset reads."""
    files = accepted()
    images = np.stack([decode_one((file, root_folder() / "photos" / file)) for file in files])
    labels = np.array([group[0] for group in files.values()])
    np.savez_compressed(path, images=images, labels=labels, classes=np.array([f"ImageNet {k}" for k in range(1000)]))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
