"""One spelling for the network of every command: `open_network`. Weights are read without unpickling anything."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import torch
from torch import nn

from rtalib import models
from rtalib.data.bounds import one_line
from rtalib.errors import check_kind, check_name, check_number, unknown
from rtalib.infra.grid.cell import environment
from rtalib.models import weights as weights_of
from rtalib.models.adapt import Adapted, adapt

SPELLINGS = "FILE.py:FUNCTION, torchvision:NAME, timm:NAME, FILE.onnx, FILE.pt2, or a name of `models`"
PUBLISHED = "DEFAULT"  # the weights that torchvision or timm publish; their package downloads them


def open_network(
    spelling: str,
    *,
    weights: str | Path | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    size: int | None = None,
    output: str | int | None = None,
    classes: int | None = None,
) -> nn.Module:
    """The network that a command line names, in eval mode: float32 (N,3,H,W) in [0,1] in, logits (N,K) out, with `features`.

    spelling: 'FILE.py:FUNCTION' (the function takes nothing and returns a torch.nn.Module; the file is executed), 'torchvision:NAME',
    'timm:NAME', a .onnx file, a .pt2 file of torch.export, or a name of `models.MODELS`.
    weights: a .safetensors file or a checkpoint of plain tensors (.pt, .pth) with the tensors' own names (a leading 'module.' is removed),
    or 'DEFAULT' for what torchvision or timm publish. Needed for torchvision, timm and `models`; for FILE.py it replaces what the function
    has loaded; not for .onnx and .pt2.
    mean, std, size, output: see `models.adapt`. With 'DEFAULT', mean, std and size are the published ones unless given.
    classes: the logits of a network that is built by name; default 10 for `models`, the name's own otherwise.

    Raises ValueError, TypeError or FileNotFoundError that names the argument or the file.
    """
    check_kind("spelling", spelling, str, "the name of a network")
    if weights is not None:
        check_kind("weights", weights, (str, Path), "a path")
    if classes is not None:
        check_number("classes", classes, 2, integer=True)
    kind, _, name = spelling.rpartition(":")
    form = {"mean": mean, "std": std, "size": size, "output": output}
    if kind.endswith(".py"):
        network = _call(Path(kind).expanduser(), name)
    elif kind in ("torchvision", "timm"):
        if weights is None:
            raise ValueError(f"weights: {spelling} has none of its own; give FILE, or {PUBLISHED} to download the published ones")
        network, published = (_torchvision if kind == "torchvision" else _timm)(name, weights == PUBLISHED, classes)
        form = published | {key: value for key, value in form.items() if value is not None}
        weights = None if weights == PUBLISHED else weights
    elif spelling in models.MODELS:
        if weights is None:
            raise ValueError(f"weights: {spelling} has none of its own; give FILE")
        network = models.build(spelling, 10 if classes is None else classes)
    elif Path(spelling).suffix in (".onnx", ".pt2"):
        if weights is not None:
            raise ValueError(f"weights: {spelling} holds its own; expected none, got {weights}")
        network = (_onnx if spelling.endswith(".onnx") else _exported)(_file(Path(spelling).expanduser()))
    else:
        known = ", ".join(models.MODELS)
        raise ValueError(f"network: expected {SPELLINGS} ({known}), got {spelling!r}")
    if weights is not None:
        load_weights(network, weights)
    given = {key: value for key, value in form.items() if value is not None}
    return (network if isinstance(network, models.Classifier | Adapted) and not given else adapt(network, **given)).eval()


def load_weights(network: nn.Module, file: str | Path) -> None:
    """Give a network the tensors of a file (see models.weights.read), in place; ValueError that lists the names that do not fit.

    The names are the network's own, without those that `models.adapt` adds around it.
    """
    network = network.network if isinstance(network, Adapted) else network
    path = Path(file).expanduser()
    found, _ = weights_of.read(path, prefixes=("module.",))
    wanted = network.state_dict()
    weights_of.check_fit({name: value.shape for name, value in wanted.items()}, found, path, type(network).__name__)
    network.load_state_dict(wanted | found)


def _file(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"network: {path} is no file")
    return path


def _package(name: str, needed_for: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"network: {needed_for} needs the package {name} ({error}); pip install 'rtalib[networks]'") from error


def _call(path: Path, function: str) -> nn.Module:
    """What FUNCTION of FILE.py returns. The file may import its neighbors."""
    spec = importlib.util.spec_from_file_location(path.stem, _file(path))
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.absolute().parent))
    try:
        spec.loader.exec_module(module)
        make = getattr(module, function, None)
        if not callable(make):
            raise unknown(f"function of {path}", function, [name for name in vars(module) if callable(getattr(module, name))])
        network = make()
    finally:
        sys.path.remove(str(path.absolute().parent))
    if not isinstance(network, nn.Module):
        raise TypeError(f"network: {path}:{function}() returned {type(network).__name__}, expected a torch.nn.Module")
    return network


def _torchvision(name: str, published: bool, classes: int | None) -> tuple[nn.Module, dict]:
    from torchvision import models as zoo

    check_name("network of torchvision", name, zoo.list_models(module=zoo))
    if not published:
        return zoo.get_model(name, weights=None, **({} if classes is None else {"num_classes": classes})), {}
    weights = zoo.get_model_weights(name).DEFAULT
    network = zoo.get_model(name, weights=None)
    network.load_state_dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
    preset = weights.transforms()
    return network, {"mean": preset.mean, "std": preset.std, "size": preset.crop_size[0]}


def _timm(name: str, published: bool, classes: int | None) -> tuple[nn.Module, dict]:
    timm = _package("timm", f"timm:{name}")
    if not timm.is_model(name):
        raise unknown("network of timm", name, timm.list_models())
    built = {} if published or classes is None else {"num_classes": classes}
    network = timm.create_model(name, pretrained=published, **built)
    facts = network.pretrained_cfg
    return network, {"mean": facts["mean"], "std": facts["std"], "size": facts["input_size"][-1]} if published else {}


def _onnx(path: Path) -> nn.Module:
    """The converter writes Python code with the names of the nodes between quotation marks, so a name that would end these is refused."""
    onnx, convert = _package("onnx", path.name), _package("onnx2torch", path.name).convert
    invalid = (_package("onnx.checker", path.name).ValidationError, _package("google.protobuf.message", path.name).DecodeError)
    try:
        odd = [name for name in _node_names(onnx.load(path, load_external_data=False).graph) if re.search(r'["\\\x00-\x1f]', name)]
        if odd:
            raise ValueError(f"network: {path}: {odd[0][:60]!r} is no name for a node")
        return convert(str(path))
    except (NotImplementedError, *invalid) as error:
        raise ValueError(f"network: {path} cannot be read as ONNX ({error})") from error


def _node_names(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield from (node.name, node.domain, node.op_type)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _node_names(inner)


def _exported(path: Path) -> nn.Module:
    """A program of torch.export, which torch turns into Python: like a .py file, it is to come from somebody who is trusted.

    Pickled objects and compiled code are refused all the same. The names are those that torch's own reader finds; it ignores their case.
    """
    try:
        names = torch._C.PyTorchFileReader(str(path)).get_all_records()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"network: {path} is no archive of torch.export ({one_line(error)[:200]})") from error
    parts = [part for name in names for part in name.lower().split("/")]
    refused = [part for part in parts if part.startswith(("custom_obj", "opaque_obj", "aotinductor")) or part.endswith(".so")]
    if refused:
        raise ValueError(
            f"network: {path} holds pickled objects or compiled code ({refused[0]}), which is not executed; expected tensors alone"
        )
    try:
        with environment(TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"):
            network = torch.export.load(path).module()
    except (RuntimeError, ValueError, UnpicklingError) as error:
        raise ValueError(f"network: {path} cannot be read as a program of torch.export ({error})") from error
    network.train = network.eval = lambda *mode: network  # the mode is fixed by the export, and torch's own methods only say so
    return network
