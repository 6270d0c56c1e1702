"""Choosing a few failures that stand for all: k-center greedy (Sener & Savarese, ICLR 2018) and what it is compared with.

CF-DARTS (Ren et al., Pattern Recognition 2022) selects by the rule of its equation 6: the largest distance from a failure to its
nearest center is minimized; centers are the training examples and the failures chosen so far. Its Algorithm 1, read literally,
never updates the distances and returns one example B times; if that example is removed after each turn, it is `farthest`.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import torch

from rtalib.corruptions import kernels
from rtalib.errors import as_tensor, check_integers, check_number

BLOCKS = {"cpu": (512, 1024), "cuda": (2048, 8192)}  # of distances at a time: what stays in a processor's cache, or fills a GPU
POOL = 1024  # candidates among which the greedy picks between two updates of all distances
TAKEN = -1.0  # below every squared distance
FEATURES = "floating-point features (rows, dimensions)"
COARSE = 1e-4  # least squared distance, relative to the largest squared feature, that products in float32 can tell
HUGE = 1e30  # features above are centered in float64, for their differences may overflow
SAFE = 30  # powers of two between which features are not scaled
Answer = TypeVar("Answer")


def _features(features: object, argument: str) -> torch.Tensor:
    """Finite features (rows, dimensions) of any floating-point type, as a tensor without a graph."""
    features = as_tensor(features, argument, FEATURES).detach()
    if not features.is_floating_point() or features.ndim != 2 or not features.shape[1]:
        raise ValueError(f"{argument}: expected {FEATURES}, got {features.dtype} {tuple(features.shape)}")
    features = features.float() if features.element_size() < 4 else features
    if len(features) and not math.isfinite(_largest(features)):
        bad = ~torch.isfinite(features).all(dim=1)
        count, first = int(bad.sum()), int(bad.int().argmax())
        raise ValueError(f"{argument}: expected finite features; {count} of {len(bad)} rows hold NaN or infinity, the first is row {first}")
    return features


def _check_budget(budget: int, pool: int, what: str = "candidates") -> None:
    check_number("budget", budget, 1, pool, integer=True, unit=f" (the number of {what})")


def _rows(selected: object, count: int, device: torch.device) -> torch.Tensor:
    """int64: rows below `count`, given as such or as a mask, in order."""
    selected = as_tensor(selected, "selected", f"rows 0 to {count - 1}, or a mask of {count}").to(device)
    if selected.dtype == torch.bool and selected.shape == (count,):
        return selected.nonzero().flatten()
    if selected.dtype.is_floating_point or selected.dtype in (torch.bool, torch.complex64) or selected.ndim != 1:
        got = f"{selected.dtype} {tuple(selected.shape)}"
        raise TypeError(f"selected: expected integer rows 0 to {count - 1}, or a mask of {count}, got {got}")
    if len(selected) and not (0 <= selected.min() and selected.max() < count):
        raise ValueError(f"selected: expected rows 0 to {count - 1}, got {selected.min()} to {selected.max()}")
    return selected.long()


def _largest(x: torch.Tensor) -> float:
    """The largest absolute value, without a copy of x."""
    return max(abs(float(end)) for end in x.aminmax())


class _Space:
    """Both sets minus the candidates' mean, `candidates` x (N,D) and `centers` (M,D) or None: distances do not change, and the products
    below lose fewer digits. Values that leave the range of squares are scaled by a power of two, which rounds nothing."""

    def __init__(self, candidates: object, centers: object):
        candidates = _features(candidates, "candidates")
        if not len(candidates):
            raise ValueError("candidates: expected at least one row, got none")
        centers = None if centers is None else as_tensor(centers, "centers", FEATURES)
        centers = None if centers is None or not centers.numel() else _features(centers, "centers").to(candidates.device)
        if centers is not None and centers.shape[1] != candidates.shape[1]:
            raise ValueError(f"centers: expected {candidates.shape[1]} dimensions like the candidates, got {centers.shape[1]}")
        sets = [candidates] if centers is None else [candidates, centers]
        self.count, self.device = len(candidates), candidates.device
        wide = any(each.dtype == torch.float64 or _largest(each) > HUGE for each in sets)
        kind = torch.float64 if wide else torch.float32
        mean = candidates.mean(dim=0, dtype=kind)
        self.moved = [each.to(kind) - mean for each in sets]
        exponent = math.frexp(max(map(_largest, self.moved)))[1]
        self.exponent = exponent if abs(exponent) > SAFE else 0

    def at(self, precision: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(candidates, centers) in a precision; both are moved by the same vector, whatever their own types are."""
        power = torch.tensor(-self.exponent, device=self.device)
        x, *centers = ((torch.ldexp(each, power) if self.exponent else each).to(precision) for each in self.moved)
        return x, centers[0] if centers else None

    def solve(self, compute: Callable[[torch.Tensor, torch.Tensor | None], tuple[Answer, float]]) -> Answer:
        """What `compute` answers, in float32; in float64 if the smallest squared distance on which the answer rests, its second value, is
        so small beside the features that products in float32 cannot tell it."""
        x, centers = self.at(torch.float32)
        answer, smallest = compute(x, centers)
        largest = max(float(each.square().sum(dim=1).max()) for each in (x, centers) if each is not None)
        if smallest < COARSE * largest:
            del x, centers
            answer, _ = compute(*self.at(torch.float64))
        return answer


