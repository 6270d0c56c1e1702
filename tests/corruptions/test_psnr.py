"""PSNR against numbers worked out by hand, rows for every type and severity, and a clock that counts one thread."""

import time

import pytest
import torch

from rtalib.corruptions import BENCHMARKS, CORRUPTIONS, corrupt
from rtalib.corruptions import psnr as measures
from rtalib.data.loading import load_dataset


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return load_dataset("shapes10", "test", limit=3).images


def test_psnr_of_known_errors():
    clean = torch.full((3, 3, 4, 5), 100, dtype=torch.uint8)
    images = clean.clone()
    images[1] += 51  # a fifth of the range everywhere: 10 log10(25)
    images[2, 0] -= 51  # in one channel of three
    expected = [10 * torch.log10(torch.tensor(x)).item() for x in (255**2 / measures.LEAST_ERROR, 25.0, 75.0)]
    found = measures.psnr(images, clean)
    assert found.dtype == torch.float64 and found.tolist() == pytest.approx(expected)


def test_psnr_names_bad_input(images):
    with pytest.raises(TypeError, match="clean: expected dtype torch.uint8"):
        measures.psnr(images, images.float())
    with pytest.raises(ValueError, match=r"clean: expected the shape of images, \(3, 3, 32, 32\), got \(1, 3, 32, 32\)"):
        measures.psnr(images, images[:1])


def test_distances_have_a_row_per_benchmark_type_and_severity(images):
    rows = measures.distances(images, seed=4)
    assert [(row["benchmark"], row["corruption"], row["severity"]) for row in rows] == [
        (benchmark, name, severity) for benchmark in BENCHMARKS for name in CORRUPTIONS for severity in (1, 2, 3, 4, 5)
    ]
    row = next(row for row in rows if (row["benchmark"], row["corruption"], row["severity"]) == ("tiny-imagenet-c", "snow", 2))
    values = measures.psnr(corrupt(images, "snow", 2, seed=4, benchmark="tiny-imagenet-c"), images)
    assert row["psnr"] == pytest.approx(float(values.mean())) and row["images"] == 3 and row["seed"] == 4


def test_originals_stand_beside_their_rows():
    rows = [
        {"benchmark": "cifar10-c", "corruption": "fog", "severity": 2, "psnr": 21.0},
        {"benchmark": "imagecorruptions", "corruption": "frost", "severity": 2, "psnr": 21.0},
        {"benchmark": "tiny-imagenet-c", "corruption": "fog", "severity": 2, "psnr": 21.0},
    ]
    found = measures.beside_originals(rows)
    assert found[0]["original"] == 20.3 and found[0]["difference"] == pytest.approx(0.7)
    assert [(row["original"], row["difference"]) for row in found[1:]] == [(None, None)] * 2


def test_originals_are_complete_but_for_the_package_s_frost():
    assert set(measures.ORIGINALS["cifar10-c"]) == set(CORRUPTIONS)
    assert set(measures.ORIGINALS["imagecorruptions"]) == set(CORRUPTIONS) - {"frost"}
    assert all(len(values) == 6 for types in measures.ORIGINALS.values() for values in types.values())


def test_rates_count_every_type_and_put_the_threads_back(images):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        rows = measures.rates(images, rounds=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert len(rows) == len(BENCHMARKS) * len(CORRUPTIONS) and all(row["images_per_second"] > 0 for row in rows)


def test_a_clock_of_coarse_ticks_gives_a_rate(images, monkeypatch):
    monkeypatch.setattr(measures.time, "process_time", lambda: time.perf_counter() // 0.02 * 0.02)
    assert 0 < measures._rate(images[:1], "brightness", 1, "cifar10-c", 3) < 1e5
