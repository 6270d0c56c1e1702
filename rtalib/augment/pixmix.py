"""PixMix (Hendrycks et al., CVPR 2022) offline: an image is mixed with pictures of rich structure, by sums and products.

The published mixing set, fractals and feature visualizations from the web, is replaced by fractals that are made here: attractors of random
iterated function systems, drawn by the chaos game (Kataoka et al. 2020 trained on such pictures).
"""

from functools import lru_cache

import torch
from torch import Tensor

from rtalib import rng
from rtalib.augment.augmix import LEAST_LEVEL, OPERATIONS, operate
from rtalib.errors import check_images, check_index, check_number

ROUNDS, BETA, SEVERITY = 4, 3.0, 3.0  # as published for CIFAR
PICTURES = 512  # in the mixing set
MAPS, TURNS, SETTLING = 4, 240, 20  # affine maps of a fractal; turns of its game; how many first turns are not drawn
IMAGES = 1024  # worked on at once


def pixmix(images: Tensor, *, seed: int, index: Tensor, rounds: int = ROUNDS, beta: float = BETA, severity: float = SEVERITY) -> Tensor:
    """PixMix of uint8 (N,3,H,W) with `fractals`; uint8 (N,3,H,W) on the same device.

    The image, or with chance 1/2 the image after one operation of AugMix at a level up to `severity`, is mixed 0 to `rounds` times with a
    fractal or, with equal chance, with the image after another operation: by a weighted sum or a weighted product (`mix`).
    index: int64 (N,), the identity of each image; a result depends on (seed, index) and the image alone. beta: from 1, the larger the
    weaker is what is mixed in. Raises TypeError or ValueError that name the argument.
    """
    images = check_images(images)
    index = check_index(index, len(images))
    check_number("rounds", rounds, 0, integer=True)
    check_number("beta", beta, 1)
    check_number("severity", severity, LEAST_LEVEL, 10)
    parts = [
        _mixed(images[at : at + IMAGES], seed, index[at : at + IMAGES], rounds, beta, severity) for at in range(0, len(images), IMAGES)
    ]
    return torch.cat(parts) if parts else images


def _mixed(images: Tensor, seed: int, index: Tensor, rounds: int, beta: float, severity: float) -> Tensor:
    def chance(*names: object) -> Tensor:
        return rng.uniform(seed, index, rng.stream("pixmix", *names), 1).to(images.device).view(-1, 1, 1, 1)

    def one_operation(turn: int) -> Tensor:
        operation, sign = (
            rng.integers(seed, index, rng.stream("pixmix", name, turn), 1, n)[:, 0]
            for name, n in (("operation", len(OPERATIONS)), ("sign", 2))
        )
        level = LEAST_LEVEL + (severity - LEAST_LEVEL) * rng.uniform(seed, index, rng.stream("pixmix", "level", turn), 1)[:, 0]
        operate(made := images.clone(), operation, level, 2 * sign - 1)
        return made

    pictures = fractals(*images.shape[2:]).to(images.device)
    result = torch.where(chance("start") < 0.5, one_operation(0), images).double() / 255
    turns = (chance("rounds") * (rounds + 1)).floor()
    for turn in range(1, rounds + 1):
        picture = pictures[rng.integers(seed, index, rng.stream("pixmix", "picture", turn), 1, PICTURES)[:, 0].to(images.device)]
        other = torch.where(chance("other", turn) < 0.5, one_operation(turn), picture).double() / 255
        draws = [chance(name, turn) for name in ("kind", "side", "a", "b")]
        result = torch.where(turn <= turns, mix(result, other, *draws, beta), result)
    return (255 * result).round().to(torch.uint8)


def mix(image: Tensor, other: Tensor, kind: Tensor, side: Tensor, a: Tensor, b: Tensor, beta: float) -> Tensor:
    """float64 (N,3,H,W) in 0..1, mixed by numbers (N,1,1,1) that are uniform in 0..1.

    kind below 1/2: the sum a x + b y of x and y in -1..1; else the product x^a y^b of x and y in 0..2. side below 1/2: a ~ Beta(beta, 1)
    and b ~ Beta(1, beta); else a ~ 1 + Beta(1, beta) and b ~ -Beta(1, beta).
    """
    small_a, small_b = (1 - (1 - value) ** (1 / beta) for value in (a, b))  # quantiles of Beta(1, beta); those of Beta(beta, 1) are roots
    first, second = torch.where(side < 0.5, a ** (1 / beta), 1 + small_a), torch.where(side < 0.5, small_b, -small_b)
    added = (first * (2 * image - 1) + second * (2 * other - 1) + 1) / 2
    multiplied = (2 * image) ** first * (2 * other).clamp(min=1e-37) ** second / 2
    return torch.where(kind < 0.5, added, multiplied).clamp(0, 1)


@lru_cache(2)
def fractals(height: int, width: int, count: int = PICTURES) -> Tensor:
    """uint8 (count,3,height,width): always the same fractals, in random colors.

    Each is the attractor of four contractions x -> A x + t of the plane: random turns with factors from 0.3 to 0.9, chosen in proportion to
    their area. The logarithm of how often a pixel is hit goes from one color to another, in each channel along its own power.
    """
    number = torch.arange(count)
    orbits = max(64, height * width // 32)

    def drawn(name: str, *shape: int) -> Tensor:
        return rng.uniform(0, number, rng.stream("fractal", name), torch.Size(shape).numel()).view(count, *shape)

    angle = 2 * torch.pi * drawn("angle", 2, MAPS)
    turn = torch.stack([torch.stack([a.cos(), -a.sin()], -1) for a in angle.unbind(1)], -2)  # rows of two rotations mixed: skews, too
    maps = turn * (0.3 + 0.6 * drawn("factor", MAPS, 2))[..., None, :]
    maps = maps / torch.linalg.matrix_norm(maps, 2)[..., None, None].clamp(min=1) * 0.95
    shifts = 2 * drawn("shift", MAPS, 2) - 1
    area = torch.linalg.det(maps).abs().clamp(min=0.02)
    bounds = (area / area.sum(1, keepdim=True)).cumsum(1)[:, None]
    points = 2 * drawn("start", orbits, 2) - 1
    seen = []
    for game in range(TURNS):
        chosen = (drawn(f"game {game}", orbits)[..., None] > bounds).sum(-1).clamp(max=MAPS - 1)
        rows = chosen[..., None].expand(-1, -1, 2)
        points = torch.einsum("nopq,noq->nop", maps.gather(1, rows[..., None].expand(-1, -1, 2, 2)), points) + shifts.gather(1, rows)
        if game >= SETTLING:
            seen.append(points)
    return _painted(torch.cat(seen, 1), drawn("color", 3, 3), height, width)


def _painted(points: Tensor, colors: Tensor, height: int, width: int) -> Tensor:
    """points: float64 (N,P,2). colors: float64 (N,3,3): where a channel starts, where it ends, its power."""
    low, high = points.amin(1, keepdim=True), points.amax(1, keepdim=True)
    cells = ((points - low) / (high - low).clamp(min=1e-9) * torch.tensor([height, width]) * (1 - 1e-9)).long()
    place = cells[..., 0] * width + cells[..., 1]
    hits = torch.zeros(len(points), height * width, dtype=torch.float64).scatter_add_(1, place, torch.ones_like(place, dtype=torch.float64))
    depth = torch.log1p(hits)
    depth = (depth / depth.amax(1, keepdim=True)).view(-1, 1, height, width)
    start, end, power = colors.view(-1, 3, 3, 1, 1).unbind(2)
    return (255 * (start + (end - start) * depth ** (0.3 + power))).round().to(torch.uint8)
