"""A tiny double-precision network, a batch and the two steps of an attack, written out for the tests of the robust objectives."""

import torch
from torch import nn

EPS, STEP = 8 / 255, 2 / 255
N, K, SIDE = 16, 5, 6


def net(sharpness: float = 5.0, head: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    features = 8 * (SIDE - 2) ** 2
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Tanh(), nn.Flatten(), head or nn.Linear(features, K)]
    model = nn.Sequential(*layers).double()
    if head is None:
        model[-1].weight.data *= sharpness
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(N, 3, SIDE, SIDE, generator=generator).double(), torch.randint(0, K, (N,), generator=generator)


class FloatLogits(nn.Module):
    """The objectives compute losses in float32; so must the reference."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x).float()


def inside(x: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    return torch.max(torch.min(x, clean + EPS), clean - EPS).clamp(0, 1)


def ascend(model: nn.Module, x: torch.Tensor, step_size: float, loss) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return x + step_size * torch.autograd.grad(loss(model(x)), x)[0].sign()


def uniform(x: torch.Tensor) -> torch.Tensor:
    """The random start of the objectives; draws from the global generator."""
    return inside(x + torch.empty_like(x).uniform_(-EPS, EPS), x)


def gradients(model: nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))
