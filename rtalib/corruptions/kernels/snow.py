"""Snow: one program per image draws, zooms, blurs and adds the flakes, its threads meeting at barriers."""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from rtalib.corruptions.constants import Snow
from rtalib.corruptions.draws import Words
from rtalib.corruptions.draws import unit as unit_interval
from rtalib.corruptions.filters import zoom_taps
from rtalib.corruptions.kernels.common import four_words, in_order, line, magick_level, reached, truncate, unit
from rtalib.corruptions.weather import normal_quantiles

BLOCK = tl.constexpr(1024)
# adding and subtracting it rounds a small float64 to the nearest integer, ties to even
ROUNDER = tl.constexpr(2.0**52)


@triton.jit
def _draw(layer, quantiles, numbers, identity, seed, stream, area):
    """The layer of `rtalib.corruptions.weather.draw_snow`: word 0 is the angle, then the low halves of the words, then the high ones."""
    mean, std = tl.load(numbers), tl.load(numbers + 1)
    half = (area + 1) // 2
    for start in range(0, half + 1, BLOCK):
        block = start // 4 + tl.arange(0, BLOCK // 4)
        words = in_order(*four_words(seed, identity, stream, block.to(tl.int64))).to(tl.int64)
        value = start - 1 + tl.arange(0, BLOCK)
        low = (value >= 0) & (value < half)
        high = low & (half + value < area)
        tl.store(layer + value, tl.load(quantiles + (words & 0xFFFF), mask=low) * std + mean, mask=low)
        tl.store(layer + half + value, tl.load(quantiles + (words >> 16), mask=high) * std + mean, mask=high)


@triton.jit
def _between(low, high, weight):
    return low * (1 - weight) + high * weight


@triton.jit
def _zoom(flakes, layer, lower, upper_weight, numbers, rows, columns, height, width, magick: tl.constexpr):
    """The layer zoomed, cut at the threshold and clipped; bytes for ImageMagick. The tables hold the rows, then the columns."""
    threshold = tl.load(numbers + 2)
    for start in range(0, rows * columns, BLOCK):
        # beyond the end the last site again, so that nothing needs a mask
        site = tl.minimum(start + tl.arange(0, BLOCK), rows * columns - 1)
        y, x = site // columns, site % columns
        top, left = tl.load(lower + y), tl.load(lower + rows + x)
        bottom, right = tl.minimum(top + 1, height - 1), tl.minimum(left + 1, width - 1)
        down, across = tl.load(upper_weight + y), tl.load(upper_weight + rows + x)
        above = _between(tl.load(layer + top * width + left), tl.load(layer + top * width + right), across)
        below = _between(tl.load(layer + bottom * width + left), tl.load(layer + bottom * width + right), across)
        flake = _between(above, below, down)
        flake = tl.minimum(tl.maximum(tl.where(flake < threshold, 0, flake), 0), 1)
        if magick:
            tl.store(flakes + site, (flake * 255).to(tl.int32).to(tl.uint8))
        else:
            tl.store(flakes + site, flake)


@triton.jit
def _fall(levels, flakes, dx, dy, weights, taps, rows, columns, height, width, magick: tl.constexpr):
    """The flakes blurred along the line, one of 256 levels each."""
    for start in range(0, height * width, BLOCK):
        pixel = tl.minimum(start + tl.arange(0, BLOCK), height * width - 1)
        y, x = pixel // width, pixel % width
        total = tl.zeros((BLOCK,), tl.float64)
        for tap in range(taps):
            total += tl.load(flakes + reached(y, x, dx + tap, dy + tap, rows, columns)).to(tl.float64) * tl.load(weights + tap)
        level = magick_level(total) if magick else (total * 255 + ROUNDER) - ROUNDER
        tl.store(levels + pixel, level.to(tl.int32).to(tl.uint8))


@triton.jit
def _whitened(colour, grey, keep, rest):
    return colour * keep + tl.maximum(colour, grey) * rest


@triton.jit
def _grey(red, green, blue, numbers):
    """See `rtalib.corruptions.weather`: float64 steps cut to float32."""
    luma = (green.to(tl.float64) * tl.load(numbers + 6)).to(tl.float32)
    luma = (red.to(tl.float64) * tl.load(numbers + 5) + luma.to(tl.float64)).to(tl.float32)
    luma = (blue.to(tl.float64) * tl.load(numbers + 7) + luma.to(tl.float64)).to(tl.float32)
    return luma * 1.5 + 0.5


