"""Choosing one of several searched genotypes: train each from scratch for a short time and compare on the validation images."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from rtalib.darts.genotype import Genotype
from rtalib.darts.network import Network
from rtalib.darts.operations import STEMS
from rtalib.data.images import LabeledImages
from rtalib.errors import check_name, check_number
from rtalib.models.base import seeded
from rtalib.models.inference import evaluate
from rtalib.training.loop import train as train_network
from rtalib.training.recipes import RECIPES


@dataclass(frozen=True)
class Choice:
    """How one of several genotypes is chosen: by validation accuracy after a short training from scratch (Liu et al., ICLR 2019: 100
    epochs). recipe: a name in training.RECIPES; channels, layers, stem: of the networks."""

    epochs: int = 100
    recipe: str = "darts"
    channels: int = 16
    layers: int = 8
    stem: str = "cifar"

    def __post_init__(self):
        for name in ("epochs", "channels", "layers"):
            check_number(f"choice.{name}", getattr(self, name), 1, integer=True)
        check_name("stem", self.stem, STEMS)
        check_name("recipe", self.recipe, RECIPES)


def choose(
    genotypes: list[Genotype],
    train: LabeledImages,
    val: LabeledImages,
    choice: Choice,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
    checkpoint: Path | str | None = None,
) -> tuple[int, list[float]]:
    """Index of the best genotype, the first of equals, and the validation accuracy in [0,1] of each (as Liu et al., ICLR 2019, choose).

    All networks start from the same seed and see the same batches; equal genotypes are trained once. checkpoint: the files of the
    trainings, from which an interrupted choice resumes, are named after it. ValueError if there is no genotype.
    """
    if not genotypes:
        raise ValueError("genotypes: expected at least one, got none")
    recipe = RECIPES[choice.recipe].scaled(choice.epochs)
    size = choice.channels, choice.layers, train.num_classes, recipe.auxiliary_weight > 0
    known: dict[Genotype, float] = {}
    for i, genotype in enumerate(genotypes):
        if genotype not in known:
            network = seeded(partial(Network, genotype, *size, stem=choice.stem), seed)
            own = checkpoint and numbered(Path(checkpoint), f"choice-{i}")
            train_network(network, train, recipe, seed=seed, checkpoint=own, device=device)
            known[genotype] = evaluate(network, val)
    scores = [known[genotype] for genotype in genotypes]
    return scores.index(max(scores)), scores


def numbered(path: Path, mark: str) -> Path:
    """search.pt -> search-mark.pt."""
    return path.with_name(f"{path.stem}-{mark}{path.suffix}")
