"""phi_0 adapted to corrupted images without labels: what costs nothing, and neither paper has."""

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from rtalib import coreset
from rtalib.data.images import LabeledImages
from rtalib.infra import store
from rtalib.training.test_time import minimize_entropy, reestimate_statistics

ADAPTATIONS: tuple[str, ...] = ("statistics", "entropy")


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
