"""What CF-DARTS is compared with in its Table 2: the deployed architecture retrained with an augmentation, and AU-DARTS' examples.

The DARTS optimizer and schedule stay; augmentation and loss change, because each method's own "default setup" belongs to another network.
Cutout is left out, as the compared methods do without it, and so is posterize, which the paper's list of operations lacks.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rtalib import coreset
from rtalib.augment.augmix import augmix
from rtalib.data.images import LabeledImages
from rtalib.errors import unknown
from rtalib.experiments.repair.kmeans import kmeans
from rtalib.infra import store
from rtalib.training.artefacts import fit_network, network_digest
from rtalib.training.mixing import AugMixLoss, CutMixLoss
from rtalib.training.recipes import Recipe
from rtalib.training.test_time import minimize_entropy, reestimate_statistics

BASELINES: tuple[str, ...] = ("DeepRepair", "AugMix", "CutMix")
ADAPTATIONS: tuple[str, ...] = ("statistics", "entropy")
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


def fit_baseline(
    name: str,
    build: Callable[[], nn.Module],
    data: LabeledImages,
    recipe: Recipe,
    *,
    parameters: dict,
    deployed: nn.Module | None = None,
    failures: LabeledImages | None = None,
    **options: object,
) -> store.Entry:
    """The store entry of the network of `build`, trained on `data` by a baseline.

    name: 'AugMix' or 'CutMix', from scratch, or 'DeepRepair', which continues from `deployed` (the same architecture) with AugMix and, as a
    tenth operation, the styles of `failures`. Its authors stop by the test loss; here the whole recipe is trained.
    parameters: what identifies the architecture. options: seed, precision, label and record of artefacts.fit_network.
    Raises ValueError for an unknown name, or for a deployed network of another architecture.
    """
    if name not in BASELINES:
        raise unknown("baseline", name, BASELINES)
    auxiliary, own, styles = recipe.auxiliary_weight, {}, None
    if name == "DeepRepair":
        if failures.images.shape[1:] != data.images.shape[1:]:
            came, expected = tuple(failures.images.shape[1:]), tuple(data.images.shape[1:])
            raise ValueError(f"failures: expected images {expected}, as in {data.name!r}, got {came}")
        own = {"deployed": network_digest(deployed), "failures": failures.digest, "clusters": CLUSTERS}
        styles = style_references(failures)
    if name == "CutMix":
        objective = CutMixLoss(options["seed"], auxiliary_weight=auxiliary, **CUTMIX)
    else:
        objective = AugMixLoss(options["seed"], auxiliary_weight=auxiliary, references=styles, **AUGMIX)
    numbers = CUTMIX if name == "CutMix" else AUGMIX
    return fit_network(
        (lambda: _begun(build, deployed)) if name == "DeepRepair" else build,
        lambda: data,
        replace(recipe, cutout=0, auxiliary_weight=0.0),  # the objective computes the whole loss
        parameters={**parameters, "baseline": [name, numbers], "data": data.digest, "auxiliary_weight": auxiliary, **own},
        objective=objective,
        **options,
    )


def adapted(name: str, deployed: nn.Module, pool: LabeledImages, *, parameters: dict, seed: int) -> store.Entry:
    """The store entry of the deployed network, adapted without labels to half of the corrupted images in `pool`, drawn by `seed`.

    name: 'statistics' (BatchNorm statistics, Schneider et al. 2020) or 'entropy' (TENT, Wang et al. 2021). parameters: the network's key.
    """

    def build(folder: Path) -> None:
        images = pool.images[coreset.random_selection(len(pool), len(pool) // 2, seed)]
        network = reestimate_statistics(deployed, images) if name == "statistics" else minimize_entropy(deployed, images, seed=seed)
        save_file({key: value.cpu().contiguous() for key, value in network.state_dict().items()}, folder / "weights.safetensors")
        (folder / "history.json").write_text(json.dumps([]))  # nothing was trained epoch by epoch

    return store.make("adapted", 1, {**parameters, "adaptation": name, "pool": pool.digest, "seed": seed}, build, label=f"{name}-s{seed}")


def _begun(build: Callable[[], nn.Module], deployed: nn.Module) -> nn.Module:
    """A network with the weights of the deployed one."""
    network, weights = build(), {name: value.cpu() for name, value in deployed.state_dict().items()}
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in (weights, network.state_dict())]
    if shapes[0] != shapes[1]:
        differing = sorted(name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name))
        raise ValueError(f"deployed: expected the architecture built; {len(differing)} weights differ, the first is {differing[0]!r}")
    network.load_state_dict(weights)
    return network
