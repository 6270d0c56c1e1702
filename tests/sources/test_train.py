"""Every source becomes a network: objectives by name, plans of several stages that survive a kill, the user's weights first."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from rtalib import scales, store
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.data.readers import CIFAR10_CLASSES
from rtalib.models.wide_resnet import WideResNet
from rtalib.sources import objectives, public_weights
from rtalib.sources import train as source_training
from rtalib.sources.cards import SOURCES
from rtalib.sources.hydra import kept
from rtalib.sources.train import objective, origin, source_network
from rtalib.training.artefacts import history

SETUP = scales.get("smoke").rta
SHORT = replace(SETUP, plan_epochs=2)


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("RTALIB_WEIGHTS", str(tmp_path / "weights"))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(8, 3, 8, 8, generator=generator), torch.randint(0, 10, (8,), generator=generator)


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def weights(entry: store.Entry) -> dict[str, torch.Tensor]:
    return load_file(entry.path / "weights.safetensors")


# Objectives


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pgd_at", objectives.pgd_at(8 / 255, 2 / 255, 10)),
        ("trades", objectives.trades(6.0, 8 / 255, 0.007, 10)),
        ("fast_at", objectives.fast_at(8 / 255, 10 / 255)),
        ("label_smoothing", objectives.pgd_at(8 / 255, 2 / 255, 10, label_smoothing=0.1)),
        ("at_he", objectives.at_he(8 / 255, 2 / 255, 10, scale=10.0, margin=0.2)),
        ("mmc", objectives.mmc(8 / 255, 2 / 255, 10)),
    ],
)
def test_default_objectives_are_the_methods_own_settings(name: str, expected) -> None:
    losses = []
    for loss in (objective(name), expected):
        model = net()
        torch.manual_seed(4)
        losses.append(loss(model, *batch()).item())
    assert losses[0] == losses[1]


def test_fewer_steps_reach_as_far() -> None:
    model, (x, y) = net(), batch()
    for name, reach in (("pgd_at", 8 / 255), ("trades", 0.035)):
        found = objective(name, steps=2).craft(model, x, y)
        assert (found - x).abs().max() == pytest.approx(min(reach, 8 / 255), abs=1e-5)


def test_bad_objectives_are_named() -> None:
    with pytest.raises(ValueError, match="Did you mean 'trades'"):
        objective("trade")
    with pytest.raises(ValueError, match="steps"):
        objective("pgd_at", steps=0)


# Substitutes


@pytest.mark.parametrize("name", [*SOURCES, "held-out"])
def test_every_source_is_trained_once_and_says_what_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, entry = source_network(name, "shapes10", SETUP)
    assert not network.training and origin(entry) == "substitute" and history(entry)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    monkeypatch.setattr("rtalib.training.artefacts.train", None)
    again, same = source_network(name, "shapes10", SETUP)
    assert same.key == entry.key and equal(again.state_dict(), network.state_dict())


def test_keys_of_plain_trainings_have_the_method_the_steps_and_nothing_else() -> None:
    data = load_dataset("shapes10", "train", limit=SETUP.source_images)
    for name, method in (("clean_wideresnet", "clean"), ("pgd_at", ["pgd_at", 1]), ("fast_at", ["fast_at", 1])):
        entry = source_network(name, "shapes10", SETUP)[1]
        others = {"recipe", "seed", "precision", "collapse"}
        assert {k: v for k, v in entry.card["parameters"].items() if k not in others} == {
            "model": "tiny", "objective": method, "data": data.digest,
        }  # fmt: skip
        assert entry.card["parameters"]["seed"] == list(SOURCES).index(name)


def test_unknown_sources_are_named() -> None:
    with pytest.raises(ValueError, match="unknown source 'pgd_add'. Did you mean 'pgd_at'"):
        source_network("pgd_add", "shapes10", SETUP)


def test_hydra_keeps_a_tenth_of_every_layer() -> None:
    network, _ = source_network("hydra", "shapes10", SHORT)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert int((module.weight != 0).sum()) == kept(module.weight.numel(), 0.1)


def spy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[LabeledImages, dict]]:
    """(images, options) of each training, when it has been asked for."""
    seen, original = [], source_training.trained_network

    def trained_network(build, data, *arguments, **options):
        seen.append((data(), options))
        return original(build, data, *arguments, **options)

    monkeypatch.setattr(source_training, "trained_network", trained_network)
    return seen


def test_self_training_labels_one_half_with_a_network_trained_on_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spy(monkeypatch)
    source_network("rst", "shapes10", SETUP)
    all_images = load_dataset("shapes10", "train", limit=SETUP.source_images)
    (first, _), (mixed, options) = seen
    half = SETUP.source_images // 2
    assert torch.equal(first.images, all_images.images[:half]) and options["n_labeled"] == half
    assert torch.equal(mixed.images, all_images.images) and torch.equal(mixed.labels[:half], all_images.labels[:half])
    assert not torch.equal(mixed.labels[half:], all_images.labels[half:])  # guesses of a network of one epoch


def test_self_training_takes_images_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    images = load_dataset("shapes10", "test", limit=30)
    mine = LabeledImages(images.images, torch.zeros(30, dtype=torch.int64), ("none",), "mine")
    monkeypatch.setattr(source_training, "load_dataset", lambda name, *a, **k: mine if name == "mine" else load_dataset(name, *a, **k))
    _, entry = source_network("rst", "shapes10", replace(SETUP, unlabelled="mine"))
    assert entry.card["parameters"]["data"].endswith(f"+{mine.digest}")


def test_pre_training_is_on_other_images_and_tuning_begins_with_a_new_head(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset("shapes10", "train", limit=2 * SETUP.source_images)
    further = source_training._other("shapes10", "shapes10", SETUP.source_images, (32, 32))
    assert torch.equal(further.images, data.images[SETUP.source_images :])
    wide = LabeledImages(torch.full((40, 3, 64, 64), 9, dtype=torch.uint8), torch.arange(40) % 4, tuple("abcd"), "wide")
    monkeypatch.setattr(source_training, "load_dataset", lambda name, *a, **k: wide if name == "wide" else load_dataset(name, *a, **k))
    assert torch.equal(source_training._other("shapes10", "wide", 40, (32, 32)).images, wide.images[:, :, :32, :32])
    network, entry = source_network("pre_training", "shapes10", replace(SETUP, pretraining="wide", source_images=40))
    before = store.find("network", entry.card["parameters"]["previous"])
    assert weights(before)["classifier.weight"].shape[0] == 4 and network.classifier.out_features == 10


def test_early_stopping_holds_images_back_and_ends_with_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spy(monkeypatch)
    _, entry = source_network("robust_overfitting", "shapes10", SHORT)
    assert len(seen[0][0]) == SETUP.source_images * 9 // 10
    assert all(0 <= row["validation"] <= 1 for row in history(entry))


def test_fast_at_is_watched() -> None:
    assert all("validation" in row for row in history(source_network("fast_at", "shapes10", SETUP)[1]))


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", ["hydra", "rst", "pre_training"])
def test_a_killed_plan_goes_on_where_it_was(name: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtalib.training import checkpoints

    save, saves = checkpoints.save, []

    def counted(*arguments) -> None:
        save(*arguments)
        saves.append(1)

    monkeypatch.setattr(checkpoints, "save", counted)
    _, entry = source_network(name, "shapes10", SHORT)
    expected, total = weights(entry), len(saves)
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "killed"))
    saves.clear()

    def killing(*arguments) -> None:
        counted(*arguments)
        raise Killed

    monkeypatch.setattr(checkpoints, "save", killing)
    for _ in range(total):
        with pytest.raises(Killed):
            source_network(name, "shapes10", SHORT)
    monkeypatch.setattr(checkpoints, "save", counted)
    _, entry = source_network(name, "shapes10", SHORT)
    assert equal(weights(entry), expected) and len(saves) == total  # nothing was trained twice


# The user's weights


def cifar(monkeypatch: pytest.MonkeyPatch) -> None:
    """shapes10 under the names of CIFAR-10's classes, and a narrow network instead of the published one."""
    data = load_dataset("shapes10", "train", limit=SETUP.source_images)
    named = replace(data, classes=CIFAR10_CLASSES)
    monkeypatch.setattr(source_training, "load_dataset", lambda name, *a, **k: named if name == "cifar10" else data)
    narrow = public_weights.WeightFormat(lambda: WideResNet(10, 1, 10))
    monkeypatch.setitem(public_weights.FORMATS, "Zhang2019Theoretically", narrow)


