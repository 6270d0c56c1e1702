"""LabeledImages, the form of every data set in the library, and how sets are joined and drawn from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from rtalib import rng
from rtalib.errors import check_images, check_kind
from rtalib.infra.store import content_digest


@dataclass(frozen=True, eq=False, repr=False)  # two sets are compared by their digests: tensors have no one truth value
class LabeledImages:
    """Images at rest: uint8 (N,3,H,W), with labels int64 (N,) or soft float32 (N,K), the K class names, and a name for reports.

    Images of one channel, (N,1,H,W), become RGB by repetition.
    Raises TypeError or ValueError naming the field when a dtype, a shape, a label or a length is wrong, or when there is no image.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", check_images(self.images))
        check_kind("classes", self.classes, Iterable, "class names")
        object.__setattr__(self, "classes", tuple(self.classes))
        if not len(self.images):
            raise ValueError(f"images: the set {self.name!r} is empty; expected at least one image")
        if not self.images[0].numel():
            raise ValueError(f"images: expected sides of at least 1 pixel, got {tuple(self.images.shape)}")
        if not self.classes:
            raise ValueError("classes: expected at least one class name, got none")
        _check_labels(self.labels, len(self.images), len(self.classes))

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        height, width = self.images.shape[2:]
        kind = "" if self.labels.ndim == 1 else ", soft labels"
        return f"LabeledImages({self.name!r}: {len(self):,} images of {width}x{height} px, {self.num_classes} classes{kind})"

    def _repr_html_(self) -> str:
        from rtalib.data import thumbnails

        return thumbnails.page(self)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def hard_labels(self) -> torch.Tensor:
        """int64 (N,): the labels, or the most probable class of each soft label."""
        return self.labels if self.labels.ndim == 1 else self.labels.argmax(dim=1)

    @cached_property
    def digest(self) -> str:
        """16 hex digits of the SHA-256 over shapes, images, labels and classes; the name does not count.

        Computed once per object (0.5 s for CIFAR-10's 50,000 images): a later change of the tensors in place does not change it.
        """
        return content_digest(repr((self.images.shape, self.labels.shape, self.classes)), self.images, self.labels)

    def subset(self, indices: torch.Tensor | Sequence[int]) -> "LabeledImages":
        """The images at `indices` (int64, or a bool mask of length N), in that order."""
        indices = torch.as_tensor(indices, device=self.images.device)
        if indices.dtype not in (torch.bool, torch.int64, torch.int32):
            raise TypeError(f"indices: expected integers or a bool mask, got {indices.dtype}")
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def with_images(self, images: torch.Tensor, name: str | None = None) -> "LabeledImages":
        """The same labels with other images, one for each."""
        return replace(self, images=images, name=self.name if name is None else name)

    def to(self, device: torch.device | str) -> "LabeledImages":
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


def _check_labels(labels: torch.Tensor, count: int, classes: int) -> None:
    if not isinstance(labels, torch.Tensor) or labels.dtype not in (torch.int64, torch.float32):
        came = labels.dtype if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise TypeError(f"labels: expected torch.int64 (N,) or soft torch.float32 (N,K), got {came}")
    expected = (count,) if labels.dtype == torch.int64 else (count, classes)
    if tuple(labels.shape) != expected:
        raise ValueError(f"labels: expected shape {expected} for {count} images and {classes} classes, got {tuple(labels.shape)}")
    if labels.dtype == torch.int64:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise ValueError(f"labels: expected 0 to {classes - 1} for {classes} classes, got values from {low} to {high}")
        return
    if not bool(torch.isfinite(labels).all()) or bool((labels < 0).any()):
        raise ValueError("labels: soft labels must be finite and not negative")
    off = float((labels.sum(dim=1) - 1.0).abs().max())
    if off > 1e-3:
        raise ValueError(f"labels: each soft label must sum to one, the worst is off by {off:.4g}")


def concat(parts: Sequence[LabeledImages], name: str) -> LabeledImages:
    """All images of `parts` one after the other; hard labels become one-hot when any part has soft ones.

    Raises ValueError when there is no part, or when classes or image sizes differ.
    """
    if not parts:
        raise ValueError("parts: expected at least one set of images, got none")
    first = parts[0]
    for part in parts[1:]:
        if part.classes != first.classes:
            raise ValueError(f"parts: {part.name!r} has other classes than {first.name!r}")
        if part.images.shape[1:] != first.images.shape[1:]:
            raise ValueError(
                f"parts: {part.name!r} holds images {tuple(part.images.shape[1:])}, {first.name!r} holds {tuple(first.images.shape[1:])}"
            )
    labels = [part.labels for part in parts]
    if any(part.ndim == 2 for part in labels):
        labels = [soft_labels(part, first.num_classes) for part in labels]
    return LabeledImages(torch.cat([part.images for part in parts]), torch.cat(labels), first.classes, name)


def soft_labels(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """float32 (N,K): hard labels (N,) as one-hot, soft ones as they are."""
    return labels if labels.ndim == 2 else torch.nn.functional.one_hot(labels, classes).float()


def smooth(labels: torch.Tensor, alpha: float, classes: int) -> torch.Tensor:
    """(1 - alpha) y + alpha / K as float32 (N,K), the released code's form, from hard (N,) or soft (N,K) labels."""
    return (1 - alpha) * soft_labels(labels, classes) + alpha / classes


def balanced(labels: torch.Tensor, classes: int, limit: int, seed: int) -> torch.Tensor:
    """int64 (limit,): one random image of each class in turn, again and again; a class that runs out is passed over."""
    if limit > len(labels):
        raise ValueError(f"limit: asked for {limit} images, the split has {len(labels)}")
    order = rng.uniform(seed, torch.arange(len(labels)), rng.stream("limit"), 1)[:, 0].argsort()
    turn = torch.empty(len(labels), dtype=torch.int64)
    for k in range(classes):
        rows = (labels[order] == k).nonzero()[:, 0]
        turn[rows] = torch.arange(len(rows)) * classes + k
    return order[turn.argsort()[:limit]]


def pixels(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N,3,H,W) -> float32 in [0,1], channels-last in memory."""
    return images.to(torch.float32, memory_format=torch.channels_last).div_(255.0)
