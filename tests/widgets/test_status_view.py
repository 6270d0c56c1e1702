"""The bars of a run, and how they follow it until it is over."""

import json
import time

import pytest

from rtalib import store
from rtalib.cli import status
from rtalib.widgets.status import counts_of, is_over, status_view, watch

TABLES = {"cf-table2": {"done": 3, "running": 1, "failed": 0, "missing": 4}}
FACTS = {"run": "demo", "notebooks": [{"status": name} for name in ("ok", "running", "died", "missing")], "tables": TABLES}


def test_bars_are_the_counts():
    assert counts_of(FACTS)["notebooks"] == {"done": 1, "running": 1, "failed": 1, "missing": 1}
    drawing = status_view(FACTS)
    widths = [bar.get_width() for bar in drawing.axes[0].patches]
    assert widths == pytest.approx([0.25] * 4 + [3 / 8, 1 / 8, 0, 4 / 8])
    assert drawing.get_label() == "Run demo. notebooks: 1 done, 1 running, 1 failed, 1 missing; cf-table2: 3 done, 1 running, 4 missing"


def test_a_run_is_over_when_nothing_is_running_or_missing():
    done = {"run": "demo", "notebooks": [], "tables": {"t": {"done": 2, "running": 0, "failed": 1, "missing": 0}}}
    assert is_over(done) and not is_over(FACTS) and not is_over(done | {"tables": {}})
    assert status_view(done | {"tables": {}}).axes[0].texts[0].get_text() == "nothing was begun"


def test_notebooks_are_those_of_the_last_call(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    assert status.current("toy")["notebooks"] == []
    status.save({"run": "toy", "notebooks": [{"notebook": "03_rta"}]})
    assert [record["notebook"] for record in status.current("toy")["notebooks"]] == ["03_rta"]


def wait(condition) -> None:
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    assert condition()


def test_the_watch_follows_a_run_until_it_is_over(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    store.write_plan("toy", "table", ["a", "b"])
    button, picture = watch("toy", every=0.02).children
    assert "table: 2 missing" in picture.value
    for name, words in (("a", "table: 1 done, 1 missing"), ("b", "table: 2 done")):
        store.write_atomic(store.row_path("toy", "table", name), json.dumps({}))
        wait(lambda words=words: words in picture.value)
    wait(lambda: button.disabled)
    assert button.description == "All done"


def test_the_button_ends_the_watch(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    store.write_plan("toy", "table", ["a"])
    button, _ = watch("toy", every=0.02).children
    button.click()
    wait(lambda: button.disabled)
    assert button.description == "Stopped"
