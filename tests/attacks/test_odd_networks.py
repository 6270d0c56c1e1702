"""Networks that others write are attacked as they are, and left as they were: a table of known kinds, and drawn ones."""

import warnings

import numpy as np
import pytest
import torch
from attacked_nets import clip, reference_gradient
from hypothesis import strategies as st
from odd_inputs import attempt, few_and_many
from odd_networks import CLASSES, CONTEXTS, DECORATIONS, SIDE, Counting, InPlace, Noise, default_dtype, networks, snapshot, untouched
from torch import nn

from rtalib import attacks

N = 5
RECIPES = {
    "fgsm": attacks.FGSM,
    "bim": lambda **own: attacks.BIM(steps=2, **own),
    "mi-fgsm": lambda **own: attacks.MIFGSM(steps=2, **own),
    "pgd": lambda **own: attacks.PGD(steps=2, restarts=2, **own),
    "pgd-stop": lambda **own: attacks.PGD(steps=2, restarts=2, stop_on_success=True, loss="margin", **own),
    "pgd-l2": lambda **own: attacks.PGDL2(steps=2, **own),
    "odi-pgd": lambda **own: attacks.ODIPGD(steps=2, restarts=2, **own),
    "odi-bim": lambda **own: attacks.odi_bim_recipe(restarts=2, **own),
}


def pictures(dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(N, 3, SIDE, SIDE, generator=generator, dtype=dtype), torch.randint(CLASSES, (N,), generator=generator)


def body(*first: nn.Module, conv=lambda module: module) -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6)
    norm.running_mean.normal_()
    head = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, CLASSES)
    return nn.Sequential(*first, conv(nn.Conv2d(3, 6, 3)), norm, nn.Tanh(), *head).double().eval()


@pytest.mark.parametrize("name", DECORATIONS)
def test_a_decorated_layer_is_attacked_and_prepared_as_it_is(name):
    images, labels = pictures()
    model = body(conv=DECORATIONS[name])
    model(images)  # with a graph: the weights that hooks compute then cannot be copied by deepcopy
    fast = attacks.prepared(model)
    assert torch.allclose(fast(images), model(images), atol=1e-9)
    assert isinstance(fast.fast[1], nn.Identity) == (name == "plain"), "only a layer that is what it seems is folded"
    assert torch.allclose(attacks.prepared(model, fold=False)(images), model(images), atol=1e-9)
    x = images
    for _ in range(3):
        x = clip(
            x + 2 / 255 * reference_gradient(model, x, lambda z: nn.functional.cross_entropy(z, labels, reduction="sum")).sign(), images
        )
    for one in (model, fast):
        assert torch.allclose(attacks.bim(one, images, labels, steps=3), x, atol=1e-9)


def test_weights_that_two_layers_share_stay_shared_with_what_they_were():
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 3), nn.Flatten(), nn.Linear(48, 4)).eval()
    model[3].weight = model[0].weight
    images = torch.rand(2, 3, 8, 8)
    assert torch.allclose(attacks.prepared(model)(images), model(images), atol=1e-5)


def test_a_model_that_normalizes_in_place_changes_no_picture_of_the_caller():
    images, labels = pictures()
    kept, model = images.clone(), body(InPlace())
    found = attacks.pgd(model, images, labels)
    attacks.has_low_logits(model, images)
    assert torch.equal(images, kept)
    assert torch.equal(found, attacks.pgd(body(nn.Sequential(Shift())), images, labels))


class Shift(nn.Module):
    def forward(self, x):
        return (x - 0.5) / 0.25


@pytest.mark.parametrize("anew", [False, True])
def test_buffers_are_as_they_were(anew):
    images, labels = pictures()
    model = body(Counting(anew))
    before = snapshot(model)
    attacks.pgd(model, images, labels)
    attacks.pgd(attacks.prepared(model), images, labels)
    assert untouched(before, snapshot(model)) and model[0].calls == 0


def test_rounding_at_the_range_is_no_normalization():
    levels = torch.randint(0, 256, (64, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)) / 255
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1), torch.tensor([0.2023, 0.1994, 0.2010]).view(3, 1, 1)
    undone = (levels - mean) / std * std + mean
    assert undone.min() < 0, "the test needs a value that rounding took out of the range"
    model = body().float()
    found = attacks.fgsm(model, undone, torch.zeros(64, dtype=torch.int64))
    assert 0 <= found.min() and found.max() <= 1
    with pytest.raises(ValueError, match=r"got -0\.001 to "):
        attacks.fgsm(model, levels - 0.001, torch.zeros(64, dtype=torch.int64))


