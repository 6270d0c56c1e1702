"""The script behind outputs/record/networks/natural-failure.csv, and that record beside the published network itself."""

import importlib
import sys

import pandas as pd
import pytest
from published_networks import LOADERS, copies, lossless, published_network

from rtalib.models.inference import evaluate
from rtalib.report import record


def test_the_curve_begins_at_the_published_network_and_keeps_its_rows(tmp_path, monkeypatch, capsys):
    network, out = published_network("resnet20"), tmp_path / "curve.csv"
    expected = {"copy": 100 * evaluate(network, copies(40)), "lossless": 100 * evaluate(network, lossless())}
    monkeypatch.syspath_prepend(str(LOADERS.parent))
    monkeypatch.setattr(sys, "argv", ["natural_failure.py", *f"--budgets 60 --visits 120 --tests 40 --out {out}".split()])
    script = importlib.import_module("natural_failure")
    monkeypatch.setattr(script, "HELD", 40)
    script.main()
    rows = pd.read_csv(out)
    assert rows["share"].tolist() == list(script.SHARES) and set(rows["budget"]) == {60} and set(rows["epochs"]) == {2}
    assert rows.loc[0, ["copy", "lossless"]].to_dict() == pytest.approx(expected, abs=0.01)
    assert rows["held"][rows["chosen"]].tolist() == [rows["held"].max()], "other images choose one share"
    assert rows[["copy", "lossless"]].nunique().max() > 1, "training changes the answers"
    monkeypatch.setattr(script, "curve", None)  # a second run trains nothing
    script.main()
    assert pd.read_csv(out).equals(rows)


def test_the_record_begins_at_the_published_network():
    rows = pd.read_csv(record.NETWORKS / "natural-failure.csv")
    before = rows[rows["share"] == 0]
    assert before["copy"].nunique() == before["lossless"].nunique() == 1
    assert before["lossless"].iloc[0] == pytest.approx(100 * evaluate(published_network("resnet20"), lossless()), abs=0.01)
