"""Train a network on a LabeledImages by a Recipe; resumable, reproducible, data on the device."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from rtalib import rng
from rtalib.data.images import LabeledImages, smooth
from rtalib.errors import check_device, check_images, check_kind, check_number
from rtalib.models.base import Classifier, seen
from rtalib.models.inference import best_device, check_classes, predict
from rtalib.training import checkpoints, mixed
from rtalib.training.batches import Batches
from rtalib.training.captured import Captured
from rtalib.training.muon import Muon
from rtalib.training.recipes import Recipe, resolve_precision
from rtalib.training.validation import Validation

Objective = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


def train(
    model: nn.Module,
    data: LabeledImages,
    recipe: Recipe,
    *,
    seed: int = 0,
    objective: Objective | None = None,
    checkpoint: Path | str | None = None,
    checkpoint_every: int = 1,
    precision: str = "auto",
    device: torch.device | str | None = None,
    on_epoch: Callable[[nn.Module, dict], dict | None] | None = None,
    validation: Validation | None = None,
    n_labeled: int = 0,
) -> list[dict]:
    """Train `model` in place; returns one dict per epoch: epoch (from 1), loss (mean over images), lr (the last step's), seconds.

    The same model weights, data, recipe and seed give the same result bit for bit on the CPU, interrupted or not. The model moves to
    `device` and ends in eval mode; by default a model on the CPU moves to the GPU if there is one, and any other stays where it is. In
    train mode it may return (logits, auxiliary logits). An attribute `drop_path_prob` is set to recipe.drop_path * epoch / epochs.
    RTALIB_CAPTURE=1 replays the launches of a GPU's steps (captured.py), unless there is an `objective`.

    objective(model, x float32 (B,3,H,W) in [0,1], y (B,) or (B,K)) -> scalar loss replaces cross-entropy; it sees smoothed soft labels
        if the recipe smooths, and runs under autocast if precision is bf16. It may have a number `replays`, how many updates in a row
        are made with each batch, and start_epoch(epoch), which is called before each epoch (from 0).
    checkpoint: file written every `checkpoint_every` epochs and at the end; an existing one is resumed. ValueError if it was made with
        another recipe, seed, data or precision; if it cannot be read, it is set aside with a warning.
    precision: 'bf16' is autocast over float32 weights; 'auto' takes it if the device computes in it, else 'fp32'. Networks of many
        depthwise convolutions are faster in 'fp32' on a CPU. What mixed.unsafe names is computed in it in any case.
    on_epoch(model, row): called after each epoch, before its checkpoint. A dict that it returns joins the row (accuracies, say); an
        exception ends the training.
    validation: measured after each epoch, before on_epoch, as `validation` of the row; see Validation for keeping the best weights, and
        for ending early.
    n_labeled: above 0, each batch is half drawn from the first `n_labeled` images and half from the others; an epoch passes once over
        the first, and over as many of the others, drawn anew each time.

    Raises FloatingPointError if an epoch's loss is not finite (that epoch is not saved), ValueError or TypeError for bad data.
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    check_kind("data", data, LabeledImages, "LabeledImages")
    check_kind("recipe", recipe, Recipe, "a Recipe, as RECIPES[...] holds")
    check_kind("checkpoint", checkpoint, (str, Path, type(None)), "a file or None")
    check_kind("on_epoch", on_epoch, (Callable, type(None)), "a function or None")
    data = seen(data, model.side if isinstance(model, Classifier) else None)
    device = best_device(model) if device is None else check_device(device)
    model.to(device=device, memory_format=torch.channels_last)
    classes = _check(model, data, recipe, objective, checkpoint_every)
    precision = resolve_precision(precision, device)
    labels = smooth(data.labels, recipe.label_smoothing, classes) if recipe.label_smoothing > 0 else data.labels
    batches = Batches(data.images, labels, recipe, device, n_labeled)
    run = _Run(model, recipe, batches, _optimizer(model, recipe), objective or _cross_entropy(recipe), seed, precision)
    made_for = {"recipe": asdict(recipe), "seed": seed, "data": data.digest, "precision": precision} if checkpoint is not None else {}
    made_for |= {name: value for name, value in (("halves", n_labeled), ("keep_best", validation and validation.keep_best)) if value}
    optimizer, history, best = run.optimizer, [], None
    if checkpoint is not None and (history := checkpoints.load(checkpoint, model, optimizer, made_for)):
        best = checkpoints.best(checkpoint)
    for epoch in range(len(history), recipe.epochs):
        if history and history[-1].get("overfitted"):
            break
        history.append(_train_epoch(run, epoch, captured=objective is None))  # an objective may change from step to step
        if validation is not None:
            best = validation.measure(model, history, best)
        if on_epoch is not None:
            history[-1] |= on_epoch(model, history[-1]) or {}
        last = epoch + 1 == recipe.epochs or history[-1].get("overfitted")
        if checkpoint is not None and ((epoch + 1) % checkpoint_every == 0 or last):
            checkpoints.save(checkpoint, model, optimizer, history, made_for, best)
    if best is not None:
        model.load_state_dict(best)
    model.eval()
    return history


@dataclass(frozen=True)
class _Run:
    model: nn.Module
    recipe: Recipe
    batches: Batches
    optimizer: torch.optim.Optimizer
    objective: Objective
    seed: int
    precision: str

    def gradients(self, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor | None]:
        """The loss of a batch and the gradient of each parameter."""
        with mixed.autocast(x.device.type, self.precision, self.model):
            loss = self.objective(self.model, x, y)
        self.optimizer.zero_grad(set_to_none=True)  # after the objective: an attack inside it may have left gradients on the weights
        loss.backward()
        return [loss.detach(), *(parameter.grad for parameter in self.model.parameters())]


def _check(model: nn.Module, data: LabeledImages, recipe: Recipe, objective: Objective | None, checkpoint_every: int) -> int:
    """Raise on input that cannot be trained with; returns the model's number of classes K."""
    check_images(data.images, "data.images")
    if len(data.images) < 2:
        raise ValueError(f"data: expected at least 2 images to train on, got {len(data.images)}")
    check_number("checkpoint_every", checkpoint_every, 1, integer=True)
    if objective is not None and recipe.auxiliary_weight > 0:
        raise ValueError(f"recipe.auxiliary_weight={recipe.auxiliary_weight}: an objective computes the whole loss; set it to 0")
    if recipe.drop_path > 0 and not hasattr(model, "drop_path_prob"):
        raise ValueError(f"recipe.drop_path={recipe.drop_path}: {type(model).__name__} has no attribute drop_path_prob; set it to 0")
    classes = predict(model, data.images[:1]).shape[1]
    check_classes(data, classes)
    return classes


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    if recipe.muon:
        return Muon(model, recipe.lr, recipe.momentum, recipe.weight_decay)
    rates = {name: getattr(recipe, name) for name in ("lr", "momentum", "nesterov", "weight_decay")}
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], **rates, fused=True)


