"""A DARTS search and the training of what it finds: passes of the supernet, steps of each method, steps of the evaluation network.

    python benchmarks/darts.py [--sizes 4,3,16] [--rounds 3] [--out outputs/benchmarks/darts.csv]

Supernets: the plain one (`plain_darts.py`, written from the definition: the published code needs torch 0.3.1), ours (what depends on the
source alone shared), ours fused (operations batched by source), and NNI's where it is installed. A pass is the forward pass and the
gradients by all weights and alphas; a step, the updates of the architecture and of the weights on a batch each. One thread, CPU time of
the process, the contestants in turn within a round; the median round counts. On a GPU wall time and the peak of allocated memory, fused
also captured as CUDA graphs.

Calls are the operators that PyTorch dispatches in one pass, without views and mere allocations; kept memory is what the forward pass
leaves for the backward pass, each tensor once. Both are counted on meta tensors: they depend on no clock and no machine.
"""

import argparse
import importlib.metadata
import importlib.util
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import results, timing
from benchmarks.plain_darts import PlainSupernet
from benchmarks.timing import Run
from rtalib import provenance
from rtalib.darts import Network, Supernet
from rtalib.darts.settings import settings_for
from rtalib.darts.steps import Steps
from rtalib.darts.supernet.fused import FusedSupernet
from rtalib.infra.grid.cell import environment
from rtalib.training.captured import Captured

FIELDS = (
    "task method contestant memory_format channels layers batch seconds wall_seconds over_plain over_supernet clock rounds first_seconds "
    "calls calls_under_plain kept_mib peak_mib load"
).split()
ALLOCATIONS = {"aten::empty.memory_format", "aten::new_empty", "aten::empty_like", "aten::empty_strided", "aten::detach"}
BUILDS: dict[str, Callable[..., nn.Module]] = {"plain": PlainSupernet, "supernet": Supernet, "fused": FusedSupernet}
METHODS = {  # name: method, preset, changes
    "darts, first order": ("darts", "published", {}),
    "darts, second order": ("darts", "second-order", {}),
    "pc-darts": ("pc-darts", "published", {}),
    "darts-pt": ("darts-pt", "published", {}),
    "robust-darts, drop path": ("robust-darts", "drop-path", {"grid": (), "drop_path": 0.2}),
}


class Calls(TorchDispatchMode):
    """Counts the operators that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        schema = function._schema
        view = any(result.alias_info is not None and not result.alias_info.is_write for result in schema.returns)
        name = f"{schema.name}.{schema.overload_name}".rstrip(".")
        self.count += not view and name not in ALLOCATIONS and schema.name != "aten::_unsafe_view"
        return function(*arguments, **(options or {}))


def on_meta(build: Callable[..., nn.Module], space: str, channels: int, layers: int, batch: int) -> tuple[nn.Module, Run]:
    """A network of meta tensors and its loss on a batch of 32x32 images."""
    with torch.device("meta"):
        net, images, labels = build(space, channels, layers), torch.empty(batch, 3, 32, 32), torch.empty(batch, dtype=torch.int64)
    return net, lambda: F.cross_entropy(net(images), labels)


def counts(build: Callable[..., nn.Module], space: str, channels: int, layers: int, batch: int) -> tuple[int, int]:
    """(operators in a forward and backward pass, as any device but the CPU, which has a backward pass of its own, would run them;
    bytes that the forward pass keeps for the backward pass, parameters left out)."""
    net, loss = on_meta(build, space, channels, layers, batch)
    own, kept = {p.untyped_storage()._cdata for p in net.parameters()}, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes(), storage  # holding it keeps the key unique
        return tensor

    with Calls() as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            value = loss()
        torch.autograd.grad(value, list(net.parameters()))
    return counter.count, sum(size for size, _ in kept.values())


def nni_supernet(channels: int, layers: int) -> nn.Module:
    """NNI's DARTS supernet (8 operations on 14 edges) as its one-shot strategy trains it."""
    import nni.nas.hub.pytorch
    import nni.nas.strategy

    return nni.nas.strategy.DARTS().mutate_model(nni.nas.hub.pytorch.DARTS(width=channels, num_cells=layers, dataset="cifar"))


