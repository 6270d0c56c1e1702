"""Networks by name. Float32 (N,3,H,W) pixels in [0,1] in, logits (N,K) out; each normalizes inside itself."""

from collections.abc import Callable
from functools import partial

from torch import nn

from rtalib.data.images import LabeledImages
from rtalib.errors import check_kind, check_name, check_number
from rtalib.models.adapt import adapt
from rtalib.models.base import Classifier, seeded, seen
from rtalib.models.densenet import DenseNet
from rtalib.models.preact_resnet import PreActResNet
from rtalib.models.resnet import BasicBlock, Bottleneck, ResNet
from rtalib.models.resnet_v2 import ResNetV2
from rtalib.models.small import ConvNet, Tiny
from rtalib.models.wide_resnet import WideResNet

LARGEST = 64  # pixels: for images of longer sides these networks, whose stems do not stride, are not made

_BUILDERS: dict[str, Callable[..., Classifier]] = {
    # The targets of RTA's two contest stages, and of the robust sources.
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3)),
    "densenet121": partial(DenseNet, (6, 12, 24, 16), 12),  # growth 12: the contest's, 1.00 M parameters
    "wide_resnet28_4": partial(WideResNet, 28, 4),
    "preact_resnet18": partial(PreActResNet, (2, 2, 2, 2)),
    "wide_resnet28_10": partial(WideResNet, 28, 10),
    "wide_resnet34_10": partial(WideResNet, 34, 10),
    "resnet47_v2": partial(ResNetV2, 47),
    "densenet121_k32": partial(DenseNet, (6, 12, 24, 16), 32),
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    # For two CPU cores.
    "resnet8": partial(ResNet, BasicBlock, (1, 1, 1), width=16),
    "wide_resnet10_1": partial(WideResNet, 10, 1),
    "wide_resnet10_2": partial(WideResNet, 10, 2),
    "convnet": ConvNet,
    "convnet_small": partial(ConvNet, widths=(16, 32, 32)),
    "convnet_strided": partial(ConvNet, stride=2),  # the stem begins as a wavelet transform: a quarter of the pixels, nothing lost
    "convnet_strided_small": partial(ConvNet, widths=(16, 32, 32), stride=2),
    "convnet_wide": partial(ConvNet, widths=(32, 64, 128)),  # in float32 as fast as "convnet": its widths fill vector registers
    "tiny": Tiny,
}
MODELS: tuple[str, ...] = tuple(_BUILDERS)


def build(name: str, num_classes: int = 10, *, side: int | None = None) -> Classifier:
    """A freshly initialized network (from torch's global generator), in train mode, float32, on the CPU.

    side: in pixels; larger images are scaled to side x side for the network (bilinear, antialiased), which training.train does once and
    for all. None: it sees them as they are.
    """
    check_name("model", name, MODELS)
    check_number("num_classes", num_classes, 2, integer=True)
    if side is not None:
        check_number("side", side, 16, integer=True, unit=" pixels")
    network = _BUILDERS[name](num_classes=num_classes)
    network.side = side
    return network


def side_for(data: LabeledImages) -> int | None:
    """The `side` of a network for images like these: 64 if theirs are longer, else None."""
    return LARGEST if max(data.images.shape[2:]) > LARGEST else None


def count_parameters(model: nn.Module) -> int:
    """Number of trained values (buffers not counted)."""
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
