"""What corrupt() promises whatever the type: invariance to batching, shapes, small memory, clear errors."""

import numpy as np
import pytest
import torch
from pictures import make_images

from rtalib.corruptions import BENCHMARKS, CORRUPTIONS, api, corrupt


@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_result_belongs_to_the_image(monkeypatch, name, benchmark):
    images = make_images(12)
    severity, index = torch.tensor([1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 1, 5]), torch.arange(100, 112)
    arguments = {"seed": 5, "benchmark": benchmark}
    together = corrupt(images, name, severity, index=index, **arguments)
    assert together.dtype == torch.uint8 and together.shape == images.shape and together.is_contiguous()
    assert not torch.equal(together, images)
    alone = [corrupt(images[i : i + 1], name, int(severity[i]), index=index[i : i + 1], **arguments) for i in range(12)]
    assert torch.equal(torch.cat(alone), together)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(corrupt(images[order], name, severity[order], index=index[order], **arguments), together[order])
    monkeypatch.setitem(api.TYPES, name, api.TYPES[name]._replace(pixels=3 * 1024))
    assert torch.equal(corrupt(images, name, severity, index=index, **arguments), together)


@pytest.mark.parametrize("name", [name for name, kind in api.TYPES.items() if kind.draw])
def test_seed_index_and_severity_change_the_draws(name):
    image = make_images(1, 32, 32, seed=4).repeat(2, 1, 1, 1)
    first, second = corrupt(image, name, 5)
    assert not torch.equal(first, second)
    assert not torch.equal(corrupt(image, name, 5, seed=1)[0], first)
    assert torch.equal(corrupt(image, name, 5, index=torch.tensor([1, 0]))[1], first)


@pytest.mark.parametrize("height, width", [(16, 16), (16, 40), (31, 17), (96, 80)])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_size_from_16_px(name, height, width):
    images = make_images(3, height, width)
    for benchmark in BENCHMARKS:
        for severity in (1, 5):
            out = corrupt(images, name, severity, benchmark=benchmark)
            assert out.shape == images.shape and out.dtype == torch.uint8


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_input_is_left_alone_and_may_be_a_view(name):
    channels_last = make_images(4).permute(0, 2, 3, 1).contiguous()
    before = channels_last.clone()
    view = channels_last.permute(0, 3, 1, 2)
    assert torch.equal(corrupt(view, name, 3), corrupt(view.contiguous(), name, 3))
    assert torch.equal(channels_last, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_empty_batch(name):
    empty = torch.empty(0, 3, 32, 32, dtype=torch.uint8)
    assert corrupt(empty, name, 3).shape == empty.shape
    assert corrupt(empty, name, torch.empty(0, dtype=torch.int64), index=torch.empty(0, dtype=torch.int64)).shape == empty.shape


GOOD = {"images": make_images(2), "name": "fog", "severity": 1}


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"images": GOOD["images"].float() / 255}, TypeError, "images.*uint8.*float32"),
        ({"images": GOOD["images"][0]}, ValueError, "images.*N,3,H,W"),
        ({"images": GOOD["images"].permute(0, 2, 3, 1)}, ValueError, "channels last"),
        ({"images": GOOD["images"][:, :2]}, ValueError, "images.*2, 2, 32, 32"),
        ({"images": GOOD["images"].numpy() / 255}, TypeError, "images.*uint8.*float64"),
        ({"images": GOOD["images"][:, :, :15]}, ValueError, "images.*at least 16 px.*15x32"),
        ({"name": "fogg"}, ValueError, "Did you mean 'fog'"),
        ({"benchmark": "cifar-10-c"}, ValueError, "Did you mean 'cifar10-c'"),
        ({"severity": 0}, ValueError, "severity.*1 to 5.*0"),
        ({"severity": 6}, ValueError, "severity.*6"),
        ({"severity": 2.0}, TypeError, "severity.*2.0"),
        ({"severity": True}, TypeError, "severity.*True"),
        ({"severity": torch.tensor([1.0, 2.0])}, TypeError, "severity.*float32"),
        ({"severity": torch.tensor([1, 9])}, ValueError, "severity.*from 1 to 9"),
        ({"severity": torch.tensor([1, 2, 3])}, ValueError, r"severity.*\(2,\).*\(3,\)"),
        ({"index": torch.tensor([1])}, ValueError, r"index.*\(2,\).*\(1,\)"),
        ({"index": torch.tensor([1.0, 2.0])}, TypeError, "index.*float32"),
        ({"index": "12"}, TypeError, "index.*str"),
    ],
)
def test_bad_input_is_named(change, error, words):
    arguments = GOOD | change
    with pytest.raises(error, match=words):
        corrupt(arguments.pop("images"), arguments.pop("name"), arguments.pop("severity"), **arguments)


def test_arrays_and_lists_are_as_good_as_tensors():
    expected = corrupt(GOOD["images"], "gaussian_noise", 3, index=torch.tensor([4, 2]))
    assert torch.equal(corrupt(GOOD["images"].numpy(), "gaussian_noise", np.int64(3), seed=np.int64(0), index=[4, 2]), expected)


def peak_bytes(run) -> int:
    """Most memory of tensors allocated on the CPU at any one time during `run()`."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    now = peak = 0
    events = (event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]")
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_working_memory_is_bounded(name):
    """Under 16 MiB besides the result, however many images: 64 bytes per pixel of a quarter of a million pixels."""
    images = torch.zeros(256, 3, 32, 32, dtype=torch.uint8).random_(0, 256, generator=torch.Generator().manual_seed(0))
    corrupt(images[:1], name, 5, benchmark="imagecorruptions")  # tables that stay
    assert peak_bytes(lambda: corrupt(images, name, 5, benchmark="imagecorruptions")) - images.numel() < 16 * 2**20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_gpu_agrees_with_cpu(name, benchmark):
    """Integer types to the byte; the float64 ones may move a byte by one where a sum lands on a whole level."""
    images, severity = make_images(40), torch.arange(40) % 5 + 1
    gap = (
        corrupt(images, name, severity, benchmark=benchmark).int() - corrupt(images.cuda(), name, severity, benchmark=benchmark).cpu()
    ).abs()
    if name in ("gaussian_noise", "shot_noise", "impulse_noise", "pixelate", "jpeg_compression", "frost"):
        assert gap.max() == 0
    assert gap.max() <= 1 and (gap > 0).double().mean() < 1e-3
