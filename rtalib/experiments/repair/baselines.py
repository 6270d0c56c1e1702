"""What CF-DARTS is compared with in its Table 2: the deployed architecture retrained with an augmentation, and AU-DARTS' examples.

The DARTS optimiser and schedule stay, augmentation and loss change: each method's own "default setup" belongs to another network. Cutout,
which the compared methods do without, is left out, and so is posterize, which the paper's list of operations lacks.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from rtalib import coreset
from rtalib.augment.augmix import augmix
from rtalib.data.images import LabeledImages
from rtalib.errors import unknown
from rtalib.experiments.repair.kmeans import kmeans
from rtalib.infra import store
from rtalib.training.artefacts import network_digest, trained_network
from rtalib.training.mixing import AugMixLoss, CutMixLoss
from rtalib.training.recipes import Recipe

BASELINES: tuple[str, ...] = ("DeepRepair", "AugMix", "CutMix")
SEVERITY = 3  # AugMix's default; the paper does not say
CLUSTERS = 5  # DeepRepair's styles per class
AUGMIX = {"coefficient": 12.0, "severity": float(SEVERITY), "posterize": False}
CUTMIX = {"beta": 1.0, "probability": 0.5}


def augmented_examples(data: LabeledImages, budget: int, seed: int, *, posterize: bool = False) -> LabeledImages:
    """AU-DARTS' stand-in for the failures: `budget` images of `data`, uniformly at random, after an AugMix-style chain of operations.

    Labels stay. ValueError for a budget outside 1..len(data).
    """
    chosen = coreset.random_selection(len(data), budget, seed)
    part = data.subset(chosen)
    images = augmix(part.images, seed=seed, index=chosen, severity=SEVERITY, posterize=posterize)
    return part.with_images(images, f"{data.name}/augmented")


def style_references(failures: LabeledImages, seed: int = 0) -> Tensor:
    """uint8 (R,3,H,W): one failure, drawn by `seed`, of each of CLUSTERS clusters of each class's standardised pixels.

    As DeepRepair (Yu et al. 2021) chooses them, by k-means++.
    A class with fewer different failures has as many clusters as it has of them, and a class without failures none.
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


def train_baseline(
    name: str,
    build: Callable[[], nn.Module],
    data: LabeledImages,
    recipe: Recipe,
    *,
    deployed: nn.Module,
    failures: LabeledImages,
    parameters: dict,
    seed: int,
    precision: str,
    label: str,
    record: Callable[[nn.Module], dict] | None = None,
) -> tuple[nn.Module, store.Entry]:
    """The network of `build` trained on `data` by a baseline, and its store entry; resumed when killed, as artefacts.trained_network.

    name: 'AugMix' or 'CutMix', from scratch, or 'DeepRepair', which goes on from `deployed` (the same architecture) with AugMix and, as a
    tenth operation, the styles of `failures`; its authors stop by the test loss, here the whole recipe is trained.
    parameters: what tells the architecture. Raises ValueError for an unknown name, or a deployed network of another architecture.
    """
    if name not in BASELINES:
        raise unknown("baseline", name, BASELINES)
    auxiliary = recipe.auxiliary_weight
    figures = CUTMIX if name == "CutMix" else AUGMIX
    parameters = {**parameters, "baseline": [name, figures], "data": data.digest, "auxiliary_weight": auxiliary}
    make, styles = build, None
    if name == "DeepRepair":
        if failures.images.shape[1:] != data.images.shape[1:]:
            came, expected = tuple(failures.images.shape[1:]), tuple(data.images.shape[1:])
            raise ValueError(f"failures: expected images {expected}, as in {data.name!r}, got {came}")
        parameters |= {"deployed": network_digest(deployed), "failures": failures.digest, "clusters": CLUSTERS}
        make, styles = (lambda: _begun(build, deployed)), style_references(failures)
    objective = (
        CutMixLoss(seed, auxiliary_weight=auxiliary, **CUTMIX)
        if name == "CutMix"
        else AugMixLoss(seed, auxiliary_weight=auxiliary, references=styles, **AUGMIX)
    )
    return trained_network(
        make,
        lambda: data,
        replace(recipe, cutout=0, auxiliary_weight=0.0),  # the objective computes the whole loss
        parameters=parameters,
        seed=seed,
        objective=objective,
        precision=precision,
        label=label,
        record=record,
    )


def _begun(build: Callable[[], nn.Module], deployed: nn.Module) -> nn.Module:
    """A network with the weights of the deployed one."""
    network, weights = build(), {name: value.cpu() for name, value in deployed.state_dict().items()}
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in (weights, network.state_dict())]
    if shapes[0] != shapes[1]:
        differing = sorted(name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name))
        raise ValueError(f"deployed: expected the architecture built; {len(differing)} weights differ, the first is {differing[0]!r}")
    network.load_state_dict(weights)
    return network
