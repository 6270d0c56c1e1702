"""Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011), keyed per image.

A result depends on (seed, stream, image index, position) alone, never on batch size, order, sharding or worker count.
Counter words: block within the image, image index (low, high), stream. Key words: seed (low, high).
"""

import math
import operator
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

MASK = 0xFFFFFFFF
ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
CPU_BLOCKS = 13_000  # of four words that a CPU draws at once, in its cache; no power of two, whose arrays would evict each other


def stream(*names: object) -> int:
    """Stable 32-bit stream id of a name, e.g. stream("fog", 3)."""
    return zlib.crc32("/".join(map(str, names)).encode())


def philox4x32(counter: tuple[Any, ...], key: tuple[int, int]) -> tuple[Any, ...]:
    """Ten rounds of Philox on four counters that hold 32-bit words and broadcast together; returns four of the common shape.

    Torch's int64 or NumPy's uint64, which is twice as fast on a CPU. Products wrap modulo 2^64, which keeps every bit of them; bits above
    the 32nd are cleared only if the next step would see them. While the counters are not expanded, the first two rounds work on single rows
    and columns.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for number in range(ROUNDS):
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c2 = product1 >> 32, product0 >> 32
        if number < 2:
            c0, c2 = (c0 ^ c1 ^ k0) & MASK, (c2 ^ c3 ^ k1) & MASK
        else:
            for part, other, word in ((c0, c1, k0), (c2, c3, k1)):
                part ^= other
                part ^= word
                part &= MASK
        c1, c3 = product1, product0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1 & MASK, c2, c3 & MASK


def words(seed: int, index: torch.Tensor, stream: int, count: int, start: int = 0) -> torch.Tensor:
    """int64 (N, count) of uniform 32-bit words for the images `index` (N,), on the device of `index`: numbers start, start + 1, ...

    start: a multiple of 4, so that a long row can be drawn in parts.
    """
    seed, first, blocks = _whole(seed), start // 4, -(-count // 4)
    key = (seed & MASK, (seed >> 32) & MASK)
    if index.device.type == "cpu":
        out = np.empty((len(index), blocks, 4), dtype=np.int64)
        identity = index.numpy().astype(np.uint64)[:, None]
        parts = max(1, -(-blocks * len(index) // CPU_BLOCKS))
        step = max(1, -(-blocks // parts))
        for at in range(0, blocks, step):
            block = np.arange(first + at, first + min(at + step, blocks), dtype=np.uint64)[None]
            counter = (block, identity & MASK, identity >> 32, np.full((1, 1), stream & MASK, dtype=np.uint64))
            for position, part in enumerate(philox4x32(counter, key)):
                out[:, at : at + step, position] = part
        return torch.from_numpy(out).view(len(index), 4 * blocks)[:, :count]
    block = torch.arange(first, first + blocks, device=index.device)[None]
    counter = (block, (index & MASK)[:, None], ((index >> 32) & MASK)[:, None], torch.full((1, 1), stream & MASK, device=index.device))
    return torch.stack(philox4x32(counter, key), dim=-1).reshape(len(index), 4 * blocks)[:, :count]


def uniform(seed: int, index: torch.Tensor, stream: int, count: int) -> torch.Tensor:
    """float64 (N, count), uniform in [0, 1) with a resolution of 2^-32."""
    return words(seed, index, stream, count).double() / 2.0**32


def integers(seed: int, index: torch.Tensor, stream: int, count: int, high: int) -> torch.Tensor:
    """int64 (N, count), uniform in 0..high-1 (bias below high * 2^-32)."""
    return (words(seed, index, stream, count) * high) >> 32


def normal(seed: int, index: torch.Tensor, stream: int, count: int) -> torch.Tensor:
    """float64 (N, count), standard normal by Box-Muller on pairs of words."""
    half = -(-count // 2)
    w = words(seed, index, stream, 2 * half).double()
    radius = torch.sqrt(-2.0 * torch.log((w[:, :half] + 1.0) / 2.0**32))
    angle = 2.0 * math.pi / 2.0**32 * w[:, half:]
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count]


def _whole(seed: int) -> int:
    """A Python integer of any integer type."""
    try:
        return operator.index(seed)
    except TypeError:
        raise TypeError(f"seed: expected an integer, got {' '.join(repr(seed).split())[:80]}") from None


def word(seed: int, number: int, stream: int) -> int:
    """One uniform 32-bit word for the index `number`."""
    return int(words(seed, torch.tensor([number]), stream, 1))


@contextmanager
def global_seed(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Torch's global generators, of the CPU and of `device`, start from `seed` inside and are restored outside."""
    seed, device = _whole(seed), torch.device(device)
    cuda = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield
