"""Attacks on images at rest: uint8 images in and out with a record per image, several budgets, rounding that stays in the ball."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from rtalib import rng
from rtalib.attacks.checks import attackable, check_lengths, check_recipe, logits_of, per_image
from rtalib.attacks.folding import FastModel
from rtalib.attacks.memory import MEASURED, images_at_once
from rtalib.attacks.steps import EPS, JUDGED, Attack, AttackResult, share_of
from rtalib.data.images import LabeledImages, pixels
from rtalib.errors import as_tensor, check_images, check_index, check_integers, check_kind, check_name, check_number
from rtalib.models.inference import device_of, in_its_channels, predict

RECIPE = "a recipe such as attacks.PGD()"


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

    data: LabeledImages, or uint8 images with int64 `labels` (N,), also as arrays. Gray images, (N,1,H,W) or of three equal channels, are
    attacked as one channel if the first layer of the model takes one, and as RGB if not. A targeted recipe needs `labels`, the classes to
    be reached, in either case. Results are rounded and kept inside the ball as integers (see quantize), and `success` is measured on these
    bytes, of a prepared model with the exact one behind it, and of one that answers at random by JUDGED calls. index: int64 (N,), each
    image's random stream, default 0..N-1. batch_size: default as many images as memory bears, at most 128 on the CPU and 1024 elsewhere
    (see images_at_once). name: of the model in the result, default its class.
    """
    check_kind("recipe", recipe, Attack, RECIPE)
    given, labels = _at_rest(recipe, data, labels)
    index, device, parts = check_index(index, len(given)), device_of(model), []
    images = in_its_channels(model, given)
    exact = model.exact if isinstance(model, FastModel) else model
    if isinstance(data, LabeledImages):
        _check_width(model, images, data.num_classes)
    check_lengths(recipe, len(images))
    if batch_size is None:
        batch_size = images_at_once(model, images[:MEASURED].to(device).float() / 255)
    check_number("batch_size", batch_size, 1, integer=True)
    for at in torch.arange(len(images)).split(int(batch_size)):
        clean, truth = images[at].to(device, memory_format=torch.channels_last), labels[at].to(device)
        part = recipe.part(at)
        result = part.record(model, clean.float() / 255, truth, index=index[at], seed=seed)
        stored = quantize(result.images, clean, part.eps, part.norm)
        parts.append((stored, _share(part, exact, stored, truth, result, seed), result.restarts, result.gradients))
    stored, share, *facts = (torch.cat(column).to(images.device) for column in zip(*parts, strict=True))
    if isinstance(data, LabeledImages):
        stored = stored.expand_as(given)
    return AttackResult(stored.contiguous(), share > 0.5, *facts, name or type(exact).__name__, None if result.share is None else share)


def _share(recipe: Attack, model: nn.Module, stored: Tensor, labels: Tensor, result: AttackResult, seed: int) -> Tensor:
    """float64 (N,): the share of calls in which the stored images succeed; one call decides if the model is not random."""
    with rng.global_seed(seed, labels.device):
        calls = 1 if result.share is None else JUDGED
        return share_of(lambda: (predict(model, stored).argmax(1).to(labels.device) == labels) == recipe.targeted, calls)


def _at_rest(recipe: Attack, data: object, labels: object) -> tuple[Tensor, Tensor]:
    if isinstance(data, LabeledImages):
        if recipe.targeted:
            return data.images, check_integers("labels", labels, len(data), hint="; a targeted recipe needs the classes to be reached")
        if labels is not None:
            raise ValueError("labels: LabeledImages bring their own, so expected none")
        return data.images, data.hard_labels
    images = check_images(data, "data")
    if not len(images):
        raise ValueError("data: expected at least one image, got none")
    return images, check_integers("labels", labels, len(images))


def _check_width(model: nn.Module, images: Tensor, classes: int) -> None:
    with attackable(model), torch.no_grad():
        width = logits_of(model, pixels(images[:MEASURED]).to(device_of(model))).shape[1]
    if width != classes:
        raise ValueError(f"model: it returns {width} logits, but the data has {classes} classes")


