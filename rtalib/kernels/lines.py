"""Blur along a line: the taps that motion blur and snow share."""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from ..corruptions.constants import Motion, Snow
from ..corruptions.filters import inside, motion_offsets, motion_weights


@triton.jit
def reached(y, x, dx, dy, height, width):
    """Index in the plane of pixel (y + dy, x + dx), clamped to the plane. int32; dx and dy point to the shift of one tap."""
    row = tl.minimum(tl.maximum(y + tl.load(dy).to(tl.int32), 0), height - 1)
    column = tl.minimum(tl.maximum(x + tl.load(dx).to(tl.int32), 0), width - 1)
    return row * width + column


@triton.jit
def magick_level(level):
    """The level whose integer part is ImageMagick's byte, see `rtalib.corruptions.filters.magick_byte`."""
    return tl.minimum(tl.maximum(level + 1 / 514, 0), 255)


@lru_cache(maxsize=32)
def _weights(radius: int, sigma: float, least: float, device: torch.device) -> torch.Tensor:
    """float64 (taps,): those of `motion_weights` above `least`."""
    taps = torch.from_numpy(motion_weights(radius, sigma))
    return taps[taps > least].to(device)


def line(
    angle: torch.Tensor, constants: Motion | Snow, height: int, width: int, least: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dx, dy, weights) of each tap of each image, (N, taps), for planes of this size; the weights may have a row stride of 0."""
    weights = _weights(constants.radius, constants.sigma, least, angle.device)
    dx, dy = motion_offsets(len(weights), angle)
    if constants.magick:
        return dx, dy, weights.expand(len(angle), -1)
    return dx, dy, weights * inside(dx, dy, height, width)
