"""AugMix and CutMix as objectives for training.train: they augment a batch and compute its loss.

Draws depend on (seed, epoch, place in the epoch's order), so a resumed training sees the same images as an uninterrupted one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtalib import rng
from rtalib.augment.augmix import augmix
from rtalib.augment.cutmix import boxes
from rtalib.augment.style_transfer import restyle
from rtalib.data.images import pixels, soft_labels


class _Counting:
    """Numbers the images that an objective sees; training.train calls start_epoch."""

    def __init__(self, seed: int, auxiliary_weight: float):
        self.seed, self.auxiliary_weight, self.epoch, self.seen = seed, auxiliary_weight, 0, 0

    def start_epoch(self, epoch: int) -> None:
        self.epoch, self.seen = epoch, 0

    def numbers(self, count: int) -> Tensor:
        """int64 (count,): the identities of the next images, never the same in one training."""
        first = (self.epoch << 32) + self.seen
        self.seen += count
        return torch.arange(first, first + count)

    def outputs(self, model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """float32 logits, and those of the auxiliary head if its loss counts."""
        logits = model(x)
        logits, auxiliary = logits if isinstance(logits, tuple) else (logits, None)
        if not self.auxiliary_weight:
            return logits.float(), None
        if auxiliary is None:
            raise ValueError(f"auxiliary_weight={self.auxiliary_weight}: the model returned no auxiliary logits; set it to 0")
        return logits.float(), auxiliary.float()


class AugMixLoss(_Counting):
    """CE(f(x), y) + coefficient JSD(f(x), f(x'), f(x'')), x' and x'' being AugMix of x; one pass over the batch of 3N (Hendrycks 2020).

    severity, posterize: as in augmix. references: uint8 (R,3,H,W), styles in which DeepRepair's tenth operation shows an image, see
    style_transfer; drawn for each view, where DeepRepair stylizes each image once. The auxiliary head, if its weight is above 0, learns
    the clean images.
    """

    def __init__(
        self,
        seed: int,
        *,
        auxiliary_weight: float = 0.0,
        coefficient: float = 12.0,
        severity: float = 3.0,
        posterize: bool = False,
        references: Tensor | None = None,
    ):
        super().__init__(seed, auxiliary_weight)
        self.coefficient, self.severity, self.posterize, self.references = coefficient, severity, posterize, references

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits, auxiliary = self.outputs(model, torch.cat([x, pixels(self.views(x))]))
        loss = F.cross_entropy(logits[: len(x)], y) + self.coefficient * jensen_shannon(*logits.chunk(3))
        return loss if auxiliary is None else loss + self.auxiliary_weight * F.cross_entropy(auxiliary[: len(x)], y)

    def views(self, x: Tensor) -> Tensor:
        """uint8 (2N,3,H,W): two views of each image of the batch, first all the first ones. x: float32 in [0,1], multiples of 1/255."""
        images = (255 * x).round().to(torch.uint8).repeat(2, 1, 1, 1)
        number = 2 * self.numbers(len(x))
        index, twins = torch.cat([number, number + 1]), None
        if self.references is not None:
            self.references = self.references.to(x.device)
            style = rng.integers(self.seed, index, rng.stream("augmix", "style"), 1, len(self.references))[:, 0]
            twins = restyle(images, self.references[style.to(x.device)])
        return augmix(images, seed=self.seed, index=index, severity=self.severity, posterize=self.posterize, twins=twins)


class CutMixLoss(_Counting):
    """With `probability`, one box in all images of a batch comes from other images of it, and so does its share of the loss (Yun 2019).

    lambda ~ Beta(beta, beta) gives the box; its share of the pixels, once clipped at the borders, weighs the labels.
    """

    def __init__(self, seed: int, *, auxiliary_weight: float = 0.0, beta: float = 1.0, probability: float = 0.5):
        super().__init__(seed, auxiliary_weight)
        self.beta, self.probability = beta, probability

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x, partner, share = self.mixed(x)
        logits, auxiliary = self.outputs(model, x)
        y = soft_labels(y, logits.shape[1])
        y = (1 - share) * y + share * y[partner]
        loss = F.cross_entropy(logits, y)
        return loss if auxiliary is None else loss + self.auxiliary_weight * F.cross_entropy(auxiliary, y)

    def mixed(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The batch with its box (N,C,H,W), each image's partner (N,), and the box's share of the pixels (1,), 0 for an unmixed batch."""
        index = self.numbers(len(x))
        partner = rng.words(self.seed, index, rng.stream("cutmix", "order"), 1)[:, 0].argsort(stable=True).to(x.device)
        if rng.uniform(self.seed, index[:1], rng.stream("cutmix", "mixed"), 1).item() >= self.probability:
            return x, partner, x.new_zeros(1)
        box, share = (part.to(x.device) for part in boxes(self.seed, index[:1], self.beta, tuple(x.shape[2:])))
        return torch.where(box, x[partner], x), partner, share


def jensen_shannon(*logits: Tensor) -> Tensor:
    """The mean over images (N) and distributions of KL(p_k || m), m the mean of the p_k clamped to [1e-7, 1]; logits (N,K) each."""
    logs = [part.log_softmax(1) for part in logits]
    mean = torch.stack([log.exp() for log in logs]).mean(0).clamp(1e-7, 1).log()
    # on logarithms, because p log p has no finite gradient where p underflows
    return sum(F.kl_div(mean, log, reduction="batchmean", log_target=True) for log in logs) / len(logs)
