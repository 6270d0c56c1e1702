"""The measurement of training.train after each epoch: it selects the weights to keep and reports a collapse."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from rtalib.attacks import PGD, STEP
from rtalib.data.images import LabeledImages, pixels
from rtalib.models.inference import device_of, evaluating

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Validation:
    """score(model) after each epoch, in eval mode: a number, the higher the better, without draws from torch's global generators.

    keep_best: the network ends with the weights of its best epoch, the first of equals, instead of the last (Rice et al. 2020).
    fall: a score that falls by more than this within an epoch ends the training, with the weights of the epoch before; the last row says
    `overfitted`, and so does a warning. Wong et al. (2020) take a fall of the PGD accuracy by 0.2 as the sign of catastrophic overfitting,
    and stop there.
    """

    score: Callable[[nn.Module], float]
    keep_best: bool = False
    fall: float = math.inf

    def measure(self, model: nn.Module, history: list[dict], best: Weights | None) -> Weights | None:
        """Add the score to the last row of `history`; returns the weights to end with so far, None for the last ones."""
        before = [row["validation"] for row in history[:-1]]
        with evaluating(model):
            score = float(self.score(model))
        history[-1]["validation"] = score
        if before and before[-1] - score > self.fall:
            history[-1]["overfitted"] = True
            epoch = history[-1]["epoch"]
            text = f"catastrophic overfitting in epoch {epoch}: the validation score fell from {before[-1]:.3f} to {score:.3f}"
            warnings.warn(f"{text}; the training ends with the weights of epoch {epoch - 1}", stacklevel=3)
            return best
        if not self.keep_best and math.isinf(self.fall):
            return None
        improved = not self.keep_best or not before or score > max(before)
        return {name: value.clone() for name, value in model.state_dict().items()} if improved else best


def pgd_accuracy(data: LabeledImages, *, steps: int = 10, batch_size: int = 250) -> Callable[[nn.Module], float]:
    """score(model) -> accuracy in [0,1] on `data` under PGD of that many steps at 8/255 (2/255 each, longer below 10 steps).

    The random starts are the same in every epoch.
    """
    attack = PGD(step_size=STEP * 10 / min(steps, 10), steps=steps)

    def score(model: nn.Module) -> float:
        device, right = device_of(model), 0
        for start in range(0, len(data), batch_size):
            part = torch.arange(start, min(start + batch_size, len(data)))
            x, y = pixels(data.images[part].to(device)), data.hard_labels[part].to(device)
            found = attack(model, x, y, index=part)
            with torch.no_grad():
                right += int((model(found).argmax(1) == y).sum())
        return right / len(data)

    return score
