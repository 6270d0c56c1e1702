"""What CF-DARTS is compared with in its Table 2: the deployed architecture retrained with an augmentation, and AU-DARTS' examples.

The DARTS optimizer and schedule stay; augmentation and loss change, because each method's own "default setup" belongs to another network.
Cutout is left out, as the compared methods do without it, and so is posterize, which the paper's list of operations lacks.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rtalib import coreset
from rtalib.augment.augmix import augmix
from rtalib.data.images import LabeledImages
from rtalib.errors import check_name
from rtalib.experiments.repair.kmeans import kmeans
from rtalib.training.artefacts import network_digest
from rtalib.training.mixing import AugMixLoss, CutMixLoss

BASELINES: tuple[str, ...] = ("DeepRepair", "AugMix", "CutMix")
SEVERITY = 3  # AugMix's default; the paper does not say
CLUSTERS = 5  # DeepRepair's styles per class
AUGMIX = {"coefficient": 12.0, "severity": float(SEVERITY), "posterize": False}
CUTMIX = {"beta": 1.0, "probability": 0.5}


def augmented_examples(data: LabeledImages, budget: int, seed: int, *, posterize: bool = False) -> LabeledImages:
    """AU-DARTS' stand-in for failures (section 4.1): `budget` images of `data`, uniformly at random, after a chain of AugMix's operations.

    Labels stay. ValueError for a budget outside 1..len(data).
    """
    chosen = coreset.random_selection(len(data), budget, seed)
    part = data.subset(chosen)
    images = augmix(part.images, seed=seed, index=chosen, severity=SEVERITY, posterize=posterize)
    return part.with_images(images, f"{data.name}/augmented")


def style_references(failures: LabeledImages, seed: int = 0) -> Tensor:
    """uint8 (R,3,H,W): for each class and each of CLUSTERS clusters of its standardized pixels, one failure drawn by `seed`.

    As in DeepRepair (Yu et al. 2021), by k-means++. A class has no more clusters than different failures, and none without failures.
    """
    generator, chosen = torch.Generator().manual_seed(seed), []
    for label in failures.hard_labels.unique():
        rows = (failures.hard_labels == label).nonzero().flatten()
        pixels = failures.images[rows].flatten(1).double()
        spread = pixels.std(0, correction=0)
        cluster = kmeans((pixels - pixels.mean(0)) / torch.where(spread > 0, spread, 1), CLUSTERS, seed)
        members = [rows[cluster == k] for k in cluster.unique()]
        chosen += [part[torch.randint(len(part), (1,), generator=generator)] for part in members]
    return failures.images[torch.cat(chosen)]


class Baseline(NamedTuple):
    """How a baseline trains the deployed architecture: its loss, what identifies it in a key, and the network that it continues from, if
    it does not begin with new weights."""

    name: str
    objective: AugMixLoss | CutMixLoss
    facts: dict
    begin: nn.Module | None = None


def baseline(name: str, seed: int, auxiliary_weight: float, deployed: nn.Module | None, failures: LabeledImages | None) -> Baseline:
    """'AugMix' or 'CutMix', from scratch, or 'DeepRepair': from `deployed`, with AugMix and, as a tenth operation, styles of `failures`.

    DeepRepair's authors stop by the test loss; here the whole recipe is trained. ValueError for an unknown name.
    """
    check_name("baseline", name, BASELINES)
    facts = {"baseline": [name, CUTMIX if name == "CutMix" else AUGMIX], "auxiliary_weight": auxiliary_weight}
    if name == "CutMix":
        return Baseline(name, CutMixLoss(seed, auxiliary_weight=auxiliary_weight, **CUTMIX), facts)
    if name == "AugMix":
        return Baseline(name, AugMixLoss(seed, auxiliary_weight=auxiliary_weight, **AUGMIX), facts)
    facts |= {"deployed": network_digest(deployed), "failures": failures.digest, "clusters": CLUSTERS}
    objective = AugMixLoss(seed, auxiliary_weight=auxiliary_weight, references=style_references(failures), **AUGMIX)
    return Baseline(name, objective, facts, deployed)
