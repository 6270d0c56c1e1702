"""Write a network of cells with all that is needed to read it back, and read such files and the published ones."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from rtalib.darts.genotype import Genotype
from rtalib.darts.network import Network
from rtalib.darts.operations import STEMS, reduction_positions
from rtalib.darts.weights.published import NORMALIZATION, published_names
from rtalib.errors import check_kind, check_name
from rtalib.models.adapt import per_channel
from rtalib.models.weights import check_fit, read


def save_network(network: Network, path: Path | str) -> Path:
    """Write the tensors as safetensors, the genotype and the stem beside them in its metadata; width, depth, classes and input
    normalization follow from the tensors."""
    from safetensors.torch import save_file

    check_kind("network", network, Network, "a darts.Network")
    check_kind("path", path, (str, Path), "a path")
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(state, Path(path), {"genotype": str(network.genotype), "stem": network.stem_name})
    return Path(path)


def load_network(
    path: Path | str,
    genotype: Genotype | str | Path | None = None,
    *,
    stem: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Network:
    """The network in a file, in eval mode: one of `save_network`, or a published checkpoint of DARTS, PC-DARTS or P-DARTS.

    genotype: of a file that does not say it; a Genotype or what Genotype.of reads. stem: likewise ('cifar' and 'tiny-imagenet' have tensors
    of equal shapes). mean, std: input normalization per channel, of pixels in [0,1]. Published networks were trained on normalized images
    and hold none; by default they get that of their training script, CIFAR-10's, or ImageNet's with its stem. ValueError for a file
    without the genotype or the stem, for one that says another, and for tensors that do not fit, by name.
    """
    check_kind("path", path, (str, Path), "a path")
    if stem is not None:
        check_kind("stem", stem, str, "the name of a stem")
    genotype = None if genotype is None else str(Genotype.of(genotype))
    found, said = read(path)
    published = any("._ops." in name or name.startswith(("stem0.", "auxiliary_head.")) for name in found)
    if published:
        said = {"stem": "imagenet" if "stem0.0.weight" in found else "cifar"} if stem is None else {}
    genotype = _told(path, "genotype", said.get("genotype"), genotype)
    stem = _told(path, "stem", said.get("stem"), stem)
    check_name("stem", stem, STEMS)
    auxiliary = any(name.startswith("auxiliary") for name in found)
    network = Network(Genotype.parse(genotype), *_size(path, found), auxiliary, stem=stem)
    own = network.state_dict()
    names = published_names(network) if published else {name: name for name in own}
    check_fit({theirs: own[name].shape for name, theirs in names.items()}, found, path, f"the {stem} network of this genotype")
    network.load_state_dict({name: found[theirs] for name, theirs in names.items() if theirs in found}, strict=False)
    default = NORMALIZATION.get(stem, NORMALIZATION["cifar"]) if published else (None, None)
    for name, given, other in zip(("mean", "std"), (mean, std), default, strict=True):
        values = other if given is None else given
        if values is not None:
            getattr(network.normalize, name).copy_(per_channel(name, values))
    return network.eval()


def _told(path: Path | str, name: str, said: str | None, given: str | None) -> str:
    """What a file says, or the caller; both may say the same."""
    if said is None and given is None:
        raise ValueError(f"{name}: {path} does not say it; give {name}=...")
    if said is not None and given is not None and said != given:
        raise ValueError(f"{name}: {path} says {said!r}, got {given!r}")
    return given if said is None else said


def _size(path: Path | str, found: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """(channels, layers, classes) of a network's tensors."""
    first = next(
        (found[f"cells.0.preprocess1.{name}.weight"] for name in ("pointwise", "op.1") if f"cells.0.preprocess1.{name}.weight" in found),
        None,
    )
    head = found.get("classifier.weight")
    if first is None or head is None:
        raise ValueError(
            f"weights: {path} holds no network of cells; expected tensors such as cells.0.preprocess1... and classifier.weight"
        )
    layers = 1 + max(int(match[1]) for match in map(re.compile(r"cells\.(\d+)\.").match, found) if match)
    return len(first) // (1 + (0 in reduction_positions(layers))), layers, len(head)
