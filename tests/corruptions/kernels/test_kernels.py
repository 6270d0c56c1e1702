"""Every kernel against its plain-torch specification, byte for byte: in Triton's interpreter, on the device where there is one."""

import pytest
import torch
from pictures import make_images

pytest.importorskip("triton")

from rtalib import rng
from rtalib.corruptions import CORRUPTIONS, kernels
from rtalib.corruptions.api import _plain
from rtalib.corruptions.constants import BENCHMARKS, CONSTANTS
from rtalib.corruptions.draws import Words

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


CASES = [*((32, 32, severity) for severity in range(1, 6)), (17, 35, 1), (17, 35, 5)]
FEW = [(32, 32, 1), (17, 35, 5)]  # in the interpreter, a second a launch: both shapes, the least and the most of each benchmark
SHAPES = CASES if DEVICE == "cuda" else FEW


def launches() -> list[tuple]:
    """One launch each. All that a kernel learns of a benchmark are constants: where two have the same, the first stands for both."""
    found = {}
    for name in CORRUPTIONS:
        for height, width, severity in SHAPES:
            for benchmark in BENCHMARKS:
                case = (name, height, width, severity)
                found.setdefault((case, repr(CONSTANTS[benchmark][name][severity - 1])), (*case, benchmark))
    return list(found.values())


@pytest.mark.parametrize("name, height, width, severity, benchmark", launches())
def test_equals_the_plain_path(name, height, width, severity, benchmark):
    images = make_images(8, height, width, seed=3)[[0, 5, 7]]  # like a photograph, flat, black-and-white noise
    index = torch.tensor([7, 2**33 + 5, 0])
    constants = CONSTANTS[benchmark][name][severity - 1]
    seed, stream = -(2**40) - 3, rng.stream(name, severity)
    expected = _plain(name, images, constants, Words(seed, index, stream))
    found = kernels.kernel(name)(images.to(DEVICE), constants, Words(seed, index.to(DEVICE), stream))
    assert torch.equal(found.cpu(), expected)


def test_words_are_those_of_rng():
    from rtalib.corruptions.kernels import common as random

    index = torch.tensor([7, 0, 2**33 + 5])
    for seed, count in ((-(2**40) - 3, 1), (2**63 - 1, 3), (0, 4), (5, 1030)):
        found = random.words(seed, index.to(DEVICE), 2**32 - 1, count)
        assert torch.equal(found.cpu(), rng.words(seed, index, 2**32 - 1, count))
