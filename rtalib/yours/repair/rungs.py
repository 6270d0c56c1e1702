"""The rungs of the repair ladder, cheapest first. A rung takes a network and a case, and returns a repaired copy and the number of labels
of failures that it used; or it says why it cannot.

statistics, entropy: images without labels. head: the last layer. finetune: all weights. data: all weights, on robust data. architecture:
a new architecture. None of them sees the images on which the ladder measures.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtalib import darts
from rtalib.augment.bank import rta
from rtalib.data.images import LabeledImages, concat
from rtalib.errors import check_name, check_number
from rtalib.models.inference import evaluate, extract_features, predict
from rtalib.training.loop import train
from rtalib.training.recipes import Recipe
from rtalib.training.test_time import minimize_entropy, reestimate_statistics
from rtalib.yours.repair import selectors

Repair = tuple[nn.Module, int]
SHARES = (1.0, 0.75, 0.5, 0.25)  # of the new weights in an interpolation, largest first
STEPS, TOLERANCE = 80, 1e-4  # of the fit of a last layer
CHECKED = 500  # clean images that decide the share


class NotApplicable(ValueError):
    """A rung cannot be tried on this network or with these images; the text says why."""


@dataclass(frozen=True, eq=False)
class Case:
    """A network's failing: what a repair may use, and what it is measured on.

    own: clean labeled images of yours (replay, robust data). pool: images of the failing condition that a repair may use. held: others, on
    which gains are measured. clean: clean images for the price, none of them in `own`. labeled: whether `pool` and `held` have labels.
    """

    own: LabeledImages
    pool: LabeledImages
    held: LabeledImages
    clean: LabeledImages
    labeled: bool = True


@dataclass(frozen=True)
class Settings:
    """select: the rule that picks `budget` of the failures in the pool, a name in selectors.SELECTORS. keep: points of clean accuracy, on
    images of yours, that an interpolation of weights may cost. prior: see test_time. replay: clean images of yours at most. steps, in whole
    passes over the failures; batch_size; lr: of the training of all weights. scale: of the search for an architecture."""

    select: str = "core"
    budget: int = 100
    keep: float = 1.0
    prior: float = 16.0
    replay: int = 1000
    steps: int = 40
    batch_size: int = 64
    lr: float = 0.01
    scale: str = "demo"
    seed: int = 0

    def __post_init__(self) -> None:
        check_name("selector", self.select, selectors.SELECTORS)
        check_number("budget", self.budget, 1, integer=True, unit=" failure")
        check_number("keep", self.keep, 0, 100, unit=" points")
        check_number("prior", self.prior, 0)
        check_number("replay", self.replay, 2, integer=True, unit=" images")
        check_number("steps", self.steps, 1, integer=True)
        check_number("batch_size", self.batch_size, 2, integer=True)
        check_number("lr", self.lr, 0, open_low=True)


def statistics(network: nn.Module, case: Case, settings: Settings) -> Repair:
    """BatchNorm statistics of the pool, mixed with the source's (Schneider et al. 2020)."""
    _has_batch_norm(network)
    return reestimate_statistics(network, case.pool.images, prior=settings.prior), 0


def entropy(network: nn.Module, case: Case, settings: Settings) -> Repair:
    """TENT on the pool (Wang et al. 2021), from the statistics of the pool."""
    _has_batch_norm(network)
    return minimize_entropy(network, case.pool.images, prior=settings.prior, seed=settings.seed), 0


def head(network: nn.Module, case: Case, settings: Settings) -> Repair:
    """The last layer fitted again on features of clean images of yours and of the selected failures."""
    repaired = copy.deepcopy(network)
    chosen, own = chosen_failures(network, case, settings), replayed(case, settings)
    features = [_features(repaired, part) for part in (own, chosen)]
    layer = _last_layer(repaired)
    weight, bias = fit_head(layer.weight.detach(), layer.bias.detach(), *features, own.hard_labels, chosen.hard_labels)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return repaired, len(chosen)


def finetune(network: nn.Module, case: Case, settings: Settings) -> Repair:
    """All weights trained on clean images of yours and the selected failures, half of each batch each, then interpolated (WiSE-FT)."""
    chosen, own = chosen_failures(network, case, settings), replayed(case, settings)
    return _trained(network, concat([chosen, own], "failures and replay"), case, settings, n_labeled=len(chosen)), len(chosen)


