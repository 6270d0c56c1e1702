"""Random words inside kernels: the same Philox counters as `rtalib.rng`."""

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
