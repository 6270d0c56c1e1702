"""The two half-steps of a search: architecture by validation loss, weights by training loss."""

import math

import torch
import torch.nn.functional as F
from torch.func import functional_call

from rtalib.darts.draws import Batch
from rtalib.darts.perturbation import Decisions
from rtalib.darts.settings import Settings
from rtalib.darts.supernet import ARCHITECTURE, Supernet
from rtalib.darts.unrolled import unrolled_gradient


class Steps:
    """Supernet and optimisers of one search; saved and loaded like one optimiser.

    decisions: what DARTS-PT has decided so far; None where nothing is.
    """

    def __init__(self, supernet: Supernet, settings: Settings):
        self.supernet, self.settings, self.decisions = supernet, settings, Decisions(supernet.space) if settings.projection else None
        parameters = dict(supernet.named_parameters())
        self.weights = {name: parameter for name, parameter in parameters.items() if not name.startswith(ARCHITECTURE)}
        self.alphas = supernet.arch_parameters()
        self.sgd = torch.optim.SGD(self.weights.values(), settings.lr, settings.momentum, weight_decay=settings.weight_decay, foreach=True)
        self.adam = torch.optim.Adam(self.alphas, settings.arch_lr, betas=(0.5, 0.999), weight_decay=settings.arch_weight_decay)

    def loss(self, batch: Batch, weights: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        """Mean cross-entropy, with other weights in the place of the supernet's if given."""
        images, labels = batch
        mixing = () if self.decisions is None else (self.decisions.apply(self.supernet.mixing()),)
        logits = functional_call(self.supernet, weights, (images, *mixing)) if weights else self.supernet(images, *mixing)
        return F.cross_entropy(logits, labels)

    def step(self, train_batch: Batch, val_batch: Batch | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Architecture, then weights, or the other way round; returns (training loss, validation loss).

        No val_batch: weights alone, validation loss 0.
        """
        loss = self._weight_step(train_batch) if self.settings.weights_first else None
        val_loss = torch.zeros((), device=train_batch[0].device) if val_batch is None else self._architecture_step(train_batch, val_batch)
        return self._weight_step(train_batch) if loss is None else loss, val_loss

    def _weight_step(self, batch: Batch) -> torch.Tensor:
        loss = self.loss(batch)
        weights = list(self.weights.values())
        _set_gradients(weights, torch.autograd.grad(loss, weights, materialize_grads=True))
        torch.nn.utils.clip_grad_norm_(weights, self.settings.grad_clip)
        self.sgd.step()
        self.sgd.zero_grad()
        return loss.detach()

    def _architecture_step(self, train_batch: Batch, val_batch: Batch) -> torch.Tensor:
        """Autograd is asked for the architecture alone. Returns the loss, which with order 2 is that after the virtual step."""
        if self.settings.order == 1:
            loss = self.loss(val_batch)
            gradients = torch.autograd.grad(loss, self.alphas, materialize_grads=True)
        else:
            gradients, loss = self._unrolled(train_batch, val_batch)
        _set_gradients(self.alphas, gradients)
        self.adam.step()
        self.adam.zero_grad()
        return loss.detach()

    def _unrolled(self, train_batch: Batch, val_batch: Batch) -> tuple[list[torch.Tensor], torch.Tensor]:
        momenta = [self.sgd.state[weight].get("momentum_buffer") for weight in self.weights.values()]
        group = self.sgd.param_groups[0]
        return unrolled_gradient(
            lambda weights: self.loss(train_batch, weights),
            lambda weights: self.loss(val_batch, weights),
            self.weights,
            self.alphas,
            lr=group["lr"],
            momentum=group["momentum"],
            momenta=None if momenta[0] is None else momenta,
            weight_decay=group["weight_decay"],
            term=self.settings.term,
        )

    def start_epoch(self, epoch: int) -> float:
        """Learning rate (cosine from lr to lr_min, then the projection's) and drop path of the epoch; returns the learning rate."""
        settings = self.settings
        if epoch < settings.epochs:
            lr = settings.lr_min + (settings.lr - settings.lr_min) * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
        else:
            lr = settings.lr / 10 if settings.projection.lr is None else settings.projection.lr
            if epoch == settings.epochs:
                self.sgd.state.clear()  # a new optimiser
        self.sgd.param_groups[0]["lr"] = lr
        self.supernet.drop_path_prob = settings.drop_path * self.ramp(epoch)
        return lr

    def ramp(self, epoch: int) -> float:
        """From 0 in the first epoch to 1 in the last, and 1 from then on: how far drop path and cutout have come."""
        return min(1.0, epoch / max(1, self.settings.epochs - 1))

    def state_dict(self) -> dict:
        decisions = {} if self.decisions is None else {"decisions": self.decisions.state_dict()}
        return {"sgd": self.sgd.state_dict(), "adam": self.adam.state_dict(), **decisions}

    def load_state_dict(self, state: dict) -> None:
        self.sgd.load_state_dict(state["sgd"])
        self.adam.load_state_dict(state["adam"])
        if self.decisions is not None:
            self.decisions.load_state_dict(state["decisions"])


def _set_gradients(parameters: list[torch.Tensor], gradients: list[torch.Tensor] | tuple[torch.Tensor, ...]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
