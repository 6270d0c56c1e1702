"""The registry of source models: every listed source can be built and trained here, and the cards hold the published figures."""

import dataclasses

import pytest
import torch
from torch import nn

from rtalib import models, robust_training
from rtalib.corruptions import CORRUPTIONS
from rtalib.scales import SCALES
from rtalib.sources import SOURCES, objective


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(8, 3, 8, 8, generator=generator), torch.randint(0, 10, (8,), generator=generator)


def test_names() -> None:
    assert list(SOURCES) == ["clean_resnet50", "clean_wideresnet", "pgd_at", "wideresnet_trades", "fast_at", "label_smoothing"]
    assert all(name == card.name for name, card in SOURCES.items())
    assert not set(SOURCES) & set(CORRUPTIONS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SOURCES["pgd_at"].name = "x"


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_can_be_built_and_trained(name: str) -> None:
    card = SOURCES[name]
    assert all(scale.rta.source_model(name) in models.MODELS for scale in SCALES.values())
    loss = objective(card, steps=2)
    assert (loss is None) == name.startswith("clean")
    if loss is not None:
        model = net()
        value = loss(model, *batch())
        value.backward()
        assert value.isfinite() and all(parameter.grad is not None for parameter in model.parameters())


def test_default_objectives_are_the_methods_own_settings() -> None:
    for name, expected in (
        ("pgd_at", robust_training.pgd_at(8 / 255, 2 / 255, 10)),
        ("wideresnet_trades", robust_training.trades(6.0, 8 / 255, 0.007, 10)),
        ("fast_at", robust_training.fast_at(8 / 255, 10 / 255)),
        ("label_smoothing", robust_training.pgd_at(8 / 255, 2 / 255, 10, label_smoothing=0.1)),
    ):
        losses = []
        for loss in (objective(SOURCES[name]), expected):
            model = net()
            torch.manual_seed(4)
            losses.append(loss(model, *batch()).item())
        assert losses[0] == losses[1]


def test_published_figures() -> None:
    """Clean accuracy, accuracy under AutoAttack (RobustBench's leaderboard), and the contest's starter scores."""
    figures = {name: (card.clean_accuracy, card.autoattack, card.starter_score) for name, card in SOURCES.items()}
    assert figures["pgd_at"] == (87.14, 44.04, 0.515)
    assert figures["wideresnet_trades"] == (84.92, 53.08, 0.418)
    assert figures["fast_at"] == (83.34, 43.21, 0.492)
    assert figures["label_smoothing"] == (None, None, 0.418)
    assert {name for name, card in SOURCES.items() if card.robustbench} == {"wideresnet_trades", "fast_at"}


def test_steps_are_checked() -> None:
    with pytest.raises(ValueError, match="steps"):
        objective(SOURCES["pgd_at"], steps=0)
