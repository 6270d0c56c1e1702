"""Goals of training: C11, C12, G5 to G7. The plain loop is what one writes from PyTorch's tutorials."""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.goals import data
from benchmarks.goals.loader import plain_loader
from benchmarks.timing import Unmeasured, duel, solo
from rtalib.data.images import LabeledImages
from rtalib.models import build, seeded
from rtalib.models.inference import evaluate
from rtalib.training.batches import Batches
from rtalib.training.loop import train
from rtalib.training.recipes import RECIPES, Recipe

Epoch = Callable[[int], Iterable[tuple[torch.Tensor, torch.Tensor]]]


def plain_training(model: nn.Module, epoch_of: Epoch, steps: int, recipe: Recipe, device: str) -> None:
    """SGD in float32 (TF32 on a GPU) and PyTorch's default memory format, with the recipe's learning rates and smoothing."""
    torch.set_float32_matmul_precision("high")
    model.to(device=device, memory_format=torch.contiguous_format).train()
    options = {"momentum": recipe.momentum, "nesterov": recipe.nesterov, "weight_decay": recipe.weight_decay}
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, **options)
    for epoch in range(recipe.epochs):
        for step, (x, y) in enumerate(epoch_of(epoch)):
            optimizer.param_groups[0]["lr"] = recipe.learning_rate(epoch, step, steps)
            loss = F.cross_entropy(model(x.to(device).contiguous()), y.to(device), label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()


def small_steps(*, network: str, images: int, batch: int, seeds: int, train_images: int, epochs: int, rounds: int, device: str) -> dict:
    """How many times as fast `train` is as the plain loop on the same batches; accuracy within a point of it, over seeds, trained long."""
    recipe, found = replace(RECIPES["fast"], epochs=1, batch_size=batch), data.best("train", images)
    row = duel(
        lambda: train(seeded(lambda: build(network), 0), found, recipe, device=device),
        lambda: _plainly(seeded(lambda: build(network), 0), found, recipe, 0, device),
        rounds=rounds,
        device=device,
    )
    return row | accuracy_gap(network=network, images=train_images, epochs=epochs, seeds=seeds, device=device)


def _plainly(model: nn.Module, found: LabeledImages, recipe: Recipe, seed: int, device: str) -> nn.Module:
    batches = Batches(found.images, found.labels, recipe, torch.device(device))
    plain_training(model, lambda epoch: batches.epoch(seed, epoch), len(batches), recipe, device)
    return model


def accuracy_gap(*, network: str, images: int, epochs: int, seeds: int, device: str) -> dict:
    """Accuracy of both, from the same weights and batches: is the mean difference within a point?"""
    recipe, found, test = replace(RECIPES["fast"], epochs=epochs), data.best("train", images), data.best("test", 5000)
    ours, plain = [], []
    for seed in range(seeds):
        model = seeded(lambda: build(network), seed)
        train(model, found, recipe, seed=seed, device=device)
        ours.append(100 * evaluate(model, test))
        plain.append(100 * evaluate(_plainly(seeded(lambda: build(network), seed), found, recipe, seed, device), test))
    gap = statistics.mean(ours) - statistics.mean(plain)
    text = f"accuracy {statistics.mean(ours):.1f} and {statistics.mean(plain):.1f} % ({seeds} seeds, {images} images of {found.name})"
    return {"held": abs(gap) <= 1, "found": text}


def demo(
    *,
    images: int,
    epochs: int,
    recipe: str,
    network: str,
    report: str,
    most_seconds: float | None = None,
    test_images: int = 10_000,
    rounds: int,
    device: str,
) -> dict:
    """Training on CIFAR-10 with a recipe of ours. report: 'accuracy' in percent, to be reached in `most_seconds`, or 'seconds' (wall)."""
    found, test = data.cifar10("train", images), data.cifar10("test", test_images)
    model = seeded(lambda: build(network), 0)
    cpu, wall = time.process_time(), time.perf_counter()
    train(model, found, replace(RECIPES[recipe], epochs=epochs), device=device)
    seconds, cpu = time.perf_counter() - wall, time.process_time() - cpu
    accuracy = 100 * evaluate(model, test)
    row = {"value": accuracy if report == "accuracy" else seconds, "seconds": seconds, "cpu_seconds": cpu, "rounds": 1, "clock": "wall"}
    text = f"{accuracy:.1f} % in {seconds:.1f} s ({cpu:.1f} s of CPU), {network}, recipe {recipe}, {epochs} epochs"
    return row | {"found": text, "held": most_seconds is None or seconds <= most_seconds}


def against_loader(*, network: str, images: int, batch: int, workers: int, rounds: int, device: str) -> dict:
    """How many times as fast an epoch of `train` is as the plain loop with torchvision's transforms and a DataLoader."""
    found, recipe = data.best("train", images), Recipe(1, batch)
    loader = plain_loader(found.images, found.labels, batch, workers, pinned=device != "cpu")
    ours, plain = (seeded(lambda: build(network), 0) for _ in range(2))
    return duel(
        lambda: train(ours, found, recipe, device=device),
        lambda: plain_training(plain, lambda _: loader, len(loader), recipe, device),
        rounds=rounds,
        device=device,
        field="wall",
    )


def rate(*, network: str, images: int, batch: int, flop_per_image: float = 0.0, rounds: int, device: str) -> dict:
    """Images per second of an epoch of `train`; with flop_per_image TFLOP per second."""
    found, recipe, model = data.best("train", images), Recipe(1, batch), seeded(lambda: build(network), 0)
    row = solo(lambda: train(model, found, recipe, device=device), rounds, device)
    speed = len(found) / row["seconds"]
    return row | {"value": speed * flop_per_image / 1e12 if flop_per_image else speed, "lowest": None, "highest": None}


def beside_airbench(
    *, network: str, images: int, batch: int, flop_per_image: float, airbench_flop: float, rounds: int, device: str
) -> dict:
    """Our TFLOP per second over those of airbench96, whose whole training is `airbench_flop` and reads CIFAR-10 for itself."""
    import airbench

    row = rate(network=network, images=images, batch=batch, flop_per_image=flop_per_image, rounds=rounds, device=device)
    if not hasattr(airbench, "train96"):
        raise Unmeasured("this version of airbench has no train96")
    peer = solo(airbench.train96, 1, device)
    return row | {"value": row["value"] * 1e12 / (airbench_flop / peer["seconds"]), "peer_seconds": peer["seconds"]}
