"""What the tests of attacks share: a small network, a batch for it, one recipe of every kind, and a gradient by plain autograd."""

import pytest
import torch
from torch import nn

from rtalib import attacks

EPS, STEP = 8 / 255, 2 / 255
N, K, SIDE = 24, 10, 8


class Net(nn.Module):
    """Small, smooth, with batch norm (so that train and eval mode differ) and a frozen part; `sharpness` scales the logits."""

    def __init__(self, sharpness: float = 8.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.Tanh(), nn.Conv2d(12, 12, 3, stride=2), nn.Tanh())
        self.head = nn.Linear(12 * 3 * 3, K)
        self.sharpness = sharpness

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sharpness * self.head(self.body(x - 0.5).flatten(1))


def net(sharpness: float = 8.0, dtype: torch.dtype = torch.float64) -> Net:
    torch.manual_seed(0)
    return Net(sharpness).to(dtype).eval()


def batch(dtype: torch.dtype = torch.float64, n: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 pictures as floats, labels that the network gets right for all but every fifth image."""
    images = torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1)).to(dtype) / 255
    labels = net(dtype=dtype)(images).argmax(1).detach()
    labels[::5] = (labels[::5] + 1) % K
    return images, labels


RECIPES = {
    "fgsm": attacks.FGSM(),
    "bim": attacks.BIM(steps=4),
    "bim-stop": attacks.BIM(step_size=0.5 / 255, steps=5, stop_on_success=True),
    "mi-fgsm": attacks.MIFGSM(steps=4),
    "pgd": attacks.PGD(steps=3, restarts=2),
    "pgd-dlr": attacks.PGD(steps=3, loss="dlr"),
    "pgd-stop": attacks.PGD(eps=3 / 255, step_size=0.5 / 255, steps=3, restarts=3, stop_on_success=True),
    "pgd-l2": attacks.PGDL2(steps=4),
    "pgd-l2-stop": attacks.PGDL2(steps=4, step_size=0.05, restarts=2, stop_on_success=True),
    "odi-pgd": attacks.ODIPGD(steps=3, restarts=2),
    "odi-bim": attacks.odi_bim_recipe("author", restarts=3),
    "odi-bim-low": attacks.odi_bim_recipe("author", restarts=2, low_logits=True),
    "odi-bim-logits": attacks.odi_bim_recipe("logits", restarts=2, steps=3),
}
every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


def reference_gradient(model: nn.Module, x: torch.Tensor, loss) -> torch.Tensor:
    x = x.clone().requires_grad_()
    loss(model(x)).backward()
    model.zero_grad(set_to_none=True)
    return x.grad


def clip(x: torch.Tensor, clean: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    return torch.max(torch.min(x, clean + eps), clean - eps).clamp(0, 1)


def distance(x: torch.Tensor, clean: torch.Tensor, norm: str) -> torch.Tensor:
    """(N,) in the unit of the arguments."""
    return (x.double() - clean.double()).flatten(1).norm(dim=1, p=2 if norm == "l2" else float("inf"))
