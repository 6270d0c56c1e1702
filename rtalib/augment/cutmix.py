"""CutMix (Yun et al., ICCV 2019) offline: a box of one image replaced by the same box of another, labels mixed by area."""

import torch
from torch import Tensor

from rtalib import rng
from rtalib.augment.augmix import beta as beta_quantiles
from rtalib.augment.augmix import check_concentration, middles
from rtalib.data.images import LabeledImages


def cutmix(
    data: LabeledImages,
    *,
    seed: int,
    index: Tensor | None = None,
    beta: float = 1.0,
    probability: float = 0.5,
    partners: LabeledImages | None = None,
) -> LabeledImages:
    """Each image, with `probability`, gets one box of a partner image; labels become soft float32 (N,K) for all images.

    The box: lambda ~ Beta(beta, beta), sides int(side * sqrt(1 - lambda)) cut to even numbers, the centre uniform over the pixels, clipped
    at the borders. The partner's label weighs the share of the pixels that the clipped box really has.
    index: int64 (N,), default 0..N-1, the identity of each image: box and partner depend on (seed, index) alone.
    beta: from 0.05; values but 1 need SciPy. probability: 0 to 1.
    partners: where partners are drawn from, uniformly, with the classes and the image size of `data`; default `data` itself. A slice of a
    data set gets the same images as the whole only when the whole is given here. An image may be its own partner.

    Returns images and labels on the device of `data`, under its name with '-cutmix'. The published code draws one lambda, one box and one
    permutation for a whole batch, and mixes a batch or leaves it (with probability 0.5 on CIFAR); here each image has its own draws.
    Raises ValueError that names the argument.
    """
    partners = data if partners is None else partners
    if partners.classes != data.classes:
        raise ValueError(f"partners: {partners.name!r} has other classes than {data.name!r}")
    if partners.images.shape[1:] != data.images.shape[1:]:
        expected, came = tuple(data.images.shape[1:]), tuple(partners.images.shape[1:])
        raise ValueError(f"partners: expected images {expected}, as in {data.name!r}, got {came}")
    check_concentration(beta, "beta")
    if not 0 <= probability <= 1:
        raise ValueError(f"probability: expected 0 to 1, got {probability}")
    index = torch.arange(len(data)) if index is None else index
    if index.dtype != torch.int64 or index.shape != (len(data),):
        raise ValueError(f"index: expected int64 ({len(data)},), got {index.dtype} {tuple(index.shape)}")
    device = data.images.device
    index = index.cpu()
    at = (rng.uniform(seed, index, rng.stream("cutmix", "mixed"), 1)[:, 0] < probability).nonzero().squeeze(1)
    index = index[at]
    partner = rng.integers(seed, index, rng.stream("cutmix", "partner"), 1, len(partners))[:, 0].to(partners.images.device)
    box, area = (part.to(device) for part in boxes(seed, index, beta, tuple(data.images.shape[2:])))
    at = at.to(device)
    images, labels = data.images.clone(), soft(data.labels, data.num_classes)
    images[at] = torch.where(box, partners.images[partner].to(device), images[at])
    given = soft(partners.labels[partner], data.num_classes).to(device)
    labels[at] += area[:, None] * (given - labels[at])
    return LabeledImages(images, labels, data.classes, f"{data.name}-cutmix")


def boxes(seed: int, index: Tensor, beta: float, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """One box for each of `index` (N,): where it is, bool (N,1,H,W), and the share of the pixels that it has, float32 (N,)."""
    share = (1 - beta_quantiles(middles(seed, index, rng.stream("cutmix", "lambda"), 1), beta)).sqrt()
    rows, columns = (
        _span(rng.integers(seed, index, rng.stream("cutmix", axis), 1, side), share, side)
        for axis, side in zip(("rows", "columns"), size, strict=True)
    )
    box = rows[:, None, :, None] & columns[:, None, None, :]
    return box, (rows.sum(1) * columns.sum(1) / (size[0] * size[1])).float()


def _span(centre: Tensor, share: Tensor, side: int) -> Tensor:
    """bool (N, side): the positions that boxes with centres (N,1) and sides side * share (N,1) cover along one axis."""
    half = (side * share).long() // 2
    position = torch.arange(side)
    return (position >= centre - half) & (position < centre + half)


def soft(labels: Tensor, classes: int) -> Tensor:
    """A float32 (N,K) copy of the labels, hard ones as one-hot."""
    return labels.clone() if labels.ndim == 2 else torch.nn.functional.one_hot(labels, classes).float()
