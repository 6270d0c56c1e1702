"""What holds for every attack: the ball, the random streams, the model left alone, the record, stopping and restarts."""

import inspect
import math
import pickle

import pytest
import torch
from attacked_nets import EPS, RECIPES, SIDE, N, Net, batch, clip, distance, every_recipe, net, reference_gradient

from rtalib import attacks
from rtalib.attacks.steps import LOSSES, ball, cross_entropy, margin


@every_recipe
def test_within_the_ball_and_the_range(recipe) -> None:
    images, labels = batch(torch.float32)
    found = recipe(net(dtype=torch.float32), images, labels)
    assert found.dtype == torch.float32 and found.shape == images.shape and not found.requires_grad
    assert found.min() >= 0 and found.max() <= 1
    assert (distance(found, images, recipe.norm) <= recipe.eps + 1e-6).all()
    assert (found != images).any()


@every_recipe
def test_same_seed_same_result_and_no_dependence_on_batch_or_order(recipe) -> None:
    images, labels = batch()
    model, index = net(), torch.arange(N) + 1000
    whole = recipe(model, images, labels, index=index, seed=5)
    assert torch.equal(whole, recipe(model, images, labels, index=index, seed=5))
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    parts = [recipe(model, images[at], labels[at], index=index[at], seed=5) for at in order.split(7)]
    assert (torch.cat(parts) - whole[order]).abs().max() < 1e-9


@pytest.mark.parametrize("name", ["pgd", "pgd-stop", "pgd-l2", "odi-pgd", "odi-bim-logits"])
def test_seed_and_index_name_the_random_stream(name: str) -> None:
    images, labels = batch()
    model, recipe = net(), RECIPES[name]
    first = recipe(model, images, labels, seed=0)
    assert not torch.equal(first, recipe(model, images, labels, seed=1))
    assert not torch.equal(first, recipe(model, images, labels, seed=0, index=torch.arange(N) + 1))
    state = torch.get_rng_state()
    recipe(model, images, labels)
    assert torch.equal(state, torch.get_rng_state())


@every_recipe
@pytest.mark.filterwarnings("ignore:.*train mode")
def test_the_model_is_left_as_it_was(recipe) -> None:
    images, labels = batch()
    model = net().train()
    model.body[2].eval()
    model.head.bias.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    found = recipe(model, images, labels)
    assert modes == [module.training for module in model.modules()] and flags == [p.requires_grad for p in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters()) and not images.requires_grad
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(found, recipe(net(), images, labels)), "the attack must run in eval mode"


@pytest.mark.filterwarnings("ignore:.*train mode")
def test_the_model_is_restored_after_an_error() -> None:
    class Broken(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("broken")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="broken"):
        attacks.fgsm(model, torch.rand(2, 3, SIDE, SIDE), torch.zeros(2, dtype=torch.int64))
    assert all(module.training for module in model.modules()) and all(p.requires_grad for p in model.parameters())


def test_works_under_no_grad_and_autocast() -> None:
    images, labels = batch(torch.float32)
    model = net(dtype=torch.float32)
    expected = attacks.bim(model, images, labels)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(attacks.bim(model, images, labels), expected)


@every_recipe
def test_the_record_is_of_the_same_images_and_says_what_the_model_says(recipe) -> None:
    images, labels = batch()
    model = net()
    record = recipe.record(model, images, labels, seed=1)
    assert torch.equal(record.images, recipe(model, images, labels, seed=1))
    assert torch.equal(record.success, model(record.images).argmax(1) != labels)
    assert record.success_rate == record.success.double().mean().item()
    assert record.gradients.dtype == record.restarts.dtype == torch.int64
    restarts = getattr(recipe, "restarts", 1) * getattr(recipe, "blocks", 1)
    assert (record.restarts <= restarts).all() and ((record.gradients > 0) == (record.restarts > 0)).all()


def test_a_recipe_cannot_be_changed_and_equals_its_twin() -> None:
    for recipe in RECIPES.values():
        with pytest.raises(AttributeError):
            recipe.eps = 0.0
    assert attacks.PGD() == attacks.PGD() != attacks.PGD(steps=11) and len({attacks.PGD(), attacks.PGD(), attacks.BIM()}) == 2


# ------------------------------------------------------------------------------------------------- restarts and stopping


