"""One thread per test process, and an outputs folder that is nobody's."""

import os
import signal
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

torch.set_num_threads(1)
# JupyterLab brings a checker of URLs that jsonschema, and so nbformat, would import: two seconds in every process, for nothing here.
sys.modules["rfc3987_syntax"] = None
# A job in the background inherits an ignored SIGINT, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined, so before any is imported


@pytest.hookimpl(tryfirst=True)  # before -m is looked at
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("trial"):
            item.add_marker("slow")  # "not slow" means no trials, either
    slow = {item.path for item in items if item.get_closest_marker("slow") and not item.get_closest_marker("trial")}
    reading = {item.path for item in items if "notebook_outputs" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: _rank(item.path, slow, reading))


def _rank(path: Path, slow: set[Path], reading: set[Path]) -> int:
    """`make test` gives files to its workers whole and in this order: the notebooks first, files with slow tests, those that read what the
    notebooks wrote, and the short ones, so that no worker waits at the end for a long one of the other."""
    return 0 if path.name == "test_notebooks.py" else 3 if path not in slow else 2 if path in reading else 1


@pytest.fixture(scope="session", autouse=True)
def _private_outputs(tmp_path_factory: pytest.TempPathFactory):
    """RTALIB_OUTPUTS for the whole session of this worker; a test that wants its own sets it with monkeypatch."""
    before = os.environ.get("RTALIB_OUTPUTS")
    os.environ["RTALIB_OUTPUTS"] = str(tmp_path_factory.mktemp("outputs"))
    yield
    if before is None:
        del os.environ["RTALIB_OUTPUTS"]
    else:
        os.environ["RTALIB_OUTPUTS"] = before


@pytest.fixture(scope="session")
def notebook_outputs(tmp_path_factory: pytest.TempPathFactory):
    """One outputs folder for all notebooks, and for all workers of a parallel test run: they share the store."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "notebook-outputs"


@pytest.fixture(scope="module")
def smoke_outputs(notebook_outputs):
    """RTALIB_OUTPUTS of a module whose tables are those that the notebooks write at scale smoke: computed once, by whoever comes first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTALIB_OUTPUTS", str(notebook_outputs))
        yield notebook_outputs


@pytest.fixture(autouse=True)
def _same_environment():
    """What a test, or code that it runs in this process, leaves in the environment does not reach the next one."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
