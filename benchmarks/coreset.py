"""k-center greedy by several hands: rtalib, and the algorithms of google/active-learning, DeepCore and anomalib (coreset_peers.py).

    OMP_NUM_THREADS=1 python benchmarks/coreset.py [--paper] [--sizes 8000,20000,64,500 ...] [--greedy 50000,64,500 ...]

A size is candidates, initial centres, dimensions, budget; of --greedy there is one centre, the first candidate, since anomalib knows no
set of centres. Features have low rank and five near-duplicates each, like the severities of an image. One thread by default, CPU time of
the process, the contestants in turn within a round; the median round counts. On a GPU wall time. Peak memory is that of a process of its
own, beyond the features. A contestant whose largest matrix does not fit into the free memory is left out, and the row says so.
"""

import argparse
import importlib.metadata
import importlib.util
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import coreset_peers, results, timing
from rtalib import provenance
from rtalib.coreset.selection import covering_radius, k_center_greedy

FIELDS = (
    "task candidates centers dimensions budget contestant seconds wall_seconds clock rounds rtalib_is_faster peak_mib radius "
    "radius_over_ours same_picks load skipped"
).split()
PAPER = "33710,50000,576,1000"
SIZES = ("8000,20000,64,500", "8000,20000,512,500", "30000,50000,64,1000")
GREEDY = ("50000,64,500", "8000,512,500")
Size = tuple[int, int, int, int]
Select = Callable[[Tensor, Tensor, int], Tensor]
CONTESTANTS: dict[str, dict[str, Select]] = {
    "selection": {"rtalib": k_center_greedy, "google/active-learning": coreset_peers.google, "DeepCore": coreset_peers.deepcore},
    "greedy": {"rtalib": k_center_greedy, "anomalib": coreset_peers.anomalib},
}
PACKAGES = {"fpsample": coreset_peers.fpsample, "torch-quickfps": coreset_peers.torch_quickfps, "torch-fps": coreset_peers.torch_fps}
CONTESTANTS["greedy"] |= {name: select for name, select in PACKAGES.items() if importlib.util.find_spec(name.replace("-", "_"))}


def features(size: Size) -> tuple[Tensor, Tensor]:
    """Float32 candidates and centres: rank 32 and a little noise, five candidates near each other."""
    candidates, centers, dimensions, _ = size
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(32, dimensions, generator=generator)
    base = torch.randn(-(-candidates // 5), 32, generator=generator).repeat_interleave(5, 0)[:candidates]
    within = base + 0.2 * torch.randn(candidates, 32, generator=generator)
    x = within @ basis + 0.1 * torch.randn(candidates, dimensions, generator=generator)
    return x, x[:1] if centers == 1 else 0.7 * torch.randn(centers, 32, generator=generator) @ basis


def matrix(contestant: str, size: Size) -> int:
    """Bytes of the largest matrix that a contestant holds."""
    candidates, centers, _, budget = size
    pooled = candidates + centers
    return {"google/active-learning": pooled * centers * 8, "DeepCore": pooled * (2 * centers + budget) * 4}.get(contestant, 0)


def free() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def resident(which: str) -> float:
    """MiB: VmRSS, what the process holds, or VmHWM, the most that it has held; Linux."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) / 1024


def peak(task: str, contestant: str, size: Size, device: str, threads: int) -> float:
    """MiB beyond the features, in a new process."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)  # for the new process: what is freed goes back at once, and does not count
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak_here, (task, contestant, size, device, threads))


def peak_here(task: str, contestant: str, size: Size, device: str, threads: int) -> float:
    """`peak` of this process, which has selected nothing before."""
    torch.set_num_threads(threads)
    x, y = (part.to(device) for part in features(size))
    select = CONTESTANTS[task][contestant]
    select(x[:100], y[:100], 2)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        select(x, y, size[3])
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again
    held = resident("VmRSS")
    select(x, y, size[3])
    return resident("VmHWM") - held


def measure(task: str, size: Size, arguments: argparse.Namespace) -> list[dict]:
    device = arguments.device
    x, y = (part.to(device) for part in features(size))
    skipped = {name: f"needs {matrix(name, size) / 2**30:.1f} GiB" for name in CONTESTANTS[task] if matrix(name, size) > 0.9 * free()}
    if device != "cpu":
        skipped |= {name: "works on the CPU" for name in ("google/active-learning", "fpsample") if name in CONTESTANTS[task]}
    runs = {name: select for name, select in CONTESTANTS[task].items() if name not in skipped}
    for select in runs.values():
        select(x[:200], y[:200], 10)
    racing = {name: lambda select=select: select(x, y, size[3]).cpu() for name, select in runs.items()}
    times, load = timing.alternate(racing, arguments.rounds, device, f"{task} {size}")
    found = {name: values[-1].result for name, values in times.items()}
    facts = {"task": task} | dict(zip(("candidates", "centers", "dimensions", "budget"), size, strict=True))
    facts |= {"clock": timing.clock(device), "rounds": arguments.rounds, "load": load}
    ours, rows = set(found["rtalib"].tolist()), [facts | {"contestant": name, "skipped": reason} for name, reason in skipped.items()]
    seconds = {name: timing.median(values) for name, values in times.items()}
    radii = {name: covering_radius(x, y, picks.to(device)) for name, picks in found.items()}
    for name in runs:
        row = {"contestant": name, "seconds": seconds[name], "wall_seconds": timing.median(times[name], "wall"), "radius": radii[name]}
        row |= {"rtalib_is_faster": seconds[name] / seconds["rtalib"], "radius_over_ours": radii[name] / radii["rtalib"]}
        row |= {"same_picks": len(ours & set(found[name].tolist())) / size[3]}
        rows.append(facts | row | {"peak_mib": peak(task, name, size, device, arguments.threads)})
    return rows


def markdown(rows: list[dict]) -> str:
    head = ("task", "candidates", "centres", "dimensions", "budget", "contestant", "seconds", "rtalib is faster", "peak, MiB", "radius")
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * 4 + " --- |" + " ---: |" * 4]
    for row in rows:
        cells = [row["task"], *(f"{row[field]:,}" for field in ("candidates", "centers", "dimensions", "budget")), row["contestant"]]
        if "skipped" in row:
            cells += [row["skipped"], "", "", ""]
        else:
            cells += [f"{row['seconds']:.3f}", f"{row['rtalib_is_faster']:.1f}", f"{row['peak_mib']:,.0f}", f"{row['radius']:.5f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=SIZES, help="candidates,centres,dimensions,budget")
    parser.add_argument("--greedy", nargs="*", default=GREEDY, help="candidates,dimensions,budget")
    parser.add_argument("--paper", action="store_true", help=f"CF-DARTS' size, {PAPER}, too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/coreset.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tasks = [("selection", tuple(map(int, text.split(",")))) for text in [*arguments.sizes, *([PAPER] if arguments.paper else [])]]
    tasks += [("greedy", (n, 1, dimensions, budget)) for n, dimensions, budget in (map(int, text.split(",")) for text in arguments.greedy)]
    rows = [row for task, size in tasks for row in measure(task, size, arguments)]
    stamp = provenance.stamp()
    facts = {"torch": torch.__version__}
    facts["peers"] = (
        f"scikit-learn=={importlib.metadata.version('scikit-learn')}" if coreset_peers.SKLEARN else "scikit-learn not installed"
    )
    facts |= {key: stamp[key] for key in ("cpu", "gpu", "threads", "git", "dirty", "time")}
    results.write(arguments.out, rows, FIELDS, facts)
    print(markdown(rows), f"\n{arguments.out}")


if __name__ == "__main__":
    main()
