"""The base of every network of the library: pixel input, normalization inside, features and a classifier."""

from collections.abc import Callable

import torch
from torch import fx, nn

from rtalib import rng
from rtalib.data.images import LabeledImages, pixels
from rtalib.models.adapt import resized

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)  # within an image, on average; the released RTA code's
CIFAR_STD_ADVERSARIAL = (0.2471, 0.2435, 0.2616)  # over all pixels, as most adversarial-training codes have it
CIFAR_STD_DARTS = (0.2470, 0.2435, 0.2616)  # the same, as DARTS has it


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """build(), its random initial weights determined by `seed` alone; torch's global generator is restored."""
    with rng.global_seed(seed):
        return build()


class Classifier(nn.Module):
    """Images float32 (N,3,H,W) in [0,1] -> logits (N,K). Normalizes inside, so that an attack's eps is in pixels.

    A subclass sets `classifier` and defines `features`. side: see models.build.
    """

    classifier: nn.Module
    side: int | None = None

    def __init__(self, mean: tuple[float, ...] = CIFAR_MEAN, std: tuple[float, ...] = CIFAR_STD):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    @property
    def digest_name(self) -> str:
        """In keys of stored results (see artefacts.network_digest): all that the weights do not say."""
        return type(self).__name__ if self.side is None else f"{type(self).__name__} {self.side}"

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self.side is None else smaller(x, self.side)
        return (x - self.mean) / self.std

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Pooled activations before the classifier, (N,D)."""
        raise NotImplementedError(f"{type(self).__name__} must define features(x)")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x))


@fx.wrap  # see models.adapt
def smaller(x: torch.Tensor, side: int) -> torch.Tensor:
    """Images with a side above `side` scaled to side x side, others as they are.

    Each pixel of the result is a mean of some of x, so what stays within eps of x stays within eps here, too.
    """
    return resized(x, side) if max(x.shape[2:]) > side else x


def seen(data: LabeledImages, side: int | None) -> LabeledImages:
    """The images as a network of that `side` sees them."""
    if side is None or max(data.images.shape[2:]) <= side:
        return data
    batch = max(1, 64 * side**2 // data.images[0, 0].numel())
    parts = [smaller(pixels(part), side).mul(255).round().byte() for part in data.images.split(batch)]
    return data.with_images(torch.cat(parts))


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def average(x: torch.Tensor) -> torch.Tensor:
    """Global average pooling, (N,C,H,W) -> (N,C)."""
    return x.mean(dim=(2, 3))


def he_normal(model: nn.Module) -> None:
    """Convolutions ~ N(0, 2 / fan_out) (He et al. 2015), in place."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
