"""repair() on networks that are not ours to know: DARTS cells, a plain module, and bad input."""

import warnings

import pytest
import torch
from torch import nn

from rtalib import coreset, darts, repair
from rtalib.data.loading import load_dataset
from rtalib.models.base import seeded
from rtalib.models.inference import extract_features
from rtalib.yours.repair import your_network

TRAIN, POOL = load_dataset("shapes10", "train", limit=60), load_dataset("shapes10", "test", limit=60)
NETWORK = seeded(lambda: darts.Network("darts_v1", 4, 2, 10, stem="tiny-imagenet"), 0).eval()


class Plain(nn.Module):
    """No `features`; the layer before the classifier is called `body`."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU())
        self.head = nn.Linear(6, 10)

    def forward(self, x):
        return self.head(self.body(x).mean(dim=(2, 3)))


PLAIN = seeded(Plain, 0).eval()
CONVOLUTIONS = nn.Sequential(nn.Conv2d(3, 10, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("method, extended", [("cf", True), ("rf", False), ("au", True)])
def test_a_network_of_darts_cells_is_refined_and_retrained(method, extended):
    steps = []
    found = repair.repair(
        NETWORK, POOL, TRAIN, method=method, extended=extended, budget=10, test=TRAIN, scale="smoke", on_step=steps.append
    )
    assert isinstance(found.network, darts.Network) and found.network.genotype == found.genotype and not found.network.training
    assert found.network.stem[0].weight.shape == NETWORK.stem[0].weight.shape and len(found.network.cells) == len(NETWORK.cells)
    assert set(found.before) == set(found.after) == {"failures", "test"} and len(found.core) == 10
    assert (found.rows is None) == (method == "au") and "by construction" in found.explanation and len(steps) == 4


def test_core_failures_are_those_of_k_center_greedy_and_more_iterations_search_again():
    found = repair.repair(NETWORK, POOL, TRAIN, budget=8, iterations=2, scale="smoke")
    wrong = (NETWORK(POOL.images / 255).argmax(1) != POOL.labels).nonzero().flatten()
    features = extract_features(NETWORK, POOL.images[wrong]), extract_features(NETWORK, TRAIN.images)
    assert torch.equal(found.rows, wrong[coreset.k_center_greedy(*features, 8)])
    assert found.radius == pytest.approx(coreset.covering_radius(*features, coreset.k_center_greedy(*features, 8)))


def test_another_network_gets_its_core_set_and_the_truth():
    found = repair.repair(PLAIN, POOL, TRAIN, features="body", budget=5, scale="smoke")
    assert len(found.rows) == 5 and found.network is None and found.genotype is None and found.after == {}
    assert "not built of DARTS cells" in found.explanation and "repair.ladder" in found.explanation
    tapped = your_network.featured(PLAIN, "body")
    x = POOL.images[:3] / 255
    assert torch.equal(tapped.features(x), PLAIN.body(x).mean(dim=(2, 3)))


def test_the_search_starts_from_the_deployed_cells():
    genotype = darts.random_genotype(3)
    alphas = your_network.alphas_of(genotype)
    assert alphas["alphas_normal"].sum() == alphas["alphas_reduce"].sum() == 8 * your_network.HEAD_START
    result = darts.search(
        TRAIN, POOL, init=alphas, channels=4, layers=3, stem="tiny-imagenet", epochs=1, steps_per_epoch=1, batch_size=2, arch_lr=0.0
    )
    assert result.genotype == genotype


class NotFinite(Plain):
    def features(self, x):
        return self.body(x).mean(dim=(2, 3)) / 0


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        (CONVOLUTIONS, {}, "no torch.nn.Linear of Sequential gives its logits.* are: 0, 1, 2"),
        (PLAIN, {"features": "bdy"}, "Did you mean 'body'"),
        (NETWORK, {"budget": 61}, "budget: 61 failures are to be selected, but the network fails on"),
        (NETWORK, {"budget": 0}, "budget: expected at least 1, got 0"),
        (NETWORK, {"method": "cff"}, "Did you mean 'cf'"),
        (NETWORK, {"iterations": 0}, "iterations: expected at least 1, got 0"),
        (seeded(NotFinite, 0).eval(), {}, "network: its features are NaN or infinite on"),
        (NETWORK, {"scale": "smok"}, "Did you mean 'smoke'"),
    ],
)
def test_bad_input(network, changes, message):
    with pytest.raises(ValueError, match=message):
        repair.repair(network, POOL, TRAIN, **{"scale": "smoke", **changes})


def test_no_failure_and_failures_of_one_class():
    with torch.no_grad():
        right = POOL.subset(NETWORK(POOL.images / 255).argmax(1) == POOL.labels)
        wrong = POOL.subset((NETWORK(POOL.images / 255).argmax(1) != POOL.labels) & (POOL.labels == 1))
    with pytest.raises(ValueError, match="right on all .* needs no repair"):
        repair.repair(NETWORK, right, TRAIN, scale="smoke")
    one = POOL.subset((NETWORK(POOL.images / 255).argmax(1) != POOL.labels).nonzero()[:1, 0])
    with pytest.warns(UserWarning, match="all 1 are of class"):
        assert len(repair.repair(PLAIN, one, TRAIN, features="body", scale="smoke").core) == 1, "of one failure one is taken"
    with pytest.warns(UserWarning, match="all 6 are of class 'square'"):
        repair.repair(PLAIN, wrong, TRAIN, features="body", scale="smoke")
    with warnings.catch_warnings(), pytest.raises(ValueError, match="failures: expected the classes of train"):
        repair.repair(NETWORK, type(POOL)(POOL.images, POOL.labels, tuple("abcdefghij"), "x"), TRAIN, scale="smoke")


def test_what_is_found_is_written(tmp_path):
    found = repair.repair(NETWORK, POOL, TRAIN, budget=4, scale="smoke")
    assert [path.name for path in your_network.save(found, tmp_path)] == ["core.npy", "genotype.json", "weights.safetensors"]
    assert darts.Genotype.parse((tmp_path / "genotype.json").read_text()) == found.genotype
