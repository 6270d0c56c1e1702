"""Early stopping, the sign of catastrophic overfitting, and objectives that training.train has to know of: all survive a kill."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rtalib import attacks, models
from rtalib.data.images import LabeledImages
from rtalib.sources.awp import AWP
from rtalib.sources.objectives import FreeAT, WarmUp, pgd_at, trades
from rtalib.training.batches import Batches
from rtalib.training.loop import train
from rtalib.training.recipes import Recipe
from rtalib.training.validation import Validation, pgd_accuracy

RECIPE = Recipe(4, batch_size=16, lr=0.05, schedule="onecycle", crop_padding=2)


class Stop(Exception):
    pass


def make(n: int = 40, seed: int = 0) -> LabeledImages:
    images = torch.randint(0, 256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    return LabeledImages(images, torch.arange(n) % 4, tuple("abcd"), "noise")


def fit(data: LabeledImages, **options) -> tuple[nn.Module, list[dict]]:
    model = models.seeded(lambda: models.build("tiny", 4), 0)
    return model, train(model, data, options.pop("recipe", RECIPE), precision="fp32", device="cpu", **options)


def scripted(*values: float):
    """A score that gives these values one after the other."""
    left = iter(values)
    return lambda model: next(left)


def equal(a: dict, b: dict) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def interrupt(epoch: int):
    def stop(model: nn.Module, row: dict) -> None:
        if row["epoch"] == epoch:
            raise Stop

    return stop


def test_early_stopping_ends_with_the_best_epoch_s_weights():
    seen = []
    validation = Validation(scripted(0.1, 0.5, 0.3, 0.5), keep_best=True)
    model, history = fit(make(), validation=validation, on_epoch=lambda model, row: seen.append(weights(model)))
    assert [row["validation"] for row in history] == [0.1, 0.5, 0.3, 0.5] and not model.training
    assert equal(model.state_dict(), seen[1]) and not equal(seen[1], seen[3])  # the first of equals


def test_the_last_weights_stay_where_the_best_are_not_asked_for():
    model, _ = fit(make(), validation=Validation(scripted(0.1, 0.5, 0.3, 0.2)))
    assert equal(model.state_dict(), fit(make())[0].state_dict())


@pytest.mark.parametrize("killed", [2, 3, 4])
def test_the_best_weights_survive_a_kill(tmp_path, killed):
    path, values = tmp_path / "c.pt", (0.1, 0.5, 0.3, 0.2)
    whole, _ = fit(make(), validation=Validation(scripted(*values), keep_best=True))
    with pytest.raises(Stop):
        fit(make(), validation=Validation(scripted(*values), keep_best=True), checkpoint=path, on_epoch=interrupt(killed))
    again = Validation(scripted(*values[killed - 1 :]), keep_best=True)
    resumed, history = fit(make(), validation=again, checkpoint=path)
    assert equal(whole.state_dict(), resumed.state_dict()) and [row["validation"] for row in history] == list(values)
    finished, _ = fit(make(), validation=Validation(scripted(), keep_best=True), checkpoint=path)
    assert equal(whole.state_dict(), finished.state_dict())
    with pytest.raises(ValueError, match="another run: keep_best was True, is now None"):
        fit(make(), checkpoint=path)


@pytest.mark.parametrize("keep_best", [False, True])
def test_a_fall_of_the_score_ends_the_training_with_the_weights_before_it(tmp_path, keep_best):
    seen, path, scores = [], tmp_path / "c.pt", (0.5, 0.45, 0.2, 0.1)
    watched = {"keep_best": keep_best, "fall": 0.2}
    with pytest.warns(UserWarning, match=r"catastrophic overfitting in epoch 3: .* fell from 0.450 to 0.200; .* the weights of epoch 2"):
        model, history = fit(
            make(),
            validation=Validation(scripted(*scores), **watched),
            on_epoch=lambda model, row: seen.append(weights(model)),
            checkpoint=path,
            checkpoint_every=4,
        )
    assert [row.get("overfitted", False) for row in history] == [False, False, True]
    assert equal(model.state_dict(), seen[0 if keep_best else 1]) and not equal(seen[1], seen[2])
    again, history = fit(make(), validation=Validation(scripted(), **watched), checkpoint=path)
    assert equal(model.state_dict(), again.state_dict()) and len(history) == 3, "a finished training does not go on"


@torch.no_grad()
def forget(model: nn.Module, row: dict) -> None:
    """After epoch 2 every class is taken for its neighbor."""
    if row["epoch"] == 2:
        model.classifier.weight.copy_(model.classifier.weight.roll(1, 0))
        model.classifier.bias.copy_(model.classifier.bias.roll(1, 0))


def test_a_collapse_is_found_by_the_pgd_accuracy_on_some_images():
    data = make()
    bands = torch.arange(4)[:, None] == torch.arange(16)[None] // 4  # class k is a bright band k
    data = data.with_images((60 + 120 * bands[data.labels]).byte()[:, None, :, None].expand(-1, 3, 16, 16).contiguous())
    model = models.seeded(lambda: models.build("tiny", 4), 0)
    train(model, data, replace(RECIPE, epochs=12, flip=False, crop_padding=0), precision="fp32", device="cpu")
    watched = Validation(pgd_accuracy(data, steps=5), fall=0.2)
    with pytest.warns(UserWarning, match="catastrophic overfitting in epoch 3: the validation score fell from 1.000 to 0.000"):
        history = train(model, data, replace(RECIPE, lr=1e-6), precision="fp32", device="cpu", on_epoch=forget, validation=watched)
    assert [row.get("overfitted", False) for row in history] == [False, False, True]


def test_pgd_accuracy_is_that_of_the_attack_in_any_batches():
    data, model = make(30), models.seeded(lambda: models.build("tiny", 4), 1).eval()
    attack = attacks.PGD(step_size=4 / 255, steps=5)
    found = attack(model, data.images / 255, data.labels)
    expected = (model(found).argmax(1) == data.labels).double().mean().item()
    assert pgd_accuracy(data, steps=5)(model) == pgd_accuracy(data, steps=5, batch_size=7)(model) == expected


OBJECTIVES = {
    "free_at": lambda: FreeAT(replays=3),
    "awp": lambda: AWP(WarmUp(trades(steps=1), 1), 0.005, warm_up=2),
    "warm_up": lambda: WarmUp(pgd_at(steps=1), 3),
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("killed", [2, 3])
def test_objectives_with_a_memory_resume_bit_for_bit(tmp_path, name, killed):
    whole, history = fit(make(), objective=OBJECTIVES[name]())
    with pytest.raises(Stop):
        fit(make(), objective=OBJECTIVES[name](), checkpoint=tmp_path / "c.pt", on_epoch=interrupt(killed))
    resumed, again = fit(make(), objective=OBJECTIVES[name](), checkpoint=tmp_path / "c.pt")
    assert equal(whole.state_dict(), resumed.state_dict()) and [r["loss"] for r in history] == [r["loss"] for r in again]


def test_replays_repeat_each_batch_and_share_its_step_of_the_schedule():
    class Replayed:
        replays = 3

        def __init__(self):
            self.seen, self.epochs = [], []

        def start_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)

        def __call__(self, model, x, y):
            self.seen.append(x)
            return F.cross_entropy(model(x), y)

    objective, recipe = Replayed(), replace(RECIPE, epochs=2)
    _, history = fit(make(48), objective=objective, recipe=recipe)
    assert objective.epochs == [0, 1] and len(objective.seen) == 2 * 3 * 3
    for first in range(0, 18, 3):
        assert all(torch.equal(objective.seen[first], x) for x in objective.seen[first : first + 3])
        assert first == 0 or not torch.equal(objective.seen[first], objective.seen[first - 1])
    assert history[0]["lr"] == pytest.approx(recipe.learning_rate(0, 8, 9))


@pytest.mark.parametrize(("first", "others"), [(24, 24), (24, 10), (24, 60)])
def test_labeled_images_and_the_others_make_up_each_batch_equally(first, others):
    n = first + others
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 4, 4)
    batches = Batches(images, torch.arange(n), Recipe(1, batch_size=16, crop_padding=0), torch.device("cpu"), n_labeled=first)
    labels = [y for _, y in batches.epoch(0, 0)]
    assert len(labels) == len(batches) == 3 and all(int((y < first).sum()) == 8 for y in labels)
    seen = torch.cat(labels)
    assert torch.equal(seen[seen < first].sort().values, torch.arange(first))
    assert len(seen[seen >= first].unique()) == min(first, others)
    assert not torch.equal(seen, torch.cat([y for _, y in batches.epoch(0, 1)]))


def test_labeled_images_need_others():
    with pytest.raises(ValueError, match="n_labeled: expected less than the 40 images there are, got 40"):
        fit(make(40), n_labeled=40)