def _cross_entropy(recipe: Recipe) -> Objective:
    """Soft cross-entropy; for a soft label it is the released code's KL divergence plus a constant, with the same gradient."""

    def objective(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        logits = model(x)
        if not isinstance(logits, tuple):
            if recipe.auxiliary_weight > 0:
                raise ValueError(f"recipe.auxiliary_weight={recipe.auxiliary_weight}: the model returned no auxiliary logits; set it to 0")
            return F.cross_entropy(logits.float(), y)
        logits, auxiliary = logits
        return F.cross_entropy(logits.float(), y) + recipe.auxiliary_weight * F.cross_entropy(auxiliary.float(), y)

    return objective


def _train_epoch(run: _Run, epoch: int, captured: bool) -> dict:
    """One pass over the data; the only wait for the device is at its end."""
    recipe, device = run.recipe, run.batches.device
    if hasattr(run.model, "drop_path_prob"):
        run.model.drop_path_prob = recipe.drop_path * epoch / recipe.epochs
    if hasattr(run.objective, "start_epoch"):
        run.objective.start_epoch(epoch)
    run.model.train()
    replays = getattr(run.objective, "replays", 1)
    start, seen, total, lr = time.perf_counter(), 0, torch.zeros((), device=device), recipe.lr
    gradients = Captured(run.gradients, device) if captured else run.gradients
    with rng.global_seed(rng.word(run.seed, epoch, rng.stream("training", "global")), device):  # drop path, random starts
        updates = (batch for batch in run.batches.epoch(run.seed, epoch) for _ in range(replays))
        for step, (x, y) in enumerate(updates):
            lr = recipe.learning_rate(epoch, step, replays * len(run.batches))
            total += _update(run, lr, *gradients(x, y)) * len(x)
            seen += len(x)
    loss = total.item() / seen
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"training diverged: the loss is {loss} in epoch {epoch + 1} of {recipe.epochs} (lr {lr:.4g}, {run.precision}). "
            "Lower recipe.lr, set recipe.grad_clip, or check that the objective is finite."
        )
    return {"epoch": epoch + 1, "loss": loss, "lr": lr, "seconds": time.perf_counter() - start}


def _update(run: _Run, lr: float, loss: torch.Tensor, *gradients: torch.Tensor | None) -> torch.Tensor:
    for parameter, gradient in zip(run.model.parameters(), gradients, strict=True):
        parameter.grad = gradient
    for group in run.optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
    if run.recipe.grad_clip is not None:
        nn.utils.clip_grad_norm_(run.model.parameters(), run.recipe.grad_clip)
    run.optimizer.step()
    return loss
