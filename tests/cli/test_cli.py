"""The command line on a folder of toy notebooks."""

import json
import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import nbformat
import pytest

import rtalib
from rtalib import grid, store
from rtalib.cli import fresh, status
from rtalib.cli import main as cli
from rtalib.report import notebooks

SOURCES = {
    "00_start": 'print("hello")',
    "03_rta": 'import json, os\nfacts = [scale, dataset, seeds, executor, budget]\nprint("facts", json.dumps(facts))',
    "12_bad": 'raise ValueError("no such row")',
    "90_last": 'import os\nopen(os.path.join(os.environ["RTALIB_OUTPUTS"], "last"), "w").close()',
}


@pytest.fixture
def books(tmp_path: Path) -> Path:
    folder = tmp_path / "books"
    folder.mkdir()
    for name, source in SOURCES.items():
        parameters = 'scale = "demo"\ndataset = "shapes10"\nseeds = [0]\nexecutor = "processes"'
        parameters += "\nbudget = 10" if name == "03_rta" else ""
        cells = [nbformat.v4.new_markdown_cell("# Toy\n\nMinutes: demo 2 · small 30"), nbformat.v4.new_code_cell(parameters)]
        cells[1].metadata["tags"] = ["parameters"]
        nbformat.write(nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(source)]), folder / f"{name}.ipynb")
    (folder / "scratch.ipynb").write_text("not numbered, not run")
    return folder


def _write_report(folder: Path) -> Path:
    page = folder / "report.html"
    page.write_text("by the command")
    return page


@pytest.fixture
def run(books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """run(command, ...) -> exit status, with results in tmp_path/results and a report that only says where it is."""
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)
    fake = types.SimpleNamespace(write=_write_report, notebooks=notebooks)
    monkeypatch.setitem(sys.modules, "rtalib.report", fake)
    monkeypatch.setattr(rtalib, "report", fake, raising=False)
    return lambda *arguments: cli.main([*arguments, "--notebooks", str(books), "--outputs", "results"])


def test_reproduce_runs_in_order_past_a_failure_and_says_where_the_report_is(run, tmp_path, capsys):
    assert run("reproduce", "--seeds", "0,1", "-p", "budget=20", "--executor", "serial") == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "4 notebooks, scale demo, data shapes10, seeds 0, 1, about 8:00; results in results/demo"
    assert [line for line in lines if re.search(r"\] \w+, about 2:00$", line)] == [
        f"[{i}/4] {name}, about 2:00" for i, name in enumerate(SOURCES, 1)
    ]
    assert '[03_rta] facts ["demo", "shapes10", [0, 1], "serial", 20]' in lines
    assert any(re.fullmatch(r"\[1/4\] 00_start ok in \d+:\d\d; \d+:\d\d elapsed, about \d+:\d\d left", line) for line in lines)
    assert any(line.startswith("[3/4] 12_bad failed in") for line in lines)
    assert lines[-2:] == ["3 of 4 notebooks ok", "report: results/demo/report.html"]
    assert "12_bad failed; see results/demo/notebooks/12_bad.ipynb" in err and "ValueError: no such row" in err
    assert (tmp_path / "results" / "last").exists() and not (tmp_path / "elsewhere").exists()
    records = [json.loads((tmp_path / "results" / "demo" / "notebooks" / f"{name}.json").read_text()) for name in SOURCES]
    assert [record["status"] for record in records] == ["ok", "ok", "failed", "ok"]


def test_notebooks_are_chosen_by_number_or_name_and_the_scale_gives_the_seeds(run, tmp_path, capsys):
    (tmp_path / "data" / "pets").mkdir(parents=True)
    assert run("reproduce", "3", "00_start", "--dataset", "data/pets", "--scale", "small") == 0
    out = capsys.readouterr().out
    assert '[03_rta] facts ["small", "data/pets", [0, 1, 2], "processes", 10]' in out
    first = "2 notebooks, scale small, data data/pets, seeds 0, 1, 2, about 1:00:00; results in results/small-pets-"
    assert out.startswith(first)
    assert out.index("[1/2] 00_start") < out.index("[2/2] 03_rta")


