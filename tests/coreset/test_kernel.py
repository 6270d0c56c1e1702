"""The k-center kernel against its specification and the CPU's selections: in Triton's interpreter, on a GPU where there is one."""

import pytest
import torch

pytest.importorskip("triton")

from rtalib.coreset import selection as coreset
from rtalib.coreset.kernel import greedy, greedy_reference
from rtalib.coreset.selection import TAKEN

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def features(n: int, m: int, dimensions: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dimensions, generator=generator), 0.5 * torch.randn(m, dimensions, generator=generator)


@pytest.mark.parametrize("n, dimensions, budget", [(64, 64, 5), (150, 70, 12), (33, 3, 33), (1, 5, 1)])
def test_equals_the_reference(n: int, dimensions: int, budget: int) -> None:
    x, centers = features(n, 20, dimensions)
    start = coreset._nearest(x, centers)
    ours, theirs = start.to(DEVICE, copy=True), start.clone()
    assert torch.equal(greedy(x.to(DEVICE), ours, budget, TAKEN).cpu(), greedy_reference(x, theirs, budget, TAKEN))
    assert torch.allclose(ours.cpu(), theirs, rtol=1e-5)


@pytest.mark.parametrize("centers", [True, False])
def test_k_center_greedy_takes_it_and_picks_the_same(monkeypatch: pytest.MonkeyPatch, centers: bool) -> None:
    x, fixed = features(200, 30, 12, seed=3)
    fixed = fixed if centers else None
    lazy = coreset.k_center_greedy(x, fixed, 25)
    monkeypatch.setattr(coreset, "_on_device", lambda x: True)
    assert torch.equal(coreset.k_center_greedy(x.to(DEVICE), None if fixed is None else fixed.to(DEVICE), 25).cpu(), lazy)
    assert torch.equal(coreset.k_center_greedy(x.to(DEVICE), None if fixed is None else fixed.to(DEVICE), 1).cpu(), lazy[:1])


def test_ties_go_to_the_lowest_index_and_none_is_picked_twice() -> None:
    grid = torch.cartesian_prod(torch.arange(-3.0, 4.0), torch.arange(-3.0, 4.0))  # every distance is an exact integer
    x = torch.cat([grid, grid])
    start = x.square().sum(1)
    picks = greedy(x.to(DEVICE), start.to(DEVICE, copy=True), len(x), TAKEN).cpu()
    assert torch.equal(picks, greedy_reference(x, start.clone(), len(x), TAKEN))
    assert picks.sort().values.tolist() == list(range(len(x)))


def test_zero_is_zero_with_either_sign() -> None:
    start = torch.tensor([TAKEN, 0.0, -0.0, 0.0])
    assert greedy(torch.zeros(4, 2, device=DEVICE), start.to(DEVICE), 3, TAKEN).tolist() == [1, 2, 3]


def test_those_taken_before_are_not_picked() -> None:
    x, centers = features(40, 10, 6)
    start = coreset._nearest(x, centers)
    start[start.argsort(descending=True)[:10]] = TAKEN
    taken = (start == TAKEN).nonzero().flatten()
    picks = greedy(x.to(DEVICE), start.to(DEVICE, copy=True), 30, TAKEN).cpu()
    assert not torch.isin(picks, taken).any() and len(picks.unique()) == 30