def _squared(x: torch.Tensor, x_norm: torch.Tensor, y: torch.Tensor, y_norm: torch.Tensor) -> torch.Tensor:
    """Squared distances (n,m) as |x|^2 + |y|^2 - 2xy, at least 0 (rounding may leave less between equal rows)."""
    return torch.addmm(x_norm[:, None] + y_norm, x, y.T, alpha=-2).clamp_(min=0)


def _nearest(x: torch.Tensor, y: torch.Tensor, x_norm: torch.Tensor | None = None) -> torch.Tensor:
    """Squared distance (n,) from each row of x to the nearest row of y (m,D), in blocks: never n x m at once."""
    nearest, y_norm = x.new_full((len(x),), torch.inf), y.square().sum(dim=1)
    rows, columns = BLOCKS.get(x.device.type, BLOCKS["cuda"])
    buffer = x.new_empty(min(rows, len(x)) * min(columns, len(y)))  # one for all: fresh memory takes longer than the product in it
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        for other in range(0, len(y), columns):
            centers = y[other : other + columns]
            block = buffer[: len(part) * len(centers)].view(len(part), len(centers))
            torch.addmm(y_norm[other : other + columns], part, centers.T, alpha=-2, out=block)
            torch.minimum(nearest[start : start + rows], block.amin(dim=1), out=nearest[start : start + rows])
    return nearest.add_(x.square().sum(dim=1) if x_norm is None else x_norm).clamp_(min=0)


def _greedy_in_pool(
    x: torch.Tensor, norm: torch.Tensor, distance: torch.Tensor, most: int, groups: torch.Tensor | None = None
) -> torch.Tensor:
    """The next picks, at least one and at most `most`, that follow from the POOL largest distances alone.

    Distances only shrink. A pick inside the pool is therefore the pick over all candidates as long as it is farther than every candidate
    outside was at the start. An equal one outside may have the lower index and ends the turn.
    """
    if len(x) <= POOL:
        pool, outside = torch.arange(len(x), device=x.device), -torch.inf
    else:
        values, pool = torch.topk(distance, POOL + 1)
        pool, outside = pool[:POOL].sort().values, float(values[POOL])  # sorted: the first of equals is the lowest index
    best = int(torch.argmax(distance))
    if distance[best] <= outside:
        return torch.tensor([best], device=x.device)
    inside, mutual = distance[pool], _squared(x[pool], norm[pool], x[pool], norm[pool])
    group = None if groups is None else groups[pool]
    picks: list[int] = []
    while len(picks) < most:
        best = int(torch.argmax(inside))
        if inside[best] <= outside:
            break
        picks.append(best)
        torch.minimum(inside, mutual[best], out=inside)  # those taken stay so: no distance is below TAKEN
        inside[best if group is None else group == group[best]] = TAKEN
    return pool[torch.tensor(picks, device=x.device)]


