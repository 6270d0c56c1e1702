"""Faster stand-ins for a network under attack: BatchNorm folded into the convolutions before it, channels last, bfloat16.

An attack runs one network forward and backward hundreds of times with fixed weights, so folding them once pays. The stand-in's results
equal the network's up to rounding, not bit by bit; see docs/attacks.md#fast-mode.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rtalib.attacks.checks import logits_of
from rtalib.errors import unknown
from rtalib.models.inference import device_of, evaluating

PRECISIONS = ("float32", "bfloat16")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batchnorm(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode, of the same class, without the BatchNorms that follow a convolution directly.

    Such a pair is one convolution with other weights: logits agree to about 1e-6. A pair is folded if the convolution feeds only the
    norm: after every convolution of a ResNet, after the first of each pre-activation block and of each dense layer. Other norms (behind
    pooling, concatenation or a sum) stay, and so do those in parts that torch.fx cannot trace. The copy is for inference and attacks: it
    cannot be trained like the original. Raises ValueError if the model as a whole cannot be traced.
    """
    folded = copy.deepcopy(model).eval()
    for conv, norm in list(_pairs(folded, _trace(folded))):
        first, second = folded.get_submodule(conv), folded.get_submodule(norm)
        dtype = first.weight.dtype
        fused = fuse_conv_bn_eval(first.double(), second.double()).to(dtype)  # in float64, so that only the result is rounded
        folded.set_submodule(conv, fused)
        folded.set_submodule(norm, nn.Identity())
    return folded


class _Tracer(fx.Tracer):
    """Traces into all modules but those in `whole`; `failed` is the innermost one that could not be traced."""

    def __init__(self, whole: set[nn.Module]) -> None:
        super().__init__()
        self.whole, self.failed = whole, None

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return module in self.whole or super().is_leaf_module(module, name)

    def call_module(self, module: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> object:
        try:
            return super().call_module(module, forward, args, kwargs)
        except Exception:
            self.failed = module if self.failed is None else self.failed
            raise


def _trace(model: nn.Module) -> fx.Graph:
    """The model's graph; a module whose forward asks for the shape or the values of its input stays whole."""
    whole: set[nn.Module] = set()
    while True:
        tracer = _Tracer(whole)
        try:
            return tracer.trace(model)
        except Exception as error:  # whatever the model's own code raises on a stand-in for a tensor
            if tracer.failed is None or tracer.failed in whole:
                text = f"model: torch.fx cannot trace {type(model).__name__} ({error}), so its BatchNorm cannot be folded; see fold=False"
                raise ValueError(text) from error
            whole.add(tracer.failed)


def _pairs(model: nn.Module, graph: fx.Graph) -> Iterator[tuple[str, str]]:
    """The names of each convolution and the norm that alone reads its output; both are used once, and only by being called."""
    modules = {node: model.get_submodule(node.target) for node in graph.nodes if node.op == "call_module"}
    read = {node.target.rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    uses = Counter(id(part) for module in modules.values() for part in module.modules())
    for node, norm in modules.items():
        before = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        conv = modules.get(before)
        if type(norm) not in NORMS or type(conv) not in CONVOLUTIONS or norm.running_mean is None or read & {before.target, node.target}:
            continue
        if len(before.users) == uses[id(conv)] == uses[id(norm)] == 1:
            yield before.target, node.target


class FastModel(nn.Module):
    """A fast stand-in for the model `exact`: the same logits up to rounding. Made by `prepared`."""

    digest_name = "Prepared"  # in keys of stored results, see artefacts.network_digest

    def __init__(self, exact: nn.Module, fast: nn.Module, precision: str) -> None:
        super().__init__()
        self.fast, self.precision = fast, precision
        object.__setattr__(self, "exact", exact)  # not a part: its mode, device and parameters are its owner's

    def forward(self, x: Tensor) -> Tensor:
        if self.precision == "float32":
            return self.fast(x)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self.fast(x).float()

    def misclassified(self, x: Tensor, labels: Tensor) -> Tensor:
        """bool (N,): whether `exact` misclassifies x; near the decision border bfloat16 cannot tell."""
        with evaluating(self.exact), torch.no_grad():
            return logits_of(self.exact, x.to(device_of(self.exact))).argmax(1).to(x.device) != labels


def prepared(model: nn.Module, precision: str = "float32", *, fold: bool = True) -> nn.Module:
    """A faster stand-in for `model` that every recipe accepts: BatchNorm folded (see fold_batchnorm), channels last, eval mode.

    precision: 'bfloat16' computes convolutions in bfloat16 (autocast), for hardware that has it. Gradients of almost zero then change sign,
    so images differ while success rates agree to about a point; `model` itself decides whether an image fools it. The stand-in holds
    a copy of the weights: prepare again after training. fold=False is for a model that torch.fx cannot trace.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    exact = model.exact if isinstance(model, FastModel) else model
    fast = fold_batchnorm(exact) if fold else copy.deepcopy(exact)
    return FastModel(exact, fast.to(memory_format=torch.channels_last), precision).eval()
