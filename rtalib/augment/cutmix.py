"""CutMix (Yun et al., ICCV 2019) offline: a box of one image replaced by the same box of another, labels mixed by area."""

import torch
from torch import Tensor

from rtalib import rng
from rtalib.augment.augmix import LEAST_CONCENTRATION, midpoints
from rtalib.augment.augmix import beta as beta_quantiles
from rtalib.augment.cutout import spans
from rtalib.data.images import LabeledImages, soft_labels
from rtalib.errors import check_index, check_kind, check_number


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

    The box: lambda ~ Beta(beta, beta), sides int(side * sqrt(1 - lambda)) cut to even numbers, the center uniform over the pixels, clipped
    at the borders. The weight of the partner's label is the clipped box's share of the pixels.
    index: int64 (N,), default 0..N-1, the identity of each image: box and partner depend on (seed, index) alone.
    beta: from 0.05; values other than 1 need SciPy. probability: 0 to 1.
    partners: the images from which partners are drawn uniformly, with the classes and the image size of `data`; default `data` itself. A
    slice of a data set gets the same images as the whole only if the whole is given here. An image may be its own partner.

    Returns images and labels on the device of `data`, under its name with '-cutmix'. The published code draws one lambda, one box and one
    permutation for a whole batch, and mixes a batch or leaves it (with probability 0.5 on CIFAR); here each image has its own draws.
    Raises TypeError or ValueError that names the argument.
    """
    partners = data if partners is None else partners
    for name, given in (("data", data), ("partners", partners)):
        check_kind(name, given, LabeledImages, "LabeledImages")
    if partners.classes != data.classes:
        raise ValueError(f"partners: {partners.name!r} has other classes than {data.name!r}")
    if partners.images.shape[1:] != data.images.shape[1:]:
        expected, came = tuple(data.images.shape[1:]), tuple(partners.images.shape[1:])
        raise ValueError(f"partners: expected images {expected}, as in {data.name!r}, got {came}")
    check_number("beta", beta, LEAST_CONCENTRATION)
    check_number("probability", probability, 0, 1)
    index, device = check_index(index, len(data)), data.images.device
    at = (rng.uniform(seed, index, rng.stream("cutmix", "mixed"), 1)[:, 0] < probability).nonzero().squeeze(1)
    index = index[at]
    partner = rng.integers(seed, index, rng.stream("cutmix", "partner"), 1, len(partners))[:, 0].to(partners.images.device)
    box, area = (part.to(device) for part in boxes(seed, index, beta, tuple(data.images.shape[2:])))
    at = at.to(device)
    images, labels = data.images.clone(), soft_labels(data.labels, data.num_classes).clone()
    images[at] = torch.where(box, partners.images[partner].to(device), images[at])
    given = soft_labels(partners.labels[partner], data.num_classes).to(device)
    labels[at] += area[:, None] * (given - labels[at])
    return LabeledImages(images, labels, data.classes, f"{data.name}-cutmix")


def boxes(seed: int, index: Tensor, beta: float, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """One box for each of `index` (N,): its pixels, bool (N,1,H,W), and its share of all pixels, float32 (N,)."""
    share = (1 - beta_quantiles(midpoints(seed, index, rng.stream("cutmix", "lambda"), 1), beta)).sqrt()

    def covered(axis: str, side: int) -> Tensor:
        half = (side * share).long() // 2
        return spans(rng.integers(seed, index, rng.stream("cutmix", axis), 1, side) - half, 2 * half, side)

    rows, columns = covered("rows", size[0]), covered("columns", size[1])
    box = rows[:, None, :, None] & columns[:, None, None, :]
    return box, (rows.sum(1) * columns.sum(1) / (size[0] * size[1])).float()