def k_center_greedy(
    candidates: torch.Tensor, centers: torch.Tensor | None, budget: int, *, groups: torch.Tensor | None = None
) -> torch.Tensor:
    """Greedy 2-approximation of k-center with fixed centers.

    candidates: features (N,D); centers: features (M,D) that are centers already, or None; budget: 1 to N.
    groups: int64 (N,); at most one candidate of each group is picked (a partition constraint, under which the factor 2 is not guaranteed),
    so the budget is at most the number of groups. The picks then come from the loop in plain torch, on any device.
    Memory: a second copy of the features in float32.
    Returns int64 (budget,): indices of candidates in order of selection, on the candidates' device. Each is the candidate farthest
    (Euclidean) from all centers and earlier picks, the lowest index of equals; without centers the first is the candidate farthest from
    the candidates' mean. A smaller budget gives a prefix of a larger one's answer, but for distances that tie within rounding.
    Features may be tensors or arrays of any floating-point type, each set of its own. Distances are computed in float32, and in float64
    if the last pick is nearer than a hundredth of the largest feature.

    Raises ValueError for features that are not finite, not (rows, dimensions) or of different widths, for other groups, and for a budget
    outside 1..N.
    """
    space = _Space(candidates, centers)
    if groups is None:
        _check_budget(budget, space.count)
    else:
        groups = check_integers("groups", groups, space.count, space.device)
        _check_budget(budget, len(groups.unique()), "groups")

    def compute(x: torch.Tensor, fixed: torch.Tensor | None) -> tuple[torch.Tensor, float]:
        picks = _greedy(x, fixed, int(budget), groups)
        covers = x[picks[:-1]] if fixed is None else torch.cat([fixed, x[picks[:-1]]])
        return picks, _exact(x[picks[-1]], covers)

    return space.solve(compute)


def _exact(point: torch.Tensor, covers: torch.Tensor) -> float:
    """Squared distance from a point (D,) to the nearest row of covers (M,D), by differences; infinite without one."""
    if not len(covers):
        return math.inf
    return float(torch.cdist(point[None], covers, compute_mode="donot_use_mm_for_euclid_dist").min().double().square())


def _greedy(x: torch.Tensor, fixed: torch.Tensor | None, budget: int, groups: torch.Tensor | None) -> torch.Tensor:
    norm = x.square().sum(dim=1)
    if fixed is None:
        picks = [norm.argmax().view(1)]  # the mean is the origin
        distance = _taken(_squared(x, norm, x[picks[0]], norm[picks[0]])[:, 0], picks[0], groups)
    else:
        picks, distance = [], _nearest(x, fixed, norm)
    left = budget - len(picks)
    if left and groups is None and _on_device(x):
        from rtalib.coreset.kernel import greedy

        return torch.cat([*picks, greedy(x, distance, left, TAKEN)])
    while left:
        chosen = _greedy_in_pool(x, norm, distance, left, groups)
        distance = _taken(torch.minimum(distance, _nearest(x, x[chosen], norm)), chosen, groups)
        picks.append(chosen)
        left -= len(chosen)
    return torch.cat(picks)


def _on_device(x: torch.Tensor) -> bool:
    """Whether the kernel picks, in float32: on a GPU the turns above would wait for the host at every pick."""
    return x.is_cuda and x.dtype == torch.float32 and kernels.usable()