def data(network: nn.Module, case: Case, settings: Settings) -> Repair:
    """All weights trained on clean images of yours and on their RTA copies: corruptions, and attacks on this network."""
    own = replayed(case, settings)
    own = own.subset(torch.arange(min(len(own), settings.steps * settings.batch_size // 2)))  # each image once
    robust, _ = rta(own, {"network": network}, seed=settings.seed, restarts=1, steps=4)
    return _trained(network, concat([robust, own], "robust data"), case, settings, n_labeled=len(robust)), 0


def architecture(network: nn.Module, case: Case, settings: Settings) -> Repair:
    """CF-DARTSE: the cells searched on with the selected failures, and trained from scratch with them."""
    if not isinstance(network, darts.Network):
        raise NotApplicable("it is no darts.Network, so there is no architecture to refine")
    from rtalib.yours.repair.your_network import repair

    method = {"core": "cf", "random": "rf"}.get(settings.select)
    if method is None:
        raise NotApplicable(f"a search takes core or random failures, not those of {settings.select!r}")
    budget, own = len(chosen_failures(network, case, settings)), replayed(case, settings)
    found = repair(network, case.pool, own, method=method, extended=True, budget=budget, scale=settings.scale, seed=settings.seed)
    return found.network, budget


RUNGS: dict[str, Callable[[nn.Module, Case, Settings], Repair]] = {
    rung.__name__: rung for rung in (statistics, entropy, head, finetune, data, architecture)
}
BLIND = ("data",)  # rungs that look at no failure, so that one repair serves every case


# ------------------------------------------------------------------------------------------------------------ their parts


def chosen_failures(network: nn.Module, case: Case, settings: Settings) -> LabeledImages:
    """`budget` failures of the pool by the rule of the settings, in order of selection; all of them if there are fewer."""
    if not case.labeled:
        raise NotApplicable("the failures have no labels")
    logits = predict(network, case.pool.images)
    wrong = (logits.argmax(1) != case.pool.hard_labels).nonzero().flatten()
    if not len(wrong):
        raise NotApplicable(f"the network is right on all {len(case.pool)} images of the pool")
    failing = case.pool.subset(wrong)
    if settings.budget >= len(failing):
        return failing
    centers = _features(network, replayed(case, settings)) if settings.select in selectors.FROM_CENTERS else None
    found = selectors.Candidates(_features(network, failing), logits[wrong], failing.hard_labels, centers)
    return failing.subset(selectors.SELECTORS[settings.select](found, settings.budget, settings.seed))


def replayed(case: Case, settings: Settings) -> LabeledImages:
    """The clean images of yours that a repair trains on: the first ones, which are balanced if they come from load_dataset(limit=)."""
    return case.own.subset(torch.arange(min(settings.replay, len(case.own))))


def fit_head(
    weight: Tensor, bias: Tensor, clean: Tensor, failures: Tensor, clean_labels: Tensor, failure_labels: Tensor, *, decay: float = 0.02
) -> tuple[Tensor, Tensor]:
    """The linear layer (K,D), (K,) that minimizes mean cross-entropy on features of clean images (N,D) plus that of failures (B,D).

    decay: of the squared distance from the given layer, in units of the mean squared feature. Convex: accelerated steps (Nesterov) under
    the bound of the Hessian of Boehning (1992), which is the same for every class, until the gradient is small.
    """
    weight, bias, clean, failures = (value.cpu().double() for value in (weight, bias, clean, failures))
    unit = clean.square().mean().sqrt().clamp(min=1e-6)  # features of any size meet the same problem
    x = torch.cat([clean, failures])
    logits, x = x @ weight.T + bias, F.pad(x / unit, (0, 1), value=1.0)
    target = F.one_hot(torch.cat([clean_labels, failure_labels]), len(weight)).double()
    share = torch.cat([torch.full((len(part),), 1 / len(part), dtype=torch.float64) for part in (clean, failures)])[:, None]
    bound = torch.linalg.cholesky(0.5 * x.T @ (share * x) + 2 * decay * torch.eye(x.shape[1], dtype=torch.float64))
    change = previous = torch.zeros(len(weight), x.shape[1], dtype=torch.float64)
    for step in range(STEPS):
        ahead = change + step / (step + 3) * (change - previous)
        gradient = (share * ((logits + x @ ahead.T).softmax(1) - target)).T @ x + 2 * decay * ahead
        if float(gradient.abs().max()) < TOLERANCE:
            break
        previous, change = change, ahead - torch.cholesky_solve(gradient.T, bound).T
    return (weight + change[:, :-1] / unit).float(), (bias + change[:, -1]).float()


def interpolated(old: nn.Module, new: nn.Module, share: float) -> nn.Module:
    """(1 - share) of the old weights and statistics and `share` of the new ones (Wortsman et al. 2022)."""
    found, before, after = copy.deepcopy(old), old.state_dict(), new.state_dict()
    mixed = {name: value.lerp(after[name].to(value), share) if value.is_floating_point() else value for name, value in before.items()}
    found.load_state_dict(mixed)
    return found.eval()


def _trained(network: nn.Module, training: LabeledImages, case: Case, settings: Settings, *, n_labeled: int) -> nn.Module:
    """Trained with half of each batch from the first `n_labeled` images, then interpolated: the largest share of the new weights that
    costs at most `keep` points on clean images of yours."""
    new, size = copy.deepcopy(network), settings.batch_size
    epochs = -(-settings.steps // max(1, -(-2 * n_labeled // size)))
    own = {"crop_padding": training.images.shape[-1] // 8, "weight_decay": 1e-4, "grad_clip": 5.0, "schedule": "linear"}
    recipe = Recipe(epochs, size, settings.lr, **own)
    train(new, training, recipe, seed=settings.seed, n_labeled=n_labeled, device=next(network.parameters()).device)
    check = _checked(case, settings)
    before = evaluate(network, check)
    for share in SHARES:
        found = interpolated(network, new, share)
        if 100 * (before - evaluate(found, check)) <= settings.keep:
            return found
    raise NotApplicable(f"every share of the new weights costs more than {settings.keep:g} points on clean images of yours")


def _checked(case: Case, settings: Settings) -> LabeledImages:
    """Clean images of yours that were not trained on; if there are none, those that were."""
    rest = case.own.subset(torch.arange(settings.replay, len(case.own))) if len(case.own) > settings.replay else case.own
    return rest.subset(torch.arange(min(CHECKED, len(rest))))


def _has_batch_norm(network: nn.Module) -> None:
    from rtalib.training.test_time import batch_norms

    with _or_not_applicable():
        batch_norms(network)


def _features(network: nn.Module, data: LabeledImages) -> Tensor:
    with _or_not_applicable():
        return extract_features(network, data.images)


@contextmanager
def _or_not_applicable() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise NotApplicable(str(error).removeprefix("network: ")) from error


def _last_layer(network: nn.Module) -> nn.Linear:
    layer = None if getattr(network, "tapped", None) else getattr(network, "classifier", None)  # tapped: features are another layer's
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        raise NotApplicable("its last layer is not linear with a bias")
    return layer