def all_iterates(recipe: attacks.PGD, model: Net, images: torch.Tensor, labels: torch.Tensor, seed: int) -> list[list[torch.Tensor]]:
    """Every iterate of every restart of an L-infinity PGD with cross-entropy, every image computed to the end."""
    restarts = []
    for restart in range(recipe.restarts):
        path = [ball(seed, torch.arange(N), restart, images, recipe.eps) if recipe.random_start else images]
        for _ in range(recipe.steps):
            gradient = reference_gradient(model, path[-1], lambda logits: cross_entropy(logits, labels).sum())
            path.append(clip(path[-1] + recipe.step_size * gradient.sign(), images, recipe.eps))
        restarts.append(path)
    return restarts


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("restarts", [1, 3])
def test_stopping_without_dropping_images_gives_the_same(random_start: bool, restarts: int) -> None:
    """The first misclassified of: the clean image, then all iterates in order; else the end point of the highest loss."""
    images, labels = batch()
    model = net()
    recipe = attacks.PGD(2 / 255, 0.5 / 255, 4, random_start, restarts, stop_on_success=True)
    paths = all_iterates(recipe, model, images, labels, seed=3)
    expected, solved = images.clone(), model(images).argmax(1) != labels
    natural = solved.clone()
    used, best = torch.zeros(N, dtype=torch.int64), torch.full((N,), -math.inf, dtype=torch.float64)
    for path in paths:
        for step, x in enumerate(path):
            used += ~solved & (step > 0)
            logits = model(x).detach()
            first = ~solved & (logits.argmax(1) != labels)
            expected[first], solved = x[first], solved | first
        loss = cross_entropy(logits, labels)
        better = ~solved & (loss > best)
        expected[better], best[better] = x[better], loss[better]
    record = recipe.record(model, images, labels, seed=3)
    assert torch.equal(record.success, solved) and (record.images - expected).abs().max() < 1e-9
    assert torch.equal(record.gradients, used)
    assert torch.equal(record.images[natural], images[natural]) and not record.gradients[natural].any() and natural.any()
    assert not solved.all() and (solved & (used > 0)).any(), "the test needs images that fall on the way, and images that never do"


def test_full_strength_is_the_end_point_and_restarts_skip_what_fell() -> None:
    images, labels = batch()
    model = net()
    recipe = attacks.PGD(1.5 / 255, 0.5 / 255, 3, restarts=4)
    paths = all_iterates(recipe, model, images, labels, seed=0)
    ends = torch.stack([path[-1] for path in paths])
    fooled = torch.stack([model(x).argmax(1) != labels for x in ends])
    losses = torch.stack([cross_entropy(model(x).detach(), labels) for x in ends])
    chosen = torch.where(fooled.any(0), fooled.int().argmax(0), losses.argmax(0))
    record = recipe.record(model, images, labels)
    assert (record.images - ends[chosen, torch.arange(N)]).abs().max() < 1e-9
    used = torch.where(fooled.any(0), fooled.int().argmax(0) + 1, 4)
    assert torch.equal(record.restarts, used) and torch.equal(record.gradients, 3 * used)
    assert 1 < len(used.unique()), "the test needs images that fall late"


def test_stopping_finds_at_least_what_full_strength_finds_with_fewer_gradients() -> None:
    images, labels = batch()
    model = net()
    full = attacks.PGD(3 / 255, 1 / 255).record(model, images, labels)
    stopped = attacks.PGD(3 / 255, 1 / 255, stop_on_success=True).record(model, images, labels)
    assert (stopped.success | ~full.success).all() and stopped.gradients.sum() < 0.7 * full.gradients.sum()


def test_only_images_still_to_be_fooled_are_computed() -> None:
    images, labels = batch()
    model, sizes = net(), []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    record = attacks.BIM(3 / 255, 0.5 / 255, stop_on_success=True).record(model, images, labels)
    assert sizes[:2] == [1, 2] and sizes[2:] == sorted(sizes[2:], reverse=True) and sum(sizes) < 11 * N
    assert sum(sizes) == 3 + N + record.gradients.sum(), "one image and two to know the model, the clean ones, one pass after each step"


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", [attacks.PGD, attacks.PGDL2])
def test_restarts_never_lower_the_loss_or_the_success_of_an_image(loss: str, kind: type) -> None:
    images, labels = batch()
    model = net()
    eps, step = (1 / 255, 0.4 / 255) if kind is attacks.PGD else (0.03, 0.015)
    one, four = (kind(eps, step, 2, restarts=k, loss=loss).record(model, images, labels) for k in (1, 4))
    assert (four.success | ~one.success).all()
    gain = (LOSSES[loss](model(four.images), labels) - LOSSES[loss](model(one.images), labels))[~four.success]
    assert (gain >= 0).all() and (gain > 0).any()


