"""RobustDARTS (Zela et al., ICLR 2020): early stopping by the curvature of the validation loss, and DARTS-ADA.

A search that is about to collapse runs into ever sharper minima: the largest eigenvalue of the validation loss's Hessian by the
architecture grows. The original builds the whole matrix, row by row, and calls a solver for general real matrices; the matrix is symmetric
and has negative eigenvalues, and "largest" means the algebraic maximum.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rtalib.darts.batches import draw_batches
from rtalib.data.images import LabeledImages
from rtalib.errors import check_name, check_number

if TYPE_CHECKING:
    from rtalib.darts.steps import Steps


@dataclass(frozen=True)
class Eigenvalue:
    """value: the estimate; error: a bound on its distance to the nearest eigenvalue (0: exact); products: Hessian-vector products taken."""

    value: float
    error: float
    products: int


class Hessian:
    """The Hessian (n,n) of a scalar `loss`, with its graph, by `parameters` of n numbers in all; one forward pass serves all products."""

    def __init__(self, loss: torch.Tensor, parameters: list[torch.Tensor]):
        self.parameters = parameters
        self.gradient = self._flat(torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True))
        self.size = len(self.gradient)

    @staticmethod
    def _flat(parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return torch.cat([part.reshape(-1) for part in parts])

    def product(self, vector: torch.Tensor) -> torch.Tensor:
        """H v for v (n,): one backward pass."""
        return self._flat(torch.autograd.grad(self.gradient, self.parameters, vector, retain_graph=True, materialize_grads=True))

    def dense(self) -> torch.Tensor:
        """The matrix (n,n), row by row in n backward passes: the oracle, for tests and small spaces."""
        return torch.stack([self.product(row) for row in torch.eye(self.size, dtype=self.gradient.dtype, device=self.gradient.device)])


def dense_eigenvalue(hessian: Hessian) -> Eigenvalue:
    """The largest eigenvalue from the whole matrix."""
    matrix = hessian.dense().double()
    return Eigenvalue(float(torch.linalg.eigvalsh((matrix + matrix.T) / 2)[-1]), 0.0, hessian.size)


def lanczos_eigenvalue(hessian: Hessian, *, tolerance: float = 1e-3, most: int | None = None, seed: int = 0) -> Eigenvalue:
    """The largest eigenvalue from Hessian-vector products alone (Lanczos 1950, with full reorthogonalisation, in float64).

    Ends when the residual bounds the error by tolerance * max(|largest|, |smallest|) of the matrix so far, at an invariant subspace, or
    after `most` products (default: n). The start is a random direction that `seed` decides.
    """
    most = hessian.size if most is None else most
    if most < 1 or tolerance <= 0:
        raise ValueError(f"most, tolerance: expected at least 1 and above 0, got {most} and {tolerance}")
    start = torch.randn(hessian.size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    basis, diagonal, beside = [start / start.norm()], [], []
    while True:
        vector = hessian.product(basis[-1].to(hessian.gradient)).double().cpu()
        diagonal.append(float(vector @ basis[-1]))
        known = torch.stack(basis)
        for _ in range(2):  # once is not enough in finite precision
            vector = vector - known.T @ (known @ vector)
        rest = float(vector.norm())
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, beside))
        error, scale = rest * abs(float(vectors[-1, -1])), float(values.abs().max())
        if len(diagonal) >= min(most, hessian.size) or error <= tolerance * scale or rest <= 1e-12 * scale:
            return Eigenvalue(float(values[-1]), error, len(diagonal))
        beside.append(rest)
        basis.append(vector / rest)


def _tridiagonal(diagonal: list[float], beside: list[float]) -> torch.Tensor:
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    for i, value in enumerate(beside):
        matrix[i, i + 1] = matrix[i + 1, i] = value
    return matrix


EIGENVALUES = {"lanczos": lanczos_eigenvalue, "dense": dense_eigenvalue}


@dataclass(frozen=True)
class Curvature:
    """How the largest eigenvalue of the validation loss's Hessian by the architecture is measured (Zela et al., ICLR 2020).

    every: epochs between two measurements; the last epoch is measured, too. images: on how many, in one batch (published: 64, which is
    noisy: neighboring measurements differ twofold). solver: 'lanczos' or 'dense'. The architecture's weight decay is added.
    """

    every: int = 2
    images: int = 64
    solver: str = "lanczos"

    def __post_init__(self):
        check_number("curvature.every", self.every, 1, integer=True)
        check_number("curvature.images", self.images, 2, integer=True)
        check_name("solver", self.solver, EIGENVALUES)


@dataclass(frozen=True)
class StopRule:
    """When the eigenvalue has risen too fast: its average over `window` measurements is above `ratio` times that of `lag` before.

    centered: an average belongs to the middle one of its measurements, else to the last. The earlier one must belong to epoch `first` or
    later. An average over a window that begins before the search takes the measurements there are, at least three.
    """

    window: int = 5
    lag: int = 4
    ratio: float = 1.3
    first: int = 10
    centered: bool = True

    def __post_init__(self):
        for name, low in (("window", 1), ("lag", 1), ("first", 0)):
            check_number(f"stop.{name}", getattr(self, name), low, integer=True)
        check_number("stop.ratio", self.ratio, 1)

    @property
    def delay(self) -> int:
        """Measurements between the one that an average belongs to and the one that completes it."""
        return self.window // 2 if self.centered else 0


@dataclass(frozen=True)
class Adaptation:
    """DARTS-ADA (Zela et al., ICLR 2020): instead of stopping, roll back and multiply the weight decay by `factor`, up to `limit`."""

    factor: float = 10.0
    limit: float = 3e-2

    def __post_init__(self):
        check_number("adaptation.factor", self.factor, 1)
        check_number("adaptation.limit", self.limit, 0)


LEAST = 3  # measurements in an average


@dataclass(frozen=True)
class Stop:
    """epoch: the measurement that triggered; back_to: the epoch whose architecture is returned; ratio: of the two averages."""

    epoch: int
    back_to: int
    ratio: float


def averages(values: Sequence[float], rule: StopRule) -> dict[int, float]:
    """Moving averages by the position of the measurement that each belongs to."""
    found = {}
    for last in range(len(values)):
        window = values[max(0, last - rule.window + 1) : last + 1]
        if len(window) >= min(LEAST, rule.window) and last >= rule.delay:
            found[last - rule.delay] = sum(window) / len(window)
    return found


def early_stop(epochs: Sequence[int], eigenvalues: Sequence[float], rule: StopRule) -> Stop | None:
    """The first time that the smoothed eigenvalue has risen too fast, or None.

    epochs: of the measurements, ascending, counted from 0; eigenvalues: one for each. A trigger needs averages above 0: the ratio of
    others says nothing. ValueError for lists of different lengths, epochs that do not ascend, or eigenvalues that are not finite.
    """
    if len(epochs) != len(eigenvalues) or list(epochs) != sorted(set(epochs)):
        raise ValueError(f"epochs: expected ascending epochs, one for each of {len(eigenvalues)} eigenvalues, got {list(epochs)}")
    if not torch.tensor(eigenvalues, dtype=torch.float64).isfinite().all():
        raise ValueError(f"eigenvalues: expected finite numbers, got {list(eigenvalues)}")
    smooth = averages(eigenvalues, rule)
    for now in sorted(smooth):
        before = now - rule.lag
        if before in smooth and epochs[before] >= rule.first and smooth[before] > 0 and smooth[now] / smooth[before] > rule.ratio:
            return Stop(epochs[now + rule.delay], epochs[before], smooth[now] / smooth[before])
    return None


def eigenvalue(steps: "Steps", val: LabeledImages, curvature: Curvature, *, seed: int, epoch: int) -> dict:
    """Row entries: the largest eigenvalue on a batch of `val`, the architecture's weight decay added, and the bound on its error."""
    batch = next(draw_batches(val, curvature.images, 1, seed=seed, epoch=epoch, stream="eigenvalue"))
    found = EIGENVALUES[curvature.solver](Hessian(steps.loss(batch), steps.alphas))
    return {"eigenvalue": found.value + steps.settings.arch_weight_decay, "eigenvalue_error": found.error}


