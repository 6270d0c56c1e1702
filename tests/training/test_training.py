from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rtalib import models
from rtalib.data.images import LabeledImages, smooth
from rtalib.models.inference import evaluate, extract_features, predict, score, scores
from rtalib.training import checkpoints
from rtalib.training.loop import train
from rtalib.training.recipes import RECIPES, MuonRecipe, Recipe, resolve_precision

CLASSES = tuple("abcd")
MUON = MuonRecipe(4, batch_size=16, lr=0.1, momentum=0.6, schedule="linear", label_smoothing=0.1, crop_padding=2)
QUICK = Recipe(4, batch_size=16, lr=0.05, milestones=(2,), label_smoothing=0.1, crop_padding=2, cutout=8)


def make(n: int = 50, seed: int = 0, size: int = 16) -> LabeledImages:
    """Noise whose mean color tells the class: learnable in a few steps."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    colors = torch.tensor([[80, 0, 0], [0, 80, 0], [0, 0, 80], [60, 60, 60]])
    noise = torch.randint(0, 150, (n, 3, size, size), generator=generator)
    return LabeledImages((noise + colors[labels][:, :, None, None]).to(torch.uint8), labels, CLASSES, "colors")


def tiny(seed: int = 0) -> nn.Module:
    return models.seeded(lambda: models.build("tiny", 4), seed)


def fit(data: LabeledImages, recipe: Recipe, **options) -> tuple[nn.Module, list[dict]]:
    model = options.pop("model", None) or tiny()
    return model, train(model, data, recipe, precision=options.pop("precision", "fp32"), device="cpu", **options)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# Learning


def test_training_learns_and_reports_each_epoch():
    model, history = fit(make(200), replace(QUICK, epochs=6, cutout=0))
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["loss"] < history[0]["loss"] and evaluate(model, make(100, seed=1)) > 0.8
    assert [row["lr"] for row in history] == pytest.approx([0.05, 0.05] + [0.005] * 4)


def test_training_learns_by_muon_and_its_filters_keep_their_norm():
    model, history = fit(make(200), replace(MUON, epochs=3))
    assert history[-1]["loss"] < history[0]["loss"] and evaluate(model, make(100, seed=1)) > 0.8
    assert [row["lr"] for row in history] == pytest.approx([0.1 * (1 - k / 39) for k in (12, 25, 38)])
    for conv in (m for m in model.modules() if isinstance(m, nn.Conv2d)):  # normalized before the last step, which was short
        assert float(conv.weight.detach().norm()) == pytest.approx(len(conv.weight) ** 0.5, rel=0.01)


def test_a_step_is_torch_s_sgd_on_smoothed_cross_entropy():
    """Against a loop written out with torch's own label smoothing and unfused SGD; no randomness but the batch order."""
    data, recipe = make(16), Recipe(3, batch_size=16, lr=0.1, label_smoothing=0.2, crop_padding=0, flip=False)
    trained, history = fit(data, recipe)
    model, losses = tiny(), []
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4, foreach=False)
    for _ in range(3):
        loss = F.cross_entropy(model(data.images.float() / 255), data.labels, label_smoothing=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert [row["loss"] for row in history] == pytest.approx(losses, rel=1e-4)
    torch.testing.assert_close(trained.classifier.weight, model.classifier.weight, rtol=1e-3, atol=1e-5)


def test_one_hot_soft_labels_train_as_hard_ones():
    data = make(40)
    soft = replace(data, labels=F.one_hot(data.labels, 4).float())
    for recipe in (QUICK, replace(QUICK, label_smoothing=0.0)):
        hard, other = fit(data, recipe)[1], fit(soft, recipe)[1]
        assert [row["loss"] for row in hard] == pytest.approx([row["loss"] for row in other], rel=1e-4)


def test_smoothing_is_alpha_over_k():
    assert smooth(torch.tensor([1]), 0.1, 4).tolist()[0] == pytest.approx([0.025, 0.925, 0.025, 0.025])
    assert smooth(torch.tensor([[0.5, 0.5, 0, 0]]), 0.2, 4).tolist()[0] == pytest.approx([0.45, 0.45, 0.05, 0.05])


def test_bf16_keeps_float32_weights():
    model, history = fit(make(64), QUICK, precision="bf16")
    assert all(p.dtype == torch.float32 for p in model.parameters()) and history[-1]["loss"] < history[0]["loss"]
    assert resolve_precision("auto", torch.device("cpu")) in ("fp32", "bf16")
    with pytest.raises(ValueError, match="unknown precision 'bf32'"):
        fit(make(8), QUICK, precision="bf32")


def test_gradient_clipping_bounds_the_step():
    """One plain SGD step without momentum or decay moves the weights by at most lr * clip."""
    model, before = tiny(), tiny()
    fit(make(16), Recipe(1, 16, 1.0, momentum=0.0, weight_decay=0.0, grad_clip=0.01), model=model)
    moved = sum(((a - b).detach() ** 2).sum() for a, b in zip(model.parameters(), before.parameters(), strict=True)) ** 0.5
    assert float(moved) == pytest.approx(0.01, rel=1e-2)


# The same again


def test_same_seed_same_weights_other_seed_other_weights():
    data = make()
    torch.manual_seed(1)
    a, _ = fit(data, QUICK, seed=3)
    torch.manual_seed(2)
    b, _ = fit(data, QUICK, seed=3)
    c, _ = fit(data, QUICK, seed=4)
    assert same(a, b) and not same(a, c)


class Stop(Exception):
    pass


class Dropping(nn.Module):
    """A model with drop path's attribute, an auxiliary head and draws from torch's global generator."""

    def __init__(self):
        super().__init__()
        self.net, self.auxiliary, self.drop_path_prob, self.seen = tiny(), nn.Linear(32, 4), 0.0, []
        nn.init.constant_(self.auxiliary.weight, 0.01)
        nn.init.zeros_(self.auxiliary.bias)

    def forward(self, x):
        features = self.net.features(x)
        if not self.training:
            return self.net.classifier(features)
        self.seen.append(self.drop_path_prob)
        features = F.dropout(features, self.drop_path_prob)
        return self.net.classifier(features), self.auxiliary(features)


DARTS = RECIPES["darts"].scaled(4)


@pytest.mark.parametrize(
    ("build", "recipe"), [(tiny, QUICK), (Dropping, replace(DARTS, batch_size=16)), (tiny, replace(QUICK, momentum=0.0)), (tiny, MUON)]
)
@pytest.mark.parametrize("every", [1, 2])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(tmp_path, build, recipe, every):
    data, path = make(), tmp_path / "run" / "checkpoint.pt"
    whole, history = fit(data, recipe, model=build(), seed=7)

    def interrupt(model, row):
        if row["epoch"] == 4:
            raise Stop

    with pytest.raises(Stop):
        fit(data, recipe, model=build(), seed=7, checkpoint=path, checkpoint_every=every, on_epoch=interrupt)
    epochs = []
    resumed, again = fit(data, recipe, model=build(), seed=7, checkpoint=path, on_epoch=lambda model, row: epochs.append(row["epoch"]))
    assert epochs == ([4] if every == 1 else [3, 4])
    assert same(whole, resumed) and [row["loss"] for row in history] == [row["loss"] for row in again]
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]
    finished, rows = fit(data, recipe, model=build(), seed=7, checkpoint=path)
    assert same(whole, finished) and rows == again


