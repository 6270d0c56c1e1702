"""Goals of the DARTS networks: C10, G8, G9. The peer is the plain supernet of `plain_darts.py`: the published code needs torch 0.3.1."""

from argparse import Namespace
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks import darts
from benchmarks.plain_darts import PlainSupernet
from benchmarks.timing import duel
from rtalib.darts import Network, Supernet
from rtalib.darts.settings import settings_for
from rtalib.darts.steps import Steps
from rtalib.darts.supernet.fused import FusedSupernet

PLAIN, OURS = ("plain", "contiguous_format"), ("fused", "channels_last")


def passes(*, channels: int, layers: int, batch: int, rounds: int, device: str) -> dict:
    """How many times as fast the fused supernet's forward and backward pass is as the plain one's."""
    runs = darts.pass_contestants(channels, layers, batch, Namespace(device=device, compile=False))
    row = duel(runs[OURS], runs[PLAIN], rounds=rounds, device=device)
    gap = disagreement(channels, layers)
    return row | {"held": gap <= 1e-5, "found": f"outputs and alpha gradients within {gap:.0e} (float64)"}


def disagreement(channels: int, layers: int) -> float:
    """The largest difference of logits and of gradients by the alphas, over their largest value, in float64 on two images."""
    torch.manual_seed(0)
    ours, plain = FusedSupernet("darts", channels, layers).double(), PlainSupernet("darts", channels, layers).double()
    plain.load_supernet(ours)
    images, labels = torch.rand(2, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 7])
    found = []
    for net in (ours, plain):
        logits = net(images)
        found.append([logits.detach(), *torch.autograd.grad(F.cross_entropy(logits, labels), net.arch_parameters())])
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*found, strict=True))


def steps(*, channels: int, layers: int, batch: int, net: str, rounds: int, device: str) -> dict:
    """A first-order step, alphas and weights. net: 'fused', or 'graph': `Supernet` captured as CUDA graphs and nothing else."""
    runs = darts.step_contestants("darts, first order", channels, layers, batch, Namespace(device=device))
    ours = runs[OURS] if net == "fused" else graphed_step(channels, layers, batch, device)
    return duel(ours, runs[PLAIN], rounds=rounds, device=device)


def graphed_step(channels: int, layers: int, batch: int, device: str) -> darts.Run:
    settings = settings_for("darts", "published", channels=channels, layers=layers, batch_size=batch)
    train, validation = darts.batches(batch, device)
    net = darts.built(partial(Supernet, settings.space, channels, layers), "channels_last", device)
    return partial(Steps(torch.cuda.make_graphed_callables(net, (train[0],)), settings).step, train, validation)


def evaluation(*, channels: int, layers: int, batch: int, rounds: int, device: str) -> dict:
    """Forward and backward pass of the evaluation network of DARTS_V2 under bfloat16 autocast: as CUDA graphs, beside eager."""
    data = darts.batches(batch, device)[0]
    eager, ours = (darts.built(lambda: Network("darts_v2", channels, layers), "channels_last", device) for _ in range(2))
    if device != "cpu":
        with torch.autocast(device, torch.bfloat16, cache_enabled=False):
            ours = torch.cuda.make_graphed_callables(ours, (data[0],))

    def under(run: darts.Run) -> darts.Run:
        def autocast() -> object:
            with torch.autocast(device, torch.bfloat16, cache_enabled=False):
                return run()

        return autocast

    return duel(under(darts.passes(ours, data)), under(darts.passes(eager, data)), rounds=rounds, device=device)
