"""Every measuring function of the goals runs at toy sizes, and its quality condition can fail."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks import coreset, timing
from benchmarks.goals import attacks, ceilings, corruptions, data, interpreter, loader, selection, supernets, training
from rtalib import load_dataset
from rtalib.data.images import LabeledImages

CPU = {"rounds": 1, "device": "cpu"}
proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


@pytest.fixture(autouse=True)
def shapes(monkeypatch, tmp_path) -> None:
    """The embedded data set instead of CIFAR-10, whatever lies on this machine; frost's textures as they come."""
    monkeypatch.setattr(data, "cifar10", lambda split, limit=None: load_dataset("shapes10", split, limit=limit))
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))


def assert_race(row: dict) -> None:
    assert row["value"] > 0 and row["seconds"] > 0 and row["peer_seconds"] > 0 and row["clock"] in ("cpu", "wall")


def test_contestants_run_in_turn_and_the_median_of_paired_ratios_counts(monkeypatch):
    log, spent = [], iter([9, 9, 9, 1.0, 3.0, 2.0, 2.0, 2.0, 2.0, 1.0, 10.0, 1.0])
    monkeypatch.setattr(timing, "timed", lambda run, device: timing.Time(next(spent), 7.0, 0.0, run()))
    row = timing.duel(*(lambda who=who: log.append(who) for who in "ops"), rounds=3, device="cpu")
    assert "".join(log) == "ops" * 4  # the first of each is the warm-up
    assert (row["value"], row["lowest"], row["highest"], row["same_precision"]) == (3.0, 1.0, 10.0, 1.0)
    assert (row["seconds"], row["peer_seconds"], row["first_seconds"]) == (1.0, 3.0, 7.0)


def test_a_roofline_is_the_larger_bound_over_the_time(monkeypatch):
    monkeypatch.setattr(ceilings, "arithmetic", lambda device, precision, clock: {"float32": 100.0, "bfloat16": 400.0}[precision])
    monkeypatch.setattr(ceilings, "copies", lambda device, clock: 10.0)
    assert ceilings.roofline(4.0, "cpu", "cpu", flop=200) == {"bound_seconds": 2.0, "bound_by": "FLOP", "roofline_share": 0.5}
    assert ceilings.roofline(4.0, "cpu", "cpu", 200, 10, "bfloat16") == {"bound_seconds": 1.0, "bound_by": "bytes", "roofline_share": 0.25}
    monkeypatch.undo()
    assert ceilings.arithmetic("cpu", "float32", "cpu", side=256) > 1e6 and ceilings.copies("cpu", "wall", size=2**22) > 1e6


def test_selection(monkeypatch):
    for peer, centers in (("google/active-learning", 200), ("DeepCore", 200), ("anomalib", 1)):
        row = selection.against(peer=peer, candidates=300, centers=centers, dimensions=8, budget=20, **CPU)
        assert_race(row)
        assert row["held"] and row["found"] == "the same set"
    monkeypatch.setitem(coreset.CONTESTANTS["greedy"], "anomalib", lambda x, y, budget: torch.arange(budget))
    row = selection.against(peer="anomalib", candidates=300, dimensions=8, budget=20, **CPU)
    assert not row["held"] and "radii differ" in row["found"]


@proc
@pytest.mark.slow
def test_selection_alone():
    row = selection.alone(candidates=3000, centers=2000, dimensions=16, budget=50, most_mib=200, **CPU)
    assert row["held"] and row["extra_mib"] < 200 and row["value"] == row["seconds"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("peer, precision", [("torchattacks", "bfloat16"), ("foolbox", "float32")])
def test_attacks(peer, precision):
    pytest.importorskip(peer)
    small = {"network": "convnet_small", "batch": 8, "steps": 2, "greys": [8], "images": 16, "train": 1000, "epochs": 6}
    row = attacks.against(peer=peer, precision=precision, points=100, **small, **CPU)
    assert_race(row)
    assert row["held"] and "(n=16)" in row["found"] and ("same_precision" in row) == (precision == "bfloat16")
    assert not attacks.against(peer=peer, precision=precision, points=-1, **small, **CPU)["held"]


def test_attacks_over_many_images():
    small = {"network": "tiny", "images": 8, "batch": 4, "steps": 2, "precision": "float32"}
    assert attacks.odi_bim(**small, **CPU)["value"] > 0
    pytest.importorskip("torchattacks")
    for precision in ("float32", "bfloat16"):
        assert_race(attacks.throughput(peer_precision=precision, **small, **CPU))


def test_the_stock_stem_makes_an_image_small_at_once():
    net, seen = attacks.contest.build("resnet18_stock").eval(), []
    net.net.layer1.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-2:]))
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10) and seen == [(8, 8)]


