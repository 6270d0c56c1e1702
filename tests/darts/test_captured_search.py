"""Recorded steps of a search are those of a plain one, bit for bit, on a recorder for the CPU."""

import gc
import weakref

import pytest
from recorded import Recorder
from stripes import CHEAP, TRAIN, VAL, assert_same

from rtalib.darts import Supernet, search
from rtalib.darts.darts_pt import Projection
from rtalib.darts.settings import settings_for
from rtalib.darts.steps import Steps

STEPS = {**CHEAP, "steps_per_epoch": 3}
NOISY = {"space": "s4", "layers": 3}
SEARCHES = {
    "first order": ("darts", {"epochs": 2}, 4),
    "second order": ("darts", {"epochs": 2, "order": 2, **NOISY}, 8),
    "partial channels": ("pc-darts", {"epochs": 2, "warm_up": 1}, 3),
    "decisions": ("darts-pt", {"epochs": 1, "projection": Projection(interval=1, images=4), "steps_per_epoch": 2}, 36),
    "drop path": ("robust-darts", {"preset": "drop-path", "grid": (), "drop_path": 0.5, "epochs": 2}, 8),
}


def test_an_epoch_frees_the_recordings_of_the_one_before():
    """At once, not when Python next looks for circles: on a GPU they hold the memory of whole passes."""
    steps = Steps(Supernet("s2", 4, 3, 2), settings_for("darts", space="s2"))
    before = weakref.ref(steps.passes.recorded["weights", True])
    gc.disable()
    try:
        steps.start_epoch(0)
        assert before() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("method, changes, recordings", SEARCHES.values(), ids=SEARCHES)
def test_a_recorded_search_equals_a_plain_one(monkeypatch, method, changes, recordings):
    changes = STEPS | changes
    expected = search(TRAIN, VAL, method, **changes)
    recorder = Recorder(monkeypatch)
    assert_same(search(TRAIN, VAL, method, **changes), expected)
    assert recorder.recordings == recordings and recorder.replays >= recordings and not recorder.asks()
