"""Names of tensors in the published checkpoints of DARTS (quark0/darts, cnn/model.py), which PC-DARTS and P-DARTS share."""

from torch import nn

from rtalib.darts.network import Network
from rtalib.darts.operations import DilConv, FactorizedReduce, FactorizedSeven, Project, SepConv

# Input normalization of the published networks, which lies in their data loaders (cnn/utils.py; cnn/train_imagenet.py).
NORMALIZATION = {
    "cifar": ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
PARTS: dict[type[nn.Module], dict[str, str]] = {
    SepConv: {
        **{"first.depthwise": "op.1", "first.pointwise": "op.2", "inner_norm": "op.3"},
        **{"second.depthwise": "op.5", "second.pointwise": "op.6", "norm": "op.7"},
    },
    DilConv: {"first.depthwise": "op.1", "first.pointwise": "op.2", "norm": "op.3"},
    FactorizedReduce: {"even": "conv_1", "odd": "conv_2", "norm": "bn"},
    FactorizedSeven: {"wide": "1", "high": "2", "norm": "3"},
    Project: {"pointwise": "op.1", "norm": "op.2"},
}
STEMS = {
    "cifar": {"stem.0": "stem.0", "stem.1": "stem.1"},
    "imagenet": {
        **{"stem.0.0": "stem0.0", "stem.0.1": "stem0.1", "stem.0.3": "stem0.3", "stem.1": "stem0.4"},
        **{"second_stem.0": "stem1.1", "second_stem.1": "stem1.2"},
    },
}
HEAD = {
    **{"auxiliary.reduce.0": "auxiliary_head.features.2", "auxiliary.reduce.1": "auxiliary_head.features.3"},
    **{"auxiliary.widen.0": "auxiliary_head.features.5", "auxiliary.widen.1": "auxiliary_head.features.6"},
    **{"auxiliary.classifier": "auxiliary_head.classifier", "classifier": "classifier"},
}


def published_names(network: Network) -> dict[str, str]:
    """{our name: the published one} of every tensor but those of the normalization, which the published networks do not have."""
    layers = {**STEMS.get(network.stem_name, STEMS["cifar"]), **HEAD}
    for path, module in network.cells.named_modules(prefix="cells"):
        for ours, theirs in PARTS.get(type(module), {}).items():
            layers[f"{path}.{ours}"] = f"{path.replace('.operations.', '._ops.')}.{theirs}"
    names = {}
    for name in network.state_dict():
        layer, _, tensor = name.rpartition(".")
        if layer != "normalize":
            names[name] = f"{layers[layer]}.{tensor}"
    return names
