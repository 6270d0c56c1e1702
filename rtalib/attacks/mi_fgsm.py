"""FGSM with momentum."""

from dataclasses import dataclass

from torch import Tensor

from rtalib.attacks.pgd import BIM
from rtalib.attacks.pgd_l2 import unit
from rtalib.errors import check_number


@dataclass(frozen=True)
class MIFGSM(BIM):
    """Momentum iterative FGSM (Dong et al. 2018): BIM along the sign of a running sum of L1-normalized gradients.

    The sum before each step is multiplied by `decay`; 0 is BIM. The authors step by eps / steps.
    """

    decay: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("decay", self.decay, 0)

    def direction(self, gradient: Tensor, previous: Tensor) -> Tensor:
        return self.decay * previous + unit(gradient, 1)
