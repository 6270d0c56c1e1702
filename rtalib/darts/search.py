"""Differentiable architecture search: architecture parameters by validation loss, weights by training loss, in turns."""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from rtalib import checkpoints, rng
from rtalib.batches import pixels
from rtalib.darts import select
from rtalib.darts.genotype import Genotype
from rtalib.darts.space import Space, get_space
from rtalib.darts.supernet import Supernet
from rtalib.data import LabeledImages
from rtalib.errors import unknown
from rtalib.models.base import seeded

METHODS = ("darts",)
ORDERS = (1,)
CROP_PADDING = 4


@dataclass(frozen=True)
class SearchResult:
    """`genotype` of the last epoch; `trace`, a flat dict per epoch; `state`, the supernet's tensors (CPU), for another search's `init`."""

    genotype: Genotype
    trace: list[dict]
    state: dict[str, torch.Tensor]


@dataclass(frozen=True)
class _Config:
    """What must be equal for a checkpoint to be continued."""

    method: str
    order: int
    space: str
    channels: int
    layers: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    lr: float
    lr_min: float
    momentum: float
    weight_decay: float
    arch_lr: float
    arch_weight_decay: float
    grad_clip: float
    seed: int
    init: str
    train: str
    val: str


def draw_batch(data: LabeledImages, size: int, *, seed: int, epoch: int, step: int, stream: str) -> tuple[torch.Tensor, torch.Tensor]:
    """`size` images drawn with replacement, randomly cropped after padding by 4 and flipped: float32 (B,3,H,W) in [0,1], labels (B,).

    Depends on (seed, epoch, step, stream) alone, so a search that resumes sees what it would have seen.
    """
    device = data.images.device
    position = (epoch << 32) + step * size + torch.arange(size)
    words = rng.words(seed, position, rng.stream("darts-search", stream), 4)
    sides = torch.tensor([len(data), 2 * CROP_PADDING + 1, 2 * CROP_PADDING + 1, 2])
    pick, top, left, flip = ((words * sides) >> 32).to(device).unbind(dim=1)
    images = F.pad(data.images[pick], (CROP_PADDING,) * 4)
    height, width = data.images.shape[-2:]
    rows = top[:, None] + torch.arange(height, device=device)
    columns = left[:, None] + torch.arange(width, device=device)
    columns = torch.where(flip[:, None].bool(), columns.flip(1), columns)
    batch = torch.arange(size, device=device)[:, None, None]
    cropped = images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]  # (B,H,W,3)
    return pixels(cropped.permute(0, 3, 1, 2)), data.labels[pick]


