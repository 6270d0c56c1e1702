"""Brightness: RGB to HSV, a higher value, and back, pixel by pixel."""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from rtalib.corruptions.kernels.common import truncate, unit

BLOCK = tl.constexpr(1024)


@triton.jit
def _hue(red, green, blue, value, spread):
    """In 0..1; 0 for greys. Where channels tie for the maximum the last one decides."""
    gap = tl.where(red == value, green - blue, 0.0)
    gap = tl.where(green == value, blue - red, gap)
    gap = tl.where(blue == value, red - green, gap)
    turn = tl.where(blue == value, 4.0, tl.where(green == value, 2.0, 0.0))
    grey = spread == 0
    hue = (gap / tl.where(grey, 1.0, spread) + turn) / 6.0
    return tl.where(grey, 0.0, tl.where(hue < 0, hue + 1.0, hue))


@triton.jit
def _choice(sector, c0, c1, c2, c3, c4, c5):
    """By sector of the hue; sector 6 is the first again."""
    return tl.where(
        sector == 1, c1, tl.where(sector == 2, c2, tl.where(sector == 3, c3, tl.where(sector == 4, c4, tl.where(sector == 5, c5, c0))))
    )


@triton.jit
def _brightness(images, out, offset, area):
    # bound by its float64 divisions, three per pixel
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < area
    start = tl.program_id(0).to(tl.int64) * 3 * area
    source, target = images + start + pixel, out + start + pixel
    red = unit(tl.load(source, mask=mask, other=0).to(tl.float64))
    green = unit(tl.load(source + area, mask=mask, other=0).to(tl.float64))
    blue = unit(tl.load(source + 2 * area, mask=mask, other=0).to(tl.float64))
    value = tl.maximum(tl.maximum(red, green), blue)
    spread = value - tl.minimum(tl.minimum(red, green), blue)
    hue = _hue(red, green, blue, value, spread) * 6.0
    saturation = spread / tl.where(value == 0, 1.0, value)
    value = tl.minimum(tl.maximum(value + tl.load(offset), 0.0), 1.0)
    sector = hue.to(tl.int32)
    part = hue - sector.to(tl.float64)
    p = value * (1.0 - saturation)
    q = value * (1.0 - part * saturation)
    t = value * (1.0 - (1.0 - part) * saturation)
    tl.store(target, truncate(_choice(sector, value, q, p, p, t, value)), mask=mask)
    tl.store(target + area, truncate(_choice(sector, t, value, value, q, p, p)), mask=mask)
    tl.store(target + 2 * area, truncate(_choice(sector, p, p, t, value, value, q)), mask=mask)


@lru_cache(maxsize=32)
def _on_device(offset: float, device: torch.device) -> torch.Tensor:
    return torch.tensor(offset, dtype=torch.float64, device=device)


def brightness(images: torch.Tensor, offset: float, words: object) -> torch.Tensor:
    """See `rtalib.corruptions.weather.brightness`."""
    out, area = torch.empty_like(images), images[0, 0].numel()
    grid = len(images), triton.cdiv(area, BLOCK.value)
    _brightness[grid](images, out, _on_device(offset, images.device), area, num_warps=8, enable_fp_fusion=False)
    return out