@triton.jit
def _composite(out, images, levels, numbers, area):
    """Whitened image plus the flakes plus the flakes turned by 180 degrees."""
    keep, rest = tl.load(numbers + 3).to(tl.float32), tl.load(numbers + 4).to(tl.float32)
    for start in range(0, area, BLOCK):
        pixel = tl.minimum(start + tl.arange(0, BLOCK), area - 1)
        flakes = _intensity(levels + pixel)
        turned = _intensity(levels + (area - 1 - pixel))
        red = _intensity(images + pixel).to(tl.float32)
        green = _intensity(images + area + pixel).to(tl.float32)
        blue = _intensity(images + 2 * area + pixel).to(tl.float32)
        grey = _grey(red, green, blue, numbers)
        _store(out + pixel, _whitened(red, grey, keep, rest), flakes, turned)
        _store(out + area + pixel, _whitened(green, grey, keep, rest), flakes, turned)
        _store(out + 2 * area + pixel, _whitened(blue, grey, keep, rest), flakes, turned)


@triton.jit
def _intensity(pointers):
    return unit(tl.load(pointers).to(tl.float64))


@triton.jit
def _store(targets, colour, flakes, turned):
    tl.store(targets, truncate(colour.to(tl.float64) + flakes + turned))


@triton.jit
def _snow(
    images, out, layer, flakes, levels, index, quantiles, numbers, lower, upper_weight, dx, dy, weights, weight_stride, taps,
    rows, columns, height, width, seed, stream, magick: tl.constexpr,
):  # fmt: skip
    """Bounded by latency: the quantiles come from the L2 cache, the scratch stays in the caches, and four stages wait for each other."""
    image = tl.program_id(0).to(tl.int64)
    area = height * width
    layer += image * area
    flakes += image * rows * columns
    levels += image * area
    _draw(layer, quantiles, numbers, tl.load(index + image), seed, stream, area)
    tl.debug_barrier()
    _zoom(flakes, layer, lower, upper_weight, numbers, rows, columns, height, width, magick)
    tl.debug_barrier()
    dx += image * taps
    dy += image * taps
    _fall(levels, flakes, dx, dy, weights + image * weight_stride, taps, rows, columns, height, width, magick)
    tl.debug_barrier()
    _composite(out + image * 3 * area, images + image * 3 * area, levels, numbers, area)


@lru_cache(maxsize=32)
def _numbers(constants: Snow, device: torch.device) -> torch.Tensor:
    """What the kernel needs in float64: constants and the float32 weights of the luma."""
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float32).tolist()
    keep = constants.keep
    return torch.tensor([constants.mean, constants.std, constants.threshold, keep, 1 - keep, *luma], dtype=torch.float64, device=device)


@lru_cache(maxsize=32)
def _zoom_tables(height: int, width: int, constants: Snow, device: torch.device) -> tuple[int, int, torch.Tensor, torch.Tensor]:
    """Rows and columns of the zoomed layer; the lower sample of each row and then of each column; the weights of the upper ones."""
    (down, v), (across, h) = (zoom_taps(side, constants.zoom, constants.magick, constants.magick) for side in (height, width))
    lower, weight = (torch.cat([torch.from_numpy(a), torch.from_numpy(b)]).to(device) for a, b in ((down, across), (v, h)))
    return len(down), len(across), lower.int(), weight


def snow(images: torch.Tensor, constants: Snow, words: Words) -> torch.Tensor:
    """See `rtalib.corruptions.weather.snow`."""
    n, _, height, width = images.shape
    device = images.device
    angle = unit_interval(words(1)[:, 0]) * 90 - 135
    rows, columns, lower, upper_weight = _zoom_tables(height, width, constants, device)
    dx, dy, weights = line(angle, constants, rows, columns)
    layer = torch.empty(n, height, width, dtype=torch.float64, device=device)
    flakes = torch.empty(n, rows, columns, dtype=torch.uint8 if constants.magick else torch.float64, device=device)
    levels = torch.empty(n, height, width, dtype=torch.uint8, device=device)
    out = torch.empty_like(images)
    tables = (normal_quantiles(device), _numbers(constants, device), lower, upper_weight, dx, dy, weights)
    sizes = (weights.stride(0), dx.shape[1], rows, columns, height, width)
    _snow[n,](
        images, out, layer, flakes, levels, words.index, *tables, *sizes, words.seed, words.stream, constants.magick,
        num_warps=8, enable_fp_fusion=False,
    )  # fmt: skip
    return out
