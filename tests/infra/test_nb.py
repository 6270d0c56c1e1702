"""The notebook runner against notebooks that behave well, raise, kill their kernel, hang and talk."""

import asyncio
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest

from rtalib import nb
from rtalib.infra import nb_engine
from rtalib.infra.store import locks

PARAMETERS = 'scale = "demo"  # size\nseeds = [0]\neps = 0.5\ncount = 3\nflag = False\nlimit = None'


@pytest.fixture(autouse=True)
def _work_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def write(folder: Path, *sources: str, name: str = "01_toy.ipynb", parameters: str = PARAMETERS) -> Path:
    """A notebook with a title, a parameters cell and one code cell per source."""
    cells = [nbformat.v4.new_markdown_cell("# Toy\n\nMinutes: demo 2 · small 30.5"), nbformat.v4.new_code_cell(parameters)]
    cells[1].metadata["tags"] = ["parameters"]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / name)
    return folder / name


def test_runs_this_interpreter_in_the_working_folder_with_the_parameters(tmp_path):
    (tmp_path / "books").mkdir()
    source = (
        "import json, os, sys\nfacts = [sys.executable, os.getcwd(), scale, seeds, eps, limit]\nopen(seen, 'w').write(json.dumps(facts))"
    )
    book = write(tmp_path / "books", source, parameters=PARAMETERS + '\nseen = ""')
    parameters = {"scale": "small", "seeds": (1, 2), "eps": 1, "limit": np.int64(7), "seen": tmp_path / "seen.json"}
    result = nb.run(book, tmp_path / "run {x}" / "01_toy.ipynb", parameters)
    assert (result.status, result.error) == ("ok", "")
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen == [sys.executable, str(tmp_path), "small", [1, 2], 1.0, 7]
    assert isinstance(seen[4], float)
    left = sorted(path.name for path in (tmp_path / "run {x}").iterdir())
    assert left == ["01_toy.ipynb", "01_toy.json"]
    record = nb.status(tmp_path / "run {x}" / "01_toy.ipynb")
    assert record["status"] == "ok" and record["parameters"]["seeds"] == [1, 2] and record["seconds"] == result.seconds > 0


def test_another_kernel_registered_as_python3_is_not_used(tmp_path, monkeypatch):
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    assert nb.run(write(tmp_path, "1 + 1"), tmp_path / "out" / "01_toy.ipynb", {}).status == "ok"


def test_output_comes_live_with_a_prefix_and_the_kernel_is_silent(tmp_path, capfd):
    talk = ["print('[table1] 1/2 cells')", "print('a\\rb\\rc')", "print('wrong', file=sys.stderr)", "print('end', end='')"]
    book = write(tmp_path, "import sys\n" + "\n".join(talk))
    assert nb.run(book, tmp_path / "out" / "01_toy.ipynb", {}).status == "ok"
    out, err = capfd.readouterr()
    assert out.splitlines() == ["[01_toy] [table1] 1/2 cells", "[01_toy] c", "[01_toy] end"]
    assert err.splitlines() == ["[01_toy] wrong"]


def test_lines_arrive_while_the_cell_is_still_running(tmp_path, capfd):
    book = write(tmp_path, "import time\nprint('early', flush=True)\nwhile not __import__('os').path.exists('go'):\n    time.sleep(0.05)")
    thread = threading.Thread(target=nb.run, args=(book, tmp_path / "out" / "01_toy.ipynb", {}), kwargs={"timeout": 600})
    thread.start()
    seen, deadline = "", time.monotonic() + 300
    while "early" not in seen and time.monotonic() < deadline:
        time.sleep(0.05)
        seen += capfd.readouterr().out
    during = nb.status(tmp_path / "out" / "01_toy.ipynb")["status"]
    (tmp_path / "go").touch()
    thread.join()
    assert seen == "[01_toy] early\n" and during == "running"
    assert nb.status(tmp_path / "out" / "01_toy.ipynb")["status"] == "ok"


def test_an_exception_is_failed_with_the_end_of_its_traceback(tmp_path):
    book = write(tmp_path, "def inner():\n    raise KeyError('the row')\ninner()", "print('never')")
    result = nb.run(book, tmp_path / "out" / "01_toy.ipynb", {})
    assert result.status == "failed" and result.error.splitlines()[-1] == "KeyError: 'the row'" and "\x1b" not in result.error
    executed = nbformat.read(tmp_path / "out" / "01_toy.ipynb", as_version=4)
    assert any(output.get("ename") == "KeyError" for cell in executed.cells for output in cell.get("outputs", []))