@pytest.mark.parametrize("name", ["odi-bim-logits", "odi-pgd"])
def test_the_best_iterate_is_never_worse_than_the_clean_image(name: str) -> None:
    images, labels = batch()
    model, recipe = net(), RECIPES[name]
    found = recipe(model, images, labels)
    assert (margin(model(found), labels) >= margin(model(images), labels) - 1e-9).all() or recipe.random_start


def test_pgd_starts_uniformly_in_the_ball() -> None:
    images = torch.full((200, 3, SIDE, SIDE), 0.5, dtype=torch.float64)
    labels = net()(images).argmax(1)
    noise = (attacks.PGD(step_size=0.0, steps=1)(net(), images, labels) - images) / EPS
    assert abs(noise.mean()) < 0.01 and abs(noise.var() - 1 / 3) < 0.01 and noise.abs().max() <= 1 + 1e-9
    noise = (attacks.PGDL2(eps=0.25, step_size=0.0, steps=1)(net(), images, labels) - images) / 0.25
    radii = noise.flatten(1).norm(dim=1)
    assert radii.max() <= 1 + 1e-9 and abs((radii ** (3 * SIDE * SIDE)).mean() - 0.5) < 0.06, "uniform: the mass grows with r^d"
    assert abs(noise.mean()) < 0.01 and abs((noise / radii[:, None, None, None]).var() * 3 * SIDE * SIDE - 1) < 0.01


def test_losses() -> None:
    logits = torch.tensor([[2.0, 5.0, 1.0, 0.0], [2.0, 5.0, 1.0, 0.0]])
    labels = torch.tensor([1, 2])
    assert margin(logits, labels).tolist() == [-3.0, 4.0]
    assert torch.allclose(LOSSES["dlr"](logits, labels), torch.tensor([-3 / 4, 4 / 4]))
    assert torch.allclose(cross_entropy(logits, labels), -logits.log_softmax(1)[[0, 1], [1, 2]])
    with pytest.raises(ValueError, match="at least 3 classes"):
        LOSSES["dlr"](logits[:, :2], torch.tensor([0, 1]))


# ------------------------------------------------------------------------------------------------- recipes as functions


@pytest.mark.parametrize(
    ("function", "recipe", "settings"),
    [
        (attacks.fgsm, attacks.FGSM, {"eps": 3 / 255}),
        (attacks.mi_fgsm, attacks.MIFGSM, {"steps": 3, "decay": 0.5}),
        (attacks.pgd_l2, attacks.PGDL2, {"eps": 0.1, "restarts": 2}),
        (attacks.odi_bim, attacks.odi_bim_recipe, {"preset": "logits", "restarts": 1, "steps": 2}),
    ],
)
def test_a_function_is_its_recipe_with_its_settings_by_name(function, recipe, settings) -> None:
    images, labels = batch()
    index = torch.arange(N) + 7
    expected = recipe(**settings)(net(), images, labels, index=index, seed=3)
    assert torch.equal(function(net(), images, labels, index=index, seed=3, **settings), expected)
    assert pickle.loads(pickle.dumps(function)) is function
    assert set(inspect.signature(recipe).parameters) < set(inspect.signature(function).parameters)
    with pytest.raises(TypeError, match="epsilon"):
        function(net(), images, labels, epsilon=1 / 255)


def test_fgsm_is_one_step_of_size_eps() -> None:
    images, labels = batch()
    assert torch.equal(
        attacks.fgsm(net(), images, labels, eps=3 / 255), attacks.bim(net(), images, labels, eps=3 / 255, step_size=3 / 255, steps=1)
    )
    record = attacks.FGSM(stop_on_success=True).record(net(), images, labels)
    assert (record.gradients <= 1).all() and attacks.with_eps(attacks.FGSM(), 1 / 255) == attacks.FGSM(1 / 255)
