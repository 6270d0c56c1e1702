"""Corruptions on demand: a transform for training, and a data set whose items are images under any type and severity, never on a disk."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from rtalib.corruptions.api import TYPES, corrupt
from rtalib.errors import check_name, check_number
from rtalib.infra.store import content_digest


class Pictures(Protocol):
    """Any map-style data set of (image, label): PIL pictures, or uint8 tensors (3,H,W); sizes may differ."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, int]: ...


def _checked(corruption: str, severities: Sequence[int]) -> None:
    check_name("corruption", corruption, TYPES)
    for severity in severities:
        check_number("severity", severity, 1, 5, integer=True)


def _pixels(image: Any) -> Tensor:
    """uint8 (1,3,H,W)."""
    pixels = functional.pil_to_tensor(image.convert("RGB")) if hasattr(image, "convert") else image
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
        got = f"{pixels.dtype} {tuple(pixels.shape)}" if isinstance(pixels, Tensor) else type(image).__name__
        raise TypeError(f"image: expected a PIL picture or torch.uint8 (3,H,W), got {got}")
    return pixels[None].as_subclass(Tensor)


class Corrupt(v2.Transform):
    """A v2 transform of torchvision: each picture under one of `corruptions` at one of `severities`, drawn from torch's generator.

    Takes PIL pictures and uint8 tensors (3,H,W) and gives uint8 tensors (3,H,W). benchmark: whose constants; see `corrupt`.
    """

    def __init__(self, corruptions: Sequence[str], severities: Sequence[int] = (1, 2, 3, 4, 5), benchmark: str = "imagecorruptions"):
        super().__init__()
        self.corruptions = [corruptions] if isinstance(corruptions, str) else list(corruptions)
        self.severities, self.benchmark = list(severities), benchmark
        if not self.corruptions or not self.severities:
            raise ValueError("corruptions, severities: expected at least one of each")
        for name in self.corruptions:
            _checked(name, self.severities)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        kind, level, index = (int(torch.randint(high, ())) for high in (len(self.corruptions), len(self.severities), 2**31))
        return {"name": self.corruptions[kind], "severity": self.severities[level], "index": torch.tensor([index])}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Tensor:
        return corrupt(_pixels(inpt), **params, benchmark=self.benchmark)[0]


class CorruptedDataset(Dataset):
    """The corrupted copies of a data set without their files: an item is computed when it is asked for, the same on every machine.

    Items are (image uint8 (3,H,W), label), in the order type, severity, image: item t * S * N + s * N + i is image i under corruptions[t]
    at severities[s]. An image's random draws depend on `seed`, the type, the severity and its number alone.
    """

    def __init__(
        self,
        pictures: Pictures,
        corruptions: Sequence[str],
        severities: Sequence[int] = (1, 2, 3, 4, 5),
        *,
        seed: int = 0,
        benchmark: str = "imagecorruptions",
    ):
        self.pictures, self.corruptions, self.severities = pictures, tuple(corruptions), tuple(severities)
        self.seed, self.benchmark = seed, benchmark
        for name in self.corruptions:
            _checked(name, self.severities)

    def __len__(self) -> int:
        return len(self.corruptions) * len(self.severities) * len(self.pictures)

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        if not -len(self) <= item < len(self):
            raise IndexError(f"item: expected below {len(self)}, got {item}")
        cell, index = divmod(item % len(self), len(self.pictures))
        kind, level = divmod(cell, len(self.severities))
        return self.image(index, self.corruptions[kind], self.severities[level])

    def image(self, index: int, corruption: str, severity: int) -> tuple[Tensor, int]:
        """(uint8 (3,H,W), label) of one picture under one corruption, also one that is not among the set's own."""
        _checked(corruption, [severity])
        picture, label = self.pictures[index]
        how = {"seed": self.seed, "index": torch.tensor([index]), "benchmark": self.benchmark}
        return corrupt(_pixels(picture), corruption, severity, **how)[0], label

    def digest(self, corruption: str, severity: int) -> str:
        """16 hex digits of the SHA-256 over the shapes and bytes of all images of one cell, which anybody can compute again."""
        images = (self.image(index, corruption, severity)[0] for index in range(len(self.pictures)))
        return content_digest(*(part for image in images for part in (repr(tuple(image.shape)), image)))
