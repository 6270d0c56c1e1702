"""Which candidate of an image iterative search takes (RTA, Algorithm 1, lines 7 and 8), as pure functions.

Candidates are {number of an operation: uint8 (k,3,H,W)}: those images of a piece that are offered the operation, in their order, after it.
offered: bool (N,O), which of the O operations each of the N images is offered.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtalib import coreset, rng
from rtalib.errors import check_name
from rtalib.models.inference import extract_features, predict

COVERAGE = "coverage"  # ours: among the candidates of 'most-models', `cover` chooses instead of `pick`
RULES = ("released", "most-models", "any", "all", "highest-loss", "random", COVERAGE)


def judge(networks: Sequence[nn.Module], candidates: Mapping[int, Tensor], offered: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which networks misclassify which candidates, bool (M,N,O), and the candidates' mean loss, float (N,O); 0 if not offered.

    labels: of the images, int64 (N,) or soft (N,K).
    """
    wrong, loss = torch.zeros(len(networks), *offered.shape, dtype=torch.bool), torch.zeros(offered.shape)
    for number, images in candidates.items():
        rows = offered[:, number]
        truth = labels[rows] if labels.ndim == 1 else labels[rows].argmax(1)
        for m, network in enumerate(networks):
            logits = predict(network, images)
            wrong[m, rows, number] = logits.argmax(1) != truth
            loss[rows, number] += F.cross_entropy(logits, labels[rows], reduction="none") / len(networks)
    return wrong, loss


def preferred(wrong: Tensor, offered: Tensor, rule: str, loss: Tensor | None = None) -> Tensor:
    """bool (N,O): the candidates of each image that a choice is made among; at least one of the offered ones.

    wrong, loss: see `judge`; only 'highest-loss' needs the loss.

    'released', as in the authors' code for two models: those that all models get wrong; if there are none, those of the first model;
    then of the second, and so on. 'most-models', 'coverage': those that the most models get wrong, whichever. 'any': those that at least
    one gets wrong. 'all': those that all get wrong. 'highest-loss': that with the highest loss, right or wrong. If no candidate
    qualifies, and always with 'random', which is RTA's draw: all that are offered (as in the authors' code).
    """
    check_name("selection rule", rule, RULES)
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
    """int64 (N,): one of the allowed columns of each row of bool (N,O), chosen so that together they cover the feature space: k-center
    greedy with one candidate per row.

    features: (allowed.sum(), D), of the allowed candidates, row after row. centers: (M,D), of the training set so far.
    """
    row, column = allowed.nonzero(as_tuple=True)
    picks = coreset.k_center_greedy(features, centers, len(allowed), groups=row).to(row.device)
    return torch.empty(len(allowed), dtype=torch.int64).index_put((row[picks],), column[picks])


def allowed_features(network: nn.Module, candidates: Mapping[int, Tensor], offered: Tensor, allowed: Tensor) -> Tensor:
    """float32 (allowed.sum(), D) on the CPU: penultimate features of the allowed candidates, row after row, for `cover`.

    At the paper's size at most 10,000 images x 15 candidates x 2048 features, 1.2 GB; images are read operation by operation.
    """
    slot, features = allowed.flatten().cumsum(0).view_as(allowed) - 1, None
    for number, images in candidates.items():
        if bool((rows := allowed[:, number]).any()):
            part = extract_features(network, images[rows[offered[:, number]]])
            features = part.new_empty(int(allowed.sum()), part.shape[1]) if features is None else features
            features[slot[rows, number]] = part
    return features


def chosen_images(candidates: Mapping[int, Tensor], offered: Tensor, choice: Tensor) -> Tensor:
    """uint8 (N,3,H,W): of each image the candidate of the operation `choice`, int64 (N,)."""
    images = next(iter(candidates.values())).new_empty(len(choice), *next(iter(candidates.values())).shape[1:])
    for number in choice.unique().tolist():
        rows = choice == number
        images[rows] = candidates[number][offered[:, number].cumsum(0)[rows] - 1]
    return images


def summary(wrong: Tensor, offered: Tensor, blamed: Tensor, models: tuple[str, ...], operations: tuple[str, ...]) -> dict:
    """The statistics of a round, as in iterative_search.Trace.rounds.

    wrong: see `judge`. blamed: bool (N,M), which models misclassify the chosen candidate of each image.
    """
    votes = blamed.sum(1)
    by_rule = {"all": int((votes == len(models)).sum())}
    by_rule |= {name: int((blamed[:, m] & (votes == 1)).sum()) if len(models) > 1 else 0 for m, name in enumerate(models)}
    by_rule |= {"several": int((votes > 0).sum()) - sum(by_rule.values()), "none": int((votes == 0).sum())}
    there = offered.any(0).nonzero().flatten().tolist()
    accuracy = {
        name: {operations[o]: 100 * float((~wrong[m, offered[:, o], o]).double().mean()) for o in there} for m, name in enumerate(models)
    }
    misclassified = {name: int((wrong[m] & offered).sum()) for m, name in enumerate(models)}
    return {"n_candidates": int(offered.sum()), "misclassified": misclassified, "by_rule": by_rule, "accuracy": accuracy}
