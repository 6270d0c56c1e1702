"""The search: schedule, resumption, warm start, and that it learns."""

import math

import pytest
import torch
from stripes import TINY, TRAIN, VAL, Interrupted, assert_same, stop_at

from rtalib.darts import Genotype, Supernet, magnitude, search
from rtalib.darts import search as search_function
from rtalib.darts.batches import draw_batches
from rtalib.data.images import LabeledImages
from rtalib.training import checkpoints


def test_interrupted_search_ends_as_if_never_interrupted(tmp_path):
    whole = search(TRAIN, VAL, epochs=3, seed=7, **TINY)
    path = tmp_path / "deep" / "search.pt"
    with pytest.raises(Interrupted):
        search(TRAIN, VAL, epochs=3, seed=7, checkpoint=path, on_epoch=stop_at(1), **TINY)
    assert checkpoints.read(path)["history"][-1]["epoch"] == 1
    resumed = search(TRAIN, VAL, epochs=3, seed=7, checkpoint=path, **TINY)
    assert_same(whole, resumed)
    assert_same(whole, search(TRAIN, VAL, epochs=3, seed=7, checkpoint=path, **TINY))  # finished: nothing left to do
    assert [entry.name for entry in path.parent.iterdir()] == ["search.pt"]
    with pytest.raises(ValueError, match="another run: seed was 7, is now 8"):
        search(TRAIN, VAL, epochs=3, seed=8, checkpoint=path, **TINY)


def test_trace_holds_the_schedule_and_the_genotype():
    torch.manual_seed(123)
    before = torch.get_rng_state()
    result = search(TRAIN, VAL, epochs=2, lr=0.1, lr_min=0.02, **TINY)
    assert torch.equal(before, torch.get_rng_state())  # the caller's random state is left alone
    first, last = result.trace
    assert first["lr"] == 0.1 and last["lr"] == pytest.approx(0.02 + 0.08 * (1 + math.cos(math.pi / 2)) / 2)
    assert last["genotype"] == str(result.genotype) and Genotype.parse(last["genotype"]) == result.genotype
    assert result.genotype == magnitude(result.state["alphas_normal"], result.state["alphas_reduce"], "s2")
    assert 0 < last["entropy_normal"] <= math.log(2) and last["skips_normal"] == result.genotype.skips("normal")


def test_warm_start_goes_on_from_the_state_and_seeds_differ():
    cold = search(TRAIN, VAL, epochs=1, **TINY)
    still = {"lr": 0.0, "lr_min": 0.0, "arch_lr": 0.0, "epochs": 1}
    warm = search(TRAIN, VAL, init=cold.state, seed=5, **TINY, **still)
    assert all(torch.equal(warm.state[name], cold.state[name]) for name in cold.state)
    alphas = {name: cold.state[name] for name in ("alphas_normal", "alphas_reduce")}
    partly = search(TRAIN, VAL, init=alphas, seed=5, **TINY, **still)
    assert torch.equal(partly.state["alphas_normal"], cold.state["alphas_normal"])
    assert not torch.equal(partly.state["stem.weight"], cold.state["stem.weight"])


def test_both_losses_fall_and_the_alphas_move():
    sizes = {**TINY, "batch_size": 16, "steps_per_epoch": 12}
    result = search(TRAIN, VAL, epochs=2, lr=0.1, arch_lr=0.01, **sizes)
    assert result.trace[1]["train_loss"] < 0.8 * result.trace[0]["train_loss"]
    assert result.trace[1]["val_loss"] < 0.8 * result.trace[0]["val_loss"]
    assert result.state["alphas_normal"].abs().max() > 0.02


def test_weights_first_shows_the_architecture_the_updated_weights():
    once = {**TINY, "epochs": 1, "steps_per_epoch": 1}
    published, still, moved = (search(TRAIN, VAL, **once, **more).trace[0] for more in ({}, {"lr": 0.0}, {"lr": 0.1}))
    assert published["val_loss"] == still["val_loss"] == moved["val_loss"]  # before any weight has moved
    still, moved = (search(TRAIN, VAL, **once, lr=lr, lr_min=0.0, weights_first=True).trace[0] for lr in (0.0, 0.1))
    assert still["val_loss"] == published["val_loss"] != moved["val_loss"]
    assert still["train_loss"] == moved["train_loss"] != published["train_loss"]  # before the alphas have moved


def test_batches_depend_on_seed_epoch_and_step_alone_and_cut_real_windows():
    def drawn(steps=4, **change):
        return list(draw_batches(TRAIN, 6, steps, **{"seed": 1, "epoch": 2, "stream": "train"} | change))

    images, labels = drawn()[3]
    assert images.dtype == torch.float32 and labels.shape == (6,)
    assert torch.equal(images, drawn(steps=9)[3][0])  # however many steps an epoch has
    for other in (drawn(seed=2)[3], drawn(epoch=3)[3], drawn(stream="val")[3], drawn()[2]):
        assert not torch.equal(images, other[0])
    padded = torch.nn.functional.pad(TRAIN.images.float() / 255, (4, 4, 4, 4))
    windows = padded.unfold(2, 12, 1).unfold(3, 12, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 12, 12)
    windows = torch.cat([windows, windows.flip(3)])
    for image in images:
        assert (windows == image).flatten(1).all(dim=1).any()


def test_soft_labels_are_accepted():
    soft = LabeledImages(TRAIN.images, torch.nn.functional.one_hot(TRAIN.labels, 2).float(), TRAIN.classes, "soft")
    hard, same = (search(data, VAL, epochs=1, **TINY) for data in (TRAIN, soft))
    assert same.trace[0]["train_loss"] == pytest.approx(hard.trace[0]["train_loss"], rel=1e-5)


def test_wrong_arguments_are_named():
    assert search_function is search
    with pytest.raises(ValueError, match="unknown search method 'dart'. Did you mean 'darts'"):
        search(TRAIN, VAL, "dart")
    with pytest.raises(ValueError, match="order: available are 1"):
        search(TRAIN, VAL, order=3)
    with pytest.raises(ValueError, match="val: expected the classes of train"):
        search(TRAIN, LabeledImages(VAL.images, VAL.labels, ("a", "b"), "other"), **TINY)
    with pytest.raises(ValueError, match="batch_size: expected at least 1"):
        search(TRAIN, VAL, epochs=1, **TINY | {"batch_size": 0})
    with pytest.raises(ValueError, match="init: 'alphas_normal' has shape"):
        search(TRAIN, VAL, epochs=1, init={"alphas_normal": torch.zeros(14, 8)}, **TINY)
    with pytest.raises(ValueError, match="init: 'conv.weight'"):
        search(TRAIN, VAL, epochs=1, init={"conv.weight": torch.zeros(1)}, **TINY)
    with pytest.raises(ValueError, match="diverged"):
        search(TRAIN, VAL, epochs=2, lr=1e30, grad_clip=1e30, **TINY)


def test_architecture_step_comes_first_and_asks_for_alphas_only(monkeypatch):
    asked = []
    plain = torch.autograd.grad

    def spy(outputs, inputs, **kwargs):
        asked.append(len(inputs))
        return plain(outputs, inputs, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", spy)
    search(TRAIN, VAL, epochs=1, **TINY)
    assert asked == [2, len(Supernet("s2", 4, 3).weight_parameters())] * 2
