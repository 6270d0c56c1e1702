"""Keys of rows outlive every move: those of all tables at smoke scale are the ones that they were before the modules first moved."""

import json
from functools import cache
from pathlib import Path

import pytest

from rtalib import grid, store
from rtalib.cli import plan
from rtalib.data.loading import root_folder
from rtalib.experiments.rta import source_study
from rtalib.training import artefacts

RECORD = Path(__file__).parents[2] / "outputs" / "record"


def planned(scale: str, dataset: str, seeds: tuple[int, ...] = ()) -> dict[str, set[str]]:
    """{table: keys of its rows}."""
    with grid.planning() as found:
        for run in plan.runners().values():
            run(scale=scale, dataset=dataset, seeds=seeds)
        source_study.run_study(scale, dataset)
        source_study.run_transfer(scale, dataset)
    return {table: set(cells) for table, cells in found.items()}


def test_keys_at_smoke_scale_are_as_recorded(monkeypatch, tmp_path):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    recorded = json.loads((Path(__file__).parent / "smoke_keys.json").read_text())
    assert planned("smoke", "shapes10") == {table: set(keys.split()) for table, keys in recorded.items()}


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["cpu", "night"])
def test_the_committed_rows_are_still_found(scale, monkeypatch):
    if not (root_folder() / "cifar10").is_dir():
        pytest.skip("CIFAR-10 is not there: set RTALIB_DATA")
    monkeypatch.setenv("RTALIB_OUTPUTS", str(RECORD))
    monkeypatch.setattr(artefacts, "load_dataset", cache(artefacts.load_dataset))  # else every table digests all images again
    plans = RECORD / f"{scale}-cifar10" / "plans"
    found = planned(scale, "cifar10", tuple(range(5)))
    tables = {path.stem for path in plans.glob("*.json")} - {"source-study"}  # whose rows are of an older version
    assert tables <= found.keys()
    for table in tables:
        recorded = set(store.read_plan(f"{scale}-cifar10", table))
        assert recorded <= found[table], f"{table}: {len(recorded - found[table])} of {len(recorded)} rows would be computed again"
