"""Wide ResNet (Zagoruyko & Komodakis 2016), no dropout: depth 6n+4, widths 16, 16k, 32k, 64k."""

import torch
import torch.nn.functional as F
from torch import nn

from rtalib.models.base import Classifier, average, conv3x3, he_normal


class WideBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv3x3(inputs, outputs, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv3x3(outputs, outputs)
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = F.relu(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(active)
        return skip + self.conv2(F.relu(self.bn2(self.conv1(active))))


class WideResNet(Classifier):
    def __init__(self, depth: int, widen: int, num_classes: int):
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth: expected 6n+4 with n >= 1 (10, 16, 28, 34, ...), got {depth}")
        self.stem = conv3x3(3, 16)
        stages, inputs = [], 16
        for i in range(3):
            for j in range((depth - 4) // 6):
                stages.append(WideBlock(inputs, 16 * widen * 2**i, stride=2 if i > 0 and j == 0 else 1))
                inputs = 16 * widen * 2**i
        self.stages, self.bn = nn.Sequential(*stages), nn.BatchNorm2d(inputs)
        self.classifier = nn.Linear(inputs, num_classes)
        he_normal(self)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return average(F.relu(self.bn(self.stages(self.stem(self.normalize(x))))))
