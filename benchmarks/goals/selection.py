"""Goals of k-center greedy: C1 to C4, C15, C16, G1."""

import torch

from benchmarks import coreset
from benchmarks.timing import duel, solo
from rtalib.coreset.selection import covering_radius, k_center_greedy


def against(*, peer: str, candidates: int, dimensions: int, budget: int, centers: int = 1, rounds: int, device: str) -> dict:
    """How many times as fast as a peer we choose; one centre is the greedy phase alone. Both must cover equally well."""
    size = (candidates, centers, dimensions, budget)
    x, y = (part.to(device) for part in coreset.features(size))
    theirs = coreset.CONTESTANTS["greedy" if centers == 1 else "selection"][peer]
    picks: dict[str, torch.Tensor] = {}

    def ours() -> None:
        picks["ours"] = k_center_greedy(x, y, budget).cpu()

    def other() -> None:
        picks["peer"] = theirs(x, y, budget).cpu()

    k_center_greedy(x[:200], y[:200], min(10, budget))
    theirs(x[:200], y[:200], min(10, budget))
    row = duel(ours, other, rounds=rounds, device=device, warm_up=device != "cpu")
    radii = [covering_radius(x, y, found.to(device)) for found in picks.values()]
    same, gap = set(picks["ours"].tolist()) == set(picks["peer"].tolist()), abs(radii[0] / radii[1] - 1)
    return row | {"held": same or gap <= 1e-5, "found": "the same set" if same else f"radii differ by {gap:.1e} of theirs"}


def alone(*, candidates: int, centers: int, dimensions: int, budget: int, most_mib: float, rounds: int, device: str) -> dict:
    """Seconds of a whole selection, and whether it keeps to `most_mib` beyond the features."""
    size = (candidates, centers, dimensions, budget)
    x, y = (part.to(device) for part in coreset.features(size))
    row = solo(lambda: k_center_greedy(x, y, budget).cpu(), rounds, device)
    extra = coreset.peak("selection", "rtalib", size, device, torch.get_num_threads())
    return row | {"held": extra <= most_mib, "found": f"{extra:,.0f} MiB beyond the features", "extra_mib": extra}