def test_a_killed_kernel_is_died_and_takes_its_workers_along(tmp_path):
    kill = "import os, signal, subprocess\nworker = subprocess.Popen(['sleep', '600'])\nopen('pid', 'w').write(str(worker.pid))"
    book = write(tmp_path, kill, "os.kill(os.getpid(), signal.SIGKILL)", "print('never')")
    result = nb.run(book, tmp_path / "out" / "01_toy.ipynb", {})
    assert result.status == "died" and "DeadKernelError" in result.error
    assert nb.status(tmp_path / "out" / "01_toy.ipynb")["status"] == "died"
    executed = nbformat.read(tmp_path / "out" / "01_toy.ipynb", as_version=4)
    nbformat.validate(executed)
    assert "did not finish" in executed.cells[0].source
    assert not any("completed" in json.dumps(part.metadata) for part in (executed, *executed.cells))
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_kernel_that_does_not_start_leaves_its_last_words(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ipykernel_launcher.py").write_text("raise SystemExit('a broken installation')")
    result = nb.run(write(tmp_path, "pass"), tmp_path / "out" / "01_toy.ipynb", {})
    assert result.status == "died" and "a broken installation" in result.error


def test_output_of_child_processes_comes_once(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # ipykernel does not capture its children's output where this is set
    talk = "import subprocess, time\nsubprocess.run(['echo', 'child'])\ntime.sleep(1)"  # a thread of the kernel reads what the child says
    result = nb.run(write(tmp_path, talk), tmp_path / "out" / "01_toy.ipynb", {})
    assert result.status == "ok" and capfd.readouterr().out == "[01_toy] child\n"


DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"


@pytest.mark.parametrize("cell", ["import time\ntime.sleep(600)", DEAF + "import time\ntime.sleep(600)"], ids=["listens", "deaf"])
def test_a_deadline_stops_the_notebook(tmp_path, monkeypatch, cell):
    monkeypatch.setattr(nb_engine, "GRACE", 1.0)
    started = time.monotonic()
    result = nb.run(write(tmp_path, cell), tmp_path / "out" / "01_toy.ipynb", {}, timeout=3)
    assert result.status == "timeout" and result.error.startswith("stopped after 3 s")
    assert time.monotonic() - started < 300  # of 600
    assert nb.status(tmp_path / "out" / "01_toy.ipynb")["status"] == "timeout"


def test_a_runner_that_was_killed_leaves_died_and_the_next_run_succeeds(tmp_path):
    book = write(tmp_path, "import time\nopen('started', 'a').write('x')\ntime.sleep(count)")
    output = tmp_path / "out" / "01_toy.ipynb"
    code = "import sys; from pathlib import Path; from rtalib import nb; nb.run(Path(sys.argv[1]), Path(sys.argv[2]), {'count': 600})"
    runner = subprocess.Popen([sys.executable, "-c", code, str(book), str(output)])
    deadline = time.monotonic() + 300
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert nb.status(output)["status"] == "running"
    runner.kill()
    runner.wait()
    assert nb.status(output)["status"] == "died" and not output.exists()
    assert nb.run(book, output, {"count": 0}).status == "ok"
    assert [path.name for path in output.parent.glob("*.running*")] == []


def test_two_runs_of_one_notebook_take_turns(tmp_path):
    book = write(
        tmp_path, "import os, time\nfd = os.open('alone', os.O_CREAT | os.O_EXCL)\ntime.sleep(0.5)\nos.close(fd)\nos.remove('alone')"
    )
    results = []
    threads = [threading.Thread(target=lambda: results.append(nb.run(book, tmp_path / "out" / "01_toy.ipynb", {}))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.status for result in results] == ["ok", "ok"]


@pytest.mark.parametrize("piped", [False, True])
def test_the_kernel_does_not_run_the_script_that_asks_for_it(tmp_path, piped):
    """Whether the script has a guard for its own work, and a file, or not; in a folder whose name a C locale cannot read."""
    folder = tmp_path / "für {mich} 100%"
    folder.mkdir()
    write(folder, "pass")
    script = tmp_path / "script.py"
    script.write_text("from rtalib import nb\nprint('once', nb.run('01_toy.ipynb', 'out.ipynb', {}).status)")
    how = {"cwd": folder, "env": os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"}, "capture_output": True, "text": True, "check": True}
    with script.open() as source:
        done = subprocess.run([sys.executable, "-" if piped else script], stdin=source, **how)
    assert done.stdout == "once ok\n"
    assert str(tmp_path) not in (folder / "out.ipynb").read_text()


def test_a_notebook_that_fills_the_disk(tmp_path):
    """It has failed of what the system says, and no half notebook stays."""
    disk, book = tmp_path / "disk", write(tmp_path, "print('y' * 600_000)")
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    try:
        result = nb.run(book, disk / "out.ipynb", {})
        assert (result.status, result.error) == ("failed", "[Errno 28] No space left on device")
        assert [path.name for path in disk.iterdir()] == ["out.json"] and nb.status(disk / "out.ipynb")["status"] == "failed"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_declared_parameters(tmp_path):
    book = write(tmp_path, "pass")
    assert nb.declared(book) == {"scale": "demo", "seeds": [0], "eps": 0.5, "count": 3, "flag": False, "limit": None}
    assert nb.minutes(book) == {"demo": 2.0, "small": 30.5}
    annotated = write(tmp_path, name="02_b.ipynb", parameters="steps: int = 7  # of the search\nsizes = (1, 2)")
    assert nb.declared(annotated) == {"steps": 7, "sizes": [1, 2]}


@pytest.mark.parametrize("bad", ["eps = 8 / 255", "import os", "a, b = 1, 2", "x: int"])
def test_a_parameters_cell_holds_literals(tmp_path, bad):
    with pytest.raises(ValueError, match="may only hold lines"):
        nb.declared(write(tmp_path, parameters=bad))


DEFAULTS = {"scale": "demo", "seeds": [0], "eps": 0.5, "count": 3, "flag": False, "limit": None, "names": ["a"]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"eps": np.float32(0.5)}, {"eps": 0.5}),
        ({"eps": 2}, {"eps": 2.0}),
        ({"count": np.int64(4)}, {"count": 4}),
        ({"flag": np.bool_(True)}, {"flag": True}),
        ({"scale": Path("a/b")}, {"scale": "a/b"}),
        ({"seeds": (1, 2)}, {"seeds": [1, 2]}),
        ({"seeds": [np.int32(3)]}, {"seeds": [3]}),
        ({"limit": {"a": (1,)}}, {"limit": {"a": [1]}}),
    ],
)
def test_values_become_the_declared_type(given, expected):
    got = nb.coerce(given, DEFAULTS)
    assert got == expected and all(type(got[name]) is type(expected[name]) for name in expected)


@pytest.mark.parametrize(
    "given",
    [{"eps": "0.5"}, {"count": 4.0}, {"count": True}, {"flag": 1}, {"scale": None}, {"seeds": 1}, {"seeds": ["1"]}, {"seeds": {1, 2}}]
    + [{"eps": float("nan")}, {"limit": object()}, {"limit": np.zeros(2)}],
)
def test_other_types_are_refused_by_name(given):
    with pytest.raises(TypeError, match=f"parameter '{next(iter(given))}"):
        nb.coerce(given, DEFAULTS)


def test_an_unknown_parameter_is_an_error_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match=r"unknown parameter 'sead'.*Did you mean 'seed"):
        nb.run(write(tmp_path, "pass"), tmp_path / "out" / "01_toy.ipynb", {"sead": 1})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("scale", "1", "1"), ("seeds", "0,1", [0, 1]), ("seeds", "[0, 1]", [0, 1]), ("seeds", "2", [2]), ("names", "1, b", ["1", "b"])]
    + [("eps", "1e-3", 1e-3), ("flag", "True", True), ("flag", "false", False), ("limit", "None", None), ("count", "x", "x")],
)
def test_command_line_text(name, text, value):
    assert nb.parse(name, text, DEFAULTS) == value


