"""Differentiable architecture search: architecture parameters by validation loss, weights by training loss, in turns.

One loop serves all methods; they differ in their settings.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from rtalib import rng
from rtalib.darts import darts_pt, robust_darts, select
from rtalib.darts.batches import draw_batches
from rtalib.darts.choose import choose, numbered
from rtalib.darts.genotype import Genotype
from rtalib.darts.settings import Settings, settings_for
from rtalib.darts.space import get_space
from rtalib.darts.steps import Steps
from rtalib.darts.supernet.fused import FusedSupernet
from rtalib.darts.supernet.plain import ARCHITECTURE, Supernet
from rtalib.data.images import LabeledImages
from rtalib.errors import check_device, check_kind, check_number
from rtalib.infra.store import content_digest
from rtalib.models.base import seeded
from rtalib.training import checkpoints


@dataclass(frozen=True)
class SearchResult:
    """The `genotype` found; `trace`, a dict per epoch; `state`, the supernet's tensors (CPU), for another search's `init`.

    candidates: if the settings have a grid, one dict per search: weight_decay, drop_path, genotype, accuracy (in [0,1], after the short
    training by which one was chosen), chosen; genotype, trace and state are then those of the chosen search.
    """

    genotype: Genotype
    trace: list[dict]
    state: dict[str, torch.Tensor]
    candidates: tuple[dict, ...] = ()


def search(
    train: LabeledImages,
    val: LabeledImages,
    method: str = "darts",
    *,
    preset: str = "published",
    init: dict[str, torch.Tensor] | None = None,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    device: torch.device | str | None = None,
    on_epoch: Callable[[dict], None] | None = None,
    **changes: object,
) -> SearchResult:
    """Search a cell with the weights trained on `train` and the architecture on `val`.

    method: 'darts' (first order; second with order=2), 'pc-darts', 'darts-pt' or 'robust-darts'. preset: one of PRESETS[method].
    changes: fields of Settings that replace the preset's: space, channels, layers, epochs, steps_per_epoch, batch_size, lr, ...
    init: the `state` of an earlier search in the same space at the same size (warm start), or a part of it, e.g. the two alphas
        alone; optimizers and schedule start afresh, and a refinement preset has no warm-up.
    checkpoint: a file written after each epoch; if it exists, the search resumes from it and ends as if never interrupted. The searches
        of a grid have their own files next to it.
    on_epoch: called with each new row of the trace: epoch, lr, weight_decay, drop_path, train_loss, val_loss (None in epochs without
        architecture steps), entropy_normal and entropy_reduce (mean over edges, nats), skips_normal and skips_reduce (of the current
        genotype), genotype, alphas_normal and alphas_reduce (lists (14, operations)), seconds. Some methods add betas_normal and
        betas_reduce (lists (14,)), eigenvalue and eigenvalue_error, decisions, and rolled_back_to: the epoch from which the search
        resumed or, in the last row, whose architecture is the result. After rolling back, epochs repeat.

    Raises ValueError for an unknown method, preset or setting, settings out of range, data sets of different classes, an init or a
    checkpoint that does not fit, alphas that are not finite, and a search that diverges. TypeError for a setting that is no number.
    """
    for name, data in (("train", train), ("val", val)):
        check_kind(name, data, LabeledImages, "LabeledImages")
    check_kind("init", init, (dict, type(None)), "the state of a search, a dict of tensors, or None")
    check_kind("checkpoint", checkpoint, (str, Path, type(None)), "a file or None")
    check_kind("on_epoch", on_epoch, (Callable, type(None)), "a function or None")
    check_number("seed", seed, integer=True)
    seed, device = int(seed), check_device(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)
    settings = settings_for(method, preset, warm_start=init is not None, **changes)
    if train.classes != val.classes:
        raise ValueError(f"val: expected the classes of train, {train.classes}, got {val.classes}")
    common = {"init": init, "seed": seed, "device": device}
    checkpoint = None if checkpoint is None else Path(checkpoint)
    if not settings.grid:
        return _Search(train, val, method, settings, **common).run(checkpoint, on_epoch)
    points = [{"weight_decay": weight_decay, "drop_path": drop_path} for weight_decay, drop_path in settings.grid]
    searches = (_Search(train, val, method, replace(settings, **point, grid=()), **common) for point in points)
    results = [each.run(checkpoint and numbered(checkpoint, str(i)), on_epoch) for i, each in enumerate(searches)]
    own = {"seed": seed, "device": common["device"], "checkpoint": checkpoint}
    chosen, scores = choose([result.genotype for result in results], train, val, settings.choice, **own)
    found = [{"genotype": str(result.genotype), "accuracy": score} for result, score in zip(results, scores, strict=True)]
    candidates = tuple({**points[i], **found[i], "chosen": i == chosen} for i in range(len(points)))
    return replace(results[chosen], candidates=candidates)


class _Search:
    """One search: what is trained, its progress, and the loop; saved and loaded like one optimizer."""

    def __init__(
        self,
        train: LabeledImages,
        val: LabeledImages,
        method: str,
        settings: Settings,
        *,
        init: dict | None,
        seed: int,
        device: torch.device,
    ):
        self.settings, self.seed, self.device = settings, seed, device
        self.batches_per_epoch = settings.steps_per_epoch or -(-len(train) // settings.batch_size)
        self.made_for = {"method": method, **asdict(replace(settings, steps_per_epoch=self.batches_per_epoch))}
        self.made_for |= {"space": str(get_space(settings.space)), "seed": seed, "train": train.digest, "val": val.digest}
        self.made_for["init"] = content_digest(*(part for name in sorted(init) for part in (name, init[name]))) if init else ""
        self.supernet = _make_supernet(settings, train.num_classes, seed, init).to(device)
        self.steps = Steps(self.supernet, settings)
        self.watch = robust_darts.Watch(settings.stop, settings.adaptation) if settings.stop else None
        self.next_epoch, self.stopped = 0, False
        self.train, self.val = train.to(device), val.to(device)

    def run(self, checkpoint: Path | None, on_epoch: Callable[[dict], None] | None) -> SearchResult:
        rows = [] if checkpoint is None else checkpoints.load(checkpoint, self.supernet, self, self.made_for)
        while self.next_epoch < self.settings.total_epochs and not self.stopped:
            seed = rng.word(self.seed, self.next_epoch, rng.stream("darts-search", "global"))
            with rng.global_seed(seed, self.device):  # noise, drop path, random masks
                rows.append(self._epoch(self.next_epoch))
            if checkpoint is not None:
                checkpoints.save(checkpoint, self.supernet, self, rows, self.made_for)
            if on_epoch is not None:
                on_epoch(rows[-1])
        state = {name: tensor.detach().cpu().clone() for name, tensor in self.supernet.state_dict().items()}
        return SearchResult(current_genotype(self.supernet, self.steps.decisions), rows, state)

    def state_dict(self) -> dict:
        watch = {} if self.watch is None else {"watch": self.watch.state_dict()}
        return {"steps": self.steps.state_dict(), "next_epoch": self.next_epoch, "stopped": self.stopped, **watch}

    def load_state_dict(self, state: dict) -> None:
        self.steps.load_state_dict(state["steps"])
        self.next_epoch, self.stopped = state["next_epoch"], state["stopped"]
        if self.watch is not None:
            self.watch.load_state_dict(state["watch"])

    def _epoch(self, epoch: int) -> dict:
        started, lr = time.perf_counter(), self.steps.start_epoch(epoch)
        decisions = darts_pt.decide_if_due(self.steps, self.val, seed=self.seed, epoch=epoch)
        train_loss, val_loss = self._train(epoch)
        row = {"epoch": epoch, "lr": lr, "weight_decay": self.steps.sgd.param_groups[0]["weight_decay"]}
        row |= {"drop_path": self.supernet.drop_path_prob, "train_loss": train_loss, "val_loss": val_loss}
        row |= architecture_record(self.supernet, self.steps.decisions) | ({"decisions": decisions} if decisions else {})
        self.next_epoch = epoch + 1
        found, trigger = robust_darts.look(self.steps, self.val, self.watch, seed=self.seed, epoch=epoch)
        if trigger is not None:
            stop, resumes = trigger
            found["rolled_back_to"] = stop.back_to
            self.next_epoch, self.stopped = stop.back_to + 1, not resumes
        return {**row, **found, "seconds": time.perf_counter() - started}

    def _train(self, epoch: int) -> tuple[float, float | None]:
        """One epoch; returns the mean training and validation loss, the latter None without architecture steps."""
        settings, losses = self.settings, torch.zeros(2, device=self.device)
        searching = epoch >= settings.warm_up and not settings.fixed_alphas
        cut = {"cutout": settings.cutout, "cut": self.steps.ramp(epoch)} if settings.drop_path > 0 else {}
        drawn = {"size": settings.batch_size, "steps": self.batches_per_epoch, "seed": self.seed, "epoch": epoch, **cut}
        train = draw_batches(self.train, stream="train", **drawn)
        val = draw_batches(self.val, stream="val", **drawn) if searching else [None] * self.batches_per_epoch
        for train_batch, val_batch in zip(train, val, strict=True):
            losses += torch.stack(self.steps.step(train_batch, val_batch))
        train_loss, val_loss = (losses / self.batches_per_epoch).tolist()
        if not math.isfinite(train_loss + val_loss):
            lower = f"lower lr={settings.lr} or arch_lr={settings.arch_lr}"
            raise ValueError(f"the search diverged in epoch {epoch} (loss {train_loss}, {val_loss}): {lower}")
        return train_loss, val_loss if searching else None


def _make_supernet(settings: Settings, num_classes: int, seed: int, init: dict | None) -> Supernet:
    size = settings.space, settings.channels, settings.layers, num_classes
    supernet = seeded(lambda: FusedSupernet(*size, partial=settings.partial, mask=settings.mask, stem=settings.stem), seed)
    own = supernet.state_dict()
    for name, tensor in (init or {}).items():
        if name not in own:
            raise ValueError(f"init: {name!r} is no tensor of this supernet; expected the state of a search of the same space and size")
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"init: {name!r} has shape {tuple(tensor.shape)}, expected {tuple(own[name].shape)} (same space, channels, layers)"
            )
        if not torch.isfinite(tensor).all():
            raise ValueError(f"init: {name!r} holds NaN or infinity; expected finite numbers")
    supernet.load_state_dict(init or {}, strict=False)
    return supernet.to(memory_format=torch.channels_last)


def alpha_weights(supernet: Supernet, decisions: darts_pt.Decisions | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixing weights (14, operations) of the normal and the reduction cells in float64 on the CPU; decided edges are one-hot."""
    mixing = tuple(alphas.detach().double().cpu().softmax(dim=1) for alphas in (supernet.alphas_normal, supernet.alphas_reduce))
    return mixing if decisions is None else decisions.apply(mixing)


