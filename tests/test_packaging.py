"""What a fresh clone relies on: light imports, one set of requirements in two files, a Makefile that does what it says."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import rtalib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = ("torchvision", "papermill", "ray", "matplotlib", "seaborn", "pandas", "scipy", "ipywidgets")
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "seaborn-base": "seaborn"}


def split(requirement: str) -> tuple[str, str]:
    """('numpy', '2.0') of 'numpy>=2.0'; the bound is '' where there is none."""
    name, _, bound = requirement.partition(">=")
    name = name.strip().lower().replace("_", "-")
    return CONDA_NAMES.get(name, name), bound.strip()


def test_import_is_light_and_fast():
    code = "import sys, time; start = time.process_time(); import rtalib; print(time.process_time() - start); print(*sys.modules)"
    seconds, modules = min(run_python(code).split("\n", 1) for _ in range(2))
    assert float(seconds) < 0.5
    assert not set(HEAVY) & set(modules.split())


def test_help_is_fast_and_needs_no_torch():
    def took() -> float:
        """CPU-seconds, which other work on the machine does not lengthen much."""
        before = os.times()
        assert "reproduce" in run_python(None, "-m", "rtalib", "--help")
        return sum(os.times()[2:4]) - sum(before[2:4])

    assert min(took() for _ in range(3)) < 0.5
    modules = run_python("import sys; import rtalib.cli.main; print(*sys.modules)").split()
    assert not {"torch", "numpy", *HEAVY} & set(modules)


def run_python(code: str | None, *arguments: str) -> str:
    command = [sys.executable, *(arguments or ("-c", code))]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


def test_conda_environment_agrees_with_pyproject():
    extras = PROJECT["optional-dependencies"]
    wanted = dict(split(text) for text in [*PROJECT["dependencies"], *extras["notebooks"], *extras["lab"], *extras["test"]])
    conda = dict(split(text) for text in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"])
    assert conda.pop("python") == PROJECT["requires-python"].removeprefix(">=")
    assert conda.pop("pip") == ""
    assert conda == wanted


def test_extras_and_version():
    assert set(PROJECT["optional-dependencies"]) == {"notebooks", "book", "lab", "test", "peers", "networks", "real", "browser", "ray"}
    assert importlib.metadata.version("rtalib") == rtalib.__version__
    requirements = [*PROJECT["dependencies"], *(text for extra in PROJECT["optional-dependencies"].values() for text in extra)]
    assert all(re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", text) for text in requirements), "a name and a lower bound, nothing else"


def test_a_wheel_holds_everything_in_the_package(tmp_path):
    backend = pytest.importorskip("setuptools.build_meta")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "rtalib", source / "rtalib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    code = f"from {backend.__name__} import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    wanted = [str(path.relative_to(source)) for path in (source / "rtalib").rglob("*") if path.is_file()]
    assert sorted(set(wanted) - set(names)) == []


def test_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0" and "Version 2.0, January 2004" in text
    assert all(f"\n   {number}. " in text for number in range(1, 10)) and len(text.split()) == 1581


def test_every_module_is_short():
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in ROOT.glob("rtalib/**/*.py")}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


# ------------------------------------------------------------------------------------------------------------ Makefile


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the Makefile, a pyproject.toml and a `python3` that writes down how it is called instead of installing."""
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "python3"
    fake.write_text(FAKE_PYTHON.replace("LOG", str(tmp_path / "calls")))
    fake.chmod(0o755)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


FAKE_PYTHON = """#!/bin/sh
[ "$1" = -c ] && exit 0
echo "$@" >> "LOG"
[ "$2" = pip ] && [ -e "LOG.offline" ] && exit 1
[ "$2" = venv ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
exit 0
"""


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "RTALIB", "ARGS"))}
    environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def calls(folder: Path) -> list[str]:
    """What was called since the last look."""
    log = folder / "calls"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
def test_reproduce_installs_once(clone):
    assert make(clone, "reproduce").returncode == 0
    venv, install, run = calls(clone)
    assert venv == "-m venv .venv"
    assert install.startswith("-m pip install") and install.endswith("-e .[notebooks]")
    assert run == "-m rtalib reproduce --scale demo --dataset shapes10"
    make(clone, "reproduce", "SCALE=small", "DATASET=cifar10", "ARGS=03 --seeds 0,1")
    assert calls(clone) == ["-m rtalib reproduce --scale small --dataset cifar10 03 --seeds 0,1"]


@needs_make
def test_a_failed_installation_is_tried_again_and_a_changed_pyproject_installs_again(clone):
    (clone / "calls.offline").touch()
    assert make(clone, "reproduce").returncode != 0
    (clone / "calls.offline").unlink()
    calls(clone)
    make(clone, "reproduce")
    assert [line.split()[1] for line in calls(clone)] == ["pip", "rtalib"]
    later = time.time() + 10
    os.utime(clone / "pyproject.toml", (later, later))
    make(clone, "reproduce")
    assert [line.split()[1] for line in calls(clone)] == ["pip", "rtalib"]


@needs_make
def test_test_and_lab_install_what_they_need(clone):
    make(clone, "test", "ARGS=-k rng")
    extras = "notebooks,book,lab,test,peers,networks,real,browser,ray"
    assert calls(clone)[1:] == [
        f"-m pip install --disable-pip-version-check -e .[{extras}]",
        "-m pytest -n 2 --dist loadfile --no-loadscope-reorder -k rng",
    ]
    make(clone, "lab")
    assert [line.split()[-1] for line in calls(clone)][0] == ".[notebooks,lab]"


@needs_make
def test_clean_keeps_results(clone):
    make(clone, "reproduce")
    (clone / "outputs").mkdir()
    (clone / "rtalib" / "__pycache__").mkdir(parents=True)
    assert make(clone, "clean").returncode == 0
    assert (clone / "outputs").exists() and not (clone / ".venv").exists() and not (clone / "rtalib" / "__pycache__").exists()


@needs_make
def test_ci_runs_the_tests_on_the_real_data_beside_the_clone(clone):
    checkout, fake = clone / "checkout", 'test:\n\t@echo "data=$$RTALIB_DATA"\n'
    (checkout / ".ci").mkdir(parents=True)
    (checkout / "Makefile").write_text(fake)
    shutil.copy(ROOT / ".ci" / "run", checkout / ".ci" / "run")
    ours = ("RTALIB_DATA", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")  # under `make test`, a make inside would announce its folder
    environment = {name: value for name, value in os.environ.items() if name not in ours}

    def run() -> subprocess.CompletedProcess:
        return subprocess.run([checkout / ".ci" / "run"], cwd="/", env=environment, capture_output=True, text=True)

    assert run().stdout == "data=\n"
    (clone / "shared" / "data").mkdir(parents=True)
    assert run().stdout == f"data={clone / 'shared' / 'data'}\n"
    (checkout / "Makefile").write_text("test:\n\tfalse\n")
    assert run().returncode != 0


def test_no_index_and_no_machine_path_is_needed():
    for name in ("Makefile", ".ci/run", "pyproject.toml", "environment.yml"):
        assert not re.search(r"index-url|find-links|https?://|/home/|/root/|/opt/|/work", (ROOT / name).read_text()), name


def test_env_prints_json():
    facts = json.loads(run_python(None, "-m", "rtalib", "env"))
    assert facts["rtalib"] == rtalib.__version__ and facts["packages"]["torch"]