def public_file(folder) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    model = WideResNet(10, 1, 10)
    state = {public_weights.public_name(k, model): v for k, v in model.state_dict().items() if k not in ("mean", "std")}
    folder.mkdir(exist_ok=True)
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, folder / "Zhang2019Theoretically.pt")
    return state


def test_the_user_s_weights_go_before_the_substitute(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar(monkeypatch)
    setup = replace(SETUP, user_weights=True, sources=("pgd_at", "wideresnet_trades"))
    _, before = source_network("wideresnet_trades", "cifar10", setup)
    assert source_training.weights_in_use("cifar10", setup) == {}
    state = public_file(tmp_path / "weights")
    network, entry = source_network("wideresnet_trades", "cifar10", setup)
    digest = store.digest(tmp_path / "weights" / "Zhang2019Theoretically.pt")
    assert origin(before) == "substitute" and origin(entry) == f"weights Zhang2019Theoretically.pt sha256 {digest}"
    assert torch.equal(network.classifier.weight.cpu(), state["fc.weight"]) and entry.key != before.key
    assert source_training.weights_in_use("cifar10", setup) == {"weights": {"wideresnet_trades": digest}}
    assert origin(source_network("pgd_at", "cifar10", setup)[1]) == "substitute"


def test_weights_serve_neither_other_data_nor_small_scales(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar(monkeypatch)
    public_file(tmp_path / "weights")
    for dataset, setup in (("shapes10", replace(SETUP, user_weights=True)), ("cifar10", SETUP)):
        assert origin(source_network("wideresnet_trades", dataset, setup)[1]) == "substitute"
        assert source_training.weights_in_use(dataset, setup) == {}
    assert {name for name, scale in scales.SCALES.items() if scale.rta.user_weights} == {"small", "paper"}


def test_weights_that_do_not_fit_are_an_error_and_not_passed_over(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar(monkeypatch)
    (tmp_path / "weights").mkdir()
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "weights" / "Zhang2019Theoretically.pt")
    with pytest.raises(ValueError, match="does not fit WideResNet"):
        source_network("wideresnet_trades", "cifar10", replace(SETUP, user_weights=True))
