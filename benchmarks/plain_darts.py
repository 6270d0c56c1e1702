"""The supernet of DARTS as its definition reads (Liu et al., ICLR 2019, section 2): nothing shared, nothing folded.

Each of a cell's 14 edges runs all its operations on its own, each with its own ReLU and its own batch normalisation, and adds them with
the mixing weights. It is what faster supernets are measured and tested against. Parameters come in the order of `rtalib.darts.Supernet`.
"""

import torch
import torch.nn.functional as F
from torch import nn

from rtalib.darts.operations import Normalize, reduction_positions
from rtalib.darts.space import EDGES, Space, get_space


def norm(channels: int) -> nn.BatchNorm2d:
    """With running statistics, which nothing reads, as published."""
    return nn.BatchNorm2d(channels, affine=False)


class Halve(nn.Module):
    """ReLU, two 1x1 convolutions of stride 2, the second on the image shifted by a pixel, side by side; BN."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.even = nn.Conv2d(channels_in, channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels // 2, 1, stride=2, bias=False)
        self.norm = norm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))


class Zero(nn.Module):
    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


def separable(channels: int, kernel: int, stride: int, dilation: int) -> list[nn.Module]:
    """ReLU, depthwise convolution, 1x1 convolution, BN."""
    padding = dilation * (kernel - 1) // 2
    depthwise = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
    return [nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), norm(channels)]


def operation(name: str, channels: int, stride: int) -> nn.Module:
    if name == "none":
        return Zero(stride)
    if name == "max_pool_3x3":
        return nn.Sequential(nn.MaxPool2d(3, stride, padding=1), norm(channels))
    if name == "avg_pool_3x3":
        return nn.Sequential(nn.AvgPool2d(3, stride, padding=1, count_include_pad=False), norm(channels))
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else Halve(channels, channels)
    kernel = int(name[-1])
    if name.startswith("dil"):
        return nn.Sequential(*separable(channels, kernel, stride, 2))
    return nn.Sequential(*separable(channels, kernel, stride, 1), *separable(channels, kernel, 1, 1))


def project(channels_in: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(channels_in, channels, 1, bias=False), norm(channels))


class PlainCell(nn.Module):
    def __init__(self, edges: tuple[tuple[str, ...], ...], before: int, previous: int, channels: int, reduction: bool, halve_before: bool):
        super().__init__()
        self.reduction = reduction
        self.first = (Halve if halve_before else project)(before, channels)
        self.second = project(previous, channels)
        strides = [2 if reduction and source < 2 else 1 for _, source in EDGES]
        self.edges = nn.ModuleList(
            nn.ModuleList(operation(name, channels, stride) for name in names) for names, stride in zip(edges, strides, strict=True)
        )

    def forward(self, s0: torch.Tensor, s1: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        states = [self.first(s0), self.second(s1)]
        for node in range(2, 6):
            incoming = [(edge, source) for edge, (destination, source) in enumerate(EDGES) if destination == node]
            mixed = [
                sum(weight * candidate(states[source]) for weight, candidate in zip(weights[edge], self.edges[edge], strict=True))
                for edge, source in incoming
            ]
            states.append(sum(mixed))
        return torch.cat(states[2:], dim=1)


class PlainSupernet(nn.Module):
    """The arguments of `rtalib.darts.Supernet`, and its logits."""

    def __init__(self, space: str | Space = "darts", channels: int = 16, layers: int = 8, num_classes: int = 10):
        super().__init__()
        self.space = get_space(space)
        self.normalize = Normalize()
        self.stem = nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(3 * channels)
        self.cells = nn.ModuleList()
        reductions = reduction_positions(layers)
        before = previous = 3 * channels
        for layer in range(layers):
            reduction = layer in reductions
            channels *= 2 if reduction else 1
            edges = self.space.reduce if reduction else self.space.normal
            self.cells.append(PlainCell(edges, before, previous, channels, reduction, halve_before=layer - 1 in reductions))
            before, previous = previous, 4 * channels
        self.classifier = nn.Linear(previous, num_classes)
        self.alphas_normal = nn.Parameter(1e-3 * torch.randn(len(EDGES), len(self.space.normal[0])))
        self.alphas_reduce = nn.Parameter(1e-3 * torch.randn(len(EDGES), len(self.space.reduce[0])))

    def arch_parameters(self) -> list[nn.Parameter]:
        return [self.alphas_normal, self.alphas_reduce]

    def weight_parameters(self) -> list[nn.Parameter]:
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("alphas_")]

    @torch.no_grad()
    def load_supernet(self, supernet: nn.Module) -> None:
        """Take over the parameters of an `rtalib.darts.Supernet` of the same space and size."""
        for own, other in zip(self.parameters(), supernet.parameters(), strict=True):
            own.copy_(other)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normal, reduce = self.alphas_normal.softmax(dim=-1), self.alphas_reduce.softmax(dim=-1)
        s0 = s1 = self.stem_norm(self.stem(self.normalize(x)))
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, reduce if cell.reduction else normal)
        return self.classifier(s1.mean(dim=(2, 3)))
