"""A card: its numbers against the plain path, its files, blocks that are kept, and bad input in one line."""

import csv
import json

import pytest
import torch
from published_networks import LOADERS, copies, published_network
from safetensors.torch import save_file
from torch import nn

from rtalib import corrupt, load_dataset, models, store
from rtalib.cli import main as cli
from rtalib.models.inference import evaluate
from rtalib.yours import card, cells, page
from rtalib.yours.cells import NetworkSpec

TYPES = ("gaussian_noise", "contrast")


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """A network that is right now and then: its last layer is fitted to the features of 200 images by least squares."""
    data = load_dataset("shapes10", "train", limit=200)
    torch.manual_seed(0)
    network = models.build("tiny").eval()
    with torch.no_grad():
        features = network.features(data.images / 255)
        weights = torch.linalg.lstsq(torch.cat([features, torch.ones(200, 1)], 1), nn.functional.one_hot(data.labels, 10).float()).solution
        network.classifier.weight.copy_(10 * weights[:-1].T)
        network.classifier.bias.copy_(10 * weights[-1])
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return NetworkSpec("tiny", str(path))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch, tmp_path):
    monkeypatch.setattr(cells, "BLOCK", 40)
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "outputs"))


def request(spec, **changes) -> card.CardRequest:
    return card.CardRequest(spec, "shapes10", **({"limit": 60, "corruptions": TYPES} | changes))


def test_numbers_are_those_of_the_plain_path(spec, tmp_path):
    made = card.evaluate(request(spec, attacks=("pgd",), eps=(2.0, 1.0), attack_limit=20), executor="serial")
    network, data = spec.open(10), load_dataset("shapes10", "test", limit=60)
    assert made.data.digest == data.digest and made.clean == pytest.approx(100 * evaluate(network, data)) and 0 < made.clean < 100
    for name in TYPES:
        for severity in (1, 5):
            plain = 100 * evaluate(network, data.with_images(corrupt(data.images, name, severity)))
            assert made.corruptions[name][severity - 1] == pytest.approx(plain)
    strong, weak = made.accuracy("pgd")[::-1]
    assert made.levels["pgd"] == (1.0, 2.0) and strong <= weak <= 100 * evaluate(network, data.subset(torch.arange(20)))
    path = page.write(made, tmp_path / "card")
    content = json.loads((tmp_path / "card" / "card.json").read_text())
    assert tuple(content) == card.FIELDS and content["corruptions"] == made.corruptions and content["n"] == 60
    assert content["mean"] == pytest.approx(sum(map(sum, made.corruptions.values())) / 10) and set(content["attacks"]["pgd"]) == {
        "1/255",
        "2/255",
    }
    lines = list(csv.DictReader((tmp_path / "card" / "cells.csv").open()))
    assert len(lines) == 1 + 10 + 2 and all(float(line["low"]) <= float(line["accuracy"]) <= float(line["high"]) for line in lines)
    html = path.read_text()
    assert html.index('class="heat"') < html.index("Where it fails first") and "http" not in html and 'src="data:image/png' in html


def test_images_break_at_their_least_severity(spec):
    made = card.evaluate(request(spec, attacks=("pgd",), eps=(1.0,), attack_limit=20), executor="serial")
    breaks, right = made.breaks("contrast"), made.found["contrast"]["right"]
    whole = load_dataset("shapes10", "test")
    for i in range(60):
        wrong = [at for at in range(5) if not right[at, i]]
        assert breaks[i] == (-1 if not made.found["clean"]["right"][0, i] else wrong[0] if wrong else 5)
        line = made.per_image[i]
        assert line["contrast"] == ("0" if breaks[i] < 0 else str(wrong[0] + 1) if wrong else "") and line["pgd"] in ("0", "1", "")
        assert torch.equal(whole.images[line["image"]], made.data.images[i]) and line["class"] == whole.classes[whole.labels[line["image"]]]
    assert sum(made.broken("contrast")) == pytest.approx(100)
    worst = made.slices[0]
    mine = made.data.hard_labels.numpy() == made.data.classes.index(worst["class"])
    assert worst["accuracy"] == pytest.approx(100 * made.found[worst["what"]]["right"][:, mine].mean())


