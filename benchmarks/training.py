"""Accuracy on CIFAR-10 against CPU-seconds of training: the recipe `speedrun`, the recipe `fast`, and a plain ResNet-18.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--runs speedrun:convnet_wide:5 fast:convnet:7] [--seeds 0 1 2] [--precision fp32]

A run is recipe:network:epochs, or recipe:network:epochs:images for the first images alone (a ResNet-18 sees a quarter of the images in the
time in which small networks see them all several times). Seconds are CPU time of `train`, with the copy of the images into its batches,
without reading the files and without the evaluation on all 10,000 test images, unmirrored, once, at the end. One thread by default; the
runs alternate within a seed, so that other work on the machine disturbs all alike. Each row is written when it is there.

With glibc, MALLOC_MMAP_THRESHOLD_=8000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=1000000000 before the command keep freed
memory in the process, where else the kernel maps fresh pages for every large tensor: a fifth of the time in batches of 250 in float32.
"""

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import results
from rtalib import provenance
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.models import build, count_parameters, seeded
from rtalib.models.inference import evaluate
from rtalib.training.loop import train
from rtalib.training.recipes import PRECISIONS, RECIPES

FIELDS = (
    "recipe network parameters epochs images passes seed precision accuracy test_images cpu_seconds wall_seconds loss load dataset"
).split()
RUNS = ("speedrun:convnet_wide:5", "fast:convnet:7", "fast:resnet18:1:13000")
LINE = "{recipe:9} {network:13} {epochs:2} epochs of {images} {precision} seed {seed}: {accuracy:.2f} % in {cpu_seconds:.1f} CPU-s"


def measure(run: str, seed: int, precision: str, data: LabeledImages, test: LabeledImages) -> dict:
    """The row of one training."""
    recipe, network, epochs, *limit = run.split(":")
    data = data.subset(range(int(limit[0]))) if limit else data
    model = seeded(lambda: build(network), seed)
    cpu, wall = time.process_time(), time.perf_counter()
    history = train(model, data, replace(RECIPES[recipe], epochs=int(epochs)), seed=seed, precision=precision, device="cpu")
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    row = {"recipe": recipe, "network": network, "parameters": count_parameters(model), "epochs": int(epochs), "images": len(data)}
    row |= {"passes": int(epochs) * len(data), "seed": seed, "precision": precision, "accuracy": 100 * evaluate(model, test)}
    row |= {"test_images": len(test), "cpu_seconds": cpu, "wall_seconds": wall, "loss": history[-1]["loss"]}
    return row | {"load": os.getloadavg()[0], "dataset": data.name}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", default=RUNS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS[1:], default=["fp32"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/training-cpu.csv"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data, test = (load_dataset("cifar10", split) for split in ("train", "test"))
    stamp = provenance.stamp()
    facts = {"torch": torch.__version__, "bf16_in_hardware": torch.cpu._is_avx512_bf16_supported()}
    facts |= {"keeps_memory": "MALLOC_TRIM_THRESHOLD_" in os.environ}
    facts |= {key: stamp[key] for key in ("cpu", "cores", "threads", "git", "dirty", "time")}
    rows = []
    for precision in options.precision:
        for seed in options.seeds:
            for run in options.runs:
                rows.append(measure(run, seed, precision, data, test))
                print(LINE.format(**rows[-1]), flush=True)
                results.write(options.out, rows, FIELDS, facts)


if __name__ == "__main__":
    main()
