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

from rtalib import rng
from rtalib.attacks.checks import generator_states, logits_of
from rtalib.errors import check_kind, check_name
from rtalib.models.inference import device_of, evaluating

PRECISIONS = ("float32", "bfloat16")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PROBED = 2  # images of the first call that the model itself is asked about, too
LARGEST_DIFFERENCE = 1e-3  # of the stand-in's logits, in float32, relative to the largest logit
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batchnorm(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode, of the same class, without the BatchNorms that follow a convolution directly.

    Such a pair is one convolution with other weights: logits agree to about 1e-6. A pair is folded if the convolution feeds only the
    norm: after every convolution of a ResNet, after the first of each pre-activation block and of each dense layer. Other norms (behind
    pooling, concatenation or a sum) stay, and so do those in parts that torch.fx cannot trace or that carry hooks (pruning, old weight or
    spectral norm), whose weights are computed anew at each call. The copy is for inference and attacks: it cannot be trained like the
    original. Raises ValueError if the model as a whole cannot be traced or copied.
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    folded = replica(model).eval()
    for conv, norm in list(_pairs(folded, _trace(folded))):
        first, second = (copy.deepcopy(folded.get_submodule(name)) for name in (conv, norm))  # weights may be shared with other layers
        dtype = first.weight.dtype
        fused = fuse_conv_bn_eval(first.double(), second.double()).to(dtype)  # in float64, so that only the result is rounded
        folded.set_submodule(conv, fused)
        folded.set_submodule(norm, nn.Identity())
    return folded


def replica(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with `model`; ValueError if it cannot be copied.

    Hooks of pruning and of old norms leave computed weights behind, with a graph that deepcopy refuses: those are copied without it.
    """
    computed = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor) and not value.is_leaf]
    try:
        return copy.deepcopy(model, {id(value): value.detach().clone() for value in computed})
    except Exception as error:  # whatever parts of the model raise that cannot be copied
        raise ValueError(f"model: {type(model).__name__} cannot be copied ({error}); attack the model itself") from error


def _as_written(module: nn.Module) -> bool:
    """Whether a call of the module is its class's forward, without hooks or a forward of its own."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return not any(getattr(module, kind) for kind in kinds) and "forward" not in vars(module)


class _Tracer(fx.Tracer):
    """Traces into modules without hooks but those in `whole`; `failed` is the innermost one that could not be traced."""

    def __init__(self, whole: set[nn.Module]) -> None:
        super().__init__()
        self.whole, self.failed = whole, None

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return module in self.whole or not _as_written(module) or super().is_leaf_module(module, name)

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
        if not (_as_written(norm) and _as_written(conv)):
            continue
        if len(before.users) == uses[id(conv)] == uses[id(norm)] == 1:
            yield before.target, node.target


class FastModel(nn.Module):
    """A fast stand-in for the model `exact`: the same logits up to rounding, which its first call checks. Made by `prepared`."""

    digest_name = "Prepared"  # in keys of stored results, see artefacts.network_digest

    def __init__(self, exact: nn.Module, fast: nn.Module, precision: str) -> None:
        super().__init__()
        self.fast, self.precision, self.compared = fast, precision, False
        object.__setattr__(self, "exact", exact)  # not a part: its mode, device and parameters are its owner's

    def forward(self, x: Tensor) -> Tensor:
        if not self.compared:
            self._compare(x[:PROBED].detach())
        if self.precision == "float32":
            return self.fast(x)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self.fast(x).float()

    def _compare(self, x: Tensor) -> None:
        """ValueError unless both models say the same of x, given the same random numbers; one that draws others cannot be compared."""
        with evaluating(self), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            drawn = generator_states(x.device)  # torch's are put back, others move on
            exact, again = self._exact_logits(x), self._exact_logits(x)
            repeatable = torch.equal(exact, again) and drawn == generator_states(x.device)
            with rng.global_seed(0, x.device):
                found = logits_of(self.fast, x)
        apart, size = (found - exact).abs().max().item(), exact.abs().max().item()
        if repeatable and not apart <= LARGEST_DIFFERENCE * size:
            cause = "its weights have changed since, or tracing has misread it: prepare it again, if need be with fold=False"
            raise ValueError(
                f"model: the stand-in's logits differ from those of {type(self.exact).__name__} by {apart:.2g} of {size:.2g}; {cause}"
            )
        self.compared = True

    def _exact_logits(self, x: Tensor) -> Tensor:
        device = device_of(self.exact)
        with evaluating(self.exact), rng.global_seed(0, device):
            return logits_of(self.exact, x.to(device)).to(x.device)

    def predicted(self, x: Tensor) -> Tensor:
        """int64 (N,): the classes that `exact` gives; near the decision border bfloat16 cannot tell."""
        device = device_of(self.exact)
        with evaluating(self.exact), torch.no_grad():
            return logits_of(self.exact, x.to(device)).argmax(1).to(x.device)


def prepared(model: nn.Module, precision: str = "float32", *, fold: bool = True) -> nn.Module:
    """A faster stand-in for `model` that every recipe accepts: BatchNorm folded (see fold_batchnorm), channels last, eval mode.

    precision: 'bfloat16' computes convolutions in bfloat16 (autocast), for hardware that has it. Gradients of almost zero then change sign,
    so images differ while success rates agree to about a point; `model` itself decides whether an image fools it. The stand-in holds
    a copy of the weights: prepare again after training. Its first call asks `model`, too, and raises ValueError if the two differ.
    fold=False is for a model that torch.fx cannot trace.
    """
    check_name("precision", precision, PRECISIONS)
    check_kind("fold", fold, bool, "True or False")
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    exact = model.exact if isinstance(model, FastModel) else model
    fast = fold_batchnorm(exact) if fold else replica(exact)
    return FastModel(exact, fast.to(memory_format=torch.channels_last), precision).eval()