def look(steps: "Steps", val: LabeledImages, watch: "Watch | None", *, seed: int, epoch: int) -> tuple[dict, "tuple[Stop, bool] | None"]:
    """After an epoch: row entries of the eigenvalue, if it is to be measured, and what the stop rule has triggered (see Watch.after)."""
    curvature = steps.settings.curvature
    if curvature is None or (epoch % curvature.every and epoch + 1 != steps.settings.total_epochs):
        return {}, None
    found = eigenvalue(steps, val, curvature, seed=seed, epoch=epoch)
    return found, watch.after(steps, epoch, found["eigenvalue"]) if watch else None


class Watch:
    """The measurements since the last roll-back, and the states of the epochs that may be rolled back to."""

    def __init__(self, rule: StopRule, adaptation: Adaptation | None):
        self.rule, self.adaptation = rule, adaptation
        self.eigenvalues: dict[int, float] = {}
        self.snapshots: dict[int, dict] = {}

    def state_dict(self) -> dict:
        return {"eigenvalues": self.eigenvalues, "snapshots": self.snapshots}

    def load_state_dict(self, state: dict) -> None:
        self.eigenvalues, self.snapshots = state["eigenvalues"], state["snapshots"]

    def after(self, steps: "Steps", epoch: int, value: float) -> tuple[Stop, bool] | None:
        """Record a measurement; on a trigger restore the earlier epoch, and return the trigger and whether the search resumes there.

        It resumes under DARTS-ADA, with a larger weight decay, as long as that stays within the limit. Measurements under the old weight
        decay are then forgotten, except that of the epoch returned to.
        """
        self.eigenvalues[epoch] = value
        self.snapshots[epoch] = copy.deepcopy({"supernet": steps.supernet.state_dict(), "steps": steps.state_dict()})
        for old in sorted(self.snapshots)[: -(self.rule.delay + self.rule.lag + 1)]:
            del self.snapshots[old]
        stop = early_stop(list(self.eigenvalues), list(self.eigenvalues.values()), self.rule)
        if stop is None:
            return None
        group = steps.sgd.param_groups[0]
        weight_decay = group["weight_decay"] * self.adaptation.factor if self.adaptation else None
        snapshot = self.snapshots[stop.back_to]
        steps.supernet.load_state_dict(snapshot["supernet"])
        steps.load_state_dict(copy.deepcopy(snapshot["steps"]))
        if weight_decay is None or weight_decay > self.adaptation.limit * (1 + 1e-9):  # 3e-4 * 10 * 10 is 3e-2 but for rounding
            return stop, False
        steps.sgd.param_groups[0]["weight_decay"] = weight_decay
        self.eigenvalues = {stop.back_to: self.eigenvalues[stop.back_to]}
        self.snapshots = {stop.back_to: snapshot}
        return stop, True
