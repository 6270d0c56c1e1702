"""Recorded steps of a search are those of a plain one, bit for bit, on a recorder for the CPU."""

import pytest
from recorded import Recorder
from stripes import CHEAP, TRAIN, VAL, assert_same

from rtalib.darts import search
from rtalib.darts.darts_pt import Projection

STEPS = {**CHEAP, "steps_per_epoch": 3}
NOISY = {"space": "s4", "layers": 3}
SEARCHES = {
    "first order": ("darts", {"epochs": 2}, 4),
    "second order": ("darts", {"epochs": 2, "order": 2, **NOISY}, 8),
    "partial channels": ("pc-darts", {"epochs": 2, "warm_up": 1}, 3),
    "decisions": ("darts-pt", {"epochs": 1, "projection": Projection(interval=1, images=4), "steps_per_epoch": 2}, 36),
    "drop path": ("robust-darts", {"preset": "drop-path", "grid": (), "drop_path": 0.5, "epochs": 2}, 8),
}


@pytest.mark.parametrize("method, changes, recordings", SEARCHES.values(), ids=SEARCHES)
def test_a_recorded_search_equals_a_plain_one(monkeypatch, method, changes, recordings):
    changes = STEPS | changes
    expected = search(TRAIN, VAL, method, **changes)
    recorder = Recorder(monkeypatch)
    assert_same(search(TRAIN, VAL, method, **changes), expected)
    assert recorder.recordings == recordings and recorder.replays >= recordings and not recorder.asks()
