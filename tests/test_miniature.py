"""Scale paper in miniature runs from `reproduce` to the report: its second order, auxiliary heads, other searches' own batches, stage II's
own targets and protocol 'paper', with one or two steps for each training and search."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rtalib import scales
from rtalib.infra.data_files import read_toml

FILE = Path(__file__).parent / "helpers" / "miniature.toml"


def test_scales_of_your_own_build_on_those_that_there_are(monkeypatch):
    monkeypatch.setenv("RTALIB_SCALES", str(FILE))
    found = scales.load(read_toml("rtalib", "scales.toml") | scales._own())["miniature"]
    paper = scales.get("paper")
    assert found.protocol == "paper" and found.repair.order == 2 and found.repair.auxiliary and found.repair.published_searches
    assert not found.rta.short_rounds and found.rta.stage2_targets and found.rta.copies == paper.rta.copies
    assert found.repair.recipe().scaled(600) == paper.repair.recipe()


def test_a_file_that_is_no_toml_is_named(monkeypatch, tmp_path):
    for content in (None, "[x"):
        if content:
            (tmp_path / "mine.toml").write_text(content)
        monkeypatch.setenv("RTALIB_SCALES", str(tmp_path / "mine.toml"))
        with pytest.raises(ValueError, match="RTALIB_SCALES: .*mine.toml cannot be read as TOML"):
            scales._own()


QUICK = ("14", "90")  # a second-order search, its retraining on another data set, and the report; all others are a trial


@pytest.mark.parametrize("chosen", [pytest.param(QUICK, marks=pytest.mark.slow), pytest.param((), marks=pytest.mark.trial)])
def test_the_miniature_of_scale_paper_runs_to_its_report(chosen, tmp_path):
    environment = os.environ | {"RTALIB_SCALES": str(FILE), "RTALIB_OUTPUTS": str(tmp_path)}
    command = [sys.executable, "-m", "rtalib", "reproduce", *chosen, "--scale", "miniature"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600, cwd=FILE.parents[2])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert f"{len(chosen) or 21} of {len(chosen) or 21} notebooks ok" in done.stdout
    report = (tmp_path / "miniature" / "REPORT.md").read_text()
    assert ("Table 4" if chosen else "Table 6") in report