def test_status_of_a_notebook_never_run(tmp_path):
    assert nb.status(tmp_path / "01_toy.ipynb")["status"] == "missing"


def gone(pid: int) -> bool:
    """Whether the process ends within two seconds; a killed one may stay a zombie until its parent notices."""
    for _ in range(40):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


# --------------------------------------------------------------------------------------------------------- lost wake-ups


class _Deaf:
    """Stands for a socket whose event was spent by a send: the first two waits end without the message that is there."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def get_msg(self, timeout: float | None = None) -> dict:
        self.waits.append(timeout)
        if len(self.waits) < 3:
            raise queue.Empty
        return {"content": "reply"}


def test_a_message_whose_event_was_lost_is_found(monkeypatch):
    deaf = _Deaf()
    monkeypatch.setattr(nb_engine.AsyncZMQSocketChannel, "get_msg", lambda channel, timeout=None: deaf.get_msg(timeout))
    channel = object.__new__(nb_engine._Channel)
    assert asyncio.run(channel.get_msg()) == {"content": "reply"} and deaf.waits == [nb_engine.POLL] * 3


def test_a_deadline_of_the_channel_is_kept(monkeypatch):
    deaf = _Deaf()
    monkeypatch.setattr(nb_engine.AsyncZMQSocketChannel, "get_msg", lambda channel, timeout=None: deaf.get_msg(timeout))
    with pytest.raises(queue.Empty):
        asyncio.run(object.__new__(nb_engine._Channel).get_msg(timeout=0))
    assert deaf.waits == [0.0]


def test_our_kernels_are_asked_through_that_channel():
    assert isinstance(nb_engine._Kernel().client(), nb_engine._KernelClient)


def test_the_folder_of_a_killed_process_goes_with_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr(nb_engine.fork_server, "folder_of_sockets", lambda: str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    holder = f"{locks.host()}_{dead.pid}_1_abcdef012345"
    for name in ("rtalib-killed/lock", "rtalib-mine", "other/lock"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / holder).touch()
    with nb_engine._private_folder() as first, nb_engine._private_folder() as second:
        found = {path.name for path in tmp_path.iterdir()}
        assert found == {Path(first).name, Path(second).name, "rtalib-mine", "other"}
    assert {path.name for path in tmp_path.iterdir()} == {"rtalib-mine", "other"}