def test_one_seed_is_a_list_of_one(run, capsys):
    assert run("reproduce", "3", "--scale", "small", "-p", "seed=7") == 0
    assert '[03_rta] facts ["small", "shapes10", [7], "processes", 10]' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scale", "demmo"], "unknown scale 'demmo'. Did you mean 'demo'?"),
        (["03_rtaa"], "unknown notebook '03_rtaa'. Did you mean '03_rta'?"),
        (["55"], "unknown notebook '55'."),
        (["-p", "bugdet=3"], "unknown parameter 'bugdet'. Did you mean 'budget'?"),
        (["00", "-p", "budget=3"], "unknown parameter 'budget'."),
        (["-p", "budget=many"], "03_rta: parameter 'budget': expected int (as in 10), got str 'many'"),
        (["-p", "budget"], "-p: expected name=value, got 'budget'"),
        (["--seeds", "a,b"], "--seeds: expected integers such as 5 or 0,1,2, got 'a'"),
        (["--dataset", "cifar"], "--dataset: unknown data set 'cifar'. Did you mean 'cifar10'"),
        (["--executor", "proceses"], "unknown executor 'proceses'. Did you mean 'processes'?"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_status_2(run, tmp_path, capsys, arguments, message):
    assert run("reproduce", *arguments) == 2
    out, err = capsys.readouterr()
    assert message in err and err.startswith("rtalib: ") and err.count("\n") == 1
    assert out == "" and not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduc"], "No such command 'reproduc'. Did you mean 'reproduce'?"),
        (["store", "whi"], "No such command 'whi'. Did you mean 'why'?"),
        (["report", "--scal", "demo"], "No such option '--scal'. Did you mean '--scale'?"),
        (["corrupt", "--dataset", "shapes10"], "Missing option '--out'."),
        (["corrupt", "--dataset", "shapes10", "--out", "x", "--seed", "one"], "Invalid value for '--seed': 'one' is not a valid integer."),
        (["plan"], "Missing argument 'TABLE...'."),
        ([], "Missing command."),
    ],
)
def test_what_the_command_line_does_not_know_is_one_line_with_the_nearest_name(capsys, arguments, message):
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == f"rtalib: {message}\n"


@pytest.mark.parametrize("verb", cli.commands.commands)
def test_every_command_has_a_summary_that_fits_on_its_line(capsys, verb):
    assert cli.main(["--help"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == [verb])
    assert line.endswith(".") and not line.endswith("...")
    assert cli.main([verb, "--help"]) == 0 and "Usage: python -m rtalib " + verb in capsys.readouterr().out


def test_without_notebooks_the_message_says_what_is_missing(tmp_path, capsys):
    assert cli.main(["reproduce", "--notebooks", str(tmp_path)]) == 2
    assert "--notebooks" in capsys.readouterr().err


def test_status_counts_notebooks_and_cells(run, tmp_path, monkeypatch, capsys):
    assert run("reproduce", "00", "12") == 1
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "results"))
    store.write_plan("demo", "rta-table1", ["a", "b", "c", "d"])
    store.write_row("demo", "rta-table1", "a", {"score": 1.0})
    store.write_atomic(store.row_path("demo", "rta-table1", "b").with_name("failed-b-1.txt"), "traceback")
    capsys.readouterr()
    with store.locked(store.row_path("demo", "rta-table1", "c").with_name(".c.lock")):
        assert grid.status("demo", "rta-table1") == {"done": 1, "running": 1, "failed": 1, "missing": 1}
        assert run("status") == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert words[0] == ["run", "demo"]
    assert [line[:2] for line in words[2:6]] == [["00_start", "ok"], ["03_rta", "missing"], ["12_bad", "failed"], ["90_last", "missing"]]
    assert words[4][3:] == ["ValueError:", "no", "such", "row"]
    assert words[6:] == [["table", "done", "running", "failed", "missing"], ["rta-table1", "1", "1", "1", "1"]]
    store.write_row("demo", "rta-table1", "of seed 7", {"score": 1.0, "seed": 7})
    store.write_row("demo", "rta-table1", "of another table", {"score": 1.0})
    assert status.text("demo").endswith("rta-table1: 1 further rows are stored, of seeds that its last plan does not name")
    begun = [line.split()[:2] for line in status.text("demo").splitlines()[3:5]]
    assert begun == [["00_start", "ok"], ["12_bad", "failed"]], "by default those that were begun"


