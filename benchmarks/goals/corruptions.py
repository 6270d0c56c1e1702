"""Goals of the 15 corruptions: C9, C14, G2. The peer is the package imagecorruptions-imaug, with the photographs of frost in it."""

import math
import multiprocessing
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from unittest import mock

import numpy as np
import torch

from benchmarks.goals import data
from benchmarks.goals.ceilings import copies
from benchmarks.timing import alternate, clock, median, solo, timed
from rtalib import corrupt
from rtalib.corruptions import CORRUPTIONS
from rtalib.corruptions.psnr import psnr

EXACT = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")  # without random draws: equal to the byte
DECIBELS = 0.5  # of mean PSNR, by which the others may differ


def package(*, images: int, severity: int, rounds: int, device: str, names: Sequence[str] = CORRUPTIONS) -> dict:
    """How many times as fast all types together are as the package's, one thread each, and whether each type does the same to images."""
    os.environ.setdefault("RTALIB_FROST", "package")
    ours, peer, wrong = 0.0, 0.0, []
    clean = data.best("test", images)
    for name in names:
        pair = {
            "ours": lambda name=name: _ours(clean.images, name, severity),
            "peer": lambda name=name: _package(clean.images, name, severity),
        }
        _ours(clean.images[:2], name, severity)  # tables
        _package(clean.images[:2], name, severity)  # compiled by Numba
        times, load = alternate(pair, rounds, device, name)
        ours, peer = ours + median(times["ours"]), peer + median(times["peer"])
        if name == "frost":
            with mock.patch("numpy.random.randint", _of_five(np.random.randint)):
                theirs = _package(clean.images, name, severity)
        else:
            theirs = times["peer"][0].result
        if not _agree(name, clean.images, times["ours"][0].result, theirs):
            wrong.append(name)
    row = {"value": peer / ours, "seconds": ours, "peer_seconds": peer, "rounds": rounds, "clock": clock(device), "load": load}
    found = (
        f"other images by {', '.join(wrong)}" if wrong else f"{len(set(EXACT) & set(names))} equal to the byte, the others within 0.5 dB"
    )
    return row | {"held": not wrong, "found": f"{found}, on {clean.name}"}


PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")  # which scikit-image carries
MIXED = ((375, 500), (500, 375), (333, 500), (400, 480), (360, 510), (387, 512), (364, 490), (375, 499))


def at_size(*, side: int, severity: int, rounds: int, device: str, names: Sequence[str] = CORRUPTIONS) -> dict:
    """How many times as fast all types together are as the package's on photographs, one at a time; side 0: sizes as in a folder.

    A type's time is its best round. Sizes of a folder grow by a pixel from round to round, so that no size has been met before.
    """
    os.environ.setdefault("RTALIB_FROST", "package")
    loads, best = [], {}
    for name in names:
        for warm in _photographs(((96, 100),)):  # tables and, of the package, Numba's compilation
            _ours(warm, name, severity)
            _package(warm, name, severity)
        for number in range(rounds):
            sizes = ((side, side),) * len(PHOTOGRAPHS) if side else [(high + number, wide + number) for high, wide in MIXED]
            pictures = _photographs(sizes)
            pair = {"ours": partial(_each, _ours, pictures, name, severity), "peer": partial(_each, _package, pictures, name, severity)}
            times, load = alternate(pair, 1, device, name)
            loads.append(load)
            for who, found in times.items():
                best[name, who] = min(best.get((name, who), math.inf), found[0].seconds)
    ours, peer = (sum(best[name, who] for name in names) for who in ("ours", "peer"))
    ratios = {name: best[name, "peer"] / best[name, "ours"] for name in names}
    mean, least = statistics.geometric_mean(ratios.values()), min(ratios.values())
    row = {"value": peer / ours, "seconds": ours, "peer_seconds": peer, "rounds": rounds, "clock": clock(device)}
    found = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    return row | {"load": statistics.mean(loads), "held": mean >= 3 and least >= 1, "found": f"geometric mean {mean:.2f}; {found}"}


