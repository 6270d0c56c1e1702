"""Errors that name the argument, the expected value and the one given."""

from __future__ import annotations

import difflib
import math
from collections.abc import Hashable, Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LARGEST_SEED = 2**32 - 1  # that the draws of attacks take


def unknown(kind: str, name: object, options: Iterable[str]) -> ValueError:
    """ValueError for a name that is not among `options`; suggests the nearest one. To be raised by the caller."""
    options = list(options)
    near = difflib.get_close_matches(str(name), options, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {kind} {short(name)}.{hint} Known: {', '.join(options)}.")


def check_name(kind: str, name: object, options: Iterable[Any]) -> None:
    """Raise unless `name` is one of `options`."""
    if not isinstance(name, Hashable) or name not in options:
        raise unknown(kind, name, options)


def check_kind(argument: str, value: object, kind: type | tuple[type, ...], expected: str) -> None:
    """TypeError unless `value` is of a kind, which the message calls `expected`."""
    if not isinstance(value, kind):
        raise TypeError(f"{argument}: expected {expected}, got {_kind(value)}")


def check_device(device: object) -> torch.device:
    """The device of that name, of a number or as it is."""
    import torch

    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device: expected a device of torch such as 'cpu' or 'cuda', got {short(device)}") from None


def as_tensor(value: object, argument: str, expected: str) -> torch.Tensor:
    """`value` if it is a tensor, else the tensor of a NumPy array or of a list; TypeError that names the argument for anything else."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray | np.generic | list | tuple):
        try:
            array = np.require(value, requirements="CW")  # torch reads neither negative strides nor another byte order
            array = array.astype(array.dtype.newbyteorder("="), copy=False)
            return torch.from_numpy(array if array.size or isinstance(value, np.ndarray) else array.astype(np.int64))
        except (TypeError, ValueError):  # objects, texts, rows of different lengths
            pass
    raise TypeError(f"{argument}: expected {expected}, got {_kind(value)}")


def short(value: object) -> str:
    """The value as Python writes it if that is a short line, else what it is, of a text with its beginning."""
    text = repr(value)
    if isinstance(value, str) and len(text) > 200:
        return f"{text[:60]}... ({len(value):,} characters)"
    return text if len(text) <= 200 and "\n" not in text else _kind(value)


def _kind(value: object) -> str:
    """What came: dtype and shape of an array or a tensor, else the type, with the value if that is short."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return f"{str(dtype).removeprefix('torch.')} {tuple(shape)}"
    short = repr(value)
    return f"{type(value).__name__} {short}" if len(short) <= 40 and "\n" not in short else type(value).__name__


def check_images(images: object, argument: str = "images") -> torch.Tensor:
    """`images` as a uint8 tensor (N,3,H,W), the form of images at rest, also of an array; one channel becomes RGB by repetition."""
    import torch

    images = as_tensor(images, argument, "torch.uint8 (N,3,H,W)")
    if images.dtype != torch.uint8:
        raise TypeError(f"{argument}: expected dtype torch.uint8 with values 0-255, got {images.dtype}")
    if images.ndim == 4 and images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1).contiguous()
    if images.ndim != 4 or images.shape[1] != 3:
        hint = " (channels last: permute to NCHW first)" if images.ndim == 4 and images.shape[3] in (1, 3) else ""
        raise ValueError(f"{argument}: expected shape (N,3,H,W), got {tuple(images.shape)}{hint}")
    return images


def check_integers(argument: str, value: object, count: int, device: torch.device | str = "cpu", hint: str = "") -> torch.Tensor:
    """One integer per image as int64 (count,) on `device`, of a tensor, an array or a list of any integer type."""
    import torch

    expected = f"int64 ({count},), one per image"
    tensor = as_tensor(value, argument, expected)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{argument}: expected {expected}, got {_kind(tensor)}{hint}")
    if tensor.shape != (count,):
        raise ValueError(f"{argument}: expected {expected}, got shape {tuple(tensor.shape)}{hint}")
    return tensor.to(device=device, dtype=torch.int64)


def check_index(index: object, count: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """`index`, the identity of each image for its random numbers, as int64 (count,) on `device`; None stands for 0..count-1."""
    import torch

    return torch.arange(count, device=device) if index is None else check_integers("index", index, count, device)


def check_number(
    name: str, value: object, low: float = 0, high: float = math.inf, *, integer: bool = False, open_low: bool = False, unit: str = ""
) -> None:
    """TypeError unless `value` is a number, or an integer; ValueError unless it is finite and in [low, high], or (low, high] if `open_low`.

    unit: follows the range in the message, as in "expected 16 to 64 pixels".
    """
    kind = "an integer" if integer else "a finite number"
    if isinstance(value, bool) or not isinstance(value, Integral if integer else Real):
        raise TypeError(f"{name}: expected {kind}, got {short(value)}")
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected {kind}, got {short(value)}")
    if value < low or value > high or (open_low and value == low):
        least = f"above {low}" if open_low else f"at least {low}"
        wanted = least if math.isinf(high) else f"{least} and at most {high}" if open_low else f"{low} to {high}"
        raise ValueError(f"{name}: expected {wanted}{unit}, got {short(value)}")
