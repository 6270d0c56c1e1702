"""What every attack is made of: losses, the input gradient, the projection, the random start, and the checks of what came in."""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtalib import rng
from rtalib.inference import evaluating

EPS = 8 / 255
STEP = 2 / 255


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) -log p_y."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(scores: Tensor, labels: Tensor) -> Tensor:
    """(N,) best wrong score minus the true one (Carlini and Wagner 2017); positive means misclassified."""
    own = scores.gather(1, labels[:, None]).squeeze(1)
    return scores.scatter(1, labels[:, None], -math.inf).amax(1) - own


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) margin over the gap between the largest and the third largest logit (Croce and Hein 2020); needs K >= 3."""
    if logits.shape[1] < 3:
        raise ValueError(f"loss 'dlr' needs at least 3 classes, the model has {logits.shape[1]}")
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + 1e-12)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}


@contextmanager
def attackable(model: nn.Module) -> Iterator[None]:
    """Eval mode, frozen parameters and no autocast inside; every mode and requires_grad is restored on exit, also after an error."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with ExitStack() as stack:
            stack.enter_context(evaluating(model))
            for kind in {"cpu", *(parameter.device.type for parameter, _ in flags)}:
                stack.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def project(x: Tensor, clean: Tensor, eps: float) -> Tensor:
    """The nearest point of [clean - eps, clean + eps] and [0,1], per pixel."""
    return torch.clamp(x, clean - eps, clean + eps).clamp_(0, 1)


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    logits = model(x)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"model: expected logits of shape ({len(x)}, K) in eval mode, got {got}")
    if not logits.isfinite().all():
        raise ValueError("model: its logits contain NaN or infinity, so no gradient can be followed")
    return logits


def input_gradient(model: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """(logits, gradient of the summed loss with respect to x), both without graph."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = logits_of(model, x)
        total = loss(logits).sum()
    if not total.requires_grad:
        raise ValueError("model: its logits carry no gradient to the input (detached or under no_grad)")
    return logits.detach(), torch.autograd.grad(total, x)[0]


def warn_if_flat(gradient: Tensor) -> None:
    """Saturated losses underflow to zero gradients, which sign steps cannot follow."""
    flat = (gradient.flatten(1) == 0).all(1).float().mean().item()
    if flat > 0.1:
        advice = "the loss is saturated; the margin on logits does not saturate"
        warnings.warn(f"{flat:.0%} of the images have a zero gradient everywhere: {advice}", stacklevel=2)


def checked(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor | None) -> tuple[int, Tensor]:
    """(K, index); raises on images outside float [0,1], labels outside 0..K-1 or lengths that differ."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images: expected a float tensor in [0,1], got {got}; divide uint8 by 255")
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images: expected a non-empty (N,C,H,W), got {tuple(images.shape)}")
    low, high = images.min().item(), images.max().item()
    if not (low >= 0 and high <= 1):
        advice = "divide uint8 by 255, and let the model normalise inside itself"
        raise ValueError(f"images: expected values in [0,1], got {low:g} to {high:g}; {advice}")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        got = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(f"labels: expected int64 ({len(images)},), got {got}; for soft labels give LabeledImages.hard_labels")
    index = torch.arange(len(images), device=images.device) if index is None else index.to(images.device)
    if index.dtype != torch.int64 or index.shape != labels.shape:
        raise ValueError(f"index: expected int64 ({len(images)},), got {index.dtype} {tuple(index.shape)}")
    parameter = next(model.parameters(), None)
    if parameter is not None and parameter.device != images.device:
        raise ValueError(f"images: expected on the model's device {parameter.device}, got {images.device}")
    with torch.no_grad():
        classes = logits_of(model, images[:1]).shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels: expected 0 to {classes - 1} (the model has {classes} logits), got {labels.min()} to {labels.max()}")
    return classes, index


def check_numbers(recipe: object, at_least_one: tuple[str, ...] = ()) -> None:
    eps = recipe.eps
    if not 0 <= eps <= 1:
        raise ValueError(f"eps: expected a radius in [0,1] pixel units (8/255, not 8), got {eps}")
    for name in at_least_one:
        if getattr(recipe, name) < 1:
            raise ValueError(f"{name}: expected at least 1, got {getattr(recipe, name)}")


def ball(seed: int, index: Tensor, restart: int, clean: Tensor, eps: float) -> Tensor:
    """A uniform point of the L-infinity ball around each clean image, from the image's own random stream."""
    noise = rng.uniform(seed, index, rng.stream("attack start", restart), clean[0].numel())
    return project(clean + eps * (2 * noise - 1).to(clean.dtype).view_as(clean), clean, eps)
