"""Children of the fork server look as if their parent had started them itself."""

import multiprocessing
import os
import subprocess
import sys
from multiprocessing.connection import Connection

import pytest

from rtalib.infra.grid import fork_server


def _tell(surroundings: fork_server.Surroundings, to: Connection, children: int) -> None:
    surroundings.enter()
    os.write(1, b"a child speaks\n")
    to.send((os.getppid(), os.environ.get("RTALIB_TOLD"), os.getpgrp()))
    if children:
        _start(to, children - 1)


def _start(to: Connection, children: int) -> None:
    child = fork_server.context().Process(target=_tell, args=(fork_server.Surroundings(), to, children))
    child.start()
    child.join()
    assert child.exitcode == 0


@pytest.mark.slow
def test_a_child_and_its_child_have_their_parent_s_surroundings_and_one_server(monkeypatch, capfd):
    monkeypatch.setenv("RTALIB_TOLD", "after the server began")
    at, to = multiprocessing.Pipe(duplex=False)
    _start(to, 1)
    first, second = at.recv(), at.recv()
    assert first[1:] == second[1:] == ("after the server began", os.getpgrp())
    assert first[0] != os.getpid() and (first[0] == second[0] or sys.version_info >= (3, 14))
    assert capfd.readouterr().out == "a child speaks\n" * 2


def test_a_deep_folder_of_temporary_files_has_no_room_for_sockets(tmp_path):
    """Schedulers of clusters give such folders."""
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    code = "from rtalib.infra.grid import fork_server as f; p = f.context(()).Process(target=print, args=('up',)); p.start(); p.join()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"TMPDIR": str(deep)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "up\n", "")
