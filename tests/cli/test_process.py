"""A command as a process: it can be ended, nothing that it started survives, and what the machine refuses is one line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from grid_cells import eventually

SLEEPS = """
import sys, time, click
from rtalib.cli import main
@click.command()
def command():
    try:
        print("up", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
sys.exit(main.run(command, [], "sleeps"))
"""
FAILS = """
import sys, click
from rtalib.cli import main
from rtalib.infra.store import StoreError
import warnings
@click.command()
def command():
    warnings.warn("of the copy")
    raise {error}
sys.exit(main.run(command, [], "fails"))
"""


def ignoring(*numbers: int):
    """Runs in the child, as a shell does for a job in the background, and nohup; what the tests' own shell ignores is heard again."""
    every = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return lambda: [signal.signal(number, signal.SIG_IGN if number in numbers else signal.SIG_DFL) for number in every]


def start(*arguments: str, ignore: tuple[int, ...] = (), **options) -> subprocess.Popen:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *arguments], preexec_fn=ignoring(*ignore), stdout=pipe, stderr=pipe, text=True, **options)


@pytest.mark.parametrize("ignore", [(), (signal.SIGINT,)], ids=["", "in the background"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_can_be_ended(number, ignore):
    process = start("-c", SLEEPS, ignore=ignore)
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (128 + number, "cleaned up\n")
    assert err.strip().splitlines()[-1] == "interrupted; what is finished is kept, and the same command resumes from there"
    assert "Traceback" not in err


def test_a_command_under_nohup_outlives_its_terminal():
    process = start("-c", SLEEPS, ignore=(signal.SIGHUP, signal.SIGINT))
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 143


@pytest.mark.parametrize(
    "error, line",
    [
        ("OSError(28, 'No space left on device', 'x.json')", "rtalib: [Errno 28] No space left on device: 'x.json'"),
        ("OSError(30, 'Read-only file system', 'x.json')", "rtalib: [Errno 30] Read-only file system: 'x.json'"),
        ("StoreError('written by a newer rtalib')", "rtalib: written by a newer rtalib"),
        ("MemoryError", "rtalib: out of memory"),
    ],
)
def test_what_a_machine_refuses_is_one_line(error, line):
    process = start("-c", FAILS.format(error=error))
    assert process.communicate(timeout=300) == ("", f"rtalib: of the copy\n{line}\n") and process.returncode == 1


def test_a_mistake_of_ours_has_its_traceback():
    process = start("-c", FAILS.format(error="RuntimeError('ours')"))
    assert "Traceback" in process.communicate(timeout=300)[1] and process.returncode == 1


@pytest.mark.parametrize("command", [["--help"], ["store", "ls"], ["status"]])
def test_a_closed_pipe_is_quiet(command, tmp_path):
    """As with `| head -0`."""
    read, write = os.pipe()
    os.close(read)
    environment = os.environ | {"RTALIB_OUTPUTS": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "rtalib", *command], stdout=write, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_full_disk_behind_the_output_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "rtalib", "store", "ls"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr == "rtalib: [Errno 28] No space left on device\n"


def family(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


COMMANDS = (["tables", "rta-table1"], ["reproduce", "03"], ["corrupt", "--dataset", "shapes10", "--out", "c"])
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
ALWAYS = (("tables", signal.SIGTERM), ("reproduce", signal.SIGINT))


@pytest.mark.slow
@pytest.mark.parametrize(
    "command, number",
    [
        pytest.param(command, number, marks=[] if (command[0], number) in ALWAYS else pytest.mark.trial, id=f"{command[0]}-{number.name}")
        for command in COMMANDS
        for number in SIGNALS
    ],
)
def test_nothing_that_a_command_started_survives_it(command, number, tmp_path):
    """In the background, where SIGINT is inherited as ignored."""
    scale = [] if command[0] == "corrupt" else ["--scale", "smoke"]
    folder = tmp_path / "temporary"
    folder.mkdir()
    environment = os.environ | {"RTALIB_OUTPUTS": str(tmp_path / "o"), "TMPDIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
    process = start("-m", "rtalib", *command, *scale, ignore=(signal.SIGINT,), cwd=tmp_path, env=environment)
    assert eventually(lambda: process.poll() is not None or len(family(process)) >= (3 if command[0] == "reproduce" else 2), 600)
    started = family(process)
    time.sleep(2)
    started += family(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number), err[-1000:]
    assert eventually(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in started), 15)
    assert number == signal.SIGKILL or [path.name for path in folder.glob("rtalib-*")] == []
    assert "Traceback" not in err
