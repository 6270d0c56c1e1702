"""Paper one's training sets and proxy suite; the table itself at smoke scale is run by the notebook's test."""

import json

import pytest
import torch

from rtalib import rta, scales
from rtalib.corruptions import CORRUPTIONS
from rtalib.data import load_dataset

SETUP = scales.get("smoke").rta


@pytest.fixture(scope="module", autouse=True)
def outputs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTALIB_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield


@pytest.mark.parametrize("method", rta.TABLE1)
def test_training_sets_are_the_originals_and_four_copies(method):
    data, entry = rta.training_set(method, 0, "shapes10", "disjoint", SETUP)
    originals = load_dataset("shapes10", "train", limit=SETUP.originals, seed=0)
    copies = 1 if method == rta.BASELINE else 5
    assert len(data) == copies * SETUP.originals
    assert torch.equal(data.images[: SETUP.originals], originals.images)
    assert torch.equal(data.labels, originals.labels.repeat(copies))
    assert rta.training_set(method, 0, "shapes10", "disjoint", SETUP)[1].path == entry.path


def test_rta_copies_are_fresh_draws_over_both_families():
    data, entry = rta.training_set(rta.OURS, 0, "shapes10", "disjoint", SETUP)
    drawn = json.loads((entry.path / "drawn.json").read_text())
    names = {name for copy in drawn for name in copy}
    assert len(drawn) == 4 and drawn[0] != drawn[1]
    assert names & set(CORRUPTIONS) and names & set(SETUP.sources) and names <= {*CORRUPTIONS, *SETUP.sources}
    assert not torch.equal(data.images[40:80], data.images[80:120])


def test_seed_changes_the_draw():
    first, second = (rta.training_set("10,000 Ori + 4 × 10,000 Ori with Cutout", seed, "shapes10", "disjoint", SETUP)[0] for seed in (0, 1))
    assert first.digest != second.digest


@pytest.mark.parametrize("protocol, split", [("disjoint", "train"), ("paper", "test")])
def test_protocol_names_the_split_of_the_originals(protocol, split):
    data, _ = rta.training_set(rta.BASELINE, 0, "shapes10", protocol, SETUP)
    assert torch.equal(data.images, load_dataset("shapes10", split, limit=SETUP.originals, seed=0).images)


def test_suite_parts_stay_in_their_bounds():
    suite = rta.proxy_suite("shapes10", SETUP)
    clean = suite["clean"].images.int()
    assert list(suite) == list(rta.PARTS)
    for part in ("transfer_fgsm", "transfer_pgd"):
        assert 0 < (suite[part].images.int() - clean).abs().max() <= 8
    assert len(suite["corruptions"]) == 15 * len(clean) and len(suite["held_out_corruptions"]) == 30 * len(clean)


def test_bad_names():
    with pytest.raises(ValueError, match="unknown table"):
        rta.run_table("table5")
    with pytest.raises(ValueError, match="Did you mean 'paper'"):
        rta.run_table(protocol="papr")
