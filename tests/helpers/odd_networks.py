"""Networks as others write them, drawn: hooks, recomputed weights, in-place parts, batch statistics, random numbers, mixed modes."""

import contextlib
import random

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

SIDE, CLASSES = 8, 4


class InPlace(nn.Module):
    """Normalization as torchvision's Normalize(inplace=True) does it."""

    def forward(self, x):
        return x.sub_(0.5).div_(0.25)


class Counting(nn.Module):
    """Counts its calls in a buffer, in place or by a new tensor, as observers of quantization do in eval mode, too."""

    def __init__(self, anew: bool):
        super().__init__()
        self.anew = anew
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        if self.anew:
            self.calls = self.calls + 1
        else:
            self.calls.add_(1)
        return x


class Noise(nn.Module):
    """Random in eval mode: noise, dropout that is never off, a flip by Python's or NumPy's generator."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        if self.kind == "noise":
            return x + 0.05 * torch.randn_like(x)
        if self.kind == "dropout":
            return F.dropout(x, 0.2, training=True)
        flip = random.random() if self.kind == "python" else np.random.rand()
        return x.flip(-1) if flip < 0.5 else x


def with_own_forward(module: nn.Module) -> nn.Module:
    plain = module.forward
    module.forward = lambda x: 0.5 * plain(x)
    return module


def with_hook(module: nn.Module, kind: str) -> nn.Module:
    if kind == "output":
        module.register_forward_hook(lambda module, inputs, output: output + 0.1)
    elif kind == "input":
        module.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 0.9,))
    else:
        module.register_full_backward_hook(lambda module, inputs, outputs: None)
    return module


DECORATIONS = {
    "plain": lambda module: module,
    "pruned": lambda module: prune.l1_unstructured(module, "weight", 0.4),
    "weight norm": weight_norm,
    "spectral norm": spectral_norm,
    "weight norm, new": parametrizations.weight_norm,
    "spectral norm, new": parametrizations.spectral_norm,
    "output hook": lambda module: with_hook(module, "output"),
    "input hook": lambda module: with_hook(module, "input"),
    "backward hook": lambda module: with_hook(module, "backward"),
    "own forward": with_own_forward,
}
NORMS = {
    "batch": nn.BatchNorm2d,
    "not affine": lambda width: nn.BatchNorm2d(width, affine=False),
    "group": lambda width: nn.GroupNorm(2, width),
    "none": lambda width: nn.Identity(),
}
BATCH_STATISTICS = lambda width: nn.BatchNorm2d(width, track_running_stats=False)  # noqa: E731


@st.composite
def networks(draw, odd=True):
    """(network, whether it mixes the images of a batch, whether it is random)."""
    torch.manual_seed(draw(st.integers(0, 99)))
    mixed, drawn = (draw(st.integers(0, 7)) == 0 for _ in range(2))
    parts, width = [InPlace()] if draw(st.booleans()) else [], 3
    if drawn:
        parts.append(Noise(draw(st.sampled_from(("noise", "dropout", "python", "numpy")))))
    shared = None
    for number in range(draw(st.integers(1, 3))):
        conv = nn.Conv2d(width, 6, 3, padding=1, padding_mode=draw(st.sampled_from(("zeros", "reflect"))), bias=draw(st.booleans()))
        if shared is not None and width == 6 and draw(st.booleans()):
            conv.weight = shared
        shared, width = (conv.weight if width == 6 else None), 6
        if not (number and conv.weight is shared and draw(st.booleans())):
            conv = DECORATIONS[draw(st.sampled_from(sorted(DECORATIONS)))](conv)
        shared = shared if isinstance(getattr(conv, "weight", None), nn.Parameter) else None
        norm = (BATCH_STATISTICS if mixed and not number else NORMS[draw(st.sampled_from(sorted(NORMS)))])(6)
        if draw(st.integers(0, 5)) == 0:
            norm = with_hook(norm, draw(st.sampled_from(("output", "input"))))
        inplace = not conv._backward_hooks and draw(st.booleans())  # torch forbids the two together
        pair = [conv, norm, nn.ReLU(inplace)]
        parts += [with_hook(nn.Sequential(*pair), "output")] if draw(st.integers(0, 5)) == 0 else pair
    if draw(st.booleans()):
        parts.append(Counting(draw(st.booleans())))
    network = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width, CLASSES))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    network.double().train()
    with torch.no_grad():
        network(torch.rand(4, 3, SIDE, SIDE, dtype=torch.float64))  # hooks leave computed weights behind
    for module in list(network.modules()):
        module.training = draw(st.booleans())
    for parameter in network.parameters():
        parameter.requires_grad_(draw(st.booleans()))
    return network, mixed, drawn


def snapshot(network: nn.Module) -> list:
    """Everything of a caller's that a library must leave alone."""
    state = [(name, id(value), value.clone()) for name, value in (*network.named_parameters(), *network.named_buffers())]
    modules = [(id(module), module.training, len(module._forward_hooks), len(module._forward_pre_hooks)) for module in network.modules()]
    grads = [(parameter.requires_grad, parameter.grad is None) for parameter in network.parameters()]
    return [state, modules, grads, torch.get_rng_state().clone()]


def untouched(before: list, after: list) -> bool:
    same = all(a[:2] == b[:2] and torch.equal(a[2], b[2]) for a, b in zip(before[0], after[0], strict=True))
    return same and before[1:3] == after[1:3] and torch.equal(before[3], after[3])


CONTEXTS = {
    "plain": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
