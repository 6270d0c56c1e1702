"""Make outputs/record/exhibits: what the explorers show before anything was trained here, and in the book.

    OMP_NUM_THREADS=1 python docs/book/exhibits.py        # five minutes on two CPU cores, at scale demo on shapes10

Two small networks, a search of twenty epochs, and the failures of the network that it found; rtalib/widgets/exhibits.py reads them.
"""

import dataclasses
import json

import torch
from safetensors.torch import save_file

from rtalib import provenance, repair, rta, scales, training
from rtalib.widgets.exhibits import CORRUPTION, DATASET, FOLDER, NETWORKS, weights

SEARCH = {"search_epochs": 20, "steps_per_epoch": 16}  # longer than demo's own three epochs, so that there is something to see
CENTERS, FAILURES = 700, 240  # training images and failures on the map, at most


def main() -> None:
    demo = scales.get("demo")
    FOLDER.mkdir(parents=True, exist_ok=True)
    card = {"scale": "demo", "dataset": DATASET, "search": SEARCH, "corruption": CORRUPTION, "stamp": provenance.stamp(), "networks": {}}
    for name, (source, builder) in NETWORKS.items():
        network, entry = rta.source_network(source, DATASET, demo.rta)
        save_file({key: value.contiguous() for key, value in network.state_dict().items()}, FOLDER / weights(name))
        card["networks"][name] = {"source": source, "builder": builder, "key": entry.key}
    setup = dataclasses.replace(demo.repair, **SEARCH)
    deployed = repair.deploy(repair.Study(DATASET, "demo", setup))
    trace = [
        row | {f"alphas_{cell}": _rounded(row[f"alphas_{cell}"]) for cell in ("normal", "reduce")} for row in deployed.architecture.trace
    ]
    (FOLDER / "search.json").write_text(json.dumps(trace, indent=None, separators=(",", ":")) + "\n")
    save_file(core(deployed, setup), FOLDER / "core.safetensors")
    (FOLDER / "card.json").write_text(json.dumps(card, indent=1) + "\n")


def _rounded(alphas: list[list[float]]) -> list[list[float]]:
    return [[round(value, 4) for value in line] for line in alphas]


def core(deployed: repair.protocol.TrainedNetwork, setup: scales.RepairScale) -> dict[str, torch.Tensor]:
    """Failures with their labels, what the network takes them for, and features of both sides, in half precision."""
    split = repair.evaluation_split(deployed.architecture.study, "disjoint")
    failures = repair.find_failures(deployed, split.base, CORRUPTION)
    failing = failures.pool.subset(failures.rows[torch.linspace(0, len(failures.rows) - 1, min(FAILURES, len(failures.rows))).long()])
    training_images = deployed.architecture.study.data.images[:CENTERS]
    return {
        "images": failing.images.contiguous(),
        "labels": failing.hard_labels,
        "guesses": training.predict(deployed.model, failing.images).argmax(dim=1),
        "candidates": training.extract_features(deployed.model, failing.images).half(),
        "centers": training.extract_features(deployed.model, training_images).half(),
    }


if __name__ == "__main__":
    main()
