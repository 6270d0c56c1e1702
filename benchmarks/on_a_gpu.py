"""All that needs a GPU in one command, for a machine that is lent by the minute: kernels checked, goals measured, tables computed.

    python benchmarks/on_a_gpu.py --outputs DIR --minutes 25 [--tables rta-table1 cf-table2 --scale small --dataset cifar10]

In this order, each as far as the minutes reach: kernels.csv, every kernel against its plain-torch specification, byte for byte;
captured.csv, steps with RTALIB_CAPTURE=1 against plain ones; the goals of `python -m benchmarks --device cuda`; the rows of the tables.
DIR holds all results: `rsync -a --ignore-existing DIR/ outputs/` adds
them to others. The same command with the same DIR resumes what was cut short. Exit status 1 if a kernel or a captured step differs, or
a step fails.
"""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from rtalib import provenance, rng
from rtalib.corruptions import CORRUPTIONS, corrupt
from rtalib.corruptions.constants import BENCHMARKS
from rtalib.darts import Network, search
from rtalib.data import shapes10
from rtalib.infra.grid.cell import environment
from rtalib.models.base import seeded
from rtalib.training import RECIPES, train

SIDES = ((32, 32), (17, 35), (64, 64))
GRACE = 60  # seconds that an interrupted step has to put its things away


def differences(device: str, corruptions: Sequence[str] = CORRUPTIONS, count: int = 64) -> Iterator[dict]:
    """A row per kernel, constants, severity and size: how many bytes of `count` random images differ from the plain path's on the CPU."""
    for name in corruptions:
        for height, width in SIDES:
            words = rng.words(7, torch.arange(count), 1, 3 * height * width)
            images = (words.view(count, 3, height, width) >> 24).to(torch.uint8)
            for benchmark in BENCHMARKS:
                for severity in range(1, 6):
                    options = {"severity": severity, "seed": 3, "benchmark": benchmark}
                    wanted = corrupt(images, name, **options)
                    found = corrupt(images.to(device), name, **options).cpu()
                    wrong = int((found != wanted).sum())
                    yield {"corruption": name, "height": height, "width": width, **options, "images": count, "bytes_that_differ": wrong}


def trained(device: str) -> dict[str, torch.Tensor]:
    """The state of a network of DARTS_V2 after two epochs with drop path and auxiliary head."""
    recipe = replace(RECIPES["darts"], epochs=2, batch_size=4, drop_path=0.2)
    network = seeded(lambda: Network("darts_v2", 4, 3, auxiliary=True), 0)
    train(network, shapes10.make("train", 14), recipe, device=device)
    return network.state_dict()


def searched(device: str) -> dict[str, torch.Tensor]:
    """The state of a supernet after two epochs of second order."""
    halves = shapes10.make("train", 20), shapes10.make("test", 20)
    return search(*halves, space="s3", order=2, channels=4, layers=3, epochs=2, steps_per_epoch=3, batch_size=4, device=device).state


def captured_differences(device: str) -> Iterator[dict]:
    """Largest difference from a plain run, over the largest value: of the same run again (the GPU's own), and of a captured run."""
    for run in (trained, searched):
        first, again = run(device), run(device)
        with environment(RTALIB_CAPTURE="1"):
            captured = run(device)
        gaps = [max(_gap(other[name], tensor) for name, tensor in first.items()) for other in (again, captured)]
        yield {"run": run.__name__, "again": gaps[0], "captured": gaps[1]}


def _gap(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max().clamp_min(1e-12))


def _write(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def check_captured(folder: Path, device: str) -> bool:
    """Write captured.csv; whether captured runs differ from plain ones no more than plain ones differ among themselves, tenfold."""
    rows = list(captured_differences(device))
    _write(folder / "captured.csv", rows)
    print(*rows, sep="\n", flush=True)
    return all(row["captured"] <= 10 * max(row["again"], 1e-6) for row in rows)


def check(folder: Path, device: str, **options: object) -> bool:
    """Write kernels.csv; whether all are equal."""
    rows = list(differences(device, **options))
    _write(folder / "kernels.csv", rows)
    wrong = [row for row in rows if row["bytes_that_differ"]]
    print(f"{len(rows)} comparisons of kernels on {device}, {len(wrong)} differ", *wrong[:5], sep="\n", flush=True)
    return not wrong


def step(arguments: Sequence[str], folder: Path, end: float) -> bool:
    """python -m with these arguments until the time `end`, then interrupted as by Ctrl-C; whether it ended by itself and well."""
    if time.monotonic() >= end:
        print("no time left for:", *arguments, flush=True)
        return False
    command = [sys.executable, "-m", *arguments]
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, env=os.environ | {"RTALIB_OUTPUTS": str(folder)})
    try:
        return process.wait(end - time.monotonic()) == 0
    except subprocess.TimeoutExpired:
        print("cut short:", *arguments, flush=True)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE)
        finally:
            process.kill()  # a command that cannot be interrupted must not outlive this one
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", required=True, type=Path)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--goals", nargs="*", default=[], help="of `python -m benchmarks` (default: all)")
    parser.add_argument("--tables", nargs="*", default=[])
    parser.add_argument("--scale", default="small")
    parser.add_argument("--dataset", default="cifar10")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.error("no GPU is visible to torch here")
    end, folder = time.monotonic() + 60 * options.minutes, options.outputs.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "env.json").write_text(json.dumps(provenance.stamp(), indent=1))
    done = [check(folder, "cuda"), check_captured(folder, "cuda"), step(["benchmarks", "--device", "cuda", *options.goals], folder, end)]
    at = ["--scale", options.scale, "--dataset", options.dataset]
    done += [step(["rtalib", "tables", table, *at], folder, end) for table in options.tables]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
