"""The benchmark of DARTS counts right, runs and writes a tidy table; its plain supernet is the definition."""

import csv
from pathlib import Path

import pytest
import scripts
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import darts
from benchmarks.darts import counts
from benchmarks.plain_darts import PlainSupernet
from rtalib.darts import Supernet


class Toy(nn.Module):
    """Forward: relu, addmm and the two operators of the loss; six more backward, counted by hand below."""

    def __init__(self, space: str, channels: int, layers: int):
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.linear(x.flatten(1)))


def test_calls_leave_out_views_and_allocations():
    forward = ["addmm", "relu", "_log_softmax", "nll_loss_forward"]
    backward = ["ones_like", "nll_loss_backward", "_log_softmax_backward_data", "threshold_backward", "mm", "sum"]
    assert counts(Toy, "any", channels=5, layers=1, batch=2)[0] == len(forward + backward)


def test_kept_memory_counts_each_tensor_once_and_no_parameters():
    image, activation, labels, total_weight = 2 * 3 * 32 * 32 * 4, 2 * 5 * 4, 2 * 8, 4
    # the image for the weights, the rectified output, the logarithms of the probabilities, the labels and their total weight
    assert counts(Toy, "any", channels=5, layers=1, batch=2)[1] == image + 2 * activation + labels + total_weight


def test_the_plain_supernet_has_the_published_size_and_ignores_no_operation():
    with torch.device("meta"):
        assert sum(p.numel() for p in PlainSupernet("darts").weight_parameters()) == 1_930_618
    torch.manual_seed(0)
    ours, plain = Supernet("darts", 4, 3), PlainSupernet("darts", 4, 3)
    plain.load_supernet(ours)
    ran = set()
    for edge in plain.cells[0].edges:
        for candidate in edge:
            candidate.register_forward_hook(lambda module, *_: ran.add(module))
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(plain(x), ours(x), rtol=1e-3, atol=1e-4)
    assert len(ran) == 14 * 8


@pytest.mark.slow
def test_the_smallest_run(tmp_path: Path, capsys):
    out = tmp_path / "darts.csv"
    small = "--sizes 4,3,2 --step-sizes 4,3,2 --retrain-sizes 4,5,2 --rounds 1 --device cpu --methods".split()
    methods = ["darts, second order", "pc-darts"]
    scripts.run(darts, *small, *methods, "--out", out)
    rows = list(csv.DictReader(out.open()))
    assert {row["task"] for row in rows} == {"pass", "step", "retrain"} and all(float(row["seconds"]) > 0 for row in rows)
    assert [row["contestant"] for row in rows if row["method"] == "pc-darts"] == ["supernet", "fused"]
    passes = {row["contestant"]: row for row in rows if row["task"] == "pass"}
    fused, calls = passes["fused"], {name: int(passes[name]["calls"]) for name in darts.BUILDS}
    assert calls["plain"] >= 5 * calls["fused"] and calls["supernet"] > 3 * calls["fused"]
    assert float(fused["calls_under_plain"]) >= 5 and float(fused["kept_mib"]) > 0 and float(fused["over_plain"]) > 0
    assert capsys.readouterr().out.count("\n| ") >= len(rows)
