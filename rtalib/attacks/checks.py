"""Shared by all attacks: put the model in eval mode and restore it, validate inputs, and warn about common mistakes.

Warnings, and errors that usually have the same cause, name the section of docs/attacks.md that explains them.
"""

import math
import random
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from rtalib import rng
from rtalib.errors import as_tensor, check_index, check_integers, check_kind, check_number
from rtalib.models.adapt import logits_in
from rtalib.models.inference import evaluating

PAGE = "docs/attacks.md"
ENOUGH = 50  # images: with fewer, an accuracy at chance level may be an accident
ROUNDING = 1e-5  # by which images may leave [0,1]: a normalization done and undone leaves 1e-7
RANDOM, MIXED = 1e-4, 2e-2  # least relative difference of logits; another batch size may round otherwise, in bfloat16 by 4e-3
PER_IMAGE = ("eps", "step_size")  # fields of a recipe that may hold one number per image
SOFT = "; for soft labels give LabeledImages.hard_labels"


class AttackWarning(UserWarning):
    """A known mistake in using an attack; the text names a section of docs/attacks.md."""


def warn(section: str, text: str) -> None:
    """Warn at the line outside this package that called the attack."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(("rtalib.", "contextlib")):
        frame, level = frame.f_back, level + 1
    warnings.warn(f"{text} See {PAGE}#{section}.", AttackWarning, stacklevel=level)


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
def attackable(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Eval mode, frozen parameters, gradients but no autocast, and torch's generators from `seed` inside.

    On exit, also after an error, modes, requires_grad, buffers and generators are as they were.
    """
    flags = [(parameter, parameter.requires_grad) for _, parameter in _parameters(model)]
    devices = sorted({"cpu", *(parameter.device.type for parameter, _ in flags)})
    if any(module.training for module in model.modules() if isinstance(module, _BatchNorm | _DropoutNd)):
        warn("train-mode", f"model: {type(model).__name__} is in train mode; it is attacked in eval mode, so call model.eval() first.")
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            stack.enter_context(evaluating(model))
            stack.enter_context(rng.global_seed(rng.word(seed, 0, rng.stream("attacked model")), flags[0][0].device if flags else "cpu"))
            for kind in devices:
                stack.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The named parameters; TypeError or ValueError for those through which no gradient can be followed."""
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    named = list(model.named_parameters())
    for name, parameter in named:
        if isinstance(parameter, nn.UninitializedParameter):
            raise ValueError(f"model: {name} has no shape yet; call the model on an image first")
        if parameter.is_inference():
            raise ValueError(f"model: {name} was made in torch.inference_mode, so no gradient passes it; give copy.deepcopy(model)")
        if parameter.dtype in (torch.float16, torch.bfloat16):
            advice = f"for speed give attacks.prepared(model, 'bfloat16'), see {PAGE}#fast-mode"
            raise TypeError(f"model: expected float32 or float64 parameters, {name} is {parameter.dtype}; {advice}")
    return named


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Finite logits (N,K) with K >= 2; raises on anything else. The model gets a copy, because it may normalize in place."""
    logits = logits_in(model(x.clone()), x, argument="model")
    if logits.shape[1] < 2:
        raise ValueError(f"model: expected logits of shape ({len(x)}, K) with K >= 2 in eval mode, got {tuple(logits.shape)}")
    if not logits.isfinite().all():
        raise ValueError("model: its logits contain NaN or infinity, so no gradient can be followed")
    return logits


@dataclass(frozen=True)
class Answers:
    """How a model answers: its number of classes, whether an image's logits depend on its batch, and whether they are random."""

    classes: int
    mixed: bool
    random: bool


def answers_of(model: nn.Module, images: Tensor) -> Answers:
    """Asks about one image, then about two; warns about a model that mixes the images of a batch or answers at random."""
    mixed = any(isinstance(module, _BatchNorm) and module.running_mean is None for module in model.modules())
    drawn = generator_states(images.device)
    with torch.no_grad():
        first = logits_of(model, images if mixed else images[:1])
        pair = first if mixed else logits_of(model, images[:2])
        drawn = drawn != generator_states(images.device)
        if drawn or _differ(first[:1], pair[:1], MIXED):  # asked about the same images once more, a model that mixes says the same
            drawn = drawn or _differ(first, logits_of(model, images[: len(first)]), RANDOM)
            mixed = mixed or not drawn
    name = type(model).__name__
    if mixed:
        warn("batch-statistics", f"model: {name} mixes the images of a batch, so an image's result depends on its batch.")
    if drawn:
        warn("random-models", f"model: {name} draws random numbers in eval mode, so an image that fools it once need not fool it again.")
    return Answers(first.shape[1], mixed, drawn)


