"""Attacks on images at rest: uint8 images in and out with a record per image, several budgets, rounding that stays in the ball."""

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from rtalib.attacks.checks import attackable, logits_of
from rtalib.attacks.folding import FastModel
from rtalib.attacks.steps import EPS, Attack, AttackResult
from rtalib.data.images import LabeledImages, pixels
from rtalib.errors import check_images, check_index, unknown
from rtalib.models.inference import device_of, predict


def attack(
    recipe: Attack,
    model: nn.Module,
    data: LabeledImages | Tensor,
    labels: Tensor | None = None,
    *,
    index: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    name: str | None = None,
) -> AttackResult:
    """Attack images at rest: uint8 (N,3,H,W) in, a result with uint8 (N,3,H,W) out, on the device of the input.

    data: LabeledImages, or uint8 images with int64 `labels` (N,). Results are rounded and kept inside the ball as integers (see quantize),
    and `success` is measured on these bytes, of a prepared model with the exact one behind it. index: int64 (N,), each image's random
    stream, default 0..N-1. batch_size: default 128 on the CPU, where larger batches fall out of its cache, and 1024 elsewhere. name: of
    the model in the result, default its class.
    """
    images, labels = _at_rest(data, labels)
    index, device, parts = check_index(index, len(images)), device_of(model), []
    exact = model.exact if isinstance(model, FastModel) else model
    if isinstance(data, LabeledImages):
        _check_width(model, data)
    for at in torch.arange(len(images)).split(batch_size or (128 if device.type == "cpu" else 1024)):
        clean, truth = images[at].to(device, memory_format=torch.channels_last), labels[at].to(device)
        result = recipe.record(model, clean.float() / 255, truth, index=index[at], seed=seed)
        stored = quantize(result.images, clean, recipe.eps, recipe.norm)
        fooled = predict(exact, stored).argmax(1).to(device) != truth
        parts.append((stored, fooled, result.restarts, result.gradients))
    stored, *facts = (torch.cat(column).to(images.device) for column in zip(*parts, strict=True))
    return AttackResult(stored.contiguous(), *facts, name or type(exact).__name__)


def _at_rest(data: LabeledImages | Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    if isinstance(data, LabeledImages):
        if labels is not None:
            raise ValueError("labels: LabeledImages bring their own, so expected none")
        return data.images, data.hard_labels
    check_images(data, "data")
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != data.shape[:1] or not len(data):
        got = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"labels: expected int64 ({len(data)},), one for each of at least one image, got {got}")
    return data, labels


def _check_width(model: nn.Module, data: LabeledImages) -> None:
    with attackable(model), torch.no_grad():
        width = logits_of(model, pixels(data.images[:1]).to(device_of(model))).shape[1]
    if width != data.num_classes:
        raise ValueError(f"model: it returns {width} logits, but the data has {data.num_classes} classes")


def with_eps(recipe: Attack, eps: float) -> Attack:
    """The recipe at another radius, its step size changed in proportion."""
    if getattr(recipe, "step_size", None) is None or recipe.eps == 0:
        return replace(recipe, eps=eps)
    return replace(recipe, eps=eps, step_size=recipe.step_size * eps / recipe.eps)


def sweep(
    recipe: Attack,
    budgets: Iterable[float],
    model: nn.Module,
    data: LabeledImages | Tensor,
    labels: Tensor | None = None,
    *,
    index: Tensor | None = None,
    seed: int = 0,
) -> list[AttackResult]:
    """One result per radius in `budgets`, in their order: `recipe` at that eps, its step size in proportion (see with_eps).

    data: float images in [0,1] with labels, as a recipe takes them, or images at rest, as `attack` takes them.
    """
    recipes = [with_eps(recipe, eps) for eps in budgets]
    if not recipes:
        raise ValueError("budgets: expected at least one radius, got none")
    if isinstance(data, Tensor) and data.is_floating_point():
        return [one.record(model, data, labels, index=index, seed=seed) for one in recipes]
    return [attack(one, model, data, labels, index=index, seed=seed) for one in recipes]


def quantize(adversarial: Tensor, clean: Tensor, eps: float = EPS, norm: str = "linf") -> Tensor:
    """`adversarial` (float in [0,1]) as uint8, rounded to nearest and kept within eps of `clean`, the uint8 image that was attacked.

    norm 'linf': clipped to clean +- floor(255 eps) gray levels; truncation instead of rounding would leave the ball (9 levels at 8/255).
    'l2', images (N,...): as many of the values that rounding moved away from the clean image as needed are rounded towards it.
    """
    if clean.dtype != torch.uint8 or not adversarial.is_floating_point() or clean.shape != adversarial.shape:
        got = f"{adversarial.dtype} {tuple(adversarial.shape)} and {clean.dtype} {tuple(clean.shape)}"
        raise ValueError(f"quantize: expected float adversarial and uint8 clean of one shape, got {got}")
    if norm == "l2":
        moved = _round_inside_l2((adversarial.double() * 255 - clean).flatten(1), 255 * eps).view_as(clean)
        return (clean + moved).clamp_(0, 255).to(torch.uint8)
    if norm != "linf":
        raise unknown("norm", norm, ("linf", "l2"))
    radius = math.floor(255 * eps + 1e-6)
    center = clean.short()
    levels = (adversarial * 255).round().short()
    return torch.clamp(levels, center - radius, center + radius).clamp_(0, 255).to(torch.uint8)


def _round_inside_l2(delta: Tensor, radius: float) -> Tensor:
    """Whole numbers near `delta` (N,D) of norm at most `radius`: the values that rounding increased most are rounded back first."""
    delta = delta * (radius / delta.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)
    away, inward = delta.round(), delta.trunc()
    order = (away.abs() - delta.abs()).argsort(dim=1, descending=True)
    saved = (away.square() - inward.square()).gather(1, order)
    surplus = away.square().sum(1, keepdim=True) - radius**2
    back = torch.zeros_like(order, dtype=torch.bool).scatter(1, order, saved.cumsum(1) - saved < surplus)
    return torch.where(back, inward, away)
