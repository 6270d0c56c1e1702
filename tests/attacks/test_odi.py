"""ODI-PGD and ODI-BIM against autograd, against the published description, and against BIM."""

import math

import pytest
import torch
import torch.nn.functional as F
from attacked_nets import EPS, RECIPES, STEP, K, N, batch, clip, net
from torch import nn

from rtalib import attacks, rng
from rtalib.attacks.steps import margin


def test_cosine_sizes_are_the_published_factors() -> None:
    assert [round(size, 4) for size in attacks.cosine_sizes(1.0, 5)] == [1.0, 0.9284, 0.7409, 0.5091, 0.3216]


@pytest.mark.parametrize("space", ["logits", "softmax"])
def test_first_odi_step_follows_the_gradient_of_a_random_output_direction(space: str) -> None:
    images, labels = batch()
    model = net()
    labels = model(images).argmax(1)
    w = 2 * rng.uniform(9, torch.arange(N), rng.stream("odi", 0), K) - 1
    assert w.min() >= -1 and w.max() < 1 and abs(w.mean()) < 0.1
    outputs = torch.autograd.functional.jacobian(lambda x: (model(x).softmax(1) if space == "softmax" else model(x)).sum(0), images)
    direction = torch.einsum("nk,knchw->nchw", w, outputs).sign()
    # One ODI step and one margin step of size zero: the last evaluated iterate is the one after the ODI step.
    recipe = attacks.ODIBIM(restarts=1, odi_steps=1, steps=1, step_size=0.0, space=space)
    found = recipe(model, images, labels, seed=9)
    assert torch.allclose(found, clip(images + EPS * direction, images), atol=1e-12)


def author_reference(model: nn.Module, images, labels, eps: float, restarts: int, blocks: int, space, seed: int = 0):
    """The published description, with every image computed to the end: (stored result, success, gradients until it)."""
    stored, solved, used = images.clone(), torch.zeros(N, dtype=torch.bool), torch.zeros(N, dtype=torch.int64)
    sizes = [eps, eps] + [eps / 4 + 3 * eps / 4 * (1 + math.cos(math.pi * j / 5)) / 2 for j in range(5)]
    for block in range(blocks):
        x = stored.clone()
        for restart in range(restarts):
            w = 2 * rng.uniform(seed, torch.arange(N), rng.stream("odi", block * restarts + restart), K) - 1
            for step, size in enumerate(sizes):
                x = x.detach().requires_grad_()
                scores = space(model(x))
                stored[~solved] = x.detach()[~solved]
                solved = solved | (scores.argmax(1) != labels)
                own = scores[torch.arange(N), labels]
                wrong = scores.masked_fill(F.one_hot(labels, K).bool(), -1e9).max(1).values
                loss = (w * scores).sum() if step < 2 else -F.relu(own - wrong + 50).sum()
                (gradient,) = torch.autograd.grad(loss, x)
                x = torch.max(torch.min(x + size * gradient.sign(), images + eps), images - eps).clamp(0, 1)
                used += ~solved
    return stored, solved, used


@pytest.mark.parametrize(("low_logits", "eps"), [(False, 1.5 / 255), (False, EPS), (True, 1.5 / 255)])
def test_author_preset_equals_the_description_computed_without_dropping_images(low_logits: bool, eps: float) -> None:
    images, labels = batch()
    model = net()
    space = (lambda z: z) if low_logits else (lambda z: z.softmax(1))
    stored, solved, used = author_reference(model, images, labels, eps, 4, 1 + low_logits, space)
    record = attacks.odi_bim_recipe(eps=eps, restarts=4, low_logits=low_logits).record(model, images, labels)
    assert torch.equal(record.success, solved) and torch.equal(record.gradients, used)
    assert (record.images - stored).abs().max() < 1e-9
    natural = model(images).argmax(1) != labels
    assert natural.any() and torch.equal(record.images[natural], images[natural])
    assert not record.gradients[natural].any() and not record.restarts[natural].any()
    if eps < EPS:
        assert not solved.all(), "the test needs images that are never fooled"
    assert (used[solved] > 0).any(), "and images that are fooled on the way"


def test_author_preset_spends_at_most_98_gradients_and_196_on_low_logits() -> None:
    images, labels = batch()
    model = net()
    labels = model(images).argmax(1)
    for low_logits, most in ((False, 98), (True, 196)):
        record = attacks.odi_bim_recipe(eps=0.01 / 255, low_logits=low_logits).record(model, images, labels)
        assert record.gradients.max() == most and not record.success.all()