def test_report_says_where_it_is(run, tmp_path, capsys):
    assert run("report", "--scale", "smoke") == 2
    assert capsys.readouterr().err == "rtalib: nothing was run yet: results/smoke does not exist\n"
    (tmp_path / "results" / "smoke").mkdir(parents=True)
    assert run("report", "--scale", "smoke") == 0
    assert capsys.readouterr().out == "report: results/smoke/report.html\n"


def test_an_interrupt_stops_at_once_and_names_the_notebook_as_died(books, tmp_path):
    (books / "00_start.ipynb").unlink()
    slow = (
        (books / "03_rta.ipynb").read_text().replace("import json, os", "import json, os, time; print('up', flush=True); time.sleep(600)")
    )
    (books / "03_rta.ipynb").write_text(slow)
    command = [sys.executable, "-m", "rtalib", "reproduce", "--notebooks", str(books), "--outputs", str(tmp_path / "results")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    assert any(line == "[03_rta] up\n" for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)  # of 600
    assert process.returncode == 130
    assert err.strip().splitlines()[-1].startswith("interrupted; what is finished is kept"), err
    record = json.loads((tmp_path / "results" / "demo" / "notebooks" / "03_rta.json").read_text())
    assert record["status"] == "died" and record["error"] == "the run was interrupted"


def test_a_second_call_runs_only_what_is_not_up_to_date(run, books, tmp_path, capsys):
    (books / "12_bad.ipynb").unlink()

    def ran(*arguments: str) -> list[str]:
        assert run("reproduce", *arguments) == 0
        return re.findall(r"^\[\d/\d\] (\w+) ok", capsys.readouterr().out, flags=re.MULTILINE)

    notebooks, record = ["00_start", "03_rta", "90_last"], tmp_path / "results" / "demo" / "notebooks" / "03_rta.json"
    assert ran() == notebooks and ran() == []
    assert ran("90") == [] and ran("--again") == notebooks
    assert ran("3", "-p", "budget=11") == ["03_rta"]
    assert ran("90") == ["90_last"]  # may have read what 03 wrote
    assert ran() == ["03_rta", "90_last"]  # whose budget is 10 again
    book = books / "90_last.ipynb"
    book.write_text(book.read_text().replace("# Toy", "# Toy, changed"))
    assert ran() == ["90_last"]
    book.write_text(book.read_text().replace("# Toy", "Writes: `figures/*.png`\\n\\n# Toy"))
    assert ran() == ran() == ["90_last"]  # its figure is not there
    record.write_text("damaged")
    assert ran("3") == ["03_rta"]


def test_a_report_that_the_last_notebook_wrote_is_not_written_again(run, books, tmp_path):
    folder, book = tmp_path / "results" / "demo", books / "90_last.ipynb"
    write = "import time; time.sleep(1); open(os.environ['RTALIB_OUTPUTS'] + '/demo/report.html', 'w').write('by the notebook')"
    book.write_text(book.read_text().replace("import os", f"import os; {write}"))
    assert run("reproduce", "3", "90") == 0
    assert (folder / "report.html").read_text() == "by the notebook"
    assert "by the notebook" in (folder / "notebooks" / "90_last.html").read_text(), "its own page came afterwards"
    assert run("reproduce", "3", "--again") == 0
    assert (folder / "report.html").read_text() == "by the command"


def test_other_data_is_not_up_to_date(run, tmp_path, capsys):
    picture = tmp_path / "pets" / "cat" / "a.png"
    picture.parent.mkdir(parents=True)
    for size, runs in ((1, 1), (1, 0), (2, 1)):
        if runs:
            picture.write_bytes(bytes(size))
        fresh._files.cache_clear()  # kept while a command runs
        assert run("reproduce", "0", "--dataset", "pets") == 0
        assert capsys.readouterr().out.count("00_start ok") == runs
