"""Fog: one program per image draws the plasma, its threads meeting at barriers between the steps, and adds it to the image."""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from rtalib.corruptions.constants import Fog
from rtalib.corruptions.draws import Words
from rtalib.corruptions.kernels.common import four_words, in_order, truncate, unit
from rtalib.corruptions.weather import plasma_side


@triton.jit
def _place(node, level, LEVELS: tl.constexpr):
    """Row and column of a node: number 0 is the corner, number w + 1 the point that word w displaces, on level `level` from 0.

    A level of m x m squares has the nodes m^2 .. 4 m^2 - 1: a third of them centres, a third middles of upper edges, a third of left ones.
    """
    kind = node >> (2 * level)
    half = 1 << (LEVELS - 1 - level)
    row = (node >> level) & ((1 << level) - 1)
    column = node & ((1 << level) - 1)
    return (2 * row + (kind & 1)) * half, (2 * column + ((kind & 1) ^ (kind >> 1))) * half


@triton.jit
def _draw(field, identity, seed, stream, LEVELS: tl.constexpr, BLOCK: tl.constexpr):
    """Each word, as a float64, at the place of its node; zero at the corner, in place of the last word, which is not asked for."""
    for start in range(0, 1 << (2 * LEVELS), BLOCK):
        block = start // 4 + tl.arange(0, BLOCK // 4)
        words = in_order(*four_words(seed, identity, stream, block.to(tl.int64)))
        node = (start + 1 + tl.arange(0, BLOCK)) & ((1 << (2 * LEVELS)) - 1)
        level = node * 0
        for finer in tl.static_range(1, LEVELS):
            level += (node >= (1 << (2 * finer))).to(tl.int32)
        row, column = _place(node, level, LEVELS)
        tl.store(field + (row << LEVELS) + column, tl.where(node == 0, 0.0, words.to(tl.float64)))


@triton.jit
def _at(field, row, column, mask, LEVELS: tl.constexpr, KIND: tl.constexpr):
    """The field on a torus, in the precision KIND."""
    last: tl.constexpr = (1 << LEVELS) - 1
    return tl.load(field + ((row & last) << LEVELS) + (column & last), mask=mask, other=0).to(KIND)


@triton.jit
def _displace(field, wobble, level, CENTRES: tl.constexpr, LEVELS: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """Turns the words of a level's centres, or of its edge middles, into heights: a quarter of four neighbours' sum plus noise."""
    first = (1 if CENTRES else 2) << (2 * level)
    half = 1 << (LEVELS - 1 - level)
    for start in range(first, 2 * first, BLOCK):
        node = start + tl.arange(0, BLOCK)
        mask = node < 2 * first
        row, column = _place(node, level, LEVELS)
        up, down, left, right = row - half, row + half, column - half, column + half
        if CENTRES:
            one = _at(field, up, left, mask, LEVELS, KIND) + _at(field, down, left, mask, LEVELS, KIND)
            other = _at(field, up, right, mask, LEVELS, KIND) + _at(field, down, right, mask, LEVELS, KIND)
        else:
            one = _at(field, up, column, mask, LEVELS, KIND) + _at(field, down, column, mask, LEVELS, KIND)
            other = _at(field, row, left, mask, LEVELS, KIND) + _at(field, row, right, mask, LEVELS, KIND)
        draw = _at(field, row, column, mask, LEVELS, tl.float64) * (1 / 4294967296)
        height = ((one + other) * 0.25).to(tl.float64) + (draw * (2 * wobble) - wobble) * wobble
        tl.store(field + (row << LEVELS) + column, height.to(KIND).to(tl.float64), mask=mask)


@triton.jit
def _extremes(field, LEVELS: tl.constexpr, BLOCK: tl.constexpr):
    lowest = tl.load(field + tl.arange(0, BLOCK))
    highest = lowest
    for start in range(BLOCK, 1 << (2 * LEVELS), BLOCK):
        height = tl.load(field + start + tl.arange(0, BLOCK))
        lowest, highest = tl.minimum(lowest, height), tl.maximum(highest, height)
    return tl.min(lowest, axis=0), tl.max(highest, axis=0)


@triton.jit
def _brightest(image, count, BLOCK: tl.constexpr):
    most = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, count, BLOCK):
        value = start + tl.arange(0, BLOCK)
        most = tl.maximum(most, tl.load(image + value, mask=value < count, other=0).to(tl.int32))
    return tl.max(most, axis=0).to(tl.float64) / 255.0


@triton.jit
def _fog(images, out, fields, index, table, seed, stream, height, width, LEVELS: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """Bounded by the latency of 2 LEVELS barriers and of Philox; the field stays in the caches."""
    image = tl.program_id(0).to(tl.int64)
    area = height * width
    images += image * 3 * area
    out += image * 3 * area
    field = fields + (image << (2 * LEVELS))
    _draw(field, tl.load(index + image), seed, stream, LEVELS, BLOCK)
    for level in range(LEVELS):
        wobble = tl.load(table + 1 + level)
        tl.debug_barrier()
        _displace(field, wobble, level, True, LEVELS, KIND, BLOCK)
        tl.debug_barrier()
        _displace(field, wobble, level, False, LEVELS, KIND, BLOCK)
    tl.debug_barrier()
    lowest, highest = _extremes(field, LEVELS, BLOCK)
    # a float64 quotient or product of two float32 values, rounded to float32, is the float32 one
    spread = (highest.to(KIND) - lowest.to(KIND)).to(tl.float64)
    weight, brightest = tl.load(table), _brightest(images, 3 * area, BLOCK)
    for start in range(0, area, BLOCK):
        pixel = start + tl.arange(0, BLOCK)
        mask = pixel < area
        rise = (_at(field, pixel // width, pixel % width, mask, LEVELS, KIND) - lowest.to(KIND)).to(tl.float64)
        mist = ((rise / spread).to(KIND).to(tl.float64) * weight).to(KIND).to(tl.float64)
        for channel in tl.static_range(3):
            value = unit(tl.load(images + channel * area + pixel, mask=mask, other=0).to(tl.float64))
            tl.store(out + channel * area + pixel, truncate((value + mist) * brightest / (brightest + weight)), mask=mask)


@lru_cache(maxsize=64)
def _table(constants: Fog, levels: int, device: torch.device) -> torch.Tensor:
    """The weight, then the amplitude of each level, float64."""
    table = [constants.weight, 100.0]
    while len(table) <= levels:
        table.append(table[-1] / constants.decay)
    return torch.tensor(table, dtype=torch.float64, device=device)


def fog(images: torch.Tensor, constants: Fog, words: Words) -> torch.Tensor:
    """See `rtalib.corruptions.weather.fog` and `plasma` there."""
    n, _, height, width = images.shape
    side = plasma_side(height, width)
    levels, block = side.bit_length() - 1, min(side * side // 2, 2048)
    # float64 for both precisions: it holds the words too
    fields = torch.empty(n, side, side, dtype=torch.float64, device=images.device)
    table = _table(constants, levels, images.device)
    forms = {"LEVELS": levels, "KIND": tl.float32 if constants.single else tl.float64, "BLOCK": block, "num_warps": block // 128}
    numbers, out = (words.seed, words.stream, height, width), torch.empty_like(images)
    _fog[n,](images, out, fields, words.index, table, *numbers, **forms, enable_fp_fusion=False)
    return out
