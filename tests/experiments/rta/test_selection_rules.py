"""The selection rules against a brute force written from their words."""

import pytest
import torch

from rtalib.experiments.rta.selection_rules import RULES, cover, pick, preferred, summary

N, M, O = 200, 3, 6  # noqa: E741


def case(models: int = M, share: float = 0.3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(models)
    wrong = torch.rand(models, N, O, generator=generator) < share
    offered = torch.rand(N, O, generator=generator) < 0.7
    offered[:, 2] = True
    return wrong, offered, torch.rand(N, O, generator=generator)


def by_hand(rule: str, wrong: list[list[bool]], offered: list[bool], loss: list[float]) -> set[int]:
    """One image: wrong is (O, M)."""
    there = [o for o in range(O) if offered[o]]
    models = range(len(wrong[0]))
    if rule == "released":
        wanted = [o for o in there if all(wrong[o])]
        for m in models:
            wanted = wanted or [o for o in there if wrong[o][m]]
    elif rule in ("most-models", "coverage"):
        most = max(sum(wrong[o]) for o in there)
        wanted = [o for o in there if sum(wrong[o]) == most > 0]
    elif rule == "highest-loss":
        wanted = [max(there, key=lambda o: loss[o])]
    else:
        wanted = {"any": [o for o in there if any(wrong[o])], "all": [o for o in there if all(wrong[o])], "random": []}[rule]
    return set(wanted or there)


@pytest.mark.parametrize("models", [1, 2, 3])
@pytest.mark.parametrize("rule", RULES)
def test_rules_equal_their_words(rule, models):
    wrong, offered, loss = case(models)
    found = preferred(wrong, offered, rule, loss)
    for i in range(N):
        expected = by_hand(rule, wrong[:, i].T.tolist(), offered[i].tolist(), loss[i].tolist())
        assert set(found[i].nonzero().flatten().tolist()) == expected, i


def test_released_prefers_the_first_model_and_most_models_does_not():
    wrong = torch.tensor([[[True, False]], [[False, True]]])
    there = torch.ones(1, 2, dtype=torch.bool)
    assert preferred(wrong, there, "released").tolist() == [[True, False]]
    assert preferred(wrong, there, "most-models").tolist() == [[True, True]]


def test_cover_takes_one_allowed_candidate_of_each_image_farthest_first():
    wrong, offered, _ = case()
    allowed = preferred(wrong, offered, "coverage")
    generator = torch.Generator().manual_seed(7)
    every, centers = torch.randn(N, O, 3, generator=generator), torch.randn(40, 3, generator=generator)
    found = cover(allowed, every[allowed], centers)
    assert allowed[torch.arange(N), found].all()
    nearest = torch.cdist(every.view(-1, 3).double(), centers.double()).amin(1).view(N, O).masked_fill(~allowed, -1)
    for _ in range(N):  # by hand: the farthest of all, then its image is out
        row, column = divmod(int(nearest.argmax()), O)
        assert found[row] == column
        away = (every.double() - every[row, column].double()).norm(dim=2)
        nearest = torch.minimum(nearest, away).masked_fill(nearest < 0, -1)
        nearest[row] = -1


def test_pick_is_uniform_over_the_allowed_and_follows_the_index():
    allowed = torch.tensor([[True, False, True, True]]).expand(30_000, -1)
    index = torch.arange(30_000)
    found = pick(allowed, seed=3, index=index)
    counts = found.bincount(minlength=4)
    assert counts[1] == 0 and (counts[[0, 2, 3]] - 10_000).abs().max() < 5 * (30_000 * 2 / 9) ** 0.5
    order = torch.randperm(30_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pick(allowed[order], seed=3, index=index[order]), found[order])
    assert not torch.equal(pick(allowed, seed=4, index=index), found)


def test_summary_counts():
    wrong = torch.tensor([[[True, True], [False, True]], [[True, False], [False, True]]])  # (2 models, 2 images, 2 operations)
    offered = torch.tensor([[True, True], [True, False]])
    blamed = torch.tensor([[True, True], [False, False]])
    found = summary(wrong, offered, blamed, ("a", "b"), ("fog", "snow"))
    assert found["n_candidates"] == 3 and found["misclassified"] == {"a": 2, "b": 1}
    assert found["by_rule"] == {"all": 1, "a": 0, "b": 0, "several": 0, "none": 1}
    assert found["accuracy"] == {"a": {"fog": 50.0, "snow": 0.0}, "b": {"fog": 50.0, "snow": 100.0}}
    alone = summary(wrong[:1], offered, torch.tensor([[True], [False]]), ("a",), ("fog", "snow"))
    assert alone["by_rule"] == {"all": 1, "a": 0, "several": 0, "none": 1}


def test_bad_input():
    wrong, offered, _ = case()
    with pytest.raises(ValueError, match="Did you mean 'most-models'"):
        preferred(wrong, offered, "most-model")
    with pytest.raises(ValueError, match="wrong: expected bool"):
        preferred(wrong[0], offered, "any")
    with pytest.raises(ValueError, match="offered: expected bool"):
        preferred(wrong, offered[:, :2], "any")
    with pytest.raises(ValueError, match="loss: rule 'highest-loss'"):
        preferred(wrong, offered, "highest-loss")
    offered[7] = False
    with pytest.raises(ValueError, match="at least one candidate of every image"):
        preferred(wrong, offered, "any")
