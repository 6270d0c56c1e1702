"""ResNet v2 of bottleneck blocks (He et al. 2016b), in the form of Keras' CIFAR-10 example: depth 9n+2, features of 256 values.

The MMC defense of the contest has depth 47. Convolutions have biases, as there.
"""

import torch
import torch.nn.functional as F
from torch import nn

from rtalib.models.base import Classifier, average


class BottleneckV2(nn.Module):
    """first: the network's first block, whose input is activated already."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, first: bool):
        super().__init__()
        self.bn1 = nn.Identity() if first else nn.BatchNorm2d(inputs)
        self.conv1, self.bn2 = nn.Conv2d(inputs, width, 1, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn3 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.relu(self.bn1(x)))  # of an activated input, ReLU changes nothing
        y = self.conv2(F.relu(self.bn2(y)))
        return self.shortcut(x) + self.conv3(F.relu(self.bn3(y)))


class ResNetV2(Classifier):
    def __init__(self, depth: int, num_classes: int):
        super().__init__()
        if depth < 11 or (depth - 2) % 9:
            raise ValueError(f"depth: expected 9n+2 with n >= 1 (11, 20, 29, ...), got {depth}")
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        stages, inputs, width = [], 16, 16
        for i in range(3):
            outputs = 64 * 2**i
            for j in range((depth - 2) // 9):
                stages.append(BottleneckV2(inputs, width, outputs, 2 if i > 0 and j == 0 else 1, first=not stages))
                inputs = outputs
            width = outputs
        self.stages, self.bn = nn.Sequential(*stages), nn.BatchNorm2d(inputs)
        self.classifier = nn.Linear(inputs, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return average(F.relu(self.bn(self.stages(self.stem(self.normalize(x))))))
