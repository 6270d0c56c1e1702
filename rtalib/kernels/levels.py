"""Bytes to intensities and back, inside kernels."""

import triton
import triton.language as tl

# 1/255 in two parts, the first a power of two: the sum of the two products rounds as the quotient for all 256 bytes, in float32 and in
# float64, at a fraction of a division's cost
HIGH = tl.constexpr(1 / 256)
LOW = tl.constexpr(1 / 65280)


@triton.jit
def unit(level):
    """Whole levels 0..255 in float32 or float64, divided by 255."""
    return level * HIGH + level * LOW


@triton.jit
def truncate(level):
    """See `rtalib.corruptions.filters.truncate`; float32 or float64."""
    return (tl.minimum(tl.maximum(level, 0.0), 1.0) * 255.0).to(tl.int32).to(tl.uint8)
