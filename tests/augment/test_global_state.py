"""An augmented image depends on its seed and index, and on nothing that torch keeps for the whole process."""

import pytest
import torch
from odd_networks import default_dtype

from rtalib.augment import augmix, cutmix, cutout, trivial_augment
from rtalib.data.images import LabeledImages

N = 96
BYTES = torch.randint(0, 256, (N, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
INDEX = torch.arange(N)
MADE = {
    "trivial_augment": lambda: trivial_augment(BYTES, seed=0, index=INDEX),
    "narrow": lambda: trivial_augment(BYTES, seed=0, index=INDEX, wide=False),
    "augmix": lambda: augmix(BYTES[:40], seed=0, index=INDEX[:40]),
    "cutout": lambda: cutout(BYTES, seed=0, index=INDEX),
    "cutmix": lambda: cutmix(LabeledImages(BYTES, INDEX % 2, ("a", "b"), "d"), seed=0, index=INDEX).images,
}
STATES = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("name", MADE)
def test_global_state_changes_no_byte(name):
    expected = MADE[name]()
    for state, enter in STATES.items():
        with enter():
            found = MADE[name]()
        assert torch.equal(found, expected), state
