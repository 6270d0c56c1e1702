"""The benchmark of k-center greedy: peers choose what we choose, and a small run writes a tidy table."""

import csv
from pathlib import Path

import pytest
import scripts
import torch

from benchmarks import coreset, coreset_peers
from rtalib.coreset.selection import k_center_greedy


def test_peers_choose_what_we_choose() -> None:
    generator = torch.Generator().manual_seed(1)
    x, centers = torch.randn(120, 9, generator=generator), 0.5 * torch.randn(50, 9, generator=generator)
    for peer in (coreset_peers.google, coreset_peers.deepcore):
        assert torch.equal(peer(x, centers, 20), k_center_greedy(x, centers, 20))
    assert torch.equal(coreset_peers.anomalib(x, x[:1], 20), k_center_greedy(x, x[:1], 20))


def test_numpy_s_distances_are_euclidean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset_peers, "SKLEARN", False)
    x, y = torch.randn(2, 30, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.allclose(torch.from_numpy(coreset_peers.euclidean(x.numpy(), y.numpy())), torch.cdist(x, y))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_a_small_run_writes_a_row_for_each_contestant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset, "peak", coreset.peak_here)  # a process for each is seconds; the goal of selection has one
    out = tmp_path / "coreset.csv"
    small = ["--sizes", "300,400,8,20", "--greedy", "300,8,20", "--rounds", "1", "--device", "cpu"]
    scripts.run(coreset, *small, "--out", out)
    rows = {(row["task"], row["contestant"]): row for row in csv.DictReader(out.open())}
    assert list(rows) == [
        ("selection", "rtalib"),
        ("selection", "google/active-learning"),
        ("selection", "DeepCore"),
        ("greedy", "rtalib"),
        ("greedy", "anomalib"),
    ]
    for row in rows.values():
        assert float(row["seconds"]) > 0 and float(row["peak_mib"]) >= 0 and float(row["same_picks"]) == 1
        assert float(row["radius_over_ours"]) == pytest.approx(1, rel=1e-5)
