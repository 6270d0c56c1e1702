"""Gaussian, shot and impulse noise: one pass over the bytes, words drawn in registers."""

import torch
import triton
import triton.language as tl

from rtalib.corruptions.draws import Words
from rtalib.corruptions.kernels.common import four_words, in_order
from rtalib.corruptions.noise import WORD, gaussian_table, shot_table

BLOCK = tl.constexpr(1024)


@triton.jit
def _words_and_bytes(images, index, seed, stream, count):
    """For the block of this program: offsets, mask, values int32 and words int64. `count` values per image."""
    image = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1) * (BLOCK // 4) + tl.arange(0, BLOCK // 4)
    words = in_order(*four_words(seed, tl.load(index + image), stream, block.to(tl.int64))).to(tl.int64)
    value = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    offsets = image * count + value
    return offsets, value < count, tl.load(images + offsets, mask=value < count, other=0).to(tl.int32), words


@triton.jit
def _alias(table, row, words, bits: tl.constexpr):
    """Outcome of Walker's alias method with 2^bits columns, see `rtalib.corruptions.noise`."""
    share: tl.constexpr = 1 << (32 - bits)
    entry = tl.load(table + (row << bits) + (words >> (32 - bits)))
    own = (words & (share - 1)) < (entry >> 20)
    return (tl.where(own, entry >> 10, entry) & 0x3FF).to(tl.int32)


@triton.jit
def _gaussian(images, out, index, table, seed, stream, count):
    offsets, mask, values, words = _words_and_bytes(images, index, seed, stream, count)
    noisy = values + _alias(table, values.to(tl.int64) * 0, words, 9) - 255
    tl.store(out + offsets, tl.minimum(tl.maximum(noisy, 0), 255).to(tl.uint8), mask=mask)


@triton.jit
def _shot(images, out, index, table, seed, stream, count):
    offsets, mask, values, words = _words_and_bytes(images, index, seed, stream, count)
    tl.store(out + offsets, _alias(table, values.to(tl.int64), words, 8).to(tl.uint8), mask=mask)


@triton.jit
def _impulse(images, out, index, salt, flips, seed, stream, count):
    offsets, mask, values, words = _words_and_bytes(images, index, seed, stream, count)
    noisy = tl.where(words < salt, 255, tl.where(words < flips, 0, values))
    tl.store(out + offsets, noisy.to(tl.uint8), mask=mask)


def _launch(kernel, images: torch.Tensor, words: Words, *extra: object) -> torch.Tensor:
    out, count = torch.empty_like(images), images[0].numel()
    kernel[len(images), triton.cdiv(count, BLOCK.value)](images, out, words.index, *extra, words.seed, words.stream, count)
    return out


def gaussian_noise(images: torch.Tensor, std: float, words: Words) -> torch.Tensor:
    """See `rtalib.corruptions.noise.gaussian_noise`."""
    return _launch(_gaussian, images, words, gaussian_table(std, images.device))


def shot_noise(images: torch.Tensor, photons: int, words: Words) -> torch.Tensor:
    """See `rtalib.corruptions.noise.shot_noise`."""
    return _launch(_shot, images, words, shot_table(photons, images.device))


def impulse_noise(images: torch.Tensor, amount: float, words: Words) -> torch.Tensor:
    """See `rtalib.corruptions.noise.impulse_noise`."""
    return _launch(_impulse, images, words, round(amount / 2 * WORD), round(amount * WORD))