def test_a_second_run_computes_nothing_and_a_larger_one_the_new_blocks(spec):
    def blocks() -> set[str]:
        return {path.name for path in (store.outputs() / "store" / "card-block").glob("[!.]*-*")}

    card.evaluate(request(spec, limit=80), executor="serial")
    first = blocks()
    assert len(first) == 6
    card.evaluate(request(spec, limit=80), executor="serial")
    assert blocks() == first
    larger = card.evaluate(request(spec, limit=120), executor="serial")
    assert first < blocks() and len(blocks()) == 9 and len(larger.data) == 120


def test_another_card_is_not_overwritten(spec, tmp_path):
    page.write(card.evaluate(request(spec), executor="serial"), tmp_path)
    page.write(card.evaluate(request(spec), executor="serial"), tmp_path)
    with pytest.raises(ValueError, match="out: .*card.json is a card of another images; choose another folder"):
        page.write(card.evaluate(request(spec, limit=30), executor="serial"), tmp_path)


NETWORKS = """
import torch
from torch import nn

class Of(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.last, self.answer = nn.Linear(3, 10), answer

    def forward(self, x):
        return self.answer(self.last, x)

def seven(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 7))
def other_size(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 10))
def nan(): return Of(lambda last, x: last(x.mean((2, 3))) / 0 * 0)
def chance(): return Of(lambda last, x: last(x.mean((2, 3))) + torch.randn(len(x), 10))
def batch(): return Of(lambda last, x: last(x.mean((2, 3)) - x.mean((0, 2, 3))))
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("seven", "network: it gives 7 logits, but shapes10 has 10 classes"),
        ("other_size", "network: it cannot take images of 32x32 px .*if it is the size, --resize PX"),
        ("nan", "its logits contain NaN"),
        ("chance", "network: its logits for the same images differ from one call to the next"),
        ("batch", "network: an image's logits depend on the others of its batch"),
    ],
)
def test_networks_that_cannot_be_measured_are_refused_in_one_line(tmp_path, capsys, name, text):
    (tmp_path / "odd.py").write_text(NETWORKS)
    arguments = ["evaluate", f"{tmp_path / 'odd.py'}:{name}", "--dataset", "shapes10", "--limit", "20", "--out", str(tmp_path / "card")]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and not (tmp_path / "card").exists()
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(error)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--limit", "0"], "limit: expected at least 1 image, got 0"),
        (["--limit", "999999"], "limit: asked for 999999 images"),
        (["--corruptions", "fgo"], "unknown corruption 'fgo'. Did you mean 'fog'?"),
        (["--attacks", "pgf"], "unknown attack 'pgf'. Did you mean 'pgd'?"),
        (["--attacks", "pgd", "--eps", "0"], "eps: expected above 0"),
        (["--eps", "one"], "'--eps': expected numbers, comma-separated, got 'one'"),
    ],
)
def test_bad_options_are_refused_in_one_line(spec, tmp_path, capsys, options, text):
    arguments = ["evaluate", "tiny", "--weights", spec.weights, "--dataset", "shapes10", "--out", str(tmp_path / "card"), *options]
    assert cli.main(arguments) == 2 and text in capsys.readouterr().err


def test_the_command_line(spec, tmp_path, capsys):
    arguments = ["evaluate", "tiny", "--weights", spec.weights, "--dataset", "shapes10", "--limit", "40", "--out", str(tmp_path / "card")]
    assert cli.main([*arguments, "--corruptions", "fog", "--executor", "serial"]) == 0
    assert "tiny on shapes10, 40 images: clean" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "card").iterdir()) == sorted(page.FILES)


def test_a_published_network_loses_what_others_measured():
    """Gaussian noise at severity 3 takes ResNet-20 to 22.2 % on 500 images of the copy, as another implementation of the run found."""
    published_network("resnet20"), copies(1)
    noise = card.CardRequest(NetworkSpec(f"{LOADERS}:resnet20"), "cifar10", limit=500, corruptions=("gaussian_noise",))
    made = card.evaluate(noise, executor="serial")
    assert made.clean == pytest.approx(75.4, abs=0.5) and made.corruptions["gaussian_noise"][2] == pytest.approx(22.2, abs=3)
    assert "JPEG copy" in made.facts["provenance"]["note"]
