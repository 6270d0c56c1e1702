"""Pre-activation ResNet (He et al. 2016b), CIFAR stem, in the form the contest and the adversarial-training codes use:
the shortcut convolution sees the activated input, or in some published weights the raw one; no BatchNorm follows the last block."""

import torch
import torch.nn.functional as F
from torch import nn

from rtalib.models.base import Classifier, average, conv3x3


class PreActBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, raw_shortcut: bool = False):
        super().__init__()
        self.raw_shortcut = raw_shortcut
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv3x3(inputs, outputs, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv3x3(outputs, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = F.relu(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(x if self.raw_shortcut else active)
        return skip + self.conv2(F.relu(self.bn2(self.conv1(active))))


class PreActResNet(Classifier):
    def __init__(self, blocks: tuple[int, ...], num_classes: int, width: int = 64, raw_shortcut: bool = False):
        super().__init__()
        self.stem = conv3x3(3, width)
        stages, inputs = [], width
        for i, count in enumerate(blocks):
            for j in range(count):
                stages.append(PreActBlock(inputs, width * 2**i, stride=2 if i > 0 and j == 0 else 1, raw_shortcut=raw_shortcut))
                inputs = width * 2**i
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(inputs, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return average(self.stages(self.stem(self.normalize(x))))
