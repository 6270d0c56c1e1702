"""The images of a training set of paper one before augmentation, by protocol."""

import warnings

import torch

from rtalib import experiments
from rtalib.data.images import LabeledImages, balanced
from rtalib.data.loading import load_dataset
from rtalib.scale_settings import RtaScale

APART = "apart"
PROTOCOLS = (*experiments.PROTOCOLS, APART)


def originals(dataset: str, protocol: str, seed: int, setup: RtaScale) -> LabeledImages:
    """`setup.originals` images, classes balanced, chosen by `seed`.

    protocol 'disjoint' takes them from the training split, and the sources have seen some of these images; 'apart' only from those
    training images that no source has seen, as in the paper; 'paper' from the test split, like the contest's Stage I, so that they are
    the very images that the evaluation perturbs. ValueError if too few images are left apart.
    """
    if protocol != APART:
        return load_dataset(dataset, "train" if protocol == "disjoint" else "test", limit=setup.originals, seed=seed)
    return unseen(dataset, setup.originals, seed, setup)


def unseen(dataset: str, limit: int, seed: int, setup: RtaScale) -> LabeledImages:
    """Training images that no source has seen: not the first of the data set's balanced order, nor those that pre-training takes next."""
    data = load_dataset(dataset, "train")
    seen = setup.source_images * (2 if setup.pretraining == dataset else 1)
    left = balanced(data.hard_labels, data.num_classes, len(data), 0)[seen:]
    if len(left) < limit:
        raise ValueError(
            f"protocol 'apart': expected {limit:,} training images that no source has seen, got {len(left):,} of {len(data):,}"
        )
    rest = data.subset(left)
    return rest.subset(balanced(rest.hard_labels, rest.num_classes, limit, seed))


def warn_of_leakage(protocol: str) -> None:
    """Warn that 'paper', like the contest's first stage, trains on the very test images that the evaluation perturbs."""
    if protocol == "paper":
        warnings.warn(
            "protocol 'paper': the training images are test images, and so are the images of the proxy suite. "
            "Its score measures how well perturbed copies of training images are recognized, not new images.",
            stacklevel=3,
        )


def unmodified(data: LabeledImages, drawn: list[list[str]]) -> dict[str, int]:
    """{operation: how many of its copies are the original to the byte}, for a set of originals and their copies, copy after copy.

    An attack by preset 'author' leaves an image alone that its source gets wrong anyway.
    """
    n, counts = len(data) // (1 + len(drawn)), dict.fromkeys(sorted({name for copy in drawn for name in copy}), 0)
    for copy, names in enumerate(drawn, 1):
        same = (data.images[copy * n : (copy + 1) * n] == data.images[:n]).flatten(1).all(dim=1)
        for at in torch.nonzero(same).flatten().tolist():
            counts[names[at]] += 1
    return counts
