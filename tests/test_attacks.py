"""Attacks against short references written here, against autograd, and against torchattacks and foolbox where they are installed."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rtalib import attacks, rng
from rtalib.attack_steps import cross_entropy, dlr, margin

EPS, STEP = 8 / 255, 2 / 255
N, K, SIDE = 24, 10, 8


class Net(nn.Module):
    """Small, smooth, with batch norm (so that train and eval mode differ) and a frozen part; `sharpness` scales the logits."""

    def __init__(self, sharpness: float = 8.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.Tanh(), nn.Conv2d(12, 12, 3, stride=2), nn.Tanh())
        self.head = nn.Linear(12 * 3 * 3, K)
        self.sharpness = sharpness

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sharpness * self.head(self.body(x - 0.5).flatten(1))


def net(sharpness: float = 8.0, dtype: torch.dtype = torch.float64) -> Net:
    torch.manual_seed(0)
    return Net(sharpness).to(dtype).eval()


def batch(dtype: torch.dtype = torch.float64, n: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 pictures as floats, labels that the network gets right for all but every fifth image."""
    images = torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1)).to(dtype) / 255
    labels = net(dtype=dtype)(images).argmax(1).detach()
    labels[::5] = (labels[::5] + 1) % K
    return images, labels


RECIPES = {
    "fgsm": attacks.FGSM(),
    "bim": attacks.BIM(steps=4),
    "pgd": attacks.PGD(steps=3, restarts=2),
    "pgd-dlr": attacks.PGD(steps=3, loss="dlr"),
    "odi-pgd": attacks.ODIPGD(steps=3, restarts=2),
    "odi-bim": attacks.odi_bim_recipe("author", restarts=3),
    "odi-bim-low": attacks.odi_bim_recipe("author", restarts=2, low_logits=True),
    "odi-bim-logits": attacks.odi_bim_recipe("logits", restarts=2, steps=3),
}
every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


# ------------------------------------------------------------------------------------------------ properties of every attack


@every_recipe
def test_within_the_ball_and_the_range_also_as_bytes(recipe) -> None:
    images, labels = batch(torch.float32)
    found = recipe(net(dtype=torch.float32), images, labels)
    assert found.dtype == torch.float32 and found.shape == images.shape and not found.requires_grad
    assert found.min() >= 0 and found.max() <= 1
    assert (found - images).abs().max() <= EPS + 1e-6
    assert (found != images).any()
    clean = (images * 255).round().to(torch.uint8)
    stored = attacks.quantize(found, clean, EPS)
    assert (stored.int() - clean.int()).abs().max() <= 8
    assert (stored.double() / 255 - found.double()).abs().max() <= 0.5 / 255 + 1e-6


@every_recipe
def test_same_seed_same_result_and_no_dependence_on_batch_or_order(recipe) -> None:
    images, labels = batch()
    model, index = net(), torch.arange(N) + 1000
    whole = recipe(model, images, labels, index=index, seed=5)
    assert torch.equal(whole, recipe(model, images, labels, index=index, seed=5))
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    parts = [recipe(model, images[at], labels[at], index=index[at], seed=5) for at in order.split(7)]
    assert (torch.cat(parts) - whole[order]).abs().max() < 1e-9


@pytest.mark.parametrize("name", ["pgd", "odi-pgd", "odi-bim-logits"])
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


# ---------------------------------------------------------------------------------------------- against references and peers


def reference_gradient(model: nn.Module, x: torch.Tensor, loss) -> torch.Tensor:
    x = x.clone().requires_grad_()
    loss(model(x)).backward()
    model.zero_grad(set_to_none=True)
    return x.grad


def clip(x: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    return torch.max(torch.min(x, clean + EPS), clean - EPS).clamp(0, 1)


def test_fgsm_and_bim_follow_the_textbook() -> None:
    images, labels = batch()
    model = net()

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return -logits.log_softmax(1)[torch.arange(N), labels].sum()

    x = clip(images + EPS * reference_gradient(model, images, loss).sign(), images)
    assert torch.allclose(attacks.fgsm(model, images, labels), x, atol=1e-12)
    x = images
    for _ in range(7):
        x = clip(x + STEP * reference_gradient(model, x, loss).sign(), images)
    assert torch.allclose(attacks.bim(model, images, labels, steps=7), x, atol=1e-12)
    start = 2 * rng.uniform(3, torch.arange(N), rng.stream("attack start", 0), 3 * SIDE * SIDE).view_as(images) - 1
    x = clip(images + EPS * start, images)
    for _ in range(7):
        x = clip(x + STEP * reference_gradient(model, x, loss).sign(), images)
    assert torch.allclose(attacks.pgd(model, images, labels, steps=7, seed=3), x, atol=1e-12)


def test_pgd_starts_uniformly_in_the_ball() -> None:
    images = torch.full((200, 3, SIDE, SIDE), 0.5, dtype=torch.float64)
    labels = torch.zeros(200, dtype=torch.int64)
    found = attacks.PGD(step_size=0.0, steps=1)(net(), images, labels)
    noise = (found - images) / EPS
    assert abs(noise.mean()) < 0.01 and abs(noise.var() - 1 / 3) < 0.01 and noise.abs().max() <= 1 + 1e-9


def test_restarts_never_lower_the_loss_of_an_image() -> None:
    images, labels = batch()
    model = net()
    one, four = (attacks.pgd(model, images, labels, steps=2, restarts=k) for k in (1, 4))
    gain = cross_entropy(model(four), labels) - cross_entropy(model(one), labels)
    assert (gain >= 0).all() and (gain > 0).any()


@pytest.mark.filterwarnings("ignore")
def test_torchattacks_agrees() -> None:
    torchattacks = pytest.importorskip("torchattacks")
    images, labels = batch(torch.float32)
    model = net(dtype=torch.float32)
    for ours, theirs in (
        (attacks.fgsm(model, images, labels), torchattacks.FGSM(model, eps=EPS)),
        (attacks.bim(model, images, labels), torchattacks.BIM(model, eps=EPS, alpha=STEP, steps=10)),
        (
            attacks.pgd(model, images, labels, random_start=False),
            torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=10, random_start=False),
        ),
    ):
        assert ((theirs(images, labels) - ours).abs() > 1e-5).float().mean() < 0.002  # a near-zero gradient may change its sign


