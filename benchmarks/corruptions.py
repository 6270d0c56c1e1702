"""Images per second of the 15 corruptions: rtalib on the CPU and the GPU, the package imagecorruptions-imaug, the original algorithms.

    python benchmarks/corruptions.py [--severity 3] [--side 32] [--data shapes10] [--out outputs/benchmarks/corruptions.csv]

One thread against one thread, CPU time of the process, rounds of all contestants in turn; the median round counts. Two comparisons, since
constants decide the work: CIFAR-10-C's against the original algorithm (`originals.py`), ImageNet-C's against the package. On a GPU wall
time with images resident, bytes moved (image in, image out) and their share of the copy bandwidth measured in the same run.
"""

import argparse
import importlib.util
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import results
from rtalib import corrupt, load_dataset, provenance
from rtalib.corruptions import CORRUPTIONS, frost_source

FIELDS = (
    "contestant benchmark corruption severity side images_per_second clock images rounds baseline ratio gigabytes_per_second copy_share"
).split()


def cpu_rate(run: Callable[[int], None], count: int) -> float:
    """Images per CPU-second of `run(count)`."""
    start = time.process_time()
    run(count)
    return count / (time.process_time() - start)


def images_for(run: Callable[[int], None], seconds: float, most: int) -> int:
    """How many images keep `run` busy for about `seconds` of CPU time; also the warm-up, tables included."""
    run(1)
    count = 1
    while count < most:
        start = time.process_time()
        run(count)
        spent = time.process_time() - start
        if spent >= seconds / 4:
            return min(most, max(1, round(count * seconds / spent)))
        count *= 4
    return most


def per_image(function: Callable[..., np.ndarray], pixels: np.ndarray, *arguments: object) -> Callable[[int], None]:
    def run(count: int) -> None:
        for i in range(count):
            function(pixels[i % len(pixels)], *arguments)

    return run


def batched(images: torch.Tensor, name: str, severity: int, benchmark: str) -> Callable[[int], None]:
    return lambda count: corrupt(images[:count], name, severity, benchmark=benchmark)


def contestants(images: torch.Tensor, name: str, severity: int, benchmark: str) -> dict[str, Callable[[int], None]]:
    """Ours and the baseline of one comparison; a baseline that is not installed is left out."""
    pixels = images[:500].permute(0, 2, 3, 1).contiguous().numpy()
    found = {"rtalib, cpu": batched(images, name, severity, benchmark)}
    if benchmark == "imagecorruptions":
        if importlib.util.find_spec("imagecorruptions"):
            import imagecorruptions

            found["imagecorruptions-imaug"] = per_image(imagecorruptions.corrupt, pixels, severity, name)
    elif all(importlib.util.find_spec(module) for module in ("cv2", "skimage", "wand", "imagecorruptions")):
        from benchmarks.originals import original

        found["original"] = per_image(original, pixels, name, severity, benchmark)
    return found


def cpu_rows(images: torch.Tensor, name: str, severity: int, benchmark: str, rounds: int, seconds: float) -> list[dict]:
    runs = contestants(images, name, severity, benchmark)
    counts = {who: images_for(run, seconds, len(images)) for who, run in runs.items()}
    rates = {who: [] for who in runs}
    for _ in range(rounds):
        for who, run in runs.items():
            rates[who].append(cpu_rate(run, counts[who]))
    medians = {who: statistics.median(values) for who, values in rates.items()}
    baseline = next((who for who in runs if who != "rtalib, cpu"), None)
    rows = []
    for who, rate in medians.items():
        row = {"contestant": who, "images_per_second": rate, "clock": "cpu", "images": counts[who], "rounds": rounds}
        if who == "rtalib, cpu" and baseline:
            row |= {"baseline": baseline, "ratio": rate / medians[baseline]}
        rows.append(row)
    return rows


