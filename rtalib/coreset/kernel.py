"""k-center greedy: each turn's new distances and the next pick in one launch; which candidate was picked never leaves the device.

Its speed on a GPU is unmeasured. A turn reads all features once, so that 33,710 x 576 (CF-DARTS' failures) are 78 MB, and 1,000 turns
78 GB: about 20 ms at 4 TB/s, and as many launches.
"""

import torch
import triton
import triton.language as tl

ROWS = tl.constexpr(64)
COLUMNS = tl.constexpr(64)
LOW = tl.constexpr(0xFFFFFFFF)


@triton.jit(do_not_specialize=["turn"])
def _turn(x, nearest, keys, turn, n, dimensions, taken):
    # A key is the distance's bits over the complement of the index: as integers, not negative floats are in order, and of equal distances
    # the lowest index has the greatest key; abs, because -0 would be a negative integer.
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    mask = rows < n
    distance = tl.load(nearest + rows, mask=mask, other=taken)
    if turn > 0:
        center = LOW - (tl.load(keys + turn - 1) & LOW)
        total = tl.zeros([ROWS], tl.float32)
        for start in range(0, dimensions, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            inside = column < dimensions
            away = tl.load(x + rows[:, None].to(tl.int64) * dimensions + column, mask=mask[:, None] & inside, other=0.0)
            away -= tl.load(x + center * dimensions + column, mask=inside, other=0.0)[None, :]
            total += tl.sum(away * away, axis=1)
        distance = tl.where(rows == center, taken, tl.minimum(distance, total))
        tl.store(nearest + rows, distance, mask=mask)
    key = (tl.abs(distance).to(tl.int32, bitcast=True).to(tl.int64) << 32) | (LOW - rows.to(tl.int64))
    tl.atomic_max(keys + turn, tl.max(tl.where(mask & (distance >= 0), key, -1), axis=0))


def greedy(x: torch.Tensor, nearest: torch.Tensor, budget: int, taken: float) -> torch.Tensor:
    """The next `budget` picks, int64 (budget,) in order, on the device of `x`; equal to `greedy_reference` where no two distances tie
    within rounding.

    x: float32 (N,D), N below 2^32. nearest: float32 (N,), squared distances to the centers so far, `taken`, below every distance, for
    candidates that are picked already; changed in place to those before the last pick. At least `budget` candidates are not taken.
    """
    x, keys = x.contiguous(), torch.full((budget,), -1, dtype=torch.int64, device=x.device)
    for turn in range(budget):
        _turn[(triton.cdiv(len(x), ROWS.value),)](x, nearest, keys, turn, *x.shape, taken)
    return LOW.value - (keys & LOW.value)


def greedy_reference(x: torch.Tensor, nearest: torch.Tensor, budget: int, taken: float) -> torch.Tensor:
    """What `greedy` computes, in plain torch: the farthest candidate, the lowest index of equals, then the distances to it as well."""
    picks = []
    for turn in range(budget):
        if turn:
            nearest.copy_(torch.minimum(nearest, (x - x[picks[-1]]).square().sum(dim=1)))
            nearest[picks[-1]] = taken
        picks.append(nearest.argmax())
    return torch.stack(picks)