def _each(run: Callable, pictures: Sequence[torch.Tensor], name: str, severity: int) -> None:
    for picture in pictures:
        run(picture, name, severity)


def _photographs(sizes: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
    """uint8 (1,3,H,W) each, in turn, resized to the sizes."""
    from PIL import Image
    from skimage import data as photographs

    found = []
    for number, (height, width) in enumerate(sizes):
        photograph = Image.fromarray(getattr(photographs, PHOTOGRAPHS[number % len(PHOTOGRAPHS)])())
        pixels = np.array(photograph.resize((width, height), Image.Resampling.BICUBIC))
        found.append(torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous())
    return found


def _ours(images: torch.Tensor, name: str, severity: int) -> torch.Tensor:
    return corrupt(images, name, severity, benchmark="imagecorruptions")


def _package(images: torch.Tensor, name: str, severity: int) -> torch.Tensor:
    import imagecorruptions

    warnings.filterwarnings("ignore", category=UserWarning)
    pictures = images.permute(0, 2, 3, 1).contiguous().numpy()
    done = np.stack([imagecorruptions.corrupt(picture, severity, name) for picture in pictures])
    return torch.from_numpy(done).permute(0, 3, 1, 2)


def _of_five(randint: Callable) -> Callable:
    """The fork chooses among six photographs of frost; published are five, of which ours are."""
    return lambda *bounds: randint(5) if bounds == (6,) else randint(*bounds)


def _agree(name: str, clean: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    if name in EXACT:
        return torch.equal(ours, theirs)
    return abs(float(psnr(ours, clean).mean() - psnr(theirs.contiguous(), clean).mean())) <= DECIBELS


def device_against_cores(*, images: int, sample: int, severity: int, rounds: int, device: str) -> dict:
    """How many times as fast all types are on the device as the package's with one process per core, timed on `sample` images."""
    row = whole(images=images, severity=severity, rounds=rounds, device=device)
    clean = data.best("test", sample).images
    cores = len(os.sched_getaffinity(0))
    jobs = [(part, name, severity) for name in CORRUPTIONS for part in clean.chunk(cores)]
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.starmap(_package, [(clean[:2], name, severity) for name in CORRUPTIONS for _ in range(cores)], chunksize=len(CORRUPTIONS))
        start = time.perf_counter()
        pool.starmap(_package, jobs)
        peer = (time.perf_counter() - start) * images / len(clean)
    return row | {"value": peer / row["seconds"], "peer_seconds": peer}


def whole(*, images: int, severity: int, rounds: int, device: str) -> dict:
    """Wall seconds for all types over resident images."""
    resident = _resident(images, device)

    def run() -> None:
        for name in CORRUPTIONS:
            _ours(resident, name, severity)

    return solo(run, rounds, device)


def share_of_copy(*, images: int, severity: int, names: Sequence[str], rounds: int, device: str) -> dict:
    """The least share, over the types, of the copy bandwidth that reading each image and writing the result reaches."""
    resident, ceiling, shares = _resident(images, device), copies(device, clock(device)), {}
    for name in names:
        first = timed(lambda name=name: _ours(resident, name, severity), device).wall
        times, load = alternate({"ours": lambda name=name: _ours(resident, name, severity)}, rounds, device, name)
        shares[name] = 2 * resident.numel() / median(times["ours"]) / ceiling
    row = {"value": min(shares.values()), "rounds": rounds, "clock": clock(device), "load": load, "first_seconds": first}
    return row | {"found": ", ".join(f"{name} {share:.2f}" for name, share in shares.items())}


def _resident(images: int, device: str) -> torch.Tensor:
    found = data.best("test", min(images, 10_000)).images
    return found.repeat(-(-images // len(found)), 1, 1, 1)[:images].to(device)
