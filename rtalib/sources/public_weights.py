"""Published weights that the user has: RobustBench's files of six of the contest's defenses, by name in one folder. Nothing is downloaded.

Architectures, names of the tensors and input normalization are those of RobustBench's model zoo (robustbench/model_zoo/cifar10.py).
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rtalib.errors import check_name
from rtalib.infra import store
from rtalib.models import weights
from rtalib.models.base import CIFAR_MEAN, CIFAR_STD_ADVERSARIAL, Classifier
from rtalib.models.inference import best_device
from rtalib.models.preact_resnet import PreActResNet
from rtalib.models.weights import check_fit
from rtalib.models.wide_resnet import WideResNet

RECIPE = "public-weights"  # of the store's entries
# (mean, std) per channel
NONE, CENTERED, ADVERSARIAL = ((0.0,) * 3, (1.0,) * 3), ((0.5,) * 3, (0.5,) * 3), (CIFAR_MEAN, CIFAR_STD_ADVERSARIAL)


@dataclass(frozen=True)
class WeightFormat:
    """How to read one file. build() -> a network of ours; unused: the beginning of tensor names that its forward pass never uses."""

    build: Callable[[], Classifier]
    normalization: tuple[tuple[float, ...], tuple[float, ...]] = NONE
    unused: str = "sub_block1."


def _wide(depth: int) -> Callable[[], Classifier]:
    return lambda: WideResNet(depth, 10, 10)


FORMATS = {  # {RobustBench id: format}
    "Zhang2019Theoretically": WeightFormat(_wide(34)),
    "Carmon2019Unlabeled": WeightFormat(_wide(28)),
    "Hendrycks2019Using": WeightFormat(_wide(28), CENTERED),
    "Wu2020Adversarial_extra": WeightFormat(_wide(28)),
    "Sehwag2020Hydra": WeightFormat(_wide(28)),
    "Wong2020Fast": WeightFormat(lambda: PreActResNet((2, 2, 2, 2), 10, raw_shortcut=True), ADVERSARIAL),
}


def folder() -> Path:
    """The folder of the files: $RTALIB_WEIGHTS, else ~/.cache/rtalib/weights."""
    return Path(os.environ.get("RTALIB_WEIGHTS") or Path.home() / ".cache" / "rtalib" / "weights").expanduser()


def files() -> dict[str, Path]:
    """{RobustBench id: file} of the weights in the folder, each named after its id, as Zhang2019Theoretically.pt."""
    return {name: path for name in FORMATS if (path := folder() / f"{name}.pt").is_file()}


def entry(path: Path) -> store.Entry:
    """A store entry that represents the file by its SHA-256; it does not copy the weights."""
    return store.make(RECIPE, 1, {"file": path.name, "sha256": store.digest(path)}, lambda folder: None, label=path.stem)


def load(path: Path) -> nn.Module:
    """The published network in a file that is named after its RobustBench id, in eval mode, on the GPU if there is one.

    Raises ValueError for another name, for a file that is not a checkpoint of plain tensors, and for tensors that do not fit, by name.
    """
    check_name("published weights", path.stem, FORMATS)
    form = FORMATS[path.stem]
    model = form.build()
    fit(model, weights.read(path)[0], normalization=form.normalization, unused=form.unused, where=str(path))
    return model.eval().to(best_device(model), memory_format=torch.channels_last)


def fit(
    model: Classifier,
    found: Mapping[str, Tensor],
    *,
    normalization: tuple[tuple[float, ...], tuple[float, ...]] = NONE,
    unused: str = "sub_block1.",
    where: str = "the file",
) -> None:
    """Load tensors of public names into a WideResNet or PreActResNet, in place; ValueError that lists what does not fit.

    normalization: (mean, std) of the input per channel. Names that begin with `unused` are passed over, as are stored input statistics;
    counters of BatchNorm, which old files lack, may be missing.
    """
    ours = {public_name(name, model): name for name in model.state_dict() if name not in ("mean", "std")}
    found = {name: value for name, value in found.items() if not name.startswith(unused) and name not in ("mu", "sigma")}
    shapes = {name: tuple(model.state_dict()[own].shape) for name, own in ours.items()}
    check_fit(shapes, found, where, type(model).__name__)
    state = {ours[name]: value for name, value in found.items()}
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in normalization)
    model.load_state_dict(model.state_dict() | state | {"mean": mean, "std": std})


def public_name(name: str, model: Classifier) -> str:
    """The public name of one of our tensors: blocks are counted within a stage there, and some layers are called otherwise."""
    wide = isinstance(model, WideResNet)
    head, _, rest = name.partition(".")
    if head != "stages":
        return {"stem": "conv1", "bn": "bn1", "classifier": "fc" if wide else "linear"}[head] + f".{rest}"
    number, _, rest = rest.partition(".")
    stage, block = divmod(int(number), len(model.stages) // (3 if wide else 4))
    if wide:
        return f"block{stage + 1}.layer.{block}.{rest.replace('shortcut.', 'convShortcut.')}"
    return f"layer{stage + 1}.{block}.{rest.replace('shortcut.', 'shortcut.0.')}"
