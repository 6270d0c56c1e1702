"""Attacks against short references written here, and against torchattacks and foolbox where they are installed."""

import pytest
import torch
from attacked_nets import EPS, SIDE, STEP, N, batch, clip, net, reference_gradient

from rtalib import attacks, rng


def loss_of(labels: torch.Tensor):
    return lambda logits: -logits.log_softmax(1)[torch.arange(len(labels)), labels].sum()


def test_fgsm_bim_and_pgd_follow_the_textbook() -> None:
    images, labels = batch()
    model, loss = net(), loss_of(labels)
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


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_mi_fgsm_follows_the_textbook(decay: float) -> None:
    images, labels = batch()
    model, loss = net(), loss_of(labels)
    x, running = images, torch.zeros_like(images)
    for _ in range(7):
        gradient = reference_gradient(model, x, loss)
        running = decay * running + gradient / gradient.abs().sum((1, 2, 3), keepdim=True)
        x = clip(x + STEP * running.sign(), images)
    found = attacks.mi_fgsm(model, images, labels, steps=7, decay=decay)
    assert torch.allclose(found, x, atol=1e-12)
    assert torch.equal(found, attacks.bim(model, images, labels, steps=7)) == (decay == 0)


def test_pgd_l2_follows_the_textbook() -> None:
    images, labels = batch()
    model, loss = net(), loss_of(labels)
    x = images.clone()
    for _ in range(7):
        gradient = reference_gradient(model, x, loss)
        for i in range(N):
            delta = x[i] + 0.1 * gradient[i] / gradient[i].norm() - images[i]
            x[i] = (images[i] + delta * min(1, 0.5 / delta.norm())).clamp(0, 1)
    found = attacks.pgd_l2(model, images, labels, steps=7, random_start=False)
    assert torch.allclose(found, x, atol=1e-12)
    assert ((found - images).flatten(1).norm(dim=1) > 0.45).any(), "the test needs images at the border of the ball"


# ------------------------------------------------------------------------------------------------------------------- peers


def peers() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """Sixteen images: a mean over them and a sum differ by a power of two, so that gradients agree to the last bit."""
    images, labels = batch(torch.float32, 16)
    return net(dtype=torch.float32), images, labels


TORCHATTACKS = {
    "FGSM": ({}, attacks.FGSM()),
    "BIM": ({"alpha": STEP, "steps": 10}, attacks.BIM()),
    "PGD": ({"alpha": STEP, "steps": 10, "random_start": False}, attacks.PGD(random_start=False)),
    "MIFGSM": ({"alpha": STEP, "steps": 10, "decay": 1.0}, attacks.MIFGSM()),
    "PGDL2": ({"alpha": 0.1, "steps": 10, "random_start": False}, attacks.PGDL2(random_start=False)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TORCHATTACKS)
def test_torchattacks_agrees(name: str) -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="pip install --no-deps torchattacks (it pins an old requests)")
    settings, recipe = TORCHATTACKS[name]
    model, images, labels = peers()
    theirs = getattr(torchattacks, name)(model, eps=recipe.eps, **settings)(images, labels)
    assert (theirs - recipe(model, images, labels)).abs().max() <= 1e-6


FOOLBOX = {
    "LinfFastGradientAttack": ({}, attacks.FGSM()),
    "LinfBasicIterativeAttack": ({"abs_stepsize": STEP, "steps": 10}, attacks.BIM()),
    "LinfProjectedGradientDescentAttack": ({"abs_stepsize": STEP, "steps": 10, "random_start": False}, attacks.PGD(random_start=False)),
    "L2ProjectedGradientDescentAttack": ({"abs_stepsize": 0.1, "steps": 10, "random_start": False}, attacks.PGDL2(random_start=False)),
    # Its MI-FGSM adds up signs, not L1-normalized gradients, so the two coincide without momentum only.
    "LinfMomentumIterativeFastGradientMethod": ({"abs_stepsize": STEP, "steps": 10, "momentum": 0.0}, attacks.MIFGSM(decay=0.0)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FOOLBOX)
def test_foolbox_agrees(name: str) -> None:
    foolbox = pytest.importorskip("foolbox")
    kind = getattr(foolbox.attacks, name, None) or getattr(pytest.importorskip("foolbox.attacks.mi_fgsm"), name)
    settings, recipe = FOOLBOX[name]
    model, images, labels = peers()
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    theirs = kind(**settings).run(wrapped, images, foolbox.criteria.Misclassification(labels), epsilon=recipe.eps)
    assert (theirs - recipe(model, images, labels)).abs().max() <= 1e-6


@pytest.mark.filterwarnings("ignore")
def test_odi_pgd_fools_no_fewer_than_auto_pgd_at_the_same_cost() -> None:
    """APGD's adaptive steps are not in this library, so its images differ; the number that it fools is the yardstick."""
    autopgd = pytest.importorskip("pyautoattack.autopgd_base")
    images, labels = batch(torch.float32)
    model = net(dtype=torch.float32)
    eps = 1.5 / 255
    theirs = autopgd.APGDAttack(model, n_iter=22, eps=eps, device="cpu").perturb(images, labels)
    ours = attacks.odi_pgd(model, images, labels, eps=eps, step_size=eps / 4, restarts=1)
    fooled = [int((model(x).argmax(1) != labels).sum()) for x in (images, theirs, ours)]
    assert fooled[0] < fooled[1] <= fooled[2] + 1 and fooled[2] < N
