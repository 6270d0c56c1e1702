"""Data that a search learns in seconds, and what the tests of searches share."""

import torch

from rtalib.darts.space import uniform
from rtalib.data.images import LabeledImages

TINY = {"space": "s2", "channels": 4, "layers": 3, "batch_size": 4, "steps_per_epoch": 2, "device": "cpu"}
CHEAP = {**TINY, "space": uniform("max_pool_3x3", "skip_connect")}  # almost no convolutions


def stripes(n, seed=0, side=12):
    """Two classes: horizontal and vertical stripes in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    wave = (torch.arange(side) % 4 < 2).float() * 120
    images = torch.randint(0, 100, (n, 3, side, side), generator=generator).float()
    images += torch.where(labels.view(-1, 1, 1, 1) == 0, wave.view(1, 1, side, 1), wave.view(1, 1, 1, side))
    return LabeledImages(images.to(torch.uint8), labels, ("horizontal", "vertical"), "stripes")


TRAIN, VAL = stripes(24), stripes(16, seed=1)


class Interrupted(Exception):
    pass


def stop_at(epoch):
    def on_epoch(row):
        if row["epoch"] == epoch:
            raise Interrupted

    return on_epoch


def timeless(trace):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in trace]


def assert_same(a, b):
    assert a.genotype == b.genotype and a.candidates == b.candidates
    assert a.state.keys() == b.state.keys() and all(torch.equal(a.state[name], b.state[name]) for name in a.state)
    assert timeless(a.trace) == timeless(b.trace)
