"""The benchmark of attacks runs, counts gradients right and writes a tidy table."""

import csv
from pathlib import Path

import pytest
import scripts

from benchmarks import attacks


@pytest.mark.slow
def test_the_smallest_run(tmp_path: Path, capsys) -> None:
    out = tmp_path / "attacks.csv"
    small = "--networks convnet_small --batches 4 --steps 3 --train 1000 --epochs 8 --images 8 --rounds 1 --device cpu".split()
    scripts.run(attacks, *small, "--out", out)
    rows = {(row["contestant"], row["precision"]): row for row in csv.DictReader(out.open())}
    assert {"rtalib", "rtalib, prepared", "rtalib, stop on success"} <= {name for name, _ in rows}
    assert all(float(row["gradients_per_second"]) > 0 and 0 <= float(row["success_small"]) <= 1 for row in rows.values())
    assert all(0.5 <= float(row["clean_accuracy"]) <= 1 and row["success_images"] == "8" for row in rows.values())
    for who in (("rtalib", "float32"), ("rtalib, prepared", "bfloat16"), ("torchattacks", "float32"), ("foolbox", "float32")):
        assert who not in rows or float(rows[who]["gradients_per_image"]) == 3
    assert capsys.readouterr().out.count("| convnet_small | 4 |") == len(rows)


def test_a_network_that_guesses_is_refused(tmp_path: Path) -> None:
    small = "--networks tiny --batches 4 --train 20 --epochs 1 --images 8 --device cpu".split()
    with pytest.raises(SystemExit, match="too few to attack"):
        scripts.run(attacks, *small, "--out", tmp_path / "attacks.csv")
    assert not (tmp_path / "attacks.csv").exists()
