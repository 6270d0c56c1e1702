"""The cards: names, published figures, and plans that can be carried out."""

import dataclasses

import pytest

from rtalib import models
from rtalib.corruptions import CORRUPTIONS
from rtalib.scales import SCALES
from rtalib.sources.cards import SOURCES
from rtalib.sources.heads import HEADS
from rtalib.sources.public_weights import FORMATS
from rtalib.sources.train import CONTEXTS, objective

CLEAN = {"clean_resnet50", "clean_wideresnet"}
CONTEST = {
    "pgd_at", "wideresnet_trades", "feature_scatter", "robust_overfitting", "rst", "fast_at", "at_he", "pre_training", "mmc", "free_at",
    "awp", "hydra", "label_smoothing",
}  # fmt: skip


def test_the_thirteen_contest_defences_and_two_clean_networks() -> None:
    assert set(SOURCES) == CLEAN | CONTEST and len(SOURCES) == 15
    assert all(name == card.name for name, card in SOURCES.items())
    assert not set(SOURCES) & set(CORRUPTIONS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SOURCES["pgd_at"].name = "x"


def test_the_first_six_keep_their_places_and_so_their_seeds() -> None:
    assert list(SOURCES)[:6] == ["clean_resnet50", "clean_wideresnet", "pgd_at", "wideresnet_trades", "fast_at", "label_smoothing"]


@pytest.mark.parametrize("name", SOURCES)
def test_every_plan_names_what_there_is(name: str) -> None:
    plan = SOURCES[name].plan
    assert all(scale.rta.source_model(name) in models.MODELS for scale in SCALES.values())
    for stage in plan:
        assert (objective(stage.objective) is None) == (stage.objective == "clean")
        assert stage.budget in ("clean", "robust", "plan") and stage.data in ("train", "half", "mixed", "other")
        assert stage.begin in ("fresh", "previous", "new head") and stage.head in ("", *HEADS) and stage.weights in CONTEXTS
        assert stage.validation in ("", "best", "collapse") and stage.epochs > 0 and 0 < stage.lr <= 1 and 0 <= stage.warm_up < 1
    assert plan[0].begin == "fresh" and plan[0].data != "mixed" and plan[-1].data != "other"
    assert len(plan) == 1 or all(stage.budget == "plan" for stage in plan)  # a stage's key names its previous one only then


def test_plans_are_the_papers() -> None:
    """Lengths relative to one another, from the authors' settings: 100 + 20 + 100, 100 and 5, 8 replays, 10 of 200."""
    hydra, tuned = SOURCES["hydra"].plan, SOURCES["pre_training"].plan
    assert hydra[0].epochs == hydra[2].epochs > hydra[1].epochs and hydra[2].lr == 0.1
    assert [stage.weights for stage in hydra] == ["all", "scores", "survivors"]
    assert tuned[1].epochs / tuned[0].epochs == 5 / 100 and tuned[1].lr == 0.01
    assert SOURCES["free_at"].plan[0].epochs * objective("free_at").replays == 1
    assert SOURCES["awp"].plan[0].warm_up == 10 / 200


# Clean accuracy, accuracy under the authors' attack and under AutoAttack, misclassified by the contest's starter kit.
FIGURES = {
    "pgd_at": (87.14, 47.04, 44.04, 0.515),
    "wideresnet_trades": (84.92, 56.43, 53.08, 0.418),
    "feature_scatter": (89.98, 60.6, 36.64, 0.248),
    "robust_overfitting": (85.34, 58.0, 53.42, 0.422),
    "rst": (89.69, 62.5, 59.53, 0.346),
    "fast_at": (83.34, 46.06, 43.21, 0.492),
    "at_he": (85.14, None, 53.74, 0.373),
    "pre_training": (87.11, 57.4, 54.92, 0.4),
    "mmc": (80.89, 55.0, 43.48, 0.42),
    "free_at": (86.11, 46.19, 41.47, 0.525),
    "awp": (88.25, 60.04, 60.04, 0.349),
    "hydra": (88.98, 62.24, 57.14, 0.369),
    "label_smoothing": (None, None, None, 0.418),
}


@pytest.mark.parametrize("name", FIGURES)
def test_published_figures(name: str) -> None:
    card = SOURCES[name]
    assert (card.clean_accuracy, card.robust_accuracy, card.autoattack, card.starter_score) == FIGURES[name]


def test_six_have_published_weights() -> None:
    assert {card.robustbench for card in SOURCES.values() if card.robustbench} == set(FORMATS)
