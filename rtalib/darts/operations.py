"""The candidate operations of a DARTS cell (Liu et al., ICLR 2019, section 2.1), without their leading ReLU.

Every parametric operation of the paper starts with a ReLU of its input. Here the caller applies it, because all operations on one
source share it: the modules of this file take `relu(x)`. Pools, noise, 'none' and the stride-1 skip have no parameters and take `x`.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from rtalib.errors import check_name, check_number
from rtalib.models.base import CIFAR_MEAN, CIFAR_STD_DARTS

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NOISE = "noise"  # RobustDARTS' harmful candidate (Zela et al., ICLR 2020, space S4): fresh N(0,1) in place of the source
KNOWN = (*OPERATIONS, NOISE)
CELL_OPERATIONS = (*KNOWN[1:], "sep_conv_7x7", "conv_7x1_1x7")  # in derived cells; the last two in NASNet's and AmoebaNet's
STEMS = ("cifar", "tiny-imagenet", "imagenet")  # before the first cell


def batch_norm(channels: int, affine: bool) -> nn.BatchNorm2d:
    """Affine with running statistics (evaluation networks), or neither of the two (supernets: outputs stay comparable)."""
    return nn.BatchNorm2d(channels, affine=affine, track_running_stats=affine)


def pool(name: str, x: torch.Tensor, stride: int) -> torch.Tensor:
    """3x3 pooling with padding 1; the average leaves the padding out of its count. (N,C,H,W) -> (N,C,ceil(H/stride),ceil(W/stride))."""
    if name == "max_pool_3x3":
        return F.max_pool2d(x, 3, stride, padding=1)
    return F.avg_pool2d(x, 3, stride, padding=1, count_include_pad=False)


def noise(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Fresh N(0,1) of the shape that the other operations give: (N,C,H,W) -> (N,C,ceil(H/stride),ceil(W/stride))."""
    return torch.randn_like(x[..., ::stride, ::stride])


class DepthwiseSeparable(nn.Module):
    """Depthwise k x k convolution (stride, dilation), then a 1x1 convolution; no biases. (N,C,H,W) -> (N,C,H/stride,W/stride).

    With stride 2 and dilation 2 the kernel only meets even rows and columns, so it is computed as a plain convolution of that quarter
    of the image: the same sums, and a backward pass about ten times as fast on a CPU.
    """

    def __init__(self, channels: int, kernel: int, stride: int, dilation: int = 1):
        super().__init__()
        self.subgrid = stride if dilation == stride else 1
        stride, dilation = stride // self.subgrid, dilation // self.subgrid
        padding = dilation * (kernel - 1) // 2
        self.depthwise = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x[..., :: self.subgrid, :: self.subgrid]))


class Operation(nn.Module):
    """A parametric operation: forward(rectified) = norm(convolve(rectified)).

    The two halves are separate because a supernet folds an operation's mixing weight into its last normalization.
    """

    norm: nn.BatchNorm2d

    def convolve(self, rectified: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, rectified: torch.Tensor) -> torch.Tensor:
        return self.norm(self.convolve(rectified))


class SepConv(Operation):
    """[ReLU, depthwise, 1x1, BN] twice; only the first carries the stride."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        self.first = DepthwiseSeparable(channels, kernel, stride)
        self.inner_norm = batch_norm(channels, affine)
        self.second = DepthwiseSeparable(channels, kernel, 1)
        self.norm = batch_norm(channels, affine)

    def convolve(self, rectified: torch.Tensor) -> torch.Tensor:
        return self.second(F.relu(self.inner_norm(self.first(rectified))))


class DilConv(Operation):
    """ReLU, depthwise with dilation 2, 1x1, BN; once."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        self.first = DepthwiseSeparable(channels, kernel, stride, dilation=2)
        self.norm = batch_norm(channels, affine)

    def convolve(self, rectified: torch.Tensor) -> torch.Tensor:
        return self.first(rectified)


class FactorizedSeven(Operation):
    """ReLU, 1x7 convolution, 7x1 convolution, each with the stride of its own axis; BN (conv_7x1_1x7 of AmoebaNet's cells)."""

    def __init__(self, channels: int, stride: int, affine: bool):
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False)
        self.high = nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False)
        self.norm = batch_norm(channels, affine)

    def convolve(self, rectified: torch.Tensor) -> torch.Tensor:
        return self.high(self.wide(rectified))


