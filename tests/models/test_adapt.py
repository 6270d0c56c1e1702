"""Networks of others in the library's form: normalization, outputs of every kind, the penultimate layer."""

import dataclasses
from collections import namedtuple

import pytest
import torch
import torchvision
from torch import nn
from torchvision.transforms.v2.functional import resize

from rtalib import models
from rtalib.training.artefacts import network_digest

X = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor


Pair = namedtuple("Pair", ["scores", "features"])


class Plain(nn.Module):
    """Returns what `form` makes of (logits, hidden)."""

    def __init__(self, form=lambda logits, hidden: logits):
        super().__init__()
        self.body, self.head, self.form = nn.Linear(3 * 16 * 16, 7), nn.Linear(7, 5), form

    def forward(self, x):
        hidden = self.body(x.flatten(1)).relu()
        return self.form(self.head(hidden), hidden)


@pytest.mark.parametrize(
    ("form", "output"),
    [
        (lambda logits, hidden: logits, None),
        (lambda logits, hidden: {"logits": logits, "hidden": hidden}, None),
        (lambda logits, hidden: {"a": logits, "b": hidden}, "a"),
        (lambda logits, hidden: Output(logits, hidden), None),
        (lambda logits, hidden: (hidden[:, 0], logits), None),
        (lambda logits, hidden: (logits, hidden), 0),
        (lambda logits, hidden: Pair(logits, hidden), "scores"),
    ],
)
def test_logits_of_every_kind_of_output(form, output):
    torch.manual_seed(0)
    plain = Plain()
    network = Plain(form)
    network.load_state_dict(plain.state_dict())
    adapted = models.adapt(network, output=output)
    assert torch.equal(adapted(X), plain(X))
    assert torch.equal(adapted.features(X), plain.body(X.flatten(1)).relu())
    assert adapted.classifier is network.head and torch.equal(adapted.classifier(adapted.features(X)), adapted(X))


def test_parts_that_cannot_be_told_apart_are_named():
    with pytest.raises(ValueError, match="network: it returns .*'a', 'b'; say which part"):
        models.adapt(Plain(lambda logits, hidden: {"a": logits, "b": hidden}))(X)
    with pytest.raises(ValueError, match="output: the network returns no part 'c'; it returns 'a'"):
        models.adapt(Plain(lambda logits, hidden: {"a": logits}), output="c")(X)
    with pytest.raises(ValueError, match=r"network: expected logits of shape \(4, K\), got \(5,\)"):
        models.adapt(Plain(lambda logits, hidden: logits[0]))(X)


def test_pixels_are_normalized_and_resized_before_the_network():
    network = models.adapt(nn.Flatten(), mean=127 / 255, std=128 / 255, size=8)
    assert network(torch.full((1, 3, 8, 8), 1.0)) == pytest.approx(1.0)  # (255 - 127) / 128
    assert network(X).shape == (4, 3 * 8 * 8)
    small = resize(X, [8, 8], antialias=True)
    assert torch.allclose(network(X), ((255 * small - 127) / 128).flatten(1), atol=1e-5)
    three = models.adapt(nn.Flatten(), mean=(0.1, 0.2, 0.3), std=(1, 2, 4))
    assert torch.allclose(three(X).view_as(X)[:, 2], (X[:, 2] - 0.3) / 4)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_32"])
def test_the_penultimate_layer_of_torchvision_s_networks_is_found(name):
    torch.manual_seed(0)
    adapted = models.adapt(torchvision.models.get_model(name, weights=None, num_classes=6).eval(), size=224)
    with torch.no_grad():
        features = adapted.features(X[:1])
        assert torch.allclose(adapted.classifier(features), adapted(X[:1]), atol=1e-5)


def test_a_network_without_a_last_linear_layer_has_no_features():
    network = models.adapt(nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert network(X).shape == (4, 5)
    with pytest.raises(ValueError, match="no torch.nn.Linear of Sequential gives its logits"):
        network.features(X)
    with pytest.raises(RuntimeError, match="call features"):
        _ = network.classifier


def test_the_digest_knows_what_the_weights_do_not_say():
    network = Plain()
    digests = {
        network_digest(models.adapt(network, **form)) for form in ({}, {"size": 8}, {"mean": 0.5, "std": 1.0}, {"mean": 0.5, "std": 2.0})
    }
    assert len(digests) == 4 and not any(name.startswith(("mean", "std")) for name in models.adapt(network, mean=0, std=1).state_dict())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"mean": 0.5}, "mean, std: expected both or none"),
        ({"mean": (0.5, 0.5), "std": (1, 1)}, "mean: expected one number or three"),
        ({"mean": 127, "std": 128}, r"mean: expected 0 to 1 in units of \[0,1\] pixels, got 127"),
        ({"mean": 0.5, "std": 0}, "std: expected above 0"),
        ({"size": 0}, "size: expected at least 1 pixel"),
    ],
)
def test_bad_arguments_are_named(arguments, text):
    with pytest.raises(ValueError, match=text):
        models.adapt(Plain(), **arguments)


def test_only_modules_are_adapted():
    with pytest.raises(TypeError, match="network: expected a torch.nn.Module, got function"):
        models.adapt(lambda x: x)