class _Optimizers:
    """The two half-steps of a first-order search (Liu et al., section 2.3 with xi = 0), saved and loaded like one optimiser."""

    def __init__(self, supernet: Supernet, config: _Config):
        self.supernet, self.config = supernet, config
        self.weights, self.alphas = supernet.weight_parameters(), supernet.arch_parameters()
        self.sgd = torch.optim.SGD(self.weights, config.lr, config.momentum, weight_decay=config.weight_decay, foreach=True)
        self.adam = torch.optim.Adam(self.alphas, config.arch_lr, betas=(0.5, 0.999), weight_decay=config.arch_weight_decay)

    def _descend(self, optimizer: torch.optim.Optimizer, parameters: list, batch: tuple, clip: float | None) -> torch.Tensor:
        """One step on `parameters` alone: autograd is not asked for the others. Returns the loss, detached."""
        images, labels = batch
        loss = F.cross_entropy(self.supernet(images), labels)
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    def step(self, train_batch: tuple, val_batch: tuple) -> tuple[torch.Tensor, torch.Tensor]:
        """Architecture first, then weights; returns (training loss, validation loss)."""
        val_loss = self._descend(self.adam, self.alphas, val_batch, None)
        return self._descend(self.sgd, self.weights, train_batch, self.config.grad_clip), val_loss

    def state_dict(self) -> dict:
        return {"sgd": self.sgd.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.sgd.load_state_dict(state["sgd"])
        self.adam.load_state_dict(state["adam"])

    def set_lr(self, epoch: int) -> float:
        """Cosine from lr to lr_min over the epochs."""
        config = self.config
        lr = config.lr_min + (config.lr - config.lr_min) * (1 + math.cos(math.pi * epoch / config.epochs)) / 2
        for group in self.sgd.param_groups:
            group["lr"] = lr
        return lr


def search(
    train: LabeledImages,
    val: LabeledImages,
    method: str = "darts",
    *,
    space: str | Space = "darts",
    channels: int = 16,
    layers: int = 8,
    epochs: int = 50,
    steps_per_epoch: int | None = None,
    batch_size: int = 64,
    lr: float = 0.025,
    lr_min: float = 1e-3,
    momentum: float = 0.9,
    weight_decay: float = 3e-4,
    arch_lr: float = 3e-4,
    arch_weight_decay: float = 1e-3,
    grad_clip: float = 5.0,
    order: int = 1,
    init: dict[str, torch.Tensor] | None = None,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    device: torch.device | str | None = None,
    on_epoch: Callable[[dict], None] | None = None,
) -> SearchResult:
    """Search a cell with the weights trained on `train` and the architecture on `val`. Defaults are DARTS' on CIFAR-10.

    steps_per_epoch: default len(train) / batch_size, rounded up; batches are drawn with replacement.
    init: the `state` of an earlier search in the same space at the same size (warm start), or a part of it, e.g. the two alphas
        alone; optimisers and schedule start afresh.
    checkpoint: a file written after each epoch; if it exists, the search goes on from it and ends as if never interrupted.
    on_epoch: called with each new row of the trace: epoch, lr, train_loss, val_loss, entropy_normal and entropy_reduce (mean over
        edges, nats), skips_normal and skips_reduce (of the current genotype), genotype, seconds.

    Raises ValueError for an unknown method, order or space, data sets of different classes, counts below 1, an init or a
    checkpoint that does not fit, and a search that diverges.
    """
    if method not in METHODS:
        raise unknown("search method", method, METHODS)
    if order not in ORDERS:
        raise ValueError(f"order: available are {', '.join(map(str, ORDERS))} (first order), got {order!r}")
    _check(train, val, epochs=epochs, batch_size=batch_size, steps_per_epoch=1 if steps_per_epoch is None else steps_per_epoch)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    steps = -(-len(train) // batch_size) if steps_per_epoch is None else steps_per_epoch
    config = _Config(
        method, order, str(get_space(space)), channels, layers, epochs, steps, batch_size, lr, lr_min, momentum, weight_decay,
        arch_lr, arch_weight_decay, grad_clip, seed, _digest(init), train.digest, val.digest,
    )  # fmt: skip
    supernet = _make_supernet(get_space(space), channels, layers, train.num_classes, seed, init).to(device)
    optimizers = _Optimizers(supernet, config)
    resumable = checkpoint is not None and Path(checkpoint).exists()
    trace = checkpoints.load(checkpoint, supernet, optimizers, vars(config)) if resumable else []
    train, val = train.to(device), val.to(device)
    for epoch in range(len(trace), epochs):
        trace.append(_epoch(optimizers, train, val, epoch))
        if checkpoint is not None:
            checkpoints.save(checkpoint, supernet, optimizers, trace, vars(config))
        if on_epoch is not None:
            on_epoch(trace[-1])
    state = {name: tensor.detach().cpu().clone() for name, tensor in supernet.state_dict().items()}
    return SearchResult(_genotype(supernet), trace, state)


def _check(train: LabeledImages, val: LabeledImages, **counts: int) -> None:
    if train.classes != val.classes:
        raise ValueError(f"val: expected the classes of train, {train.classes}, got {val.classes}")
    for argument, value in counts.items():
        if value < 1:
            raise ValueError(f"{argument}: expected at least 1, got {value}")


def _make_supernet(space: Space, channels: int, layers: int, num_classes: int, seed: int, init: dict | None) -> Supernet:
    supernet = seeded(lambda: Supernet(space, channels, layers, num_classes), seed)
    own = supernet.state_dict()
    for name, tensor in (init or {}).items():
        if name not in own:
            raise ValueError(f"init: {name!r} is no tensor of this supernet; expected the state of a search of the same space and size")
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"init: {name!r} has shape {tuple(tensor.shape)}, expected {tuple(own[name].shape)} (same space, channels, layers)"
            )
    supernet.load_state_dict(init or {}, strict=False)
    return supernet.to(memory_format=torch.channels_last)


def _digest(init: dict[str, torch.Tensor] | None) -> str:
    """16 hex digits of the SHA-256 over names and values; empty for a cold start."""
    if init is None:
        return ""
    state = hashlib.sha256()
    for name in sorted(init):
        state.update(name.encode())
        state.update(init[name].detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def _epoch(optimizers: _Optimizers, train: LabeledImages, val: LabeledImages, epoch: int) -> dict:
    config, supernet = optimizers.config, optimizers.supernet
    started, lr = time.perf_counter(), optimizers.set_lr(epoch)
    losses = torch.zeros(2, device=train.images.device)
    for step in range(config.steps_per_epoch):
        batches = [
            draw_batch(data, config.batch_size, seed=config.seed, epoch=epoch, step=step, stream=name)
            for data, name in ((train, "train"), (val, "val"))
        ]
        losses += torch.stack(optimizers.step(*batches))
    train_loss, val_loss = (losses / config.steps_per_epoch).tolist()
    if not math.isfinite(train_loss + val_loss):
        raise ValueError(
            f"the search diverged in epoch {epoch} (loss {train_loss}, {val_loss}): lower lr={config.lr} or arch_lr={config.arch_lr}"
        )
    genotype = _genotype(supernet)
    return {
        "epoch": epoch,
        "lr": lr,
        "train_loss": train_loss,
        "val_loss": val_loss,
        "entropy_normal": _entropy(supernet.alphas_normal),
        "entropy_reduce": _entropy(supernet.alphas_reduce),
        "skips_normal": genotype.skips("normal"),
        "skips_reduce": genotype.skips("reduce"),
        "genotype": str(genotype),
        "seconds": time.perf_counter() - started,
    }


def _genotype(supernet: Supernet) -> Genotype:
    return select.magnitude(supernet.alphas_normal, supernet.alphas_reduce, supernet.space)


def _entropy(alphas: torch.Tensor) -> float:
    """Mean entropy of the mixing weights of an edge, in nats: log(K) when nothing is decided, 0 when everything is."""
    log_weights = alphas.detach().double().log_softmax(dim=1)
    return float(-(log_weights.exp() * log_weights).sum(dim=1).mean())
