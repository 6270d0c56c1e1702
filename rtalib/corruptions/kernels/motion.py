"""Motion blur: one pass, the three planes of a block of pixels in registers."""

import torch
import triton
import triton.language as tl

from rtalib.corruptions.blur import draw_motion
from rtalib.corruptions.constants import Motion
from rtalib.corruptions.draws import Words
from rtalib.corruptions.kernels.common import line, magick_level, reached

BLOCK = tl.constexpr(1024)


@triton.jit
def _motion(images, out, dx, dy, weights, weight_stride, taps, height, width, magick: tl.constexpr):
    """Up to 41 taps of three planes: bounded by the conversions of bytes to float64, not by memory."""
    image = tl.program_id(0).to(tl.int64)
    area = height * width
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    y, x = pixel // width, pixel % width
    planes = images + image * 3 * area
    red = tl.zeros((BLOCK,), tl.float64)
    green = red
    blue = red
    for tap in range(taps):
        sources = planes + reached(y, x, dx + image * taps + tap, dy + image * taps + tap, height, width)
        weight = tl.load(weights + image * weight_stride + tap)
        red += tl.load(sources).to(tl.float64) * weight
        green += tl.load(sources + area).to(tl.float64) * weight
        blue += tl.load(sources + 2 * area).to(tl.float64) * weight
    targets = out + image * 3 * area + pixel
    _store(targets, red, pixel < area, magick)
    _store(targets + area, green, pixel < area, magick)
    _store(targets + 2 * area, blue, pixel < area, magick)


@triton.jit
def _store(targets, level, mask, magick: tl.constexpr):
    level = magick_level(level) if magick else tl.minimum(tl.maximum(level, 0), 255)
    tl.store(targets, level.to(tl.int32).to(tl.uint8), mask=mask)


def motion_blur(images: torch.Tensor, constants: Motion, words: Words) -> torch.Tensor:
    """See `rtalib.corruptions.blur.motion_blur`."""
    n, _, height, width = images.shape
    (angle,) = draw_motion(words, height, width, constants)
    dx, dy, weights = line(angle, constants, height, width, least=1e-19 if constants.magick else 0.0)
    out = torch.empty_like(images)
    _motion[n, triton.cdiv(height * width, BLOCK.value)](
        images, out, dx, dy, weights, weights.stride(0), dx.shape[1], height, width, constants.magick,
        num_warps=8, enable_fp_fusion=False,
    )  # fmt: skip
    return out
