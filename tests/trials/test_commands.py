"""The review's trials of commands as tables: arguments, variables, stores and disks that are not as they should be.

Each command ends with status 0, 1 or 2; of a failure the last line says why, and no traceback is shown. Commands that read write nothing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rtalib import store

pytestmark = pytest.mark.trial
ROOT = Path(__file__).parents[2]
READING = [["status"], ["plan", "rta-table1"], ["store", "ls"], ["store", "why", "0"], ["store", "gc"]]
WRITING = [
    ["tables", "rta-table1", "--executor", "serial"],
    ["report"],
    ["reproduce", "00"],
    ["corrupt", "--dataset", "shapes10", "--limit", "20", "--out", "{outputs}/c"],
]
EVERY = READING + WRITING
NAMES = " ".join


def rtalib(arguments: list[str], outputs: Path | str, **variables: str) -> tuple[int, str, str]:
    """Exit status, what was printed, and the last line of the errors; no traceback."""
    scale = (
        ["--scale", "smoke"] if arguments[0] in ("status", "plan", "tables", "report", "reproduce") and "--scale" not in arguments else []
    )
    command = [sys.executable, "-m", "rtalib", *(text.format(outputs=outputs) for text in arguments), *scale]
    environment = os.environ | {"RTALIB_OUTPUTS": str(outputs), "PYTHONPATH": str(ROOT)} | variables
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, cwd=ROOT)
    assert done.returncode in (0, 1, 2), done.stderr[-2000:]
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    return done.returncode, done.stdout, (done.stderr.strip().splitlines() or [""])[-1]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Outputs with a finished table."""
    folder = tmp_path_factory.mktemp("finished")
    assert rtalib(["tables", "rta-table1", "--executor", "serial"], folder)[0] == 0
    return folder


# ------------------------------------------------------------------------------------------------ arguments and variables

REFUSED = [
    (["plan", "rta-table1", "--seeds=-1,"], {}, "--seeds: expected"),
    (["tables", "rta-table1", "--seeds=99999999999999999999,"], {}, "--seeds: expected"),
    (["plan", "rta-table1", "--hours", "inf"], {}, "hours: expected"),
    (["tables", "rta-table1"], {"RTALIB_GPUS": "nan"}, "RTALIB_GPUS"),
    (["tables", "rta-table1"], {"RTALIB_GPUS": "1e400"}, "RTALIB_GPUS"),
    (["tables", "rta-table1"], {"RTALIB_GPUS": "1e-9"}, "RTALIB_GPUS"),
    (["tables", "rta-table1"], {"RTALIB_GPUS": "1", "CUDA_VISIBLE_DEVICES": ""}, "gpus: 1 per cell asked"),
    (["tables", "rta-table1"], {"RTALIB_FROST": "/nowhere"}, "RTALIB_FROST: no file"),
    (["tables", "rta-table1", "--executor", "ray"], {"RAY_ADDRESS": "nonsense"}, "RAY_ADDRESS|Ray"),
    (["reproduce", "00", "--timeout", "nan"], {}, "timeout"),
    (["reproduce", "00", "--timeout", "-1"], {}, "timeout"),
    (["reproduce", "11", "-p", "seeds=" + "[" * 5000], {}, "seeds"),
    (["reproduce", "11", "-p", "seeds=-1"], {}, "seeds"),
    (["plan", "rta-table1", "--dataset", "a" * 300], {}, "unknown data set|too long"),
    (["plan", "rta-table1", "--dataset", ""], {}, "expected"),
    (["status", "--dataset", ""], {}, "expected"),
    (["corrupt", "--dataset", "shapes10", "--out", "/proc/x", "--limit", "20"], {}, "/proc/x"),
    (["store", "gc", "--days", "nan"], {}, "days"),
]


@pytest.mark.parametrize("arguments, variables, words", REFUSED, ids=[f"{NAMES(line[0])[:60]} {line[1] or ''}" for line in REFUSED])
def test_arguments_are_refused_in_one_line_before_anything_runs(arguments, variables, words, tmp_path):
    status, _, line = rtalib(arguments, tmp_path / "o", **variables)
    assert status in (1, 2) and any(word in line for word in words.split("|")), line
    assert not list((tmp_path / "o").glob("*/rows"))


# ----------------------------------------------------------------------------------------------------- stores and disks


@pytest.mark.parametrize("version", ["99\n", "x\n", "", "-1\n", "1 2\n"])
@pytest.mark.parametrize("command", [["status"], ["tables", "rta-table1"], ["store", "ls"], ["report"]], ids=NAMES)
def test_a_store_of_another_layout(command, version, tmp_path):
    store.write_atomic(tmp_path / "store" / "VERSION", version)
    (tmp_path / "smoke").mkdir()
    status, _, line = rtalib(command, tmp_path)
    assert (status == 1 and "VERSION" in line or "newer rtalib" in line) or command == ["report"]


@pytest.mark.parametrize("command", EVERY, ids=NAMES)
@pytest.mark.parametrize("place", ["a file", "/proc"])
def test_outputs_that_cannot_be_a_folder(place, command, tmp_path):
    (tmp_path / "file").write_text("mine")
    outputs = tmp_path / "file" if place == "a file" else Path("/proc/rtalib")
    status, _, line = rtalib(command, outputs)
    assert status == 0 if command[:2] in (["status"], ["plan", "rta-table1"]) and place == "/proc" else True
    assert (line.startswith("rtalib: ") or status == 0) and (tmp_path / "file").read_text() == "mine", line


@pytest.mark.parametrize("command", READING, ids=NAMES)
def test_commands_that_read_write_nothing(command, finished):
    damaged, *others = (finished / "smoke" / "rows" / "rta-table1").glob("*.json")
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-100])
    try:
        before = content(finished)
        status, out, line = rtalib(command, finished)
        assert content(finished) == before
        counts = [str(len(others)), "0", "0", "1"]
        assert command != ["status"] or ("rta-table1" in out and damaged.name in line and out.split()[-4:] == counts)
    finally:
        damaged.write_bytes(whole)


def mounted(folder: Path, options: str) -> bool:
    folder.mkdir(exist_ok=True)
    return not subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True).returncode


@pytest.fixture
def disk(tmp_path, finished, request):
    """The finished outputs on a file system of their own, with so many bytes of room; 0: it is read-only."""
    if not mounted(tmp_path / "disk", "size=200m"):
        pytest.skip("no right to mount a file system")
    folder = tmp_path / "disk"
    subprocess.run(["cp", "-r", f"{finished}/.", str(folder)], check=True)
    try:
        if request.param == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        else:
            facts = os.statvfs(folder)
            (folder / "ballast").write_bytes(bytes(facts.f_bavail * facts.f_frsize - 4096 * request.param))
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("command", EVERY, ids=NAMES)
@pytest.mark.parametrize("disk", ["read-only", 0, 3, 40], indirect=True)
def test_disks_that_take_nothing_more(disk, command, finished):
    """Full, or with room for some pages: the true cause is the last line, what was finished stays, nothing is half written."""
    before = {name: data for name, data in content(disk).items() if name != "ballast"}
    if command[0] == "tables":
        command = [*command, "--seeds", "2"]
    status, _, line = rtalib(command, disk)
    after = {name: data for name, data in content(disk).items() if name != "ballast"}
    assert status == 0 or any(words in line for words in ("No space left", "Read-only", "begin")), line
    kept = {name: data for name, data in before.items() if "/plans/" not in name and "report" not in name.lower()}
    assert {name: after[name] for name in kept} == kept
    for name, data in after.items():
        if name.endswith(".json") and "/." not in name and name not in before:
            json.loads(data)