def current_genotype(supernet: Supernet, decisions: darts_pt.Decisions | None) -> Genotype:
    """The genotype of the current architecture, by edge weights if it has some, and by decisions if any are made.

    ValueError if an architecture parameter is not finite.
    """
    alphas = supernet.alphas_normal, supernet.alphas_reduce
    if supernet.partial > 1:
        return select.edge_normalized(*alphas, supernet.betas_normal, supernet.betas_reduce, supernet.space)
    by_alphas = select.magnitude(*alphas, supernet.space)
    return by_alphas if decisions is None else select.from_weights(*alpha_weights(supernet, decisions), supernet.space)


def architecture_record(supernet: Supernet, decisions: darts_pt.Decisions | None) -> dict:
    """Row entries: entropies, skips, the genotype, and the architecture parameters as nested lists."""
    found, (normal, reduce) = current_genotype(supernet, decisions), alpha_weights(supernet, decisions)
    return {
        "entropy_normal": entropy(normal),
        "entropy_reduce": entropy(reduce),
        "skips_normal": found.skips("normal"),
        "skips_reduce": found.skips("reduce"),
        "genotype": str(found),
        **{name: parameter.tolist() for name, parameter in supernet.named_parameters() if name.startswith(ARCHITECTURE)},
    }


def entropy(weights: torch.Tensor) -> float:
    """Mean entropy of the mixing weights (14, K) of an edge, in nats: log(K) when nothing is decided, 0 when everything is."""
    return float(-torch.xlogy(weights, weights).sum(dim=1).mean())
