"""What the corruptions do to a data set: how far they move its images, and how many images a second of the processor corrupts."""

import statistics
import time
import timeit
from functools import partial

import torch

from rtalib.corruptions.api import corrupt
from rtalib.corruptions.constants import BENCHMARKS, CORRUPTIONS, SEVERITIES
from rtalib.errors import check_images
from rtalib.infra.data_files import read_csv

LEAST_ERROR = 1e-2  # squared grey levels; an image that is not changed at all would have infinitely many decibels

# {benchmark: {type: mean PSNR in dB at severities 1 to 5, then a tolerance}} over 500 JPEG-stored CIFAR-10 test photographs, measured with
# the published generators; the tolerance covers the movement of seeds and rounding. The package's frost is left out: its current fork draws
# from six textures, not five. CIFAR-10-C's was made with the photographs. The JPEG storage raises the jpeg row, and slightly all others.
ORIGINALS: dict[str, dict[str, tuple[float, ...]]] = {}
for _line in read_csv(__package__, "original_psnr.csv"):
    _benchmark, _type, *_values = _line.values()
    ORIGINALS.setdefault(_benchmark, {})[_type] = tuple(map(float, _values))


def psnr(images: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of each image in dB, float64 (N,): 10 log10(255² / mean squared difference from `clean`).

    images, clean: uint8 (N,3,H,W). The mean squared difference counts as LEAST_ERROR at least, so the result is 68.1 dB at most.
    Raises TypeError or ValueError that name the argument.
    """
    images, clean = check_images(images), check_images(clean, "clean")
    if images.shape != clean.shape:
        raise ValueError(f"clean: expected the shape of images, {tuple(images.shape)}, got {tuple(clean.shape)}")
    error = (images.double() - clean.double()).square().mean((1, 2, 3))
    return 10 * torch.log10(255**2 / error.clamp_min(LEAST_ERROR))


def distances(images: torch.Tensor, *, seed: int = 0) -> list[dict]:
    """Mean and standard deviation over `images`, uint8 (N,3,H,W), of the PSNR in dB: a row per benchmark, type and severity."""
    rows = []
    for benchmark in BENCHMARKS:
        for name in CORRUPTIONS:
            for severity in SEVERITIES:
                values = psnr(corrupt(images, name, severity, seed=seed, benchmark=benchmark), images)
                cell = {"benchmark": benchmark, "corruption": name, "severity": severity, "seed": seed, "images": len(images)}
                rows.append(cell | {"psnr": float(values.mean()), "std": float(values.std(correction=0))})
    return rows


def beside_originals(rows: list[dict]) -> list[dict]:
    """Rows of `distances`, with what the original generators gave ("original", None where not known) and the "difference" from it.

    Only rows of CIFAR-10's test images compare.
    """
    found = []
    for row in rows:
        known = ORIGINALS.get(row["benchmark"], {}).get(row["corruption"])
        original = known[row["severity"] - 1] if known else None
        found.append(row | {"original": original, "difference": None if original is None else row["psnr"] - original})
    return found


def rates(images: torch.Tensor, *, severity: int = 3, rounds: int = 3) -> list[dict]:
    """Images per CPU-second of one thread at one severity, the median of `rounds`: a row per benchmark and type.

    A first, untimed round builds tables and textures.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # idle threads of a pool spin, and the clock counts them
    try:
        return [
            {"benchmark": benchmark, "corruption": name, "severity": severity, "images": len(images)}
            | {"images_per_second": _rate(images, name, severity, benchmark, rounds)}
            for benchmark in BENCHMARKS
            for name in CORRUPTIONS
        ]
    finally:
        torch.set_num_threads(threads)


def _rate(images: torch.Tensor, name: str, severity: int, benchmark: str, rounds: int) -> float:
    timer, number = timeit.Timer(partial(corrupt, images, name, severity, benchmark=benchmark), timer=time.process_time), 1
    timer.timeit(number)
    while not (spent := statistics.median(timer.repeat(rounds, number))):  # a clock of coarse ticks
        number *= 10
    return number * len(images) / spent
