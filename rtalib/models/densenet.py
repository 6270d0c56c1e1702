"""DenseNet-BC (Huang et al. 2017), CIFAR stem: bottleneck 4 x growth, compression 0.5."""

import torch
import torch.nn.functional as F
from torch import nn

from rtalib.models.base import Classifier, average, conv3x3


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(4 * growth), conv3x3(4 * growth, growth)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return torch.cat([y, x], dim=1)


def transition(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.AvgPool2d(2))


class DenseNet(Classifier):
    """`layers[i]` dense layers per block; the stem has 2 x growth channels."""

    def __init__(self, layers: tuple[int, ...], growth: int, num_classes: int):
        super().__init__()
        width = 2 * growth
        self.stem = conv3x3(3, width)
        stages: list[nn.Module] = []
        for i, count in enumerate(layers):
            if i > 0:
                stages.append(transition(width, width // 2))
                width //= 2
            stages += [DenseLayer(width + j * growth, growth) for j in range(count)]
            width += count * growth
        self.stages, self.bn = nn.Sequential(*stages), nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return average(F.relu(self.bn(self.stages(self.stem(self.normalize(x))))))
