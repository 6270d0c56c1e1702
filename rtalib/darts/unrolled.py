"""Second-order architecture gradients (DARTS, Liu et al., ICLR 2019, section 2.3, equations 6 to 8), without a copy of the model.

Equation 8's differences assume a smooth training loss. ReLUs and max pooling give it kinks, which dominate over steps of 0.01: at initial
weights, the differences miss the exact term by several times its size (C=4, L=3 and C=8, L=5), and at C=16, L=8 with 64 images of 32x32
steps of 0.01 and 0.02 give terms whose cosine is 0.6. 'exact' has no step; it keeps the graph of one gradient in memory instead.
"""

from collections.abc import Callable

import torch

Loss = Callable[[dict[str, torch.Tensor]], torch.Tensor]  # weights by name -> scalar; architecture parameters enter by themselves
SCALE = 0.01  # footnote 2: epsilon = 0.01 / |v|
TERMS = ("differences", "exact")


@torch.no_grad()
def virtual_step(
    weights: list[torch.Tensor],
    gradients: list[torch.Tensor],
    momenta: list[torch.Tensor] | None,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> list[torch.Tensor]:
    """The weights w' after one SGD step, new leaves: w - lr * (momentum * m + gradient + weight_decay * w).

    momenta: the optimiser's buffers m, None before its first step, which has none. Gradients are not clipped.
    """
    step = torch._foreach_add(gradients, weights, alpha=weight_decay)
    if momenta is not None:
        torch._foreach_add_(step, momenta, alpha=momentum)
    return [stepped.requires_grad_() for stepped in torch._foreach_add(weights, step, alpha=-lr)]


def unrolled_gradient(
    train_loss: Loss,
    val_loss: Loss,
    weights: dict[str, torch.Tensor],
    alphas: list[torch.Tensor],
    *,
    lr: float,
    momentum: float = 0.0,
    momenta: list[torch.Tensor] | None = None,
    weight_decay: float = 0.0,
    term: str = "differences",
    scale: float = SCALE,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Gradient by the architecture of the validation loss after one virtual weight step w' (see `virtual_step`).

    dL_val(w', a)/da - lr * d/da (dL_train(w, a)/dw . v) with v = dL_val(w', a)/dw'. The second term is, by `term`,
    'differences': (dL_train(w+, a)/da - dL_train(w-, a)/da) / (2 eps) with w+- = w +- eps v and eps = scale / |v|, equation 8: four
        forward and backward passes in all. Dividing by 2 and then multiplying by eps would scale the term by eps squared.
    'exact': by differentiating twice; two forward passes, whose first keeps the graph of its gradient.

    All passes start from the present state of torch's global generators and leave it as it is: with other random numbers (noise, drop
    path) for w+ than for w-, the difference would be one of draws. Weights and alphas stay as they are. `weights`: leaves that require
    gradients. Returns the gradients in the order of `alphas` (zero for one that no loss depends on) and the validation loss.
    """
    leaves = list(weights.values())
    devices = sorted({leaf.device.index for leaf in leaves if leaf.is_cuda})

    def gradients(
        loss: Loss, at: list[torch.Tensor], by: list[torch.Tensor], graph: bool = False
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        with torch.random.fork_rng(devices):
            value = loss(dict(zip(weights, at, strict=True)))
        return list(torch.autograd.grad(value, by, create_graph=graph, materialize_grads=True)), value.detach()

    inner = gradients(train_loss, leaves, leaves, graph=term == "exact")[0]
    stepped = virtual_step(leaves, [gradient.detach() for gradient in inner], momenta, lr, momentum, weight_decay)
    outer, value = gradients(val_loss, stepped, [*alphas, *stepped])
    outer, direction = outer[: len(alphas)], outer[len(alphas) :]
    if term == "exact":
        second = torch.autograd.grad(inner, alphas, direction, materialize_grads=True)
    else:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(direction)))
        epsilon = scale / norm.clamp_min(1e-30)  # where v is zero, so is the term
        shift = [epsilon * part for part in direction]
        plus, minus = (
            gradients(train_loss, [leaf.detach() + sign * part for leaf, part in zip(leaves, shift, strict=True)], alphas)[0]
            for sign in (1, -1)
        )
        second = [(p - m) / (2 * epsilon) for p, m in zip(plus, minus, strict=True)]
    return [first - lr * part for first, part in zip(outer, second, strict=True)], value
