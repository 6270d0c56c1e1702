"""Recorded steps of a training are those of a plain one, bit for bit, on a recorder for the CPU."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from recorded import Recorder, Tape
from stripes import stripes

from rtalib import models
from rtalib.darts import Network
from rtalib.models.base import seeded
from rtalib.training import train
from rtalib.training.captured import Captured
from rtalib.training.recipes import RECIPES

DATA = stripes(14, side=32)  # 4 batches, the last of two images


def network():
    return seeded(lambda: Network("darts_v1", 2, 3, 2, auxiliary=True), 0)


def test_recorded_training_equals_a_plain_one(monkeypatch):
    """Drop path changes from epoch to epoch, running statistics move, and gradients are clipped."""
    recipe = replace(RECIPES["darts"], epochs=3, batch_size=4, drop_path=0.5)
    plain, recorded = network(), network()
    expected = train(plain, DATA, recipe, seed=1, device="cpu")
    recorder = Recorder(monkeypatch)
    found = train(recorded, DATA, recipe, seed=1, device="cpu")
    assert [row["loss"] for row in found] == [row["loss"] for row in expected]
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), recorded.state_dict().values(), strict=True))
    assert (recorder.recordings, recorder.replays) == (3, 6)  # the first batch is plain, and so is the last
    assert not recorder.asks()


def test_what_is_replayed_is_what_was_recorded(monkeypatch):
    """Python's numbers stay, tensors move; other shapes are computed plainly; a replay overwrites the results of the one before."""
    recorder, rate, weight = Recorder(monkeypatch), [2.0], torch.ones(())
    double = Captured(lambda x: [rate[0] * weight * x, None], torch.device("cpu"))
    assert double(torch.ones(3))[0].tolist() == [2, 2, 2] and recorder.recordings == 0
    first = double(torch.ones(3))
    rate[0] = 7.0
    weight.fill_(3)
    second = double(torch.full((3,), 2.0))
    assert second[0].tolist() == [12, 12, 12] and first[0] is second[0] and second[1] is None
    assert double(torch.ones(2))[0].tolist() == [21, 21] and (recorder.recordings, recorder.replays) == (1, 2)


def test_an_objective_is_not_recorded(monkeypatch):
    recorder = Recorder(monkeypatch)
    recipe = replace(RECIPES["darts"], epochs=1, batch_size=4, drop_path=0, auxiliary_weight=0)
    train(network(), DATA, recipe, objective=lambda model, x, y: model(x)[0].square().mean(), device="cpu")
    assert recorder.recordings == 0


def test_the_switch_is_checked(monkeypatch):
    monkeypatch.setenv("RTALIB_CAPTURE", "yes")
    with pytest.raises(ValueError, match="RTALIB_CAPTURE: expected 0 or 1, got 'yes'"):
        Captured(lambda x: [x], torch.device("cpu"))


@pytest.mark.parametrize("name", ("resnet50", "densenet121", "wide_resnet10_1", "preact_resnet18", "resnet47_v2", "convnet_small", "tiny"))
def test_no_network_waits_for_its_device(name):
    model = models.build(name)
    with Tape() as tape:
        F.cross_entropy(model(torch.rand(2, 3, 32, 32)), torch.zeros(2, dtype=torch.int64)).backward()
    assert not tape.asks()
