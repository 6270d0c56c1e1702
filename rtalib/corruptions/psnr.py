"""What the corruptions do to a data set: how far they move its images, and how many images a second of the processor corrupts."""

import statistics
import time

import torch

from rtalib.corruptions.api import corrupt
from rtalib.corruptions.constants import BENCHMARKS, CORRUPTIONS, SEVERITIES
from rtalib.errors import check_images

LEAST_ERROR = 1e-2  # squared grey levels; an image that is not changed at all would have infinitely many decibels

# {benchmark: {type: (mean PSNR in dB at severities 1 to 5, tolerance)}} over 500 JPEG-stored CIFAR-10 test photographs, measured with the
# published generators; the tolerance covers the movement of seeds and rounding. The package's frost is left out: its current fork draws
# from six textures, not five. CIFAR-10-C's was made with the photographs. The JPEG storage raises the jpeg row, and slightly all others.
ORIGINALS = {
    "cifar10-c": {
        "gaussian_noise": (28.1, 24.6, 22.2, 21.2, 20.3, 0.15),
        "shot_noise": (30.4, 27.4, 23.5, 22.3, 20.6, 0.3),
        "impulse_noise": (25.2, 22.2, 20.3, 18.1, 16.7, 0.25),
        "defocus_blur": (42.5, 34.8, 31.2, 28.9, 25.8, 0.6),
        "glass_blur": (21.8, 22.0, 22.7, 18.8, 19.3, 0.4),
        "motion_blur": (27.8, 24.5, 22.6, 22.6, 21.4, 0.4),
        "zoom_blur": (25.7, 24.3, 22.9, 21.7, 20.7, 0.4),
        "snow": (25.7, 19.7, 18.6, 15.8, 13.4, 0.3),
        "frost": (18.4, 15.1, 14.1, 14.9, 15.3, 0.6),
        "fog": (26.3, 20.3, 18.1, 16.7, 14.9, 0.3),
        "brightness": (27.8, 21.7, 18.2, 15.9, 12.8, 0.2),
        "contrast": (26.4, 20.3, 18.8, 17.4, 15.7, 0.4),
        "elastic_transform": (18.1, 18.9, 19.8, 20.3, 21.9, 0.5),
        "pixelate": (33.1, 30.5, 29.4, 27.5, 25.7, 0.5),
        "jpeg_compression": (40.0, 35.1, 31.7, 29.0, 28.6, 0.6),
    },
    "imagecorruptions": {
        "gaussian_noise": (22.2, 18.8, 15.6, 12.9, 10.5, 0.15),
        "shot_noise": (21.4, 17.8, 14.9, 11.7, 9.9, 0.3),
        "impulse_noise": (20.4, 17.3, 15.6, 12.8, 10.8, 0.25),
        "defocus_blur": (21.6, 20.3, 18.5, 17.6, 16.8, 0.4),
        "glass_blur": (20.6, 21.0, 18.0, 18.6, 18.3, 0.4),
        "motion_blur": (20.5, 18.5, 17.1, 16.1, 15.6, 0.4),
        "zoom_blur": (24.3, 22.9, 22.2, 21.4, 20.5, 0.4),
        "snow": (15.1, 11.1, 11.1, 9.6, 8.3, 0.3),
        "fog": (15.1, 14.2, 13.5, 13.4, 12.9, 0.3),
        "brightness": (21.7, 15.9, 12.8, 10.8, 9.4, 0.2),
        "contrast": (18.8, 17.4, 16.3, 15.2, 14.8, 0.4),
        "elastic_transform": (19.3, 17.9, 16.6, 16.0, 15.3, 0.4),
        "pixelate": (25.3, 24.5, 22.2, 20.7, 20.2, 0.4),
        "jpeg_compression": (26.8, 25.8, 25.1, 23.6, 22.3, 0.4),
    },
}


def psnr(images: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of each image in dB, float64 (N,): 10 log10(255² / mean squared difference from `clean`).

    images, clean: uint8 (N,3,H,W). The mean squared difference counts as LEAST_ERROR at least, so the result is 68.1 dB at most.
    Raises TypeError or ValueError that name the argument.
    """
    check_images(images)
    check_images(clean, "clean")
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
    corrupt(images, name, severity, benchmark=benchmark)
    spent = []
    for _ in range(rounds):
        started = time.process_time()
        corrupt(images, name, severity, benchmark=benchmark)
        spent.append(time.process_time() - started)
    return len(images) / statistics.median(spent)