def passes(net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> Run:
    parameters = list(net.parameters())

    def differentiate(images: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(F.cross_entropy(net(images), labels), parameters))

    return partial(Captured(differentiate, parameters[0].device), *batch)


def built(make: Callable[[], nn.Module], memory_format: str, device: str) -> nn.Module:
    """The network of one seed, the same for all contestants."""
    torch.manual_seed(0)
    return make().to(device=device, memory_format=getattr(torch, memory_format)).train()


def batches(size: int, device: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A training and a validation batch of random 32x32 images."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(torch.rand(size, 3, 32, 32, generator=generator), torch.randint(0, 10, (size,), generator=generator)) for _ in range(2)]
    return [(images.to(device), labels.to(device)) for images, labels in pairs]


def pass_contestants(channels: int, layers: int, batch: int, arguments: argparse.Namespace) -> dict[tuple[str, str], Run]:
    """{(contestant, memory format): a forward and backward pass}; the plain one first in the format it was published for."""
    data, found = batches(batch, arguments.device)[0], {}
    for name, memory_format in (
        ("plain", "contiguous_format"),
        ("plain", "channels_last"),
        ("supernet", "channels_last"),
        ("fused", "channels_last"),
    ):
        net = built(partial(BUILDS[name], "darts", channels, layers), memory_format, arguments.device)
        found[name, memory_format] = passes(net, data)
    if importlib.util.find_spec("nni"):
        found["nni", "contiguous_format"] = passes(
            built(partial(nni_supernet, channels, layers), "contiguous_format", arguments.device), data
        )
    if arguments.compile:
        net = built(lambda: FusedSupernet("darts", channels, layers), "channels_last", arguments.device)
        for cell in net.cells:
            cell.compile(dynamic=False)
        found["fused, compiled", "channels_last"] = passes(net, data)
    if arguments.device != "cpu":
        net = built(lambda: FusedSupernet("darts", channels, layers), "channels_last", arguments.device)
        with environment(RTALIB_CAPTURE="1"):
            found["fused, captured", "channels_last"] = passes(net, data)
    return found


def step_contestants(method: str, channels: int, layers: int, batch: int, arguments: argparse.Namespace) -> dict[tuple[str, str], Run]:
    """{(contestant, memory format): a step of the search}; the plain supernet knows DARTS alone."""
    name, preset, changes = METHODS[method]
    settings = settings_for(name, preset, channels=channels, layers=layers, batch_size=batch, **changes)
    train_batch, val_batch = batches(batch, arguments.device)
    found = {}
    for contestant, build in BUILDS.items():
        if contestant == "plain" and name != "darts":
            continue
        options = {"partial": settings.partial} if settings.partial > 1 else {}
        memory_format = "contiguous_format" if contestant == "plain" else "channels_last"
        net = built(partial(build, settings.space, channels, layers, **options), memory_format, arguments.device)
        net.drop_path_prob = settings.drop_path
        found[contestant, memory_format] = partial(Steps(net, settings).step, train_batch, val_batch)
    return found


def retrain_contestants(channels: int, layers: int, batch: int, arguments: argparse.Namespace) -> dict[tuple[str, str], Run]:
    """{(contestant, memory format): a forward and backward pass of the evaluation network of DARTS_V2}."""
    data = batches(batch, arguments.device)[0]
    nets = {
        memory_format: built(lambda: Network("darts_v2", channels, layers), memory_format, arguments.device)
        for memory_format in ("contiguous_format", "channels_last")
    }
    return {("network", memory_format): passes(net, data) for memory_format, net in nets.items()}


def measure(
    task: str, method: str, size: tuple[int, int, int], runs: dict[tuple[str, str], Run], arguments: argparse.Namespace
) -> list[dict]:
    """A row per contestant: median over the rounds, ratios to the plain supernet and to ours."""
    first = {who: timing.timed(run, arguments.device).seconds for who, run in runs.items()}  # also the warm-up
    times, load = timing.alternate(runs, arguments.rounds, arguments.device, f"{task} {method} {size}")
    rows = []
    for who, values in times.items():
        seconds, wall, peak = (timing.median(values, field) for field in ("seconds", "wall", "peak_mib"))
        row = dict(zip(("contestant", "memory_format"), who, strict=True)) | {"task": task, "method": method}
        row |= dict(zip(("channels", "layers", "batch"), size, strict=True))
        row |= {"seconds": seconds, "wall_seconds": wall, "first_seconds": first[who], "rounds": arguments.rounds}
        row |= {"clock": timing.clock(arguments.device), "load": load}
        if arguments.device != "cpu":
            row["peak_mib"] = peak
        for field, baseline in (("over_plain", ("plain", "contiguous_format")), ("over_supernet", ("supernet", "channels_last"))):
            if baseline in times:  # paired: both in the same round
                row[field] = statistics.median(theirs.seconds / ours.seconds for theirs, ours in zip(times[baseline], values, strict=True))
        rows.append(row)
    return rows


def add_counts(rows: list[dict], size: tuple[int, int, int]) -> None:
    """Calls and kept memory of the supernets, which neither depend on the memory format."""
    found = {name: counts(build, "darts", *size) for name, build in BUILDS.items()}
    for row in rows:
        if row["contestant"] in BUILDS:
            calls, kept = found[row["contestant"]]
            row |= {"calls": calls, "calls_under_plain": found["plain"][0] / calls, "kept_mib": kept / 2**20}


def markdown(rows: list[dict]) -> str:
    head = ("task", "C, L, batch", "contestant", "memory format", "seconds", "x plain", "x supernet", "calls", "kept MiB", "load")
    lines = [f"| {' | '.join(head)} |", "| --- | --- | --- | --- |" + " ---: |" * 6]
    for row in rows:
        size = f"{row['channels']}, {row['layers']}, {row['batch']}"
        ratios = [f"{row[field]:.2f}" if field in row else "" for field in ("over_plain", "over_supernet")]
        counts = [f"{row[field]:,.0f}" if field in row else "" for field in ("calls", "kept_mib")]
        cells = [" ".join((row["task"], row["method"])).strip(), size, row["contestant"], row["memory_format"], f"{row['seconds']:.3f}"]
        lines.append(f"| {' | '.join(cells + ratios + counts)} | {row['load']:.1f} |")
    return "\n".join(lines)


def sizes(text: str) -> tuple[int, int, int]:
    """'C,L,batch' as numbers."""
    channels, layers, batch = map(int, text.split(","))
    return channels, layers, batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=sizes, nargs="*", default=[(4, 3, 16)], help="C,L,batch of the passes of supernets")
    parser.add_argument("--step-sizes", type=sizes, nargs="*", default=[(4, 3, 16)], help="C,L,batch of the steps of a search")
    parser.add_argument("--retrain-sizes", type=sizes, nargs="*", default=[(4, 5, 16)], help="C,L,batch of the evaluation network")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--compile", action="store_true", help="also torch.compile of the fused cells, which takes minutes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/darts.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for size in arguments.sizes:
        found = measure("pass", "", size, pass_contestants(*size, arguments), arguments)
        add_counts(found, size)
        rows += found
    for size in arguments.step_sizes:
        for method in arguments.methods:
            rows += measure("step", method, size, step_contestants(method, *size, arguments), arguments)
    for size in arguments.retrain_sizes:
        rows += measure("retrain", "", size, retrain_contestants(*size, arguments), arguments)
    stamp = provenance.stamp()
    peers = " ".join(f"{name}=={importlib.metadata.version(name)}" for name in ("nni",) if importlib.util.find_spec(name))
    facts = {"torch": torch.__version__, "peers": peers} | {key: stamp[key] for key in ("cpu", "gpu", "threads", "git", "dirty", "time")}
    results.write(arguments.out, rows, FIELDS, facts)
    print(markdown(rows), f"\n{arguments.out}")


if __name__ == "__main__":
    main()
