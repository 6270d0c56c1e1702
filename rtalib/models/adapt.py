"""Networks of others in the library's form: pixels in [0,1] in, logits out, features from the input of the last linear layer."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from rtalib.errors import check_number, short, unknown


def adapt(
    network: nn.Module,
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    size: int | None = None,
    output: str | int | None = None,
    features: str | None = None,
) -> "Adapted":
    """Any classifier as a module that takes float32 (N,3,H,W) in [0,1] and returns logits (N,K).

    mean, std: of the pixels in [0,1], one number or one per channel, if the network wants normalized input; both or none. None: it
    normalizes inside itself. For input (255 x - 127) / 128 give mean 127/255 and std 128/255.
    size: side in pixels to which images of another size are resized (bilinear, antialiased). None: they stay as they are.
    output: which part of the output the logits are: the key of a mapping, the field of a dataclass, the position in a tuple. None: a
    tensor is taken as it is, otherwise `logits`, otherwise the only part of shape (N,K).
    features: name of the module whose output, averaged over positions or tokens, `features` gives. None: what the last linear layer gets.
    The result has `features(x)` and `classifier`, as the networks of `models.build` have. The network itself is not copied.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network: expected a torch.nn.Module, got {type(network).__name__}")
    if (mean is None) != (std is None):
        raise ValueError(f"mean, std: expected both or none, got mean {short(mean)} and std {short(std)}")
    if size is not None:
        check_number("size", size, 1, integer=True, unit=" pixel")
    if features is not None and features not in (known := _names(network)):
        raise unknown("module for features", features, known)
    return Adapted(network, per_channel("mean", mean), per_channel("std", std), size, output, features)


def per_channel(name: str, values: Sequence[float] | float | None) -> Tensor | None:
    """(1,3,1,1), or None."""
    if values is None:
        return None
    numbers = [values] * 3 if isinstance(values, Real) else list(values) if isinstance(values, Iterable) else []
    if len(numbers) != 3:
        raise ValueError(f"{name}: expected one number or three, one per channel, got {short(values)}")
    for number in numbers:
        check_number(name, number, *((0, 1) if name == "mean" else (0,)), open_low=name == "std", unit=" in units of [0,1] pixels")
    return torch.tensor(numbers, dtype=torch.float32).view(1, 3, 1, 1)


class Adapted(nn.Module):
    """See `adapt`."""

    def __init__(
        self,
        network: nn.Module,
        mean: Tensor | None,
        std: Tensor | None,
        size: int | None,
        output: str | int | None,
        tapped: str | None = None,
    ):
        super().__init__()
        self.network, self.size, self.output, self.tapped = network, size, output, tapped
        self.register_buffer("mean", mean, persistent=False)  # given anew with the weights, so that these keep the network's own names
        self.register_buffer("std", std, persistent=False)

    @property
    def digest_name(self) -> str:
        """In keys of stored results (see artefacts.network_digest): all that the weights do not say."""
        form = [None if value is None else value.flatten().tolist() for value in (self.mean, self.std)]
        tapped = "" if self.tapped is None else f" {self.tapped}"
        return f"Adapted {type(self.network).__name__} {form} {self.size} {self.output!r}{tapped}"

    def normalize(self, x: Tensor) -> Tensor:
        return x if self.mean is None else (x - self.mean) / self.std

    def forward(self, x: Tensor) -> Tensor:
        return logits_in(self.network(self.normalize(resized(x, self.size))), x, self.output)

    def features(self, x: Tensor) -> Tensor:
        """(N,D): the input of the linear layer that gives the logits, or the output of the module that `adapt` was told."""
        if self.tapped is None:
            return self._last_linear(x)[1]
        (call,) = self._calls(x, [self.network.get_submodule(self.tapped)])[1][-1:]
        output = call[2]
        return output.mean(dim=(2, 3)) if output.ndim == 4 else output.mean(dim=1) if output.ndim == 3 else output

    @property
    def classifier(self) -> nn.Linear:
        """The linear layer that gives the logits; it is known after the first call of `features`."""
        if "_classifier" not in self.__dict__:
            raise RuntimeError("classifier: not known yet; call features(images) first, which finds it")
        return self.__dict__["_classifier"]

    def _last_linear(self, x: Tensor) -> tuple[nn.Linear, Tensor]:
        logits, calls = self._calls(x, [module for module in self.network.modules() if isinstance(module, nn.Linear)])
        module, features, result = calls[-1] if calls else (None, None, None)
        if result is None or result.shape != logits.shape:
            raise ValueError(
                f"network: no torch.nn.Linear of {type(self.network).__name__} gives its logits, so its features are not known; "
                "models.adapt(network, features=NAME) takes them from a module, the one before the classifier. The last modules are: "
                + (", ".join(_names(self.network)[-8:]) or "none")
            )
        self.__dict__["_classifier"] = module  # no part of this module: it is a part of the network already
        return module, features

    def _calls(self, x: Tensor, modules: Iterable[nn.Module]) -> tuple[Tensor, list[tuple[nn.Module, Tensor, Tensor]]]:
        """The logits, and (module, input, output) of each call of one of these modules, in order."""
        calls: list[tuple[nn.Module, Tensor, Tensor]] = []
        hooks = [module.register_forward_hook(lambda part, inputs, result: calls.append((part, inputs[0], result))) for module in modules]
        try:
            return self(x), calls
        finally:
            for hook in hooks:
                hook.remove()


def _names(network: nn.Module) -> list[str]:
    """Of its modules."""
    return [name for name, _ in network.named_modules() if name]


@fx.wrap  # torch.fx, by which attacks fold BatchNorms, records a call and does not look inside
def resized(x: Tensor, size: int | None) -> Tensor:
    """(N,3,size,size), bilinear and antialiased; None: as it is."""
    if size is None or x.shape[2:] == (size, size):
        return x
    return F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)


@fx.wrap
def logits_in(found: Any, x: Tensor, output: str | int | None = None, argument: str = "network") -> Tensor:
    """The logits (N,K) in what a network, the caller's `argument`, returned for x; see `adapt`. ValueError that names the parts if they
    cannot be told."""
    count = len(x)
    if isinstance(found, Tensor) and output is None:
        return _checked(found, count, argument)
    parts = _parts(found)
    if output is not None:
        if output not in parts:
            known = ", ".join(map(repr, parts)) if parts else "a tensor without parts"
            raise ValueError(f"output: the network returns no part {output!r}; it returns {known}")
        return _checked(parts[output], count, argument)
    if isinstance(parts.get("logits"), Tensor):
        return _checked(parts["logits"], count, argument)
    fitting = {name: part for name, part in parts.items() if isinstance(part, Tensor) and part.ndim == 2 and len(part) == count}
    if len(fitting) != 1:
        said = f"{type(found).__name__} with {', '.join(map(repr, parts))}" if parts else type(found).__name__
        raise ValueError(f"{argument}: it returns {said}; say which part the logits (N,K) are, as models.adapt(network, output=...) does")
    return next(iter(fitting.values()))


def _parts(found: Any) -> dict[str | int, Any]:
    """The parts of a mapping, a dataclass, a named tuple (by name) or a sequence (by position)."""
    if isinstance(found, Mapping):
        return dict(found)
    if dataclasses.is_dataclass(found):
        return {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    if hasattr(found, "_asdict"):
        return found._asdict()
    return dict(enumerate(found)) if isinstance(found, list | tuple) else {}


def _checked(logits: Any, count: int, argument: str) -> Tensor:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != count:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"{argument}: expected logits of shape ({count}, K), got {got}")
    return logits