def test_success_is_what_the_model_says_of_the_images() -> None:
    images, labels = batch()
    model = net()
    for preset in attacks.ODI_BIM_PRESETS:
        record = attacks.odi_bim_recipe(preset, eps=2 / 255, restarts=2, steps=4).record(model, images, labels)
        assert torch.equal(record.success, model(record.images).argmax(1) != labels)


def test_without_odi_steps_it_is_bim_on_the_margin() -> None:
    """All iterates of BIM; the kept one is the first that fools the model (else the last), or the one of the largest margin."""
    images, labels = batch()
    model = net()
    for eps, size in ((2 / 255, STEP / 4), (80 / 255, 60 / 255)):
        path = [images] + [attacks.BIM(eps, size, steps, loss="margin")(model, images, labels) for steps in range(1, 9)]
        margins = torch.stack([margin(model(x), labels) for x in path]).detach()
        plain = {"eps": eps, "restarts": 1, "odi_steps": 0, "step_size": size, "space": "logits"}
        best = attacks.ODIBIM(**plain, steps=8, keep="best")(model, images, labels)
        at = margins.argmax(0)
        assert (at < 8).any() or eps < EPS, "large steps overshoot, so that the best iterate is not always the last"
        assert torch.allclose(best, torch.stack([path[at[i]][i] for i in range(N)]), atol=1e-12)
        first = attacks.ODIBIM(**plain, steps=9, keep="first")(model, images, labels)
        fooled = margins > 0
        at = torch.where(fooled.any(0), fooled.int().argmax(0), 8)
        assert torch.allclose(first, torch.stack([path[at[i]][i] for i in range(N)]), atol=1e-12)
        assert len(set(at.tolist())) > 3 or eps > EPS, "small steps fool images of different difficulty at different times"


def test_without_odi_steps_it_is_bim_that_stops() -> None:
    """ODI-BIM does not evaluate the iterate after its last step, so it takes one step more to give the same."""
    images, labels = batch()
    model = net()
    plain = attacks.ODIBIM(2 / 255, restarts=1, odi_steps=0, steps=6, step_size=0.5 / 255, space="logits")
    stopping = attacks.BIM(2 / 255, 0.5 / 255, 5, loss="margin", stop_on_success=True)
    ours, expected = plain.record(model, images, labels), stopping.record(model, images, labels)
    assert torch.equal(ours.images, expected.images) and torch.equal(ours.success, expected.success)
    assert torch.equal(ours.gradients[ours.success], expected.gradients[ours.success]) and not ours.success.all()


def test_a_second_block_starts_from_the_last_evaluated_iterate() -> None:
    images, labels = batch()
    model = net()
    labels = model(images).argmax(1)
    settings = {"eps": EPS, "restarts": 1, "odi_steps": 0, "steps": 3, "step_size": 1e-5, "space": "logits"}
    found = attacks.ODIBIM(**settings, blocks=2)(model, images, labels)  # evaluates x0 x1 x2, then x2 x3 x4
    assert torch.allclose(found, attacks.BIM(EPS, 1e-5, 4, loss="margin")(model, images, labels), atol=1e-12)


@pytest.mark.parametrize("recipe", [RECIPES["odi-pgd"], RECIPES["odi-bim-logits"]], ids=["odi-pgd", "odi-bim-logits"])
def test_best_iterate_is_never_worse_than_a_shorter_run(recipe) -> None:
    images, labels = batch()
    model = net()
    found = recipe(model, images, labels)
    assert (margin(model(found), labels) >= margin(model(images), labels) - 1e-9).all() or recipe.random_start
    one = attacks.odi_bim(model, images, labels, preset="logits", eps=1 / 255, restarts=1, steps=3)
    two = attacks.odi_bim(model, images, labels, preset="logits", eps=1 / 255, restarts=3, steps=3)
    gain = margin(model(two), labels) - margin(model(one), labels)
    assert (gain >= -1e-9).all() and (gain > 1e-6).any()


def test_has_low_logits_is_about_the_largest_logit() -> None:
    images, _ = batch()
    top = net(1.0)(images).max().item()
    assert attacks.has_low_logits(net(3.1 / top), images) and not attacks.has_low_logits(net(3.3 / top), images, batch_size=5)