def test_checkpoint_of_another_run_is_refused(tmp_path):
    data, path = make(), tmp_path / "c.pt"
    fit(data, replace(QUICK, epochs=3), checkpoint=path)
    with pytest.raises(ValueError, match=r"another run: recipe was .*'epochs': 3.*is now .*'epochs': 4"):
        fit(data, QUICK, checkpoint=path)
    with pytest.raises(ValueError, match="another run: seed was 0, is now 1"):
        fit(data, replace(QUICK, epochs=3), checkpoint=path, seed=1)
    with pytest.raises(ValueError, match="another run: data was"):
        fit(make(seed=9), replace(QUICK, epochs=3), checkpoint=path)
    with pytest.raises(ValueError, match="another network than ResNet"):
        fit(data, replace(QUICK, epochs=3), model=models.build("resnet8", 4), checkpoint=path)


def flipped(content: bytes, position: float) -> bytes:
    place = int(position * len(content))
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


DAMAGES = [lambda content: b"", lambda content: b"not a checkpoint", lambda content: content[:-500], lambda content: content + b"x"]
DAMAGES += [partial(flipped, position=position) for position in (0, 0.0003, 0.01, 0.33, 0.5, 0.8, 0.99, 0.9999)]


@pytest.mark.parametrize("damage", DAMAGES, ids=range(len(DAMAGES)))
def test_damaged_checkpoint_is_set_aside_and_training_starts_again(tmp_path, damage):
    path = tmp_path / "c.pt"
    whole, rows = fit(make(), QUICK, checkpoint=path)
    content = damage(path.read_bytes())
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="no whole checkpoint.*training starts again"):
        again, rows_again = fit(make(), QUICK, checkpoint=path)
    assert (tmp_path / "c.pt.unreadable").read_bytes() == content
    assert [row["loss"] for row in rows_again] == [row["loss"] for row in rows]
    assert same(whole, again)


