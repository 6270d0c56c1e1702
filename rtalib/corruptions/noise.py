"""Gaussian, shot and impulse noise as exact discrete samplers: one 32-bit word becomes one output value.

The published recipes add float noise and cut to a byte, so the output is a discrete variable whose law is known. Drawing from that law with
integers gives the same bytes on every device. The laws are exact up to the 2^-32 resolution of a word.
"""

import math
from functools import lru_cache

import torch

from rtalib.corruptions.draws import Words
from rtalib.corruptions.filters import UNSURE, mask, places

WORD = 2**32


def draw_values(words: Words, height: int, width: int, constants: object) -> tuple[torch.Tensor]:
    """One 32-bit word for each of the 3 * H * W values, int64 (N, 3HW)."""
    return (words(3 * height * width),)


def _counts(cumulative: list[float]) -> list[int]:
    """Whole numbers of words, 2^32 in all, for the outcomes of a law given by P(outcome <= k)."""
    edges = [0] + [round(min(p, 1.0) * WORD) for p in cumulative[:-1]] + [WORD]
    return [high - low for low, high in zip(edges, edges[1:], strict=False)]


def _alias(counts: list[int], columns: int) -> list[int]:
    """Walker's alias table (Vose's construction, in integers) of `columns` columns for counts that sum to 2^32.

    A column holds 2^32 / columns words: those below the threshold give the column's own outcome, the others its alias.
    Packed as threshold << 20 | own outcome << 10 | alias.
    """
    share = WORD // columns
    counts = counts + [0] * (columns - len(counts))
    threshold, other = [share] * columns, list(range(columns))
    small = [k for k, count in enumerate(counts) if count < share]
    large = [k for k, count in enumerate(counts) if count > share]
    rest = dict(enumerate(counts))
    while small:
        poor, rich = small.pop(), large[-1]
        threshold[poor], other[poor] = rest[poor], rich
        rest[rich] -= share - rest[poor]
        if rest[rich] <= share:
            large.pop()
            if rest[rich] < share:
                small.append(rich)
    return [t << 20 | k << 10 | o for k, (t, o) in enumerate(zip(threshold, other, strict=True))]


def _sample(table: torch.Tensor, columns: int, words: torch.Tensor, row: torch.Tensor | None = None) -> torch.Tensor:
    """Outcomes int64 for 32-bit words; `row` chooses one of several tables laid end to end."""
    share = WORD // columns
    shift = share.bit_length() - 1
    column = words >> shift
    place = column if row is None else row * columns + column
    entry = table.index_select(0, place.view(-1)).view(place.shape)  # several times faster than table[place] on a CPU
    own = (words & (share - 1)) < (entry >> 20)
    return torch.where(own, entry >> 10, entry) & 0x3FF


def sample_rows(table: torch.Tensor, words: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    """uint8 outcomes in a row, each from that of 256 alias tables of 256 columns, end to end, which its `row` (uint8) names.

    First by the upper bytes of the thresholds, half the work; from the full table where those leave it open, once in 256 times.
    """
    words, row = words.reshape(-1), row.reshape(-1)
    entry = _brief(table).index_select(0, (words >> 24).add_(row.long() << 8))
    byte, threshold = (words >> 16).int().bitwise_and_(0xFF), entry >> 16
    own, alias = (entry >> 8).to(torch.uint8), entry.to(torch.uint8)
    out = alias ^ ((own ^ alias) & mask(byte, "less", threshold))
    unsure = places(byte, "equal", threshold)
    exact = _sample(table, 256, words.index_select(0, unsure), row.index_select(0, unsure).long())
    return out.index_copy_(0, unsure, exact.to(torch.uint8))


@lru_cache(maxsize=32)
def _brief(table: torch.Tensor) -> torch.Tensor:
    """The table with the upper byte of each threshold alone, int32: threshold << 16 | own outcome << 8 | alias."""
    return (table >> 36 << 16 | (table >> 10 & 0xFF) << 8 | table & 0xFF).int()


@lru_cache(maxsize=32)
def gaussian_table(std: float, device: torch.device) -> torch.Tensor:
    """floor(255 std z) + 255 for z ~ N(0,1), held within 0..510. As the image is whole-numbered, cutting v + noise is v + floor(noise)."""
    scale = 255 * std * math.sqrt(2)
    cumulative = [0.5 * math.erfc(-(k + 1) / scale) for k in range(-255, 256)]
    return torch.tensor(_alias(_counts(cumulative), 512), device=device)


@lru_cache(maxsize=32)
def _gaussian_halves(std: float, device: torch.device) -> torch.Tensor:
    """The step for each upper half of a word, int16 (2^16): `gaussian_table` where the lower half does not matter, else UNSURE."""
    table, first = gaussian_table(std, device), torch.arange(2**16, device=device) << 16
    low, high = _sample(table, 512, first), _sample(table, 512, first + 2**16 - 1)
    return torch.where(low == high, low, UNSURE).short()


def gaussian_noise(images: torch.Tensor, std: float, words: torch.Tensor) -> torch.Tensor:
    """trunc(255 clip(v + std z)), independent z ~ N(0,1) per value."""
    words = words.reshape(-1)
    step = _gaussian_halves(std, images.device).index_select(0, words >> 16)
    unsure = places(step, "equal", UNSURE)
    step.index_copy_(0, unsure, _sample(gaussian_table(std, images.device), 512, words.index_select(0, unsure)).short())
    return step.sub_(255).view(images.shape).add_(images).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=32)
def shot_table(photons: int, device: torch.device) -> torch.Tensor:
    """For each byte v the law of trunc(255 min(k / photons, 1)), k ~ Poisson(photons v / 255): 256 alias tables end to end."""
    output = [int(min(k / photons, 1) * 255) for k in range(photons + 1)]
    table: list[int] = []
    for value in range(256):
        mean = photons * value / 255
        chance, total, cumulative = math.exp(-mean), 0.0, [0.0] * 256
        for k in range(photons):
            total += chance
            cumulative[output[k]] = total
            chance *= mean / (k + 1)
        for level in range(1, 255):
            cumulative[level] = max(cumulative[level], cumulative[level - 1])
        table += _alias(_counts(cumulative), 256)
    return torch.tensor(table, device=device)


def shot_noise(images: torch.Tensor, photons: int, words: torch.Tensor) -> torch.Tensor:
    """trunc(255 min(k / photons, 1)), k ~ Poisson(photons v)."""
    return sample_rows(shot_table(photons, images.device), words, images.flatten(1)).view(images.shape)


def impulse_noise(images: torch.Tensor, amount: float, words: torch.Tensor) -> torch.Tensor:
    """Each value is replaced with probability `amount`, by 255 or by 0 with equal chance; channels are independent."""
    words = words.reshape(images.shape)
    salt, any_flip = round(amount / 2 * WORD), round(amount * WORD)
    return images & mask(words, "greater_equal", any_flip) | mask(words, "less", salt)