def _taken(distance: torch.Tensor, picks: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
    """`distance` with the picks, or all of their groups, below every other candidate: none is picked twice, even among duplicates."""
    distance[picks if groups is None else torch.isin(groups, groups[picks])] = TAKEN
    return distance


def balanced_greedy(candidates: torch.Tensor, centers: torch.Tensor | None, labels: torch.Tensor, budget: int) -> torch.Tensor:
    """`k_center_greedy` in each class separately, one pick of each class in turn; a class that runs out is skipped.

    labels: int64 (N,), the classes of the candidates. Result, nesting and errors as in `k_center_greedy`; ValueError for other labels.
    """
    candidates = _features(candidates, "candidates")
    _check_budget(budget, len(candidates))
    labels = check_integers("labels", labels, len(candidates), candidates.device)
    members = [(labels == label).nonzero().flatten() for label in labels.unique()]
    turns = sorted((turn, number) for number, rows in enumerate(members) for turn in range(len(rows)))[:budget]
    quota = torch.tensor([number for _, number in turns]).bincount(minlength=len(members)).tolist()
    pairs = zip(members, quota, strict=True)
    picks = [rows[k_center_greedy(candidates[rows], centers, most)] if most else rows[:0] for rows, most in pairs]
    return torch.stack([picks[number][turn] for turn, number in turns])


def farthest(candidates: torch.Tensor, centers: torch.Tensor | None, budget: int) -> torch.Tensor:
    """The `budget` candidates farthest from the initial centers (from the candidates' mean without centers), farthest first.

    Algorithm 1 of CF-DARTS read literally, with each pick removed from the candidates: an outlier ranking that ignores how near the
    picks are to each other. Arguments, result, ties and errors as in `k_center_greedy`.
    """
    space = _Space(candidates, centers)
    _check_budget(budget, space.count)

    def compute(x: torch.Tensor, fixed: torch.Tensor | None) -> tuple[torch.Tensor, float]:
        distance = x.square().sum(dim=1) if fixed is None else _nearest(x, fixed)
        order = distance.argsort(descending=True, stable=True)[: int(budget)]
        return order, float(distance[order[-1]])

    return space.solve(compute)


def random_selection(n: int, budget: int, seed: int) -> torch.Tensor:
    """int64 (budget,): different indices below n, uniformly at random; nested in the budget like `k_center_greedy`."""
    check_number("n", n, 1, integer=True)
    check_number("seed", seed, integer=True)
    _check_budget(budget, n)
    return torch.randperm(int(n), generator=torch.Generator().manual_seed(int(seed)))[: int(budget)]


def covering_radius(candidates: torch.Tensor, centers: torch.Tensor | None, selected: torch.Tensor) -> float:
    """Largest distance from a candidate to its nearest center, the centers being `centers` and candidates[selected].

    selected: rows or a mask, as a tensor, an array or a list. Errors as in `k_center_greedy`; ValueError without any center.
    """
    space = _Space(candidates, centers)
    rows = _rows(selected, space.count, space.device)
    if not len(rows) and len(space.moved) == 1:
        raise ValueError("selected: expected at least one index when there are no centers")

    def compute(x: torch.Tensor, fixed: torch.Tensor | None) -> tuple[float, float]:
        covers = x[rows] if fixed is None else torch.cat([fixed, x[rows]])
        worst = x[_nearest(x, covers).argmax()]
        squared = float((covers - worst).double().square().sum(dim=1).min())  # differences, not products: exact for equal rows
        return math.sqrt(squared), squared

    return math.ldexp(space.solve(compute), space.exponent)


def covering_radii(candidates: torch.Tensor, centers: torch.Tensor | None, selected: torch.Tensor) -> torch.Tensor:
    """float32 (len(selected) + 1,): `covering_radius` of every prefix of `selected`, the empty one first, in one pass.

    Infinite without a center. selected and errors as in `covering_radius`.
    """
    space = _Space(candidates, centers)
    rows = _rows(selected, space.count, space.device)

    def compute(x: torch.Tensor, fixed: torch.Tensor | None) -> tuple[torch.Tensor, float]:
        distance = x.new_full((len(x),), torch.inf) if fixed is None else _nearest(x, fixed)
        radii = [distance.max()]
        for pick in rows.tolist():
            distance = torch.minimum(distance, (x - x[pick]).square().sum(dim=1))
            radii.append(distance.max())
        return torch.stack(radii).sqrt(), float(radii[-1])

    return torch.ldexp(space.solve(compute), torch.tensor(space.exponent)).float()
