"""A rehearsal of small networks: each kind runs, its checkpoint is read back, and time and memory of a larger batch are foretold."""

from dataclasses import replace

import pytest
import torch

from rtalib.rehearsal import kinds, memory
from rtalib.rehearsal.kinds import CELLS, SUPERNET, Kind, Rehearsal, rehearse, unit_recipe
from rtalib.training.recipes import RECIPES

SMALL = unit_recipe(RECIPES["table1"])
DARTS = unit_recipe(RECIPES["darts"])
EXAMPLES = [
    Kind(kinds.TRAINING, "tiny", "clean", 8, recipe=SMALL),
    Kind(kinds.TRAINING, "tiny", "trades", 8, recipe=SMALL, weights="scores", steps=1),
    Kind(kinds.TRAINING, "tiny", "mmc", 8, recipe=SMALL, head="centres", steps=1),
    Kind(kinds.TRAINING, "tiny", "free_at", 8, recipe=SMALL),
    Kind(kinds.TRAINING, CELLS, "DeepRepair", 4, size=(4, 3), recipe=DARTS),
    Kind(kinds.TRAINING, CELLS, "", 4, side=64, classes=20, size=(4, 3), stem="tiny-imagenet", recipe=DARTS),
    Kind(kinds.SEARCH, SUPERNET, "pc-darts", 4, size=(4, 3), stem="tiny-imagenet"),
    Kind(kinds.PREDICTION, SUPERNET, size=(4, 3)),
    Kind(kinds.ATTACK, "tiny"),
    Kind(kinds.CORRUPTION, method="tiny-imagenet-c", side=64),
    Kind(kinds.SELECTION, batch=5, size=(40, 60, 8)),
]


@pytest.mark.parametrize("kind", EXAMPLES, ids=str)
def test_every_kind_of_work_is_rehearsed(kind):
    row = rehearse(Rehearsal(kind, "shapes10"))
    assert row["unit_seconds"] > 0 and row["measured"] == kind.batch and row["note"] == ""
    assert (row["checkpoint"] > 0) == (kind.what in (kinds.TRAINING, kinds.SEARCH)) and row["needed"] == row["memory"] > 0


def test_a_long_step_is_measured_in_part_and_its_row_says_so():
    row = rehearse(Rehearsal(replace(EXAMPLES[0], batch=4096), "shapes10", longest=1e-4))
    assert 2 <= row["measured"] < 4096 and "scaled from" in row["note"] and row["needed"] > row["memory"]


def test_a_batch_beyond_the_free_memory_is_measured_in_part_and_its_row_says_so(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: 1e-3)
    row = rehearse(Rehearsal(replace(EXAMPLES[0], batch=100_000), "shapes10"))
    assert row["measured"] < 100_000 and "GiB, 0.0 may be taken here" in row["note"]


def test_a_batch_that_is_too_large_and_too_slow_keeps_to_both_bounds(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: 10.0)
    done = [kinds._Step(2, 4.0, 1.0, 0)]  # seconds and GiB of two images
    measured = [kinds._bearable(replace(EXAMPLES[0], batch=128), done, 0.5, longest)[0] for longest in (None, 100.0, 20.0)]
    assert 2 < measured[0] < 50 and measured[1] == measured[0] and measured[2] == 10


def test_a_checkpoint_that_comes_back_changed_is_an_error(monkeypatch):
    """As a disk or a reader might change it."""
    load = torch.load

    def changed(*arguments, **options):
        state = load(*arguments, **options)
        state["model"]["classifier.bias"] += 1
        return state

    monkeypatch.setattr(torch, "load", changed)
    with pytest.raises(RuntimeError, match="the network that was read back differs"):
        rehearse(Rehearsal(EXAMPLES[0], "shapes10"))


def test_trainings_that_differ_in_length_and_rates_are_of_one_kind():
    one, other = RECIPES["table1"], replace(RECIPES["final"], label_smoothing=0.1)
    assert unit_recipe(one) == unit_recipe(other) and unit_recipe(one) != unit_recipe(replace(one, cutout=8))


def test_peak_memory_is_that_of_the_work_alone():
    size = 2**27

    def allocate() -> int:
        return int(torch.ones(size, dtype=torch.uint8).sum())

    (_, high), (_, low) = memory.peak(allocate), memory.peak(lambda: 0)
    assert low < high and high - low > 0.9 * size / memory.GIB and memory.free() > 0.1
