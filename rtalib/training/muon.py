"""Muon: steps of equal size in all directions of a filter bank (Jordan et al. 2024; the settings are near airbench94_muon's)."""

import torch
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan 2024: steep at 0, for few steps; values near 1 stay within 0.7 and 1.2


def orthogonalize(gradient: Tensor, steps: int = 3) -> Tensor:
    """Nearly U V^T of the singular value decomposition of `gradient` seen as a matrix (first dimension, all others); the same shape.

    A Newton-Schulz iteration maps each singular value s to s (a + b s^2 + c s^4), `steps` times, from a matrix of Frobenius norm 1.
    """
    x = gradient.flatten(1)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    a, b, c = QUINTIC
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).reshape(gradient.shape)


class Muon(torch.optim.SGD):
    """SGD in which convolutions take orthogonalized steps and keep rows of mean square norm 1; one learning-rate schedule for all.

    Convolutions step by `lr`, with `momentum`; BatchNorm, biases and the classifier step by lr / 4, with momentum 0.85 and weight decay.
    Each convolution needs a BatchNorm behind it, so that the network does not depend on the norm of the filters.
    """

    def __init__(self, model: nn.Module, lr: float, momentum: float, weight_decay: float):
        trained = [p for p in model.parameters() if p.requires_grad]
        filters = {"params": [p for p in trained if p.ndim == 4], "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "lr_scale": 1.0}
        others = {"params": [p for p in trained if p.ndim != 4], "momentum": 0.85, "nesterov": True, "lr_scale": 0.25}
        super().__init__([filters, others], lr, weight_decay=weight_decay, fused=True)
        self.filter_momentum = momentum

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for p in self.param_groups[0]["params"]:
            if p.grad is None:
                continue
            velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
            velocity.mul_(self.filter_momentum).add_(p.grad)
            p.mul_(len(p) ** 0.5 / p.norm())
            p.grad.copy_(orthogonalize(p.grad + self.filter_momentum * velocity))
        super().step(closure)
