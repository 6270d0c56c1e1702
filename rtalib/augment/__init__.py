"""RTA's bank of operations and its draw, and the augmentations that it is compared with."""

from rtalib.augment.augmix import augmix
from rtalib.augment.bank import IDENTITY, Bank, adversarial, copy_seed, corruptions_only, low_logit_sources, rta
from rtalib.augment.cutmix import cutmix
from rtalib.augment.cutout import cutout
from rtalib.augment.trivial_augment import trivial_augment

__all__ = [
    "IDENTITY",
    "Bank",
    "adversarial",
    "augmix",
    "copy_seed",
    "corruptions_only",
    "cutmix",
    "cutout",
    "low_logit_sources",
    "rta",
    "trivial_augment",
]
