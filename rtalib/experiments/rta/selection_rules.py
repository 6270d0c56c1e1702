"""Which candidate of an image iterative search takes (RTA, Algorithm 1, lines 7 and 8): the rules, as pure functions of who is wrong."""

import torch
from torch import Tensor

from rtalib import coreset, rng
from rtalib.errors import unknown

COVERAGE = "coverage"  # ours: the candidates of 'most-models', of which `cover` takes one in the place of `pick`
RULES = ("released", "most-models", "any", "all", "highest-loss", "random", COVERAGE)


def preferred(wrong: Tensor, offered: Tensor, rule: str, loss: Tensor | None = None) -> Tensor:
    """bool (N,O): the candidates among which an image's is drawn; at least one of each image's offered ones.

    wrong: bool (M,N,O), whether model m misclassifies candidate o of image n. offered: bool (N,O), the candidates that there are.
    loss: float (N,O), the mean over models, for 'highest-loss'.

    'released', as in the authors' code for two models: those that all models get wrong; where there is none, those of the first model;
    then of the second, and so on. 'most-models', 'coverage': those that the most models get wrong, whichever. 'any': those that at least
    one gets wrong. 'all': those that all get wrong. 'highest-loss': that with the highest loss, right or wrong. Where no candidate
    qualifies, and always with 'random', which is RTA's draw, all that are offered (as in the authors' code).
    """
    if rule not in RULES:
        raise unknown("selection rule", rule, RULES)
    if wrong.dtype != torch.bool or wrong.ndim != 3 or not len(wrong):
        raise ValueError(f"wrong: expected bool (M,N,O) of at least one model, got {wrong.dtype} {tuple(wrong.shape)}")
    if offered.dtype != torch.bool or offered.shape != wrong.shape[1:]:
        raise ValueError(f"offered: expected bool {tuple(wrong.shape[1:])}, got {offered.dtype} {tuple(offered.shape)}")
    if not bool(offered.any(1).all()):
        raise ValueError("offered: expected at least one candidate of every image")
    wrong = wrong & offered
    if rule == "released":
        steps = [wrong.all(0), *wrong]
    elif rule in ("most-models", COVERAGE):
        votes = wrong.sum(0)
        steps = [(votes == votes.amax(1, keepdim=True)) & (votes > 0)]
    elif rule == "highest-loss":
        if loss is None or loss.shape != offered.shape:
            raise ValueError(f"loss: rule 'highest-loss' expects float {tuple(offered.shape)}, got {None if loss is None else loss.shape}")
        steps = [torch.nn.functional.one_hot(loss.masked_fill(~offered, -torch.inf).argmax(1), offered.shape[1]).bool()]
    else:
        steps = {"any": [wrong.any(0)], "all": [wrong.all(0)], "random": []}[rule]
    found = torch.zeros_like(offered)
    for step in (*steps, offered):
        found = torch.where(found.any(1, keepdim=True), found, step)
    return found


def pick(allowed: Tensor, *, seed: int, index: Tensor) -> Tensor:
    """int64 (N,): one of the allowed columns of each row of bool (N,O), uniformly, drawn from (seed, index of the row)."""
    counts = allowed.sum(1)
    turn = (rng.words(seed, index, rng.stream("iterative search", "pick"), 1).squeeze(1) * counts) >> 32
    return ((allowed.cumsum(1) == (turn + 1)[:, None]) & allowed).int().argmax(1)


def cover(allowed: Tensor, features: Tensor, centers: Tensor) -> Tensor:
    """int64 (N,): one of the allowed columns of each row of bool (N,O), such that together they cover the feature space: k-center greedy
    with one candidate per row.

    features: (allowed.sum(), D), of the allowed candidates, row after row. centers: (M,D), of what is in the training set already.
    """
    row, column = allowed.nonzero(as_tuple=True)
    picks = coreset.k_center_greedy(features, centers, len(allowed), groups=row).to(row.device)
    return torch.empty(len(allowed), dtype=torch.int64).index_put((row[picks],), column[picks])


def summary(wrong: Tensor, offered: Tensor, blamed: Tensor, models: tuple[str, ...], operations: tuple[str, ...]) -> dict:
    """What the networks of a round make of the candidates, as iterative_search.Trace.rounds has it.

    wrong, offered: as in `preferred`. blamed: bool (N,M), which models misclassify the chosen candidate of each image.
    """
    by = [_blame(row, models) for row in blamed.tolist()]
    right = {
        name: {
            operation: 100 * float((~wrong[m, offered[:, number], number]).double().mean())
            for number, operation in enumerate(operations)
            if bool(offered[:, number].any())
        }
        for m, name in enumerate(models)
    }
    return {
        "n_candidates": int(offered.sum()),
        "misclassified": {name: int((wrong[m] & offered).sum()) for m, name in enumerate(models)},
        "by_rule": {kind: by.count(kind) for kind in dict.fromkeys(("all", *models, "several", "none"))},
        "accuracy": right,
    }


def _blame(wrong: list[bool], models: tuple[str, ...]) -> str:
    """'all', 'none', the only one of `models` that is wrong, or 'several'."""
    if len(set(wrong)) == 1:
        return "all" if wrong[0] else "none"
    return models[wrong.index(True)] if sum(wrong) == 1 else "several"
