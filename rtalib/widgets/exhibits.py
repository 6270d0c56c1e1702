"""What explorers show before anything was trained: recorded networks, a recorded search and its core failures (outputs/record/exhibits)."""

import json
from pathlib import Path

from safetensors.torch import load_file

from rtalib import augment, models
from rtalib.data import shapes10
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.models.base import Classifier
from rtalib.widgets.coreset import CoreMap, core_map
from rtalib.widgets.sets import RobustSet

FOLDER = Path(__file__).parents[2] / "outputs" / "record" / "exhibits"
DATASET, CORRUPTION = "shapes10", "gaussian_noise"
# Name: the source of RTA's tables that was trained, and the network that scale demo makes of it.
NETWORKS = {"clean training": ("held-out", "convnet_small"), "adversarial training": ("pgd_at", "convnet")}
BUDGET = 40  # core failures on the map


def weights(name: str) -> str:
    """The file of a network of NETWORKS."""
    return f"{name.split()[0]}.safetensors"


def _file(name: str) -> Path:
    if not (path := FOLDER / name).exists():
        raise FileNotFoundError(
            f"{path}: not there. The recorded exhibits come with a clone of the repository, not with an installed wheel"
        )
    return path


def networks() -> dict[str, Classifier]:
    """Two networks for the ten classes of shapes10, {how they were trained: the network in eval mode on the CPU}."""
    found = {}
    for name, (_, builder) in NETWORKS.items():
        network = models.build(builder)
        network.load_state_dict(load_file(_file(weights(name))))
        found[name] = network.eval()
    return found


def network(data: LabeledImages) -> Classifier | None:
    """The one that was trained on clean images; None for images of other classes."""
    return networks()["clean training"] if data.classes == shapes10.CLASSES else None


def drawn(count: int = 96) -> RobustSet:
    """What RTA draws for shapes: one of the 15 corruptions, or an attack on one of the recorded networks."""
    made, names = augment.rta(load_dataset(DATASET, "test", limit=count), networks(), seed=0, restarts=2)
    return RobustSet(made, tuple(names), ("copy 1",) * len(made), ("",) * len(made))


def trace() -> list[dict]:
    """A DARTS search of twenty epochs on shapes10, epoch by epoch, as darts.search records it."""
    return json.loads(_file("search.json").read_text())


def core() -> CoreMap:
    """Failures of the network that this search found, under Gaussian noise at five severities, and what each rule picks among them."""
    kept = load_file(_file("core.safetensors"))
    failures = LabeledImages(kept["images"], kept["labels"], shapes10.CLASSES, f"{DATASET}, {CORRUPTION}: failures")
    names = failures.classes
    notes = [f"{names[label]}\nas {names[guess]}" for label, guess in zip(kept["labels"], kept["guesses"], strict=True)]
    return core_map(failures, notes, kept["candidates"].float(), kept["centers"].float(), BUDGET)