@needs("imagecorruptions")
def test_corruptions(monkeypatch):
    row = corruptions.package(images=40, severity=2, names=("brightness", "gaussian_noise", "frost"), **CPU)
    assert_race(row)
    assert row["held"] or row["found"] == "other images by frost, on shapes10"  # 40 draws of a crop
    monkeypatch.setattr(corruptions, "_package", lambda images, name, severity: images)
    row = corruptions.package(images=4, severity=2, names=("brightness", "gaussian_noise"), **CPU)
    assert not row["held"] and row["found"].startswith("other images by brightness, gaussian_noise")


def test_corruptions_of_resident_images(monkeypatch):
    assert corruptions.whole(images=6, severity=2, **CPU)["value"] > 0
    monkeypatch.setattr(corruptions, "copies", lambda device, clock: 1e9)
    row = corruptions.share_of_copy(images=6, severity=2, names=["brightness", "contrast"], **CPU)
    assert 0 < row["value"] < 10 and row["found"].count("contrast") == 1


@pytest.mark.slow
@needs("imagecorruptions")
def test_corruptions_against_all_cores(monkeypatch):
    monkeypatch.setattr(corruptions, "CORRUPTIONS", ("brightness", "gaussian_noise"))  # others are compiled first, in every process
    assert_race(corruptions.device_against_cores(images=8, sample=4, severity=2, **CPU))


def test_supernets():
    size = {"channels": 4, "layers": 3, "batch": 2}
    row = supernets.passes(**size, **CPU)
    assert_race(row)
    assert row["held"]
    assert_race(supernets.steps(net="fused", **size, **CPU))
    assert_race(supernets.evaluation(channels=4, layers=5, batch=2, **CPU))


def test_offsets_of_every_crop_and_flip_are_read_right():
    padded = F.pad(loader.marked(1)[0], (4, 4, 4, 4))
    crops = [padded[:, top : top + 32, left : left + 32] for top in range(9) for left in range(9)]
    pictures = torch.stack([picture for crop in crops for picture in (crop, crop.flip(2))])
    assert torch.equal(loader.offsets(pictures / 255), torch.arange(162))
    assert loader.uniformity(torch.arange(162).repeat(10)) == 0 and loader.uniformity(torch.zeros(1620, dtype=torch.int64)) > 1000


@pytest.mark.slow
def test_loader():
    row = loader.against(images=600, batch=100, **CPU)
    assert_race(row)
    assert row["held"]


def test_the_slowest_test_is_found(tmp_path):
    pytest.importorskip("triton")
    (tmp_path / "test_two.py").write_text("import time\ndef test_a(): time.sleep(0.2)\ndef test_b(): assert False\n")
    row = interpreter.slowest(tests=[str(tmp_path / "test_two.py")], **CPU)
    assert 0.2 <= row["value"] < 1 and not row["held"] and row["found"].startswith("slowest: test_a; 0 of 2")
    with pytest.raises(timing.Unmeasured, match="no test was collected|did not run"):
        interpreter.slowest(tests=[str(tmp_path / "missing.py")], **CPU)


def test_training_steps_and_accuracy(monkeypatch):
    small = {"network": "tiny", "images": 64, "batch": 32, "seeds": 2, "train_images": 64, "epochs": 1}
    row = training.small_steps(**small, **CPU)
    assert_race(row)
    assert "2 seeds, 64 images of shapes10" in row["found"]
    answers = iter([0.5, 0.48, 0.5, 0.48])
    monkeypatch.setattr(training, "evaluate", lambda *_: next(answers))
    assert not training.small_steps(**small, **CPU)["held"]


def test_the_plain_loop_computes_what_train_does():
    found = load_dataset("shapes10", "train", limit=64)
    recipe = training.Recipe(2, 32, 0.05, schedule="onecycle", label_smoothing=0.1, nesterov=True)
    ours, plain = (training.seeded(lambda: training.build("tiny"), 0) for _ in range(2))
    training.train(ours, found, recipe, seed=1, precision="fp32", device="cpu")
    training._plainly(plain, found, recipe, 1, "cpu")
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_training_on_cifar10(monkeypatch):
    small = {"images": 64, "epochs": 1, "recipe": "fast", "network": "tiny", "test_images": 50}
    row = training.demo(report="accuracy", most_seconds=1e-9, **small, **CPU)
    assert not row["held"] and 0 <= row["value"] <= 100
    row = training.demo(report="seconds", **small, **CPU)
    assert row["held"] and row["value"] == row["seconds"]


def test_without_cifar10(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setenv("RTALIB_DATA", str(tmp_path))
    with pytest.raises(timing.Unmeasured, match="RTALIB_DATA must name"):
        data.cifar10("train", 10)
    assert isinstance(data.best("test", 10), LabeledImages)


def test_whole_epochs():
    small = {"network": "tiny", "images": 64, "batch": 32}
    assert_race(training.against_loader(workers=0, **small, **CPU))
    row = training.rate(flop_per_image=2e12, **small, **CPU)
    assert row["value"] == pytest.approx(2 * 64 / row["seconds"])
