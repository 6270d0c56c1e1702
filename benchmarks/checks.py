"""What checking stored bytes costs: of a table's time, of a row, of a checkpoint, of decoded images, of a corrupted data set.

    OMP_NUM_THREADS=1 python benchmarks/checks.py [--table rta-table1] [--scale smoke]

CPU time of one process, so other work on the machine counts little. Goals: at most 2 % of a table's time, a hit in the store under 1 ms.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from benchmarks import results
from rtalib import models, provenance, shapes10, store
from rtalib.cli import plan
from rtalib.corruptions import on_disk
from rtalib.corruptions.on_disk import manifest
from rtalib.data import decoding
from rtalib.infra.store import entries, sealed
from rtalib.training import checkpoints

RECORD = Path(__file__).parent.parent / "outputs" / "record"
CHECKS = [(sealed, "_checksum"), (checkpoints, "_title"), (manifest, "_digest")]
CHECKS += [(module, "digest") for module in (entries, decoding, store)]
FIELDS = "what seconds checks_s share".split()


@contextlib.contextmanager
def timed() -> Iterator[dict[str, float]]:
    """CPU-seconds in the block, and in the functions that check."""
    spent, real = {"seconds": 0.0, "checks_s": 0.0}, [(module, name, getattr(module, name)) for module, name in CHECKS]

    def watched(function: Callable) -> Callable:
        def call(*arguments):
            began = time.process_time()
            try:
                return function(*arguments)
            finally:
                spent["checks_s"] += time.process_time() - began

        return call

    for module, name, function in real:
        setattr(module, name, watched(function))
    began = time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield spent
    finally:
        spent["seconds"] = time.process_time() - began
        for module, name, function in real:
            setattr(module, name, function)


def row(what: str, work: Callable[[], object]) -> dict:
    with timed() as spent:
        work()
    return {"what": what} | spent | {"share": spent["checks_s"] / spent["seconds"]}


def table(name: str, scale: str) -> list[dict]:
    def run() -> None:
        plan.compute([name], scale=scale, dataset="shapes10", seeds=[0], executor="serial")

    def forget() -> None:
        entries._verified.clear()

    run_again = lambda: (forget(), run())  # noqa: E731 - as in a new process
    return [row(f"{name} at {scale}, computed", run), row(f"{name} at {scale}, all stored", run_again)]


def corrupted(folder: Path) -> list[dict]:
    os.environ["RTALIB_CACHE"] = str(folder / "cache")
    found = []
    for layout in ("arrays", "folders"):
        task = {"limit": 1000, "layout": layout, "corruptions": ["fog", "jpeg_compression"], "workers": 1, "device": "cpu"}
        write = lambda: on_disk.run(on_disk.plan("shapes10", folder / layout, **task))  # noqa: E731, B023 - called at once
        found += [
            row(f"corrupt, 10,000 images as {layout}, written", write),
            row(f"corrupt, 10,000 images as {layout}, again", write),
        ]
    return found


def trained(folder: Path) -> dict:
    """A checkpoint of ResNet-18 with momentum, saved and loaded."""
    model = models.build("resnet18")
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(shapes10.make("train", 2).images / 255).sum().backward()
    optimizer.step()

    def work() -> None:
        checkpoints.save(folder / "c.pt", model, optimizer, [{"epoch": 1}], {"seed": 0})
        checkpoints.load(folder / "c.pt", model, optimizer, {"seed": 0})

    return row("a checkpoint of ResNet-18, saved and loaded", work)


def single_rows() -> dict[str, float]:
    """Medians over the committed rows, in ms: to write a row's text with and without its checksum, and to read it."""
    rows = [store.unseal(path.read_bytes()) for path in sorted(RECORD.glob("*/rows/*/*.json"))]
    texts = [store.seal(row) for row in rows]

    def median(work: Callable, inputs: list) -> float:
        times = []
        for value in inputs:
            began = time.process_time()
            work(value)
            times.append(1e3 * (time.process_time() - began))
        return statistics.median(times)

    return {
        "write_ms": median(store.seal, rows),
        "write_plain_ms": median(lambda row: json.dumps(row, indent=1), rows),
        "read_ms": median(store.unseal, texts),
        "read_plain_ms": median(json.loads, texts),
    }


def hit() -> float:
    """ms of a hit in the store once the entry was verified: 1,000 of them, CPU time."""
    made = [store.make("toy", 1, {}, lambda folder: (folder / "data.npy").write_bytes(bytes(1_000_000)))]
    began = time.process_time()
    for _ in range(1000):
        made.append(store.make("toy", 1, {}, lambda folder: None))
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", default="rta-table1")
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/checks.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RTALIB_OUTPUTS"] = str(Path(folder) / "outputs")
        rows = [*table(options.table, options.scale), *corrupted(Path(folder)), trained(Path(folder))]
        facts = single_rows() | {"hit_ms": hit()}
    stamp = provenance.stamp()
    results.write(options.out, rows, FIELDS, facts | {key: stamp[key] for key in ("cpu", "cores", "git", "dirty", "time")})
    for found in rows:
        print(f"| {found['what']} | {found['seconds']:.2f} | {found['checks_s']:.3f} | {100 * found['share']:.2f} |")
    print({name: round(value, 4) for name, value in facts.items()})


if __name__ == "__main__":
    main()
