"""Errors that name the argument, say what came and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
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