def generator_states(device: torch.device) -> tuple[bytes, ...]:
    """Of the generators from which a model may draw: torch's, Python's and NumPy's."""
    states = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
    _, keys, *position = np.random.get_state()
    return (*(state.numpy().tobytes() for state in states), repr((random.getstate(), position)).encode(), keys.tobytes())


def _differ(a: Tensor, b: Tensor, share: float) -> bool:
    """Whether logits differ by more than a share of the largest."""
    return bool((a - b).abs().max() > share * a.abs().max())


def checked(recipe: object, model: nn.Module, images: object, labels: object, index: object) -> tuple[Tensor, Tensor, Tensor, Answers]:
    """(images, labels, index, answers); raises on images outside float [0,1], labels outside 0..K-1 and lengths that differ."""
    images = checked_images(images)
    labels = check_integers("labels", labels, len(images), labels.device if isinstance(labels, Tensor) else images.device, SOFT)
    index = check_index(index, len(images), images.device)
    check_lengths(recipe, len(images))
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    for name, device in (("images", images.device), ("labels", labels.device)):
        if parameter is not None and parameter.device != device:
            raise ValueError(f"{name}: expected on the model's device {parameter.device}, got {device}")
    try:
        answers = answers_of(model, images)
    except RuntimeError as error:
        if parameter is None or parameter.dtype == images.dtype:
            raise
        raise TypeError(f"images: expected {parameter.dtype} like the model's parameters, got {images.dtype}") from error
    if labels.min() < 0 or labels.max() >= answers.classes:
        wanted = f"0 to {answers.classes - 1} (the model has {answers.classes} logits)"
        raise ValueError(f"labels: expected {wanted}, got {labels.min()} to {labels.max()}")
    return images, labels, index, answers


def checked_images(images: object) -> Tensor:
    """Float images without a graph, clamped to [0,1] where rounding left it."""
    advice = "divide uint8 by 255, or give it to attacks.attack"
    images = as_tensor(images, "images", "float32 or float64 (N,C,H,W) in [0,1]").detach()
    if images.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"images: expected float32 or float64 in [0,1], got {images.dtype}; {advice}")
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"images: expected a non-empty (N,C,H,W), got {tuple(images.shape)}")
    low, high = images.min().item(), images.max().item()
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        advice = f"divide uint8 by 255, and let the model normalize inside itself, see {PAGE}#inputs-out-of-range"
        raise ValueError(f"images: expected values in [0,1], got {low:g} to {high:g}; {advice}")
    return images.clamp(0, 1) if low < 0 or high > 1 or images.is_inference() else images


def per_image(value: object) -> object:
    """One number as it is; one per image, as a tensor, an array or a list, as a tuple: recipes are compared and hashed."""
    value = value.tolist() if isinstance(value, Tensor | np.ndarray | np.generic) else value
    return tuple(value) if isinstance(value, list) else value


def check_lengths(recipe: object, count: int) -> None:
    """Raise unless each number per image of a recipe is there for `count` images."""
    for name in PER_IMAGE:
        value = getattr(recipe, name, None)
        if isinstance(value, tuple) and len(value) != count:
            raise ValueError(f"{name}: expected one number, or {count} (one per image), got {len(value)}")


def check_recipe(recipe: object, at_least_one: tuple[str, ...] = (), largest: float = 1.0) -> None:
    """Raise unless eps is in [0, largest], a step size finite and not negative, each of `at_least_one` a positive integer, and each
    switch True or False."""
    units = {"eps": (largest, " in units of [0,1] pixels (8/255, not 8)"), "step_size": (math.inf, " in units of [0,1] pixels")}
    for name, (most, unit) in units.items():
        value = per_image(getattr(recipe, name, None))
        if value is None and name != "eps":
            continue
        for one in value if isinstance(value, tuple) else (value,):
            check_number(name, one, 0, most, unit=unit)
        object.__setattr__(recipe, name, value)
    for name in at_least_one:
        check_number(name, getattr(recipe, name), 1, integer=True)
    for field in fields(recipe):
        if field.type is bool:
            check_kind(field.name, getattr(recipe, field.name), (bool, np.bool_), "True or False")
