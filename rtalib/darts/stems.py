"""What comes before the first cell: how far an image is scaled down, and how wide it enters."""

from functools import partial

from torch import nn

from rtalib.errors import unknown

STEMS = ("cifar", "tiny-imagenet", "imagenet")


def stem_layers(stem: str, width: int, *, tracked: bool) -> tuple[nn.Module, nn.BatchNorm2d, nn.Module | None]:
    """(convolutions, their normalisation, the second stem or None). The cells see the rectified output of either, `width` channels.

    'cifar': one convolution. 'tiny-imagenet': the same with stride 2, so that the cells see of 64x64 what they see of CIFAR-10.
    'imagenet' (Liu et al., ICLR 2019, section A.2.2; Xu et al., ICLR 2020): three of stride 2; the first cell's two inputs are those
    after the second and after the third. tracked: whether normalisation keeps running statistics. ValueError for another name.
    """
    if stem not in STEMS:
        raise unknown("stem", stem, STEMS)
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
