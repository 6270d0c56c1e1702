"""Shared by all attacks: put the model in eval mode and restore it, validate inputs, and warn about common mistakes.

Warnings, and errors that usually have the same cause, name the section of docs/attacks.md that explains them.
"""

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from rtalib.errors import check_index, check_number
from rtalib.models.inference import evaluating

PAGE = "docs/attacks.md"
ENOUGH = 50  # images: with fewer, an accuracy at chance level may be an accident


class AttackWarning(UserWarning):
    """A known mistake in using an attack; the text names a section of docs/attacks.md."""


def warn(section: str, text: str) -> None:
    """Warn at the line outside this package that called the attack."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(("rtalib.", "contextlib")):
        frame, level = frame.f_back, level + 1
    warnings.warn(f"{text} See {PAGE}#{section}.", AttackWarning, stacklevel=level)


def warn_if_training(model: nn.Module) -> None:
    """Warn that a model with BatchNorm or dropout is in train mode: attacks run in eval mode."""
    if any(module.training for module in model.modules() if isinstance(module, _BatchNorm | _DropoutNd)):
        warn("train-mode", f"model: {type(model).__name__} is in train mode; it is attacked in eval mode, so call model.eval() first.")


def warn_if_flat(gradient: Tensor) -> None:
    """Warn if many gradients are zero: saturated losses underflow, and sign steps cannot follow."""
    flat = (gradient.flatten(1) == 0).all(1).float().mean().item()
    if flat > 0.1:
        text = f"{flat:.0%} of the images have a zero gradient everywhere: the loss is saturated; the margin on logits does not saturate."
        warn("vanishing-gradients", text)


def warn_if_chance(model: nn.Module, logits: Tensor, labels: Tensor) -> None:
    """Warn if the accuracy before the attack is that of guessing, within 1.5 standard errors, and no part is known to normalize."""
    count, chance = logits.shape
    chance = 1 / chance
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    guessing = abs(accuracy - chance) <= 1.5 * (chance * (1 - chance) / count) ** 0.5
    if count >= ENOUGH and guessing and not _normalizes(model):
        text = (
            f"model: right on {accuracy:.0%} of {count} clean images, as if guessing. Does it normalize inside itself, and is it trained?"
        )
        warn("normalization", text)


def _normalizes(model: nn.Module) -> bool:
    """Whether a part of the model, or a method of one, is called Normalize or normalise, as in every network of this library."""
    names = {name for module in model.modules() for name in (type(module).__name__, *dir(type(module)), *module._modules)}
    return any(re.fullmatch(r"_?normali[sz]e(r|ation)?", name, re.IGNORECASE) for name in names)


@contextmanager
def attackable(model: nn.Module) -> Iterator[None]:
    """Eval mode, frozen parameters and no autocast inside; modes and requires_grad are restored on exit, also after an error."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    for name, parameter in model.named_parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            advice = f"for speed give attacks.prepared(model, 'bfloat16'), see {PAGE}#fast-mode"
            raise TypeError(f"model: expected float32 or float64 parameters, {name} is {parameter.dtype}; {advice}")
    warn_if_training(model)
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


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Finite logits (N,K) with K >= 2; raises on anything else."""
    logits = model(x)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"model: expected logits of shape ({len(x)}, K) with K >= 2 in eval mode, got {got}")
    if not logits.isfinite().all():
        raise ValueError("model: its logits contain NaN or infinity, so no gradient can be followed")
    return logits


def checked(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor | None) -> tuple[int, Tensor]:
    """(K, index); raises on images outside float [0,1], labels outside 0..K-1 or lengths that differ."""
    _check_images(images)
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        got = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"labels: expected int64 ({len(images)},), got {got}; for soft labels give LabeledImages.hard_labels")
    index = check_index(index, len(images), images.device)
    parameter = next(model.parameters(), None)
    for name, device in (("images", images.device), ("labels", labels.device)):
        if parameter is not None and parameter.device != device:
            raise ValueError(f"{name}: expected on the model's device {parameter.device}, got {device}")
    with torch.no_grad():
        classes = logits_of(model, images[:1]).shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels: expected 0 to {classes - 1} (the model has {classes} logits), got {labels.min()} to {labels.max()}")
    return classes, index


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or images.dtype not in (torch.float32, torch.float64):
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images: expected float32 or float64 in [0,1], got {got}; divide uint8 by 255, or give it to attacks.attack")
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images: expected a non-empty (N,C,H,W), got {tuple(images.shape)}")
    low, high = images.min().item(), images.max().item()
    if not (low >= 0 and high <= 1):
        advice = f"divide uint8 by 255, and let the model normalize inside itself, see {PAGE}#inputs-out-of-range"
        raise ValueError(f"images: expected values in [0,1], got {low:g} to {high:g}; {advice}")


def check_recipe(recipe: object, at_least_one: tuple[str, ...] = (), largest: float = 1.0) -> None:
    """Raise unless eps is in [0, largest], a step size finite and not negative, and each of `at_least_one` a positive integer."""
    check_number("eps", recipe.eps, 0, largest, unit=" in units of [0,1] pixels (8/255, not 8)")
    if getattr(recipe, "step_size", None) is not None:
        check_number("step_size", recipe.step_size, unit=" in units of [0,1] pixels")
    for name in at_least_one:
        check_number(name, getattr(recipe, name), 1, integer=True)
