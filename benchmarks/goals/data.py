"""What the goals are measured on: real CIFAR-10 where it is, else the embedded data set."""

from benchmarks.timing import Unmeasured
from rtalib import load_dataset
from rtalib.data.images import LabeledImages


def cifar10(split: str, limit: int | None = None) -> LabeledImages:
    """Raises Unmeasured where CIFAR-10 is not."""
    try:
        return load_dataset("cifar10", split, limit=limit)
    except FileNotFoundError:
        raise Unmeasured("CIFAR-10 is not here: RTALIB_DATA must name a folder that has it") from None


def best(split: str, limit: int) -> LabeledImages:
    """CIFAR-10, or shapes10 where that is not here."""
    try:
        return cifar10(split, limit)
    except Unmeasured:
        return load_dataset("shapes10", split, limit=limit)