def gpu_seconds(run: Callable[[], object], rounds: int) -> float:
    """Median wall time of one call, after two calls to warm up."""
    times = []
    for number in range(rounds + 2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        if number >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def gpu_row(images: torch.Tensor, name: str, severity: int, benchmark: str, copy_rate: float, rounds: int) -> dict:
    seconds = gpu_seconds(lambda: corrupt(images, name, severity, benchmark=benchmark), rounds)
    rate = 2 * images.numel() / seconds
    return {
        "contestant": "rtalib, cuda",
        "images_per_second": len(images) / seconds,
        "clock": "wall",
        "images": len(images),
        "rounds": rounds,
        "gigabytes_per_second": rate / 1e9,
        "copy_share": rate / copy_rate,
    }


def complete_set(images: torch.Tensor, rounds: int) -> dict:
    """All 15 types at all 5 severities of resident images, the whole of CIFAR-10-C where there are 10,000."""

    def run() -> None:
        for name in CORRUPTIONS:
            for severity in range(1, 6):
                corrupt(images, name, severity)

    seconds = gpu_seconds(run, rounds)
    row = {"contestant": "rtalib, cuda", "benchmark": "cifar10-c", "corruption": "complete set", "clock": "wall", "rounds": rounds}
    return row | {"images_per_second": 75 * len(images) / seconds, "images": 75 * len(images), "side": images.shape[3]}


def sums(rows: list[dict]) -> list[dict]:
    """One row per contestant and benchmark for all types together: the rate at which an image passes through all of them."""
    total = []
    for who, benchmark in dict.fromkeys((row["contestant"], row["benchmark"]) for row in rows):
        chosen = [row for row in rows if (row["contestant"], row["benchmark"]) == (who, benchmark)]
        rate = 1 / sum(1 / row["images_per_second"] for row in chosen)
        row = {"contestant": who, "benchmark": benchmark, "corruption": f"all {len(chosen)}", "images_per_second": rate}
        total.append({key: chosen[0].get(key) for key in ("severity", "side", "clock", "rounds", "baseline")} | row)
    for row in total:
        match = [other for other in total if other["contestant"] == row["baseline"] and other["benchmark"] == row["benchmark"]]
        if match:
            row["ratio"] = row["images_per_second"] / match[0]["images_per_second"]
    return total


def measure(arguments: argparse.Namespace, images: torch.Tensor) -> list[dict]:
    rows, extra, device, copy_rate = [], [], None, 0.0
    if torch.cuda.is_available():
        device = images.repeat(-(-arguments.gpu_images // len(images)), 1, 1, 1)[: arguments.gpu_images].cuda()
        copy_rate = 2 * device.numel() / gpu_seconds(device.clone, arguments.rounds)
        extra = [complete_set(device, arguments.rounds)]
    for benchmark in arguments.benchmarks.split(","):
        for name in CORRUPTIONS:
            found = cpu_rows(images, name, arguments.severity, benchmark, arguments.rounds, arguments.seconds)
            if device is not None:
                found.append(gpu_row(device, name, arguments.severity, benchmark, copy_rate, arguments.rounds))
            cell = {"benchmark": benchmark, "corruption": name, "severity": arguments.severity, "side": images.shape[3]}
            rows += [cell | row for row in found]
            print(benchmark, name, *(f"{row['contestant']} {row['images_per_second']:,.0f}/s" for row in found), sep="  ", flush=True)
    return rows + sums(rows) + extra


def markdown(rows: list[dict]) -> str:
    """A table of rates and ratios, one line per type and benchmark."""
    lines = ["| benchmark | corruption | rtalib, cpu | baseline | ratio |", "| --- | --- | ---: | ---: | ---: |"]
    for row in rows:
        if row["contestant"] == "rtalib, cpu" and row.get("ratio"):
            other = row["images_per_second"] / row["ratio"]
            cells = (row["benchmark"], row["corruption"], f"{row['images_per_second']:,.0f}", f"{other:,.0f}", f"{row['ratio']:.1f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--severity", type=int, default=3)
    parser.add_argument("--side", type=int, default=32, help="32, or 64: images enlarged by repetition")
    parser.add_argument("--data", default="shapes10", help="any name that load_dataset reads")
    parser.add_argument("--benchmarks", default="cifar10-c,imagecorruptions")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--gpu-images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.25, help="CPU time per contestant and round, about")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/corruptions.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    images = load_dataset(arguments.data, "test", limit=arguments.images).images
    images = images.repeat_interleave(arguments.side // 32, 2).repeat_interleave(arguments.side // 32, 3)
    stamp = provenance.stamp()
    rows = measure(arguments, images)
    facts = {"data": arguments.data, "frost": frost_source().split(":")[0]} | {key: stamp[key] for key in ("cpu", "gpu", "git", "time")}
    results.write(arguments.out, rows, FIELDS, facts)
    print(markdown(rows), f"\n{arguments.out}")


if __name__ == "__main__":
    main()