@pytest.mark.filterwarnings("ignore")
def test_foolbox_agrees() -> None:
    foolbox = pytest.importorskip("foolbox")
    images, labels = batch(torch.float32)
    model = net(dtype=torch.float32)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    peer = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=STEP, steps=10, random_start=False)
    clipped = peer(wrapped, images, labels, epsilons=EPS)[1]
    right = model(images).argmax(1) == labels  # foolbox returns images that are misclassified from the start as they are
    assert ((clipped - attacks.bim(model, images, labels))[right].abs() > 1e-5).float().mean() < 0.002


def test_losses() -> None:
    logits = torch.tensor([[2.0, 5.0, 1.0, 0.0], [2.0, 5.0, 1.0, 0.0]])
    labels = torch.tensor([1, 2])
    assert margin(logits, labels).tolist() == [-3.0, 4.0]
    assert torch.allclose(dlr(logits, labels), torch.tensor([-3 / 4, 4 / 4]))
    assert torch.allclose(cross_entropy(logits, labels), -logits.log_softmax(1)[[0, 1], [1, 2]])
    with pytest.raises(ValueError, match="at least 3 classes"):
        dlr(logits[:, :2], torch.tensor([0, 1]))


# ---------------------------------------------------------------------------------------------------------------------- ODI


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
    record = attacks.odi_bim_record(model, images, labels, eps=eps, restarts=4, low_logits=low_logits)
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
        record = attacks.odi_bim_record(model, images, labels, eps=0.01 / 255, low_logits=low_logits)
        assert record.gradients.max() == most and not record.success.all()


def test_success_is_what_the_model_says_of_the_images() -> None:
    images, labels = batch()
    model = net()
    for preset in attacks.ODI_BIM_PRESETS:
        record = attacks.odi_bim_record(model, images, labels, preset=preset, eps=2 / 255, restarts=2, steps=4)
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


# ---------------------------------------------------------------------------------------------------------------- bad input


def test_bad_input_is_refused_in_words() -> None:
    images, labels = batch()
    model = net()
    for wrong, error, words in (
        (((images * 255).to(torch.uint8), labels), TypeError, "divide uint8 by 255"),
        ((images * 255, labels), ValueError, "divide uint8 by 255"),
        ((images - 0.5, labels), ValueError, r"values in \[0,1\]"),
        ((images * math.nan, labels), ValueError, r"values in \[0,1\]"),
        ((images[:0], labels[:0]), ValueError, "non-empty"),
        ((images[0], labels), ValueError, r"\(N,C,H,W\)"),
        ((images, labels[:-1]), ValueError, "labels"),
        ((images, labels + 5), ValueError, "10 logits"),
        ((images, labels - 20), ValueError, "10 logits"),
        ((images, F.one_hot(labels, K).double()), ValueError, "hard_labels"),
    ):
        with pytest.raises(error, match=words):
            attacks.fgsm(model, *wrong)
    with pytest.raises(ValueError, match="index"):
        attacks.pgd(model, images, labels, index=torch.arange(3))
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        attacks.fgsm(lambda x: x, images, labels)
    with pytest.raises(ValueError, match="8/255, not 8"):
        attacks.fgsm(model, images, labels, eps=8)
    with pytest.raises(ValueError, match="steps"):
        attacks.bim(model, images, labels, steps=0)
    with pytest.raises(ValueError, match="Did you mean 'author'"):
        attacks.odi_bim(model, images, labels, preset="auther")
    with pytest.raises(ValueError, match="cross_entropy"):
        attacks.PGD(loss="crossentropy")


def test_a_broken_model_is_named() -> None:
    images, labels = batch()
    model = net()
    model.head.bias.data[0] = math.nan
    for attack in (attacks.fgsm, attacks.pgd, attacks.odi_bim):
        with pytest.raises(ValueError, match="NaN"):
            attack(model, images, labels)

    class Detached(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).detach()

    with pytest.raises(ValueError, match="no gradient"):
        attacks.fgsm(Detached().double(), images, labels)


def test_saturated_loss_is_warned_about() -> None:
    images, _ = batch(torch.float32)
    model = net(1e6, torch.float32)
    labels = model(images).argmax(1)
    with pytest.warns(UserWarning, match="zero gradient"):
        attacks.fgsm(model, images, labels)
