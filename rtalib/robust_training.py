"""Adversarial training: objectives for training.train, each a factory of objective(model, x, y) -> scalar loss.

x is float32 NCHW in [0,1]; y is int64 (N,) or soft float32 (N,K). Inner steps take the gradient of the input alone, so no parameter
receives a .grad from them. Random starts come from torch's global generator, which the training loop seeds. eps and step sizes are in
pixel units.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtalib.attack_steps import EPS, STEP, project
from rtalib.inference import evaluating

Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    """float32 logits; an auxiliary head's, which some networks add in train mode, are left out."""
    logits = model(x)
    return (logits[0] if isinstance(logits, tuple) else logits).float()


def _climb(
    model: nn.Module, x: Tensor, start: Tensor, loss: Callable[[Tensor], Tensor], *, eps: float, step_size: float, steps: int
) -> Tensor:
    """From `start`, `steps` sign-gradient steps on the summed loss of the logits, inside the eps ball around x."""
    adversarial = start
    for _ in range(steps):
        adversarial = adversarial.detach().requires_grad_()
        with torch.enable_grad():
            value = loss(_logits(model, adversarial))
        gradient = torch.autograd.grad(value, adversarial)[0]
        adversarial = project(adversarial.detach() + step_size * gradient.sign(), x, eps)
    return adversarial.detach()


def smoothed(y: Tensor, rho: float, classes: int) -> Tensor:
    """1 - rho on the label and rho / (K-1) on every other class, float32 (N,K), from hard or soft y (Pang et al. 2021)."""
    soft = y if y.ndim == 2 else F.one_hot(y, classes).float()
    return soft * (1 - rho) + (1 - soft) * rho / (classes - 1)


def pgd_at(
    eps: float = EPS, step_size: float = STEP, steps: int = 10, *, label_smoothing: float = 0.0, crafting: str = "train"
) -> Objective:
    """PGD adversarial training (Madry et al. 2018): cross-entropy at the end point of PGD from a uniform random start.

    crafting: batch-norm mode of the inner steps: 'train' as Madry et al., 'eval' as the code of Pang et al. label_smoothing: rho of
    `smoothed`, for the outer loss only.
    """
    _check(eps, steps)
    if crafting not in ("train", "eval"):
        raise ValueError(f"crafting: expected 'train' or 'eval', got {crafting!r}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing: expected 0 <= rho < 1, got {label_smoothing}")

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        def attacked(logits: Tensor) -> Tensor:
            return F.cross_entropy(logits, y, reduction="sum")

        start = project(x + torch.empty_like(x).uniform_(-eps, eps), x, eps)
        with evaluating(model) if crafting == "eval" else nullcontext():
            found = _climb(model, x, start, attacked, eps=eps, step_size=step_size, steps=steps)
        logits = _logits(model, found)
        return F.cross_entropy(logits, smoothed(y, label_smoothing, logits.shape[1]) if label_smoothing else y)

    return objective


def fast_at(eps: float = EPS, alpha: float = 10 / 255) -> Objective:
    """Fast adversarial training (Wong et al. 2020): one step of `alpha` from a uniform random start, in train mode."""
    return pgd_at(eps, alpha, 1)


def trades(beta: float = 6.0, eps: float = EPS, step_size: float = 0.007, steps: int = 10) -> Objective:
    """TRADES (Zhang et al. 2019): CE(f(x), y) + beta KL(p(x) || p(x')), with x' maximising that KL.

    x' starts at x + 0.001 N(0,1) and is sought in eval mode. The paper's eps is 0.031; here it is 8/255 as everywhere.
    """
    _check(eps, steps)
    if beta < 0:
        raise ValueError(f"beta: expected at least 0, got {beta}")

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        start = project(x + 0.001 * torch.randn_like(x), x, eps)
        with evaluating(model):
            with torch.no_grad():
                target = _logits(model, x).log_softmax(1)
            found = _climb(model, x, start, lambda logits: _kl(target, logits), eps=eps, step_size=step_size, steps=steps)
        clean, adversarial = _logits(model, x), _logits(model, found)
        return F.cross_entropy(clean, y) + beta * _kl(clean.log_softmax(1), adversarial) / len(x)

    return objective


def _kl(log_p: Tensor, logits: Tensor) -> Tensor:
    """KL(p || softmax(logits)), summed over the batch; on logarithms, because p log p has no finite gradient where p underflows."""
    return F.kl_div(logits.log_softmax(1), log_p, reduction="sum", log_target=True)


def _check(eps: float, steps: int) -> None:
    if not 0 < eps <= 1:
        raise ValueError(f"eps: expected a radius in (0,1] pixel units (8/255, not 8), got {eps}")
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
