"""Goals of the DARTS networks: C10, G8, G9. The peer is the plain supernet of `plain_darts.py`: the published code needs torch 0.3.1."""

from argparse import Namespace
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks import darts
from benchmarks.plain_darts import PlainSupernet
from benchmarks.timing import duel
from rtalib.darts import Network
from rtalib.darts.supernet.fused import FusedSupernet
from rtalib.infra.grid.cell import environment
from rtalib.training.captured import Captured

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
    """A first-order step, alphas and weights, with RTALIB_CAPTURE=1, beside a plain one. net: 'fused' or 'supernet'."""
    runs = darts.step_contestants("darts, first order", channels, layers, batch, Namespace(device=device))
    with environment(RTALIB_CAPTURE="1"):
        ours = darts.step_contestants("darts, first order", channels, layers, batch, Namespace(device=device))
    return duel(warmed(ours[net, "channels_last"]), runs[PLAIN], rounds=rounds, device=device)


def warmed(run: darts.Run) -> darts.Run:
    """`run`, whose first call is followed by the one that records, so that `first_seconds` holds both."""
    ready = []

    def twice_at_first() -> object:
        if not ready:
            ready.append(run())
        return run()

    return twice_at_first


def evaluation(*, channels: int, layers: int, batch: int, rounds: int, device: str) -> dict:
    """Forward and backward pass of the evaluation network of DARTS_V2 under bfloat16 autocast: with RTALIB_CAPTURE=1, beside eager."""
    data = darts.batches(batch, device)[0]
    eager, ours = (darts.built(lambda: Network("darts_v2", channels, layers), "channels_last", device) for _ in range(2))

    def differentiate(net: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        with torch.autocast(device, torch.bfloat16):
            loss = F.cross_entropy(net(images), labels)
        return list(torch.autograd.grad(loss, list(net.parameters())))

    with environment(RTALIB_CAPTURE="1"):
        captured = Captured(partial(differentiate, ours), torch.device(device))
    return duel(warmed(partial(captured, *data)), partial(differentiate, eager, *data), rounds=rounds, device=device)
