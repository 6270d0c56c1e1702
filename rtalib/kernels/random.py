"""Random words inside kernels: the same Philox counters as `rtalib.rng`."""

import torch
import triton
import triton.language as tl


@triton.jit
def four_words(seed, image, stream, block):
    """uint32 words 4 block .. 4 block + 3 of the image with identity `image`; all arguments int64, scalars or blocks."""
    mask = 0xFFFFFFFF
    # adding zeros of the block's shape gives the four counters one shape
    zero = block * 0
    counter0 = (block & mask).to(tl.uint32)
    counter1 = ((image + zero) & mask).to(tl.uint32)
    counter2 = (((image + zero) >> 32) & mask).to(tl.uint32)
    counter3 = ((stream + zero) & mask).to(tl.uint32)
    low = ((seed + zero) & mask).to(tl.uint32)
    high = (((seed + zero) >> 32) & mask).to(tl.uint32)
    return tl.philox_impl(counter0, counter1, counter2, counter3, low, high)


@triton.jit
def in_order(a, b, c, d):
    """One block of 4 M from four of M: a0 b0 c0 d0 a1 ..."""
    return tl.interleave(tl.interleave(a, c), tl.interleave(b, d))


@triton.jit
def _words(out, index, seed, stream, blocks, total, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    image = tl.load(index + place // blocks, mask=place < total, other=0)
    found = in_order(*four_words(seed, image, stream, place % blocks)).to(tl.int64)
    value = tl.program_id(0).to(tl.int64) * 4 * BLOCK + tl.arange(0, 4 * BLOCK)
    tl.store(out + value, found, mask=value < 4 * total)


def words(seed: int, index: torch.Tensor, stream: int, count: int) -> torch.Tensor:
    """See `rtalib.rng.words`; one launch in the place of a hundred."""
    blocks = -(-count // 4)
    out = torch.empty(len(index), 4 * blocks, dtype=torch.int64, device=index.device)
    total = len(index) * blocks
    _words[(triton.cdiv(total, 256),)](out, index.contiguous(), seed, stream, blocks, total, BLOCK=256)
    return out[:, :count]