def test_a_checkpoint_of_a_version_without_checksums_is_resumed(tmp_path):
    path = tmp_path / "c.pt"
    whole, rows = fit(make(), QUICK, checkpoint=path)
    _, _, content = path.read_bytes().partition(b"\n")
    path.write_bytes(content)
    again, rows_again = fit(make(), QUICK, checkpoint=path)
    assert rows_again == rows and same(whole, again) and list(tmp_path.iterdir()) == [path]


def test_checkpoint_holds_no_pickled_code(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    torch.save({"format": Payload()}, tmp_path / "c.pt")
    with pytest.warns(UserWarning, match="no whole checkpoint"):
        fit(make(), QUICK, checkpoint=tmp_path / "c.pt")
    assert not (tmp_path / "pwned").exists()


def test_on_epoch_adds_to_the_row():
    _, history = fit(make(), QUICK, on_epoch=lambda model, row: {"accuracy": evaluate(model, make(seed=1))})
    assert all(0 <= row["accuracy"] <= 1 for row in history)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(make(20), QUICK)
    assert torch.equal(torch.rand(3), expected)


# Hooks


def test_drop_path_rises_with_the_epoch_and_auxiliary_logits_weigh_in():
    model, history = fit(make(16), replace(DARTS, batch_size=16, cutout=0), model=Dropping())
    assert model.seen == pytest.approx([0.0, 0.05, 0.1, 0.15])
    _, without = fit(make(16), replace(DARTS, batch_size=16, cutout=0, auxiliary_weight=0.0), model=Dropping())
    auxiliary = (history[0]["loss"] - without[0]["loss"]) / 0.4  # an almost blind head: about ln 4 before the first step
    assert auxiliary == pytest.approx(1.386, abs=0.02)


def test_objective_replaces_the_loss_and_sees_pixels_and_smoothed_labels():
    seen = []

    def objective(model, x, y):
        seen.append((x.shape, x.dtype, float(x.min()) >= 0, float(x.max()) <= 1, y.shape, torch.is_grad_enabled(), model.training))
        return F.cross_entropy(model(x), y)

    _, with_hook = fit(make(34), QUICK, objective=objective)
    _, without = fit(make(34), QUICK)
    assert [row["loss"] for row in with_hook] == [row["loss"] for row in without]
    assert seen[0] == ((16, 3, 16, 16), torch.float32, True, True, (16, 4), True, True)
    assert [s[0][0] for s in seen[:3]] == [16, 16, 2]  # the last partial batch is kept


def test_a_last_batch_of_one_image_is_left_out():
    sizes = []

    def objective(model, x, y):
        sizes.append(len(x))
        return F.cross_entropy(model(x), y)

    fit(make(33), replace(QUICK, epochs=3), objective=objective)
    assert sizes == [16, 16] * 3


def test_divergence_names_the_epoch_and_keeps_the_checkpoint(tmp_path):
    path, steps = tmp_path / "c.pt", []

    def objective(model, x, y):
        steps.append(1)
        return F.cross_entropy(model(x), y) * (float("nan") if len(steps) > 8 else 1.0)

    with pytest.raises(FloatingPointError, match=r"loss is nan in epoch 3 of 4 \(lr 0.005, fp32\)"):
        fit(make(50), replace(QUICK, batch_size=13), objective=objective, checkpoint=path)
    assert len(checkpoints.read(path)["history"]) == 2


def test_bad_input_is_refused():
    data = make()
    with pytest.raises(ValueError, match=r"labels: expected 0..2 for a model of 3 classes, got up to 3"):
        fit(data, QUICK, model=models.build("tiny", 3))
    soft = replace(data, labels=F.one_hot(data.labels, 4).float())
    with pytest.raises(ValueError, match=r"labels: expected \(N,3\) soft labels"):
        fit(soft, QUICK, model=models.build("tiny", 3))
    with pytest.raises(ValueError, match="at least 2 images to train on, got 1"):
        fit(data.subset([0]), QUICK)
    with pytest.raises(ValueError, match="auxiliary_weight=0.4: the model returned no auxiliary"):
        fit(data, replace(QUICK, auxiliary_weight=0.4))
    with pytest.raises(ValueError, match="auxiliary_weight=0.4: an objective computes"):
        fit(data, replace(QUICK, auxiliary_weight=0.4), objective=lambda model, x, y: model(x).sum())
    with pytest.raises(ValueError, match="Tiny has no attribute drop_path_prob"):
        fit(data, replace(QUICK, drop_path=0.2))
    with pytest.raises(ValueError, match="checkpoint_every: expected at least 1, got 0"):
        fit(data, QUICK, checkpoint_every=0)
    with pytest.raises(TypeError, match="torch.uint8"):
        predict(tiny(), data.images.float())
    with pytest.raises(ValueError, match="at least one image"):
        predict(tiny(), data.images[:0])


# Inference


def test_predict_evaluate_and_features_agree_with_the_plain_forward():
    model, data = tiny().eval(), make(37)
    with torch.no_grad():
        logits, features = model(data.images.float() / 255), model.features(data.images.float() / 255)
    torch.testing.assert_close(predict(model, data.images, batch_size=10), logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(extract_features(model, data.images, batch_size=10), features, rtol=1e-4, atol=1e-5)
    expected = float((logits.argmax(1) == data.labels).double().mean())
    assert evaluate(model, data) == expected
    assert evaluate(model, replace(data, labels=F.one_hot(data.labels, 4).float())) == expected


def test_inference_restores_each_module_s_flag_and_its_result_takes_gradients():
    model = tiny().train()
    model.stages[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits = predict(model, make(20).images)
    assert model.training and not model.stages[1].training and model.stages[4].training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    (logits * torch.ones(1, requires_grad=True)).sum().backward()

    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            raise Stop

    broken = Broken().train()
    with pytest.raises(Stop):
        predict(broken, make(4).images)
    assert broken.training


def test_score_is_the_mean_over_models_of_the_mean_over_images():
    data, networks = make(30), {"a": tiny(0), "b": tiny(1), "c": tiny(2)}
    each = scores(networks, data)
    assert each == [evaluate(m, data) for m in networks.values()] and isinstance(each[0], float)
    hits = sum(int((predict(m, data.images).argmax(1) == data.labels).sum()) for m in networks.values())
    assert score(networks, data) == pytest.approx(hits / 90, abs=1e-15) and score(list(networks.values()), data) == score(networks, data)
    with pytest.raises(ValueError, match="models: expected at least one"):
        score([], data)


def test_a_checkpoint_with_numbers_of_numpy_is_resumed(tmp_path):
    data, seen, recipe = make(20), [], Recipe(3, 10, np.float64(0.05))

    def stop(model, row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt
        return {"accuracy": np.float64(0.5), "each": np.array([1, 2]), "file": tmp_path, "best": np.int64(3)}

    with pytest.raises(KeyboardInterrupt):
        train(models.build("tiny", 4), data, recipe, seed=np.int64(1), checkpoint=tmp_path / "c.pt", on_epoch=stop)
    train(
        models.build("tiny", 4), data, recipe, seed=1, checkpoint=tmp_path / "c.pt", on_epoch=lambda model, row: seen.append(row["epoch"])
    )
    assert seen == [2, 3]