def test_inference_mode_gives_the_same_and_a_normal_tensor():
    images, labels = pictures()
    model = body()
    expected = attacks.pgd(model, images, labels)
    with torch.inference_mode():
        found = attacks.pgd(model, images.clone(), labels.clone())
    assert torch.equal(found, expected) and not found.is_inference()
    with torch.inference_mode():
        made_inside = body()
    with pytest.raises(ValueError, match=r"model: .* was made in torch\.inference_mode"):
        attacks.pgd(made_inside, images, labels)


@pytest.mark.parametrize("name", RECIPES)
def test_images_that_require_grad_give_images_without_a_graph(name):
    images, labels = pictures()
    images.requires_grad_()
    found = RECIPES[name]()(body(), images, labels)
    assert not found.requires_grad and images.grad is None
    assert np.array_equal(found.numpy(), RECIPES[name]()(body(), images.detach().numpy(), labels.numpy().astype(np.int32)).numpy())


def test_batch_statistics_are_said_and_images_stay_together():
    images, labels = pictures()
    norm = nn.BatchNorm1d(16, track_running_stats=False)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 16), norm, nn.Linear(16, CLASSES)).double().eval()
    labels = model(images).argmax(1)  # right at first, so that the attack has to go on with fewer and fewer of them
    with pytest.warns(attacks.AttackWarning, match=r"mixes the images of a batch.*#batch-statistics"):
        record = attacks.PGD(0.1, 2e-3, 40, random_start=False, stop_on_success=True).record(model, images, labels)
    assert len(record.gradients.unique()) > 1 and (record.images - images).abs().max() <= 0.1 + 1e-12


def test_a_model_that_mixes_without_batch_norm_is_found_by_asking():
    class Centered(nn.Module):
        def forward(self, x):
            return x - x.mean(0, keepdim=True)

    with pytest.warns(attacks.AttackWarning, match="mixes the images"):
        attacks.fgsm(body(Centered()), *pictures())


@pytest.mark.parametrize("kind", ["noise", "dropout", "python", "numpy"])
def test_a_random_model_is_judged_several_times_and_leaves_the_generators(kind):
    images, labels = pictures()
    model, state = body(Noise(kind)), torch.get_rng_state()
    with pytest.warns(attacks.AttackWarning, match=r"random numbers in eval mode.*#random-models"):
        record = attacks.PGD(1 / 255, 0.25 / 255, 5, restarts=5, stop_on_success=True).record(model, images, labels)
    assert torch.equal(state, torch.get_rng_state())
    assert record.share is not None and torch.equal(record.success, record.share > 0.5)
    assert record.success_rate == record.share.mean()


def test_the_success_of_a_random_model_is_what_it_says_on_average():
    """The case of the review: one lucky draw is no success."""

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))

        def forward(self, x):
            return self.net(x + 0.3 * torch.randn_like(x))

    torch.manual_seed(0)
    model, x = Noisy().eval(), torch.rand(200, 3, 32, 32)
    y = model.net(x).argmax(1)
    with pytest.warns(attacks.AttackWarning, match="random numbers"):
        record = attacks.PGD(eps=1 / 255, step_size=0.25 / 255, stop_on_success=True, restarts=5).record(model, x, y)
    with torch.no_grad():
        again = sum((model(record.images).argmax(1) != y).double().mean().item() for _ in range(20)) / 20
    assert abs(record.success_rate - again) < 0.03 and again < 0.8
    with pytest.warns(attacks.AttackWarning, match="random numbers"):
        stored = attacks.attack(attacks.PGD(eps=1 / 255, stop_on_success=True), model, (x * 255).byte(), y)
    assert stored.share is not None and 0.2 < stored.success_rate < 0.9


def test_a_stand_in_that_is_not_the_network_is_refused():
    images, _ = pictures()
    model = body()
    fast = attacks.prepared(model)
    with torch.no_grad():
        model[-1].weight.mul_(2)
    with pytest.raises(ValueError, match=r"model: the stand-in's logits differ .* prepare it again"):
        fast(images)


