"""The review of failures: what is changed, dropped and exported, and the explorer's buttons."""

import json

import pytest
import torch
from torch import nn

from rtalib.data.loading import load_dataset
from rtalib.widgets.failures import explore_failures, gallery, review

DATA = load_dataset("shapes10", "test", limit=40)


class Constant(nn.Module):
    """Says class 3 whatever it sees, surer of brighter images."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        logits = torch.zeros(len(x), 10)
        logits[:, 3] = 1 + self.scale * x.mean(dim=(1, 2, 3))
        return logits


def test_failures_are_those_that_are_wrong_the_surest_first():
    found = review(Constant(), DATA)
    assert len(found.failures) == 36 and not (found.failures.labels == 3).any()
    assert bool((found.confidence.diff() <= 0).all())
    assert found.slices()[0][1:] == (DATA.classes[3], 4) and sum(count for *_, count in found.slices()) == 36


def test_an_export_reads_back_without_what_was_dropped_and_with_new_labels(tmp_path):
    found = review(Constant(), DATA)
    found.relabel(0, DATA.classes[3])
    found.drop(1)
    found.drop(2)
    found.keep(2)
    found.export(tmp_path)
    again = load_dataset(tmp_path / "data.npz", "test")
    assert len(again) == 35 and int(again.labels[0]) == 3
    assert torch.equal(again.images[1], found.failures.images[2])
    done = json.loads((tmp_path / "review.json").read_text())
    assert done["dropped"] == [1] and done["relabeled"] == {"0": DATA.classes[3]}


def test_bad_input(tmp_path):
    found = review(Constant(), DATA)
    with pytest.raises(ValueError, match="row: expected 0 to 35, got 36"):
        found.drop(36)
    with pytest.raises(ValueError, match="unknown class"):
        found.relabel(0, "squre")
    found.dropped = set(range(36))
    with pytest.raises(ValueError, match="every failure was dropped"):
        found.export(tmp_path)
    with pytest.raises(ValueError, match="right on all"):
        review(Constant(), DATA.subset(DATA.labels == 3))


def test_the_explorer_acts_on_the_review(tmp_path):
    found = review(Constant(), DATA)
    box = explore_failures(found, tmp_path)
    (chosen, _), (row, label, relabel, drop, keep, export), said, picture = (getattr(part, "children", part) for part in box.children)
    row.value, label.value = 5, DATA.classes[3]
    relabel.click()
    drop.click()
    assert found.labels == {5: 3} and found.dropped == {5} and "1 dropped, 1 relabeled" in said.value and "opacity: 0.3" in picture.value
    keep.click()
    assert not found.dropped
    chosen.value = chosen.options[1]
    assert picture.value.count("<figure") == 4 == gallery(found, chosen.value).count("<img")
    export.click()
    assert (tmp_path / "data.npz").exists()
