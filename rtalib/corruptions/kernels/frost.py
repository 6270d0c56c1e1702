"""Frost: each program draws the crop of its image and adds it in one pass; the textures stay in the L2 cache."""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from rtalib.corruptions.constants import Frost
from rtalib.corruptions.draws import Words
from rtalib.corruptions.frost import texture_bank
from rtalib.corruptions.kernels.common import four_words

BLOCK = tl.constexpr(1024)


@triton.jit
def _below(word, high):
    return (word.to(tl.int64) * high) >> 32


@triton.jit
def _frost(images, out, index, pixels, starts, areas, strides, textures, weights, seed, stream, height, width):
    identity = tl.load(index + tl.program_id(0))
    # the first three words of the image: texture, row and column
    first, second, third, _ = four_words(seed, identity, stream, identity * 0)
    texture = _below(first, textures)
    plane, stride = tl.load(areas + texture), tl.load(strides + texture)
    row = _below(second, plane // stride - height)
    crop = tl.load(starts + texture) + row * stride + _below(third, stride - width)
    area = height * width
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < area
    site = crop + (pixel // width) * stride + pixel % width
    for channel in tl.static_range(3):
        offset = (tl.program_id(0).to(tl.int64) * 3 + channel) * area + pixel
        image = tl.load(images + offset, mask=mask, other=0).to(tl.float64) * tl.load(weights)
        icy = tl.load(pixels + channel * plane + site, mask=mask, other=0).to(tl.float64) * tl.load(weights + 1)
        level = tl.minimum(tl.maximum(image + icy, 0.0), 255.0)
        tl.store(out + offset, level.to(tl.int32).to(tl.uint8), mask=mask)


@lru_cache(maxsize=32)
def _weights(constants: Frost, device: torch.device) -> torch.Tensor:
    """Of the image and of the texture, float64."""
    return torch.tensor([constants.image, constants.frost], dtype=torch.float64, device=device)


def frost(images: torch.Tensor, constants: Frost, words: Words) -> torch.Tensor:
    """See `rtalib.corruptions.frost.frost` and `draw_frost` there."""
    out, (height, width), device = torch.empty_like(images), images.shape[2:], images.device
    pixels, starts, areas, strides = texture_bank(constants.scale, height, width, device)
    grid = len(images), triton.cdiv(height * width, BLOCK.value)
    bank, weights = (pixels, starts, areas, strides, len(starts)), _weights(constants, device)
    _frost[grid](images, out, words.index, *bank, weights, words.seed, words.stream, height, width, enable_fp_fusion=False)
    return out