def test_tiny_gradients_take_steps_of_the_size_that_was_asked_for():
    class Faint(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = body().float()

        def forward(self, x):
            return self.net(x) * 1e-22

    images, labels = pictures(torch.float32)
    for recipe, expected in ((attacks.PGDL2(eps=0.5, step_size=0.1, steps=1, random_start=False, loss="margin"), 0.1),):
        moved = (recipe(Faint().eval(), images.clamp(0.2, 0.8), labels) - images.clamp(0.2, 0.8)).flatten(1).norm(dim=1)
        assert torch.allclose(moved, torch.full((N,), expected), rtol=1e-4)


@pytest.mark.parametrize("name", RECIPES)
def test_targets_are_reached_and_counted(name):
    images, _ = pictures()
    model = body()
    targets = (model(images).argmax(1) + 1) % CLASSES
    own = {"eps": 2.0} if name == "pgd-l2" else {"eps": 0.3}
    record = RECIPES[name](targeted=True, **own).record(model, images, targets)
    assert torch.equal(record.success, model(record.images).argmax(1) == targets)
    before, after = (model(x).log_softmax(1).gather(1, targets[:, None]) for x in (images, record.images))
    assert after.mean() > before.mean()


def test_a_targeted_attack_is_the_untargeted_one_of_the_negative_loss():
    images, labels = pictures()
    model = body()
    x = images
    for _ in range(4):
        step = reference_gradient(model, x, lambda z: nn.functional.cross_entropy(z, labels, reduction="sum")).sign()
        x = clip(x - 2 / 255 * step, images)
    assert torch.allclose(attacks.bim(model, images, labels, steps=4, targeted=True), x, atol=1e-12)


@pytest.mark.parametrize("name", RECIPES)
def test_a_radius_for_each_image_is_the_attack_of_each_alone(name):
    images, labels = pictures()
    model, radii = body(), torch.linspace(0, 12, N, dtype=torch.float64) / 255
    recipe = RECIPES[name](eps=radii)
    whole = recipe(model, images, labels)
    for i in range(N):
        alone = RECIPES[name](eps=radii[i].item())(model, images[[i]], labels[[i]], index=[i])
        assert torch.allclose(alone, whole[[i]], atol=1e-9)
    assert recipe == RECIPES[name](eps=radii.numpy()) and hash(recipe) == hash(RECIPES[name](eps=radii.tolist()))
    stored = attacks.attack(recipe, model.float(), (images * 255).byte(), labels, batch_size=2)
    assert ((stored.images.double() / 255 - (images * 255).byte().double() / 255).flatten(1).abs().amax(1) <= radii + 1e-9).all()
    with pytest.raises(ValueError, match=r"eps: expected one number, or 5 \(one per image\), got 2"):
        RECIPES[name](eps=[0.1, 0.2])(model.double(), images, labels)


def arguments():
    return st.fixed_dictionaries({
        "recipe": st.sampled_from(sorted(RECIPES)), "context": st.sampled_from(sorted(CONTEXTS)), "targeted": st.booleans(),
        "per_image": st.booleans(), "form": st.sampled_from(("tensor", "array", "grad", "inference", "rounded", "channels last")),
        "default": st.sampled_from((torch.float32, torch.float64, torch.bfloat16)),
    })  # fmt: skip


@few_and_many
def test_drawn_networks_and_arguments(trials):
    def check(found, arguments):
        (network, mixed, drawn), images, labels = found, *pictures()
        form = arguments["form"]
        given = {"array": images.numpy(), "grad": images.clone().requires_grad_(), "rounded": images.clamp(0, 1) * (1 + 2e-7)}.get(
            form, images
        )
        given = images.contiguous(memory_format=torch.channels_last) if form == "channels last" else given
        kept, before = images.clone(), snapshot(network)
        l2 = arguments["recipe"] == "pgd-l2"
        eps = np.linspace(0.1, 1, N) if l2 and arguments["per_image"] else 0.5 if l2 else 8 / 255
        eps = np.linspace(1, 8, N) / 255 if arguments["per_image"] and not l2 else eps
        recipe = RECIPES[arguments["recipe"]](eps=eps, targeted=arguments["targeted"])
        with default_dtype(arguments["default"]), CONTEXTS[arguments["context"]](), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            given = given.clone() if form == "inference" else given
            record = recipe.record(network, given, labels)
            again = recipe(network, given, labels)
            fast = attacks.prepared(network)
            after = snapshot(network)
            twin = fast(images.clone())  # of a random network, this draws as the network would
        said = {text for text in ("mixes the images", "random numbers") if any(text in str(one.message) for one in said)}
        assert said == {"random numbers"} & ({"random numbers"} if drawn else set()) | ({"mixes the images"} if mixed else set())
        assert untouched(before, after) and torch.equal(images, kept)
        result = record.images
        moved = (result - images).flatten(1).norm(dim=1, p=2 if l2 else float("inf"))
        assert (moved <= torch.as_tensor(eps) + 1e-6).all() and 0 <= result.min() and result.max() <= 1
        assert result.dtype == images.dtype and not result.requires_grad and not result.is_inference()
        if not drawn:
            assert torch.equal(again, result)
            with torch.no_grad():
                network.eval()
                if not (mixed or record.success.all()):
                    assert torch.equal((network(result.clone()).argmax(1) == labels) == arguments["targeted"], record.success)
                if not mixed:
                    assert torch.allclose(twin.double(), network(images.clone()), atol=1e-6)

    attempt(trials, 60, check, networks(), arguments())
