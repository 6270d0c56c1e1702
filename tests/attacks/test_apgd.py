"""APGD against its paper, against an exact answer, and against pyautoattack."""

import pytest
import torch
from attacked_nets import batch, distance, net
from published_networks import lossless, published_network
from torch import nn

from rtalib import attacks
from rtalib.attacks.apgd import checkpoints, targeted_dlr


def test_checkpoints_are_those_of_the_paper():
    """Section 3.1 with p = 0, 0.22, 0.41, 0.57, ... and 100 steps."""
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("recipe", [attacks.APGD(steps=20), attacks.APGD(steps=20, loss="dlr"), attacks.APGDT(steps=10)], ids=str)
def test_results_stay_in_the_ball_and_success_is_that_of_the_images(recipe):
    model, (images, labels) = net(), batch()
    found = recipe.record(model, images, labels)
    assert distance(found.images, images, "linf").max() <= recipe.eps + 1e-9 and found.images.min() >= 0 and found.images.max() <= 1
    assert torch.equal(found.success, model(found.images).argmax(1) != labels)
    again = recipe.record(model, images[5:9], labels[5:9], index=torch.arange(5, 9))
    assert torch.equal(again.success, found.success[5:9]) and torch.allclose(again.images, found.images[5:9], atol=1e-6)


def test_a_linear_network_is_fooled_exactly_where_it_can_be():
    """Two-class margins fall by eps times the L1 norm of the difference of weights, and by no more."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).double()
    images = 0.3 + 0.4 * torch.rand(200, 3, 4, 4, generator=generator).double()
    labels, eps = model(images).argmax(1), 0.02
    gap = model(images).detach().diff(dim=1).abs().squeeze(1)
    can = gap < eps * (model[1].weight[0] - model[1].weight[1]).abs().sum().item()
    assert 0 < can.sum() < 200
    assert torch.equal(attacks.APGD(eps=eps, steps=30).record(model, images, labels).success, can)


def test_it_is_at_least_as_strong_as_pgd_of_as_many_steps():
    model, (images, labels) = net(), batch(n=200)
    for eps in (1 / 255, 2 / 255):
        plain = attacks.with_eps(attacks.PGD(steps=50, stop_on_success=True), eps).record(model, images, labels).success.sum()
        assert attacks.APGD(eps=eps, steps=50).record(model, images, labels).success.sum() >= plain


def test_targeted_dlr_by_hand_and_without_scale():
    logits = torch.tensor([[4.0, 1.0, 2.0, 0.0, -5.0]])
    loss = targeted_dlr(logits, torch.tensor([0]), torch.tensor([2]))
    assert loss.item() == pytest.approx(-(4 - 2) / (4 - (1 + 0) / 2))
    assert targeted_dlr(3 * logits + 7, torch.tensor([0]), torch.tensor([2])).item() == pytest.approx(loss.item())


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="targets: expected at least 0, got -1"):
        attacks.APGD(targets=-1)
    with pytest.raises(ValueError, match="unknown loss 'ce'"):
        attacks.APGD(loss="ce")


@pytest.mark.parametrize(
    ("name", "recipe", "count"),
    [("apgd-ce", attacks.APGD(eps=2 / 255), 50), pytest.param("apgd-t", attacks.APGDT(eps=2 / 255), 30, marks=pytest.mark.trial)],
)
def test_as_many_images_fall_as_under_pyautoattack(name, recipe, count):
    """CNN-A, adversarially trained, at 2/255. Random starts differ, so single images may."""
    autoattack = pytest.importorskip("pyautoattack").AutoAttack
    model, data = published_network("cnn_a_adv"), lossless()
    images, labels = data.images[:count].float() / 255, data.labels[:count]
    theirs = autoattack(model, attacks=[name], device="cpu", eps=2 / 255, norm="Linf", seed=0, version="custom")
    theirs.apgd.n_restarts = 1
    found = theirs.run_standard_evaluation(images, labels, batch_size=count)
    found = found[0] if isinstance(found, tuple) else found
    with torch.no_grad():
        fooled = model(found).argmax(1) != labels
    assert abs(int(recipe.record(model, images, labels).success.sum()) - int(fooled.sum())) <= 1
