"""Choosing a few failures that stand for all: k-center greedy (Sener & Savarese, ICLR 2018) and what it is compared with.

CF-DARTS (Ren et al., Pattern Recognition 2022) selects by the rule of its equation 6: the largest distance from a failure to its
nearest center is minimized; centers are the training examples and the failures chosen so far. Its Algorithm 1, read literally,
never updates the distances and returns one example B times; if that example is removed after each turn, it is `farthest`.
"""

import torch

from rtalib.corruptions import kernels

BLOCKS = {"cpu": (512, 1024), "cuda": (2048, 8192)}  # of distances at a time: what stays in a processor's cache, or fills a GPU
POOL = 512  # candidates among which the greedy picks between two updates of all distances
TAKEN = -1.0  # below every squared distance


def _check_features(features: torch.Tensor, argument: str) -> None:
    if not isinstance(features, torch.Tensor) or not features.is_floating_point() or features.ndim != 2:
        came = f"{features.dtype} {tuple(features.shape)}" if isinstance(features, torch.Tensor) else type(features).__name__
        raise ValueError(f"{argument}: expected floating-point features (rows, dimensions), got {came}")
    bad = ~torch.isfinite(features).all(dim=1)
    if bad.any():
        count, first = int(bad.sum()), int(bad.int().argmax())
        raise ValueError(f"{argument}: expected finite features; {count} of {len(bad)} rows hold NaN or infinity, the first is row {first}")


def _check_budget(budget: int, pool: int, what: str = "candidates") -> None:
    if not 1 <= budget <= pool:
        raise ValueError(f"budget: expected 1 to {pool} (the number of {what}), got {budget}")


def _check_groups(groups: torch.Tensor, count: int) -> int:
    """How many groups there are."""
    if groups.dtype != torch.int64 or groups.shape != (count,):
        raise ValueError(f"groups: expected int64 ({count},), got {groups.dtype} {tuple(groups.shape)}")
    return len(groups.unique())


def _centered(candidates: torch.Tensor, centers: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Both sets minus the candidates' mean, in float32: distances do not change, and the products below lose fewer digits."""
    _check_features(candidates, "candidates")
    mean = candidates.mean(dim=0, dtype=torch.float64)
    moved = (candidates - mean.to(candidates.dtype)).float().detach()
    if centers is None or not len(centers):
        return moved, None
    _check_features(centers, "centers")
    if centers.shape[1] != candidates.shape[1]:
        raise ValueError(f"centers: expected {candidates.shape[1]} dimensions like the candidates, got {centers.shape[1]}")
    return moved, (centers.to(candidates.device) - mean.to(centers.dtype)).float().detach()


def _squared(x: torch.Tensor, x_norm: torch.Tensor, y: torch.Tensor, y_norm: torch.Tensor) -> torch.Tensor:
    """Squared distances (n,m) as |x|^2 + |y|^2 - 2xy, at least 0 (rounding may leave less between equal rows)."""
    return torch.addmm(x_norm[:, None] + y_norm, x, y.T, alpha=-2).clamp_(min=0)


def _nearest(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
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
    return nearest.add_(x.square().sum(dim=1)).clamp_(min=0)


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
    (Euclidean, float32) from all centers and earlier picks, the lowest index of equals; without centers the first is the candidate
    farthest from the candidates' mean. A smaller budget gives a prefix of a larger one's answer.

    Raises ValueError for features that are not finite, not (rows, dimensions) or of different widths, for other groups, and for a budget
    outside 1..N.
    """
    x, fixed = _centered(candidates, centers)
    if groups is None:
        _check_budget(budget, len(x))
    else:
        groups = groups.to(x.device)
        _check_budget(budget, _check_groups(groups, len(x)), "groups")
    norm = x.square().sum(dim=1)
    if fixed is None:
        picks = [norm.argmax().view(1)]  # the mean is the origin
        distance = _taken(_squared(x, norm, x[picks[0]], norm[picks[0]])[:, 0], picks[0], groups)
    else:
        picks, distance = [], _nearest(x, fixed)
    left = budget - len(picks)
    if left and groups is None and _on_device(x):
        from rtalib.coreset.kernel import greedy

        return torch.cat([*picks, greedy(x, distance, left, TAKEN)])
    while left:
        chosen = _greedy_in_pool(x, norm, distance, left, groups)
        distance = _taken(torch.minimum(distance, _nearest(x, x[chosen])), chosen, groups)
        picks.append(chosen)
        left -= len(chosen)
    return torch.cat(picks)


def _on_device(x: torch.Tensor) -> bool:
    """Whether the kernel picks: on a GPU the turns above would wait for the host at every pick."""
    return x.is_cuda and kernels.usable()


def _taken(distance: torch.Tensor, picks: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
    """`distance` with the picks, or all of their groups, below every other candidate: none is picked twice, even among duplicates."""
    distance[picks if groups is None else torch.isin(groups, groups[picks])] = TAKEN
    return distance


def balanced_greedy(candidates: torch.Tensor, centers: torch.Tensor | None, labels: torch.Tensor, budget: int) -> torch.Tensor:
    """`k_center_greedy` in each class separately, one pick of each class in turn; a class that runs out is skipped.

    labels: int64 (N,), the classes of the candidates. Result, nesting and errors as in `k_center_greedy`; ValueError for other labels.
    """
    _check_features(candidates, "candidates")
    _check_budget(budget, len(candidates))
    if labels.dtype != torch.int64 or labels.shape != candidates.shape[:1]:
        raise ValueError(f"labels: expected int64 ({len(candidates)},), got {labels.dtype} {tuple(labels.shape)}")
    members = [(labels == label).nonzero().flatten().to(candidates.device) for label in labels.unique()]
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
    x, fixed = _centered(candidates, centers)
    _check_budget(budget, len(x))
    distance = x.square().sum(dim=1) if fixed is None else _nearest(x, fixed)
    return distance.argsort(descending=True, stable=True)[:budget]


def random_selection(n: int, budget: int, seed: int) -> torch.Tensor:
    """int64 (budget,): different indices below n, uniformly at random; nested in the budget like `k_center_greedy`."""
    _check_budget(budget, n)
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:budget]


def covering_radius(candidates: torch.Tensor, centers: torch.Tensor | None, selected: torch.Tensor) -> float:
    """Largest distance from a candidate to its nearest center, the centers being `centers` and candidates[selected]."""
    x, fixed = _centered(candidates, centers)
    covers = x[selected] if fixed is None else torch.cat([fixed, x[selected]])
    if not len(covers):
        raise ValueError("selected: expected at least one index when there are no centers")
    worst = x[_nearest(x, covers).argmax()]
    return float((covers - worst).double().square().sum(dim=1).min().sqrt())  # differences, not products: exact for equal rows


def covering_radii(candidates: torch.Tensor, centers: torch.Tensor | None, selected: torch.Tensor) -> torch.Tensor:
    """float32 (len(selected) + 1,): `covering_radius` of every prefix of `selected`, the empty one first, in one pass.

    Infinite without a center. Errors as in `k_center_greedy`.
    """
    x, fixed = _centered(candidates, centers)
    distance = x.new_full((len(x),), torch.inf) if fixed is None else _nearest(x, fixed)
    radii = [distance.max()]
    for pick in selected.tolist():
        distance = torch.minimum(distance, (x - x[pick]).square().sum(dim=1))
        radii.append(distance.max())
    return torch.stack(radii).sqrt()