def with_eps(recipe: Attack, eps: float | tuple[float, ...]) -> Attack:
    """The recipe at another radius, one for all images or one for each, its step size changed in proportion."""
    check_kind("recipe", recipe, Attack, RECIPE)
    eps, step = per_image(eps), getattr(recipe, "step_size", None)
    if isinstance(recipe.eps, tuple) or isinstance(step, tuple):
        raise ValueError("recipe: expected one eps and one step size for all images, got one per image")
    if step is None or recipe.eps == 0:
        return replace(recipe, eps=eps)
    check_recipe(replace(recipe, eps=eps))
    ratio = tuple(step * one / recipe.eps for one in eps) if isinstance(eps, tuple) else step * eps / recipe.eps
    return replace(recipe, eps=eps, step_size=ratio)


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
    budgets = budgets.tolist() if isinstance(budgets, Tensor | np.ndarray) else budgets
    if isinstance(budgets, str) or not isinstance(budgets, Iterable):
        raise TypeError(f"budgets: expected several radii, as [2 / 255, 8 / 255], got {budgets!r}")
    recipes = [with_eps(recipe, eps) for eps in budgets]
    if not recipes:
        raise ValueError("budgets: expected at least one radius, got none")
    if not isinstance(data, LabeledImages) and as_tensor(data, "data", "images, or LabeledImages").is_floating_point():
        return [one.record(model, data, labels, index=index, seed=seed) for one in recipes]
    return [attack(one, model, data, labels, index=index, seed=seed) for one in recipes]


def quantize(adversarial: Tensor, clean: Tensor, eps: float | tuple[float, ...] = EPS, norm: str = "linf") -> Tensor:
    """`adversarial` (float in [0,1]) as uint8, rounded to nearest and kept within eps of `clean`, the uint8 image that was attacked.

    norm 'linf': clipped to clean +- floor(255 eps) gray levels; truncation instead of rounding would leave the ball (9 levels at 8/255).
    'l2', images (N,...): as many of the values that rounding moved away from the clean image as needed are rounded towards it.
    eps: one for all images, or one for each.
    """
    adversarial, clean = as_tensor(adversarial, "adversarial", "float images").detach(), as_tensor(clean, "clean", "uint8 images")
    if clean.dtype != torch.uint8 or not adversarial.is_floating_point() or clean.shape != adversarial.shape:
        got = f"{adversarial.dtype} {tuple(adversarial.shape)} and {clean.dtype} {tuple(clean.shape)}"
        raise ValueError(f"quantize: expected float adversarial and uint8 clean of one shape, got {got}")
    check_name("norm", norm, ("linf", "l2"))
    eps = per_image(eps)
    for one in eps if isinstance(eps, tuple) else (eps,):
        check_number("eps", one, unit=" in units of [0,1] pixels")
    if isinstance(eps, tuple) and len(eps) != len(clean):
        raise ValueError(f"eps: expected one number, or {len(clean)} (one per image), got {len(eps)}")
    levels = 255 * torch.tensor(eps, dtype=torch.float64, device=clean.device).view(-1, *[1] * (clean.ndim - 1))
    if norm == "l2":
        moved = _round_inside_l2((adversarial.double() * 255 - clean).flatten(1), levels.flatten(1)).view_as(clean)
        return (clean + moved).clamp_(0, 255).to(torch.uint8)
    radius = (levels + 1e-6).floor().short()
    center = clean.short()
    rounded = (adversarial * 255).round().short()
    return torch.clamp(rounded, center - radius, center + radius).clamp_(0, 255).to(torch.uint8)


def _round_inside_l2(delta: Tensor, radius: Tensor) -> Tensor:
    """Whole numbers near `delta` (N,D) of norm at most `radius`, (N,1) or (1,1): what rounding increased most is rounded back first."""
    delta = delta * (radius / delta.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)
    away, inward = delta.round(), delta.trunc()
    order = (away.abs() - delta.abs()).argsort(dim=1, descending=True)
    saved = (away.square() - inward.square()).gather(1, order)
    surplus = away.square().sum(1, keepdim=True) - radius**2
    back = torch.zeros_like(order, dtype=torch.bool).scatter(1, order, saved.cumsum(1) - saved < surplus)
    return torch.where(back, inward, away)
