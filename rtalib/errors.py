"""Errors that name the argument, the expected value and the one given."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def unknown(kind: str, name: object, options: Iterable[str]) -> ValueError:
    """ValueError for a name that is not among `options`; suggests the nearest one. To be raised by the caller."""
    options = list(options)
    near = difflib.get_close_matches(str(name), options, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(options)}.")


def check_images(images: torch.Tensor, argument: str = "images") -> None:
    """Raise unless `images` is a uint8 tensor (N,3,H,W), the form of images at rest."""
    import torch

    if not isinstance(images, torch.Tensor):
        raise TypeError(f"{argument}: expected a torch.uint8 tensor (N,3,H,W), got {type(images).__name__}")
    if images.dtype != torch.uint8:
        raise TypeError(f"{argument}: expected dtype torch.uint8 with values 0-255, got {images.dtype}")
    if images.ndim != 4 or images.shape[1] != 3:
        hint = " (channels last: permute to NCHW first)" if images.ndim == 4 and images.shape[3] == 3 else ""
        hint = " (one channel: images.expand(-1, 3, -1, -1) makes it RGB)" if images.ndim == 4 and images.shape[1] == 1 else hint
        raise ValueError(f"{argument}: expected shape (N,3,H,W), got {tuple(images.shape)}{hint}")


def check_index(index: torch.Tensor | None, count: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """`index`, the identity of each image for its random numbers, as int64 (count,) on `device`; None stands for 0..count-1."""
    import torch

    if index is None:
        return torch.arange(count, device=device)
    if not isinstance(index, torch.Tensor) or index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        got = index.dtype if isinstance(index, torch.Tensor) else type(index).__name__
        raise TypeError(f"index: expected int64 ({count},), one per image, got {got}")
    if index.shape != (count,):
        raise ValueError(f"index: expected int64 ({count},), one per image, got shape {tuple(index.shape)}")
    return index.to(device=device, dtype=torch.int64)


def check_number(
    name: str, value: object, low: float = 0, high: float = math.inf, *, integer: bool = False, open_low: bool = False, unit: str = ""
) -> None:
    """TypeError unless `value` is a number, or an integer; ValueError unless it is finite and in [low, high], or (low, high] if `open_low`.

    unit: follows the range in the message, as in "expected 16 to 64 pixels".
    """
    kind = "an integer" if integer else "a finite number"
    if isinstance(value, bool) or not isinstance(value, Integral if integer else Real):
        raise TypeError(f"{name}: expected {kind}, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected {kind}, got {value!r}")
    if value < low or value > high or (open_low and value == low):
        least = f"above {low}" if open_low else f"at least {low}"
        wanted = least if math.isinf(high) else f"{least} and at most {high}" if open_low else f"{low} to {high}"
        raise ValueError(f"{name}: expected {wanted}{unit}, got {value!r}")
