"""Networks for two CPU cores. They stand in for the papers' networks at the smoke and demo scales only."""

import torch
import torch.nn.functional as F
from torch import nn

from rtalib.models.base import Classifier, average, conv3x3


def haar_filters() -> torch.Tensor:
    """(24,3,2,2): the 2x2 Haar basis times luminance and two opponent colors, orthonormal, then its negatives.

    Close to the principal components of small patches of any natural images; with BatchNorm behind them this nearly whitens, without data.
    """
    colors = F.normalize(torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]]), dim=1)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / 2**0.5
    basis = torch.einsum("ac,bi,dj->abdcij", colors, signs, signs).reshape(12, 3, 2, 2)
    return torch.cat([basis, -basis])


class ConvNet(Classifier):
    """Three two-convolution blocks behind a 2x2 stem, after airbench (Jordan 2024): each convolution begins as the identity on its
    first channels; the stem begins as Haar filters and is trained, where airbench whitens with the data's own patches and freezes."""

    def __init__(self, num_classes: int, widths: tuple[int, ...] = (24, 48, 64), stride: int = 1):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 2, stride, bias=False), nn.BatchNorm2d(24), nn.GELU())
        blocks, inputs = [], 24
        for width in widths:
            # fmt: off
            blocks += [conv3x3(inputs, width), nn.MaxPool2d(2), nn.BatchNorm2d(width), nn.GELU(),
                       conv3x3(width, width), nn.BatchNorm2d(width), nn.GELU()]
            # fmt: on
            inputs = width
        self.stages = nn.Sequential(*blocks)
        self.classifier = nn.Linear(inputs, num_classes, bias=False)
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        self.stem[0].weight.copy_(haar_filters())
        for module in self.stages:
            if isinstance(module, nn.Conv2d):
                nn.init.dirac_(module.weight[: module.in_channels])

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.stages(self.stem(self.normalize(x))).amax(dim=(2, 3))


class Tiny(Classifier):
    """Three strided convolutions, about 6,000 parameters: for tests, not for results."""

    def __init__(self, num_classes: int, widths: tuple[int, ...] = (8, 16, 32)):
        super().__init__()
        stages, inputs = [], 3
        for width in widths:
            stages += [conv3x3(inputs, width, stride=2), nn.BatchNorm2d(width), nn.ReLU()]
            inputs = width
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(inputs, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return average(self.stages(self.normalize(x)))
