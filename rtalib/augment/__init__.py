"""RTA's bank of operations and its draw, and the augmentations it is compared with."""

from rtalib.augment.augmix import augmix
from rtalib.augment.bank import IDENTITY, Bank, copy_seed, rta
from rtalib.augment.cutmix import cutmix
from rtalib.augment.cutout import cutout
from rtalib.augment.pixmix import pixmix
from rtalib.augment.prime import prime
from rtalib.augment.trivial_augment import trivial_augment