class FactorizedReduce(Operation):
    """ReLU, two 1x1 convolutions of stride 2, the second on the input shifted by one pixel in both axes, concatenated; BN."""

    def __init__(self, channels_in: int, channels_out: int, affine: bool):
        super().__init__()
        half = channels_out // 2
        self.even = nn.Conv2d(channels_in, half, 1, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out - half, 1, bias=False)
        self.norm = batch_norm(channels_out, affine)

    def convolve(self, rectified: torch.Tensor) -> torch.Tensor:
        height, width = rectified.shape[-2:]
        if height % 2 or width % 2:  # both halves must have ceil(H/2) x ceil(W/2) pixels
            rectified = F.pad(rectified, (0, width % 2, 0, height % 2))
        return torch.cat([self.even(rectified[..., ::2, ::2]), self.odd(rectified[..., 1::2, 1::2])], dim=1)


class Project(Operation):
    """ReLU, 1x1 convolution, BN: brings a cell's input to the cell's own width."""

    def __init__(self, channels_in: int, channels_out: int, affine: bool):
        super().__init__()
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.norm = batch_norm(channels_out, affine)

    def convolve(self, rectified: torch.Tensor) -> torch.Tensor:
        return self.pointwise(rectified)


def parametric(name: str, channels: int, stride: int, affine: bool) -> Operation | None:
    """The module of an operation, or None for those without parameters ('none', pools, noise, the skip at stride 1)."""
    if name.startswith("sep_conv"):
        return SepConv(channels, int(name[-1]), stride, affine)
    if name.startswith("dil_conv"):
        return DilConv(channels, int(name[-1]), stride, affine)
    if name == "conv_7x1_1x7":
        return FactorizedSeven(channels, stride, affine)
    if name == "skip_connect" and stride == 2:
        return FactorizedReduce(channels, channels, affine)
    return None


def preprocessing(channels_in: int, channels_out: int, halve: bool, affine: bool) -> Operation:
    """What a cell does to an input: a FactorizedReduce when that input is twice as large as the other one, else a projection."""
    return (FactorizedReduce if halve else Project)(channels_in, channels_out, affine)


class Normalize(nn.Module):
    """Pixels in [0,1] to zero mean and unit deviation per channel, with the constants of DARTS' CIFAR-10 scripts."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor(CIFAR_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(CIFAR_STD_DARTS).view(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.std


def reduction_positions(layers: int) -> tuple[int, int]:
    """Indices of the two cells that halve the image and double the width: a third and two thirds of the way."""
    check_number("layers", layers, 2, integer=True, unit=" (the two reduction cells)")
    return layers // 3, 2 * layers // 3


def stem_layers(stem: str, width: int, *, tracked: bool) -> tuple[nn.Module, nn.BatchNorm2d, nn.Module | None]:
    """(convolutions, their normalization, the second stem or None). The cells see the rectified output of either, `width` channels.

    'cifar': one convolution. 'tiny-imagenet': the same with stride 2, so that 64x64 images reach the cells at 32x32.
    'imagenet' (Liu et al., ICLR 2019, section A.2.2; Xu et al., ICLR 2020): three of stride 2; the first cell's two inputs are those
    after the second and after the third. tracked: whether normalization keeps running statistics. ValueError for another name.
    """
    check_name("stem", stem, STEMS)
    norm = partial(nn.BatchNorm2d, track_running_stats=tracked)
    if stem != "imagenet":
        stride = 1 if stem == "cifar" else 2
        return nn.Conv2d(3, width, 3, stride, padding=1, bias=False), norm(width), None
    first = nn.Sequential(
        nn.Conv2d(3, width // 2, 3, 2, padding=1, bias=False),
        norm(width // 2),
        nn.ReLU(),
        nn.Conv2d(width // 2, width, 3, 2, padding=1, bias=False),
    )
    second = nn.Sequential(nn.Conv2d(width, width, 3, 2, padding=1, bias=False), norm(width))
    return first, norm(width), second
