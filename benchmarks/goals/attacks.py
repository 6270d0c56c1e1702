"""Goals of attacks: C5 to C7, G3, G4."""

from argparse import Namespace
from collections.abc import Sequence

import torch
from torch import nn

from benchmarks import attacks as contest
from benchmarks.timing import duel, solo
from rtalib import attacks
from rtalib.models import seeded

EPS = 8 / 255


def against(
    *,
    peer: str,
    network: str,
    precision: str,
    batch: int,
    steps: int = 10,
    greys: Sequence[float],
    points: float,
    images: int,
    train: int,
    epochs: int,
    rounds: int,
    device: str,
) -> dict:
    """How many times as many images a second our prepared network is attacked on, beside a peer in float32, as it comes.

    Success may differ by at most `points` percentage points at each radius of `greys` levels, over `images` images that the network,
    trained on shapes10, gets right; without random starts there, so that both begin at the same point.
    """
    arguments = Namespace(data="shapes10", train=train, epochs=epochs, images=images, batches=str(batch), device=device)
    model = contest.trained(network, arguments)
    x, y, _ = contest.solved(model, arguments)
    runs = _contestants(model, peer, precision, EPS, steps, random_start=True)
    row = duel(*(lambda attack=attack: attack(x[:batch], y[:batch]) for attack in runs), rounds=rounds, device=device)
    gaps, found = [], []
    for grey in greys:
        pair = _contestants(model, peer, precision, grey / 255, steps, random_start=False)[:2]
        ours, theirs = (100 * contest.success(model, attack, x, y, batch) for attack in pair)
        gaps.append(abs(ours - theirs))
        found.append(f"{ours:.1f} and {theirs:.1f} % at {grey}/255")
    return row | {"held": max(gaps) <= points, "found": f"success {', '.join(found)} (n={len(y)})"}


def _contestants(model: nn.Module, peer: str, precision: str, eps: float, steps: int, random_start: bool) -> list[contest.Attack]:
    """Ours, the peer, and where ours is in bfloat16 and the peer runs under autocast, the peer like that."""
    make = {"torchattacks": contest.torchattacks_pgd, "foolbox": contest.foolbox_pgd}[peer]
    found = [contest.ours(attacks.prepared(model, precision), eps, steps, random_start=random_start)]
    found.append(make(model, eps, steps, random_start))
    if precision == "bfloat16":
        found.append(make(contest.Autocast(model).eval(), eps, steps, random_start))
    return [attack for _, attack in found]


def throughput(
    *, network: str, peer_precision: str, images: int, batch: int, steps: int, precision: str = "bfloat16", rounds: int, device: str
) -> dict:
    """PGD over many images beside torchattacks, on freshly drawn weights: no step is left out, so success does not matter to the time."""
    model = seeded(lambda: contest.build(network), 0).eval().to(device)
    x, y = _random(images, device)
    peer = model if peer_precision == "float32" else contest.Autocast(model).eval()
    pair = (
        contest.ours(attacks.prepared(model, precision), EPS, steps, random_start=True),
        contest.torchattacks_pgd(peer, EPS, steps),
    )
    return duel(*(_sweep(attack, x, y, batch) for _, attack in pair), rounds=rounds, device=device)


def odi_bim(*, network: str, images: int, batch: int, steps: int, precision: str = "bfloat16", rounds: int, device: str) -> dict:
    """Wall seconds of ODI-BIM with 2 ODI steps and `steps` steps, one restart run to its end, over many images."""
    model = attacks.prepared(seeded(lambda: contest.build(network), 0).eval().to(device), precision)
    recipe = attacks.ODIBIM(EPS, restarts=1, odi_steps=2, steps=steps, keep="best")
    x, y = _random(images, device)
    return solo(_sweep(lambda x, y: recipe(model, x, y), x, y, batch), rounds, device)


def _random(images: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(images, 3, 32, 32, generator=generator).to(device), torch.randint(10, (images,), generator=generator).to(device)


def _sweep(attack: contest.Attack, x: torch.Tensor, y: torch.Tensor, batch: int):
    def run() -> None:
        for part, labels in zip(x.split(batch), y.split(batch), strict=True):
            attack(part, labels)

    return run
