"""A network of your own for `repair.repair`: read it, look at its core failures, write what became of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from rtalib import darts
from rtalib.data.images import LabeledImages
from rtalib.experiments.repair.images import Study
from rtalib.experiments.repair.protocol import deployed
from rtalib.experiments.repair.your_network import Repaired
from rtalib.results.figures.arrays import image_grid
from rtalib.results.figures.style import Drawing

SHOWN = 40  # core failures in a figure


def load(genotype: str, weights: Path | str, channels: int, layers: int, train: LabeledImages) -> darts.Network:
    """A darts.Network in eval mode for the classes of `train`.

    genotype: its text ('normal: ... ; reduce: ...'), its JSON, or a file that holds either; weights: its state as safetensors. An auxiliary
    head's weights are left out. ValueError for a file of another format, and where the weights do not fit, naming the first that does not.
    """
    text = Path(genotype).read_text() if len(genotype) < 256 and Path(genotype).is_file() else genotype
    cells = darts.Genotype.from_json(text) if text.lstrip().startswith("{") else darts.Genotype.parse(text)
    network = darts.Network(cells, channels, layers, train.num_classes)
    try:
        state = {name: value for name, value in load_file(weights).items() if not name.startswith("auxiliary.")}
    except SafetensorError as error:
        raise ValueError(f"weights: {weights} is no safetensors file, and nothing else is read ({error})") from error
    own = {name: value.shape for name, value in network.state_dict().items()}
    for name in sorted(own.keys() | state.keys()):
        came = state[name].shape if name in state else None
        if own.get(name) != came:
            size = f"channels={channels}, layers={layers}, {train.num_classes} classes"
            raise ValueError(f"weights: {name!r} is {came and tuple(came)}, expected {own.get(name) and tuple(own[name])} ({size})")
    network.load_state_dict(state)
    return network.eval()


def stand_in(study: Study) -> nn.Module:
    """The deployed network of the tables, where you have none at hand."""
    return deployed(study)[0]


def core_figure(found: Repaired, *, columns: int = 10) -> Drawing:
    """The first SHOWN selected examples, in order of selection, with their labels."""
    few = found.core.subset(range(min(SHOWN, len(found.core))))
    names = [few.classes[label] for label in few.hard_labels]
    return image_grid(few.images.numpy(), names, columns=columns, title=f"{len(few)} of {len(found.core)} selected")


def save(found: Repaired, folder: Path | str) -> Sequence[Path]:
    """Write core.npy (rows of the selected failures; their images where they are made), genotype.json and weights.safetensors."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "core.npy", (found.core.images if found.rows is None else found.rows).numpy())
    if found.network is None:
        return [folder / "core.npy"]
    (folder / "genotype.json").write_text(found.genotype.to_json())
    state = {name: value.cpu().contiguous() for name, value in found.network.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    return [folder / name for name in ("core.npy", "genotype.json", "weights.safetensors")]
