"""The grid on a Ray cluster of two pretended nodes with two pretended GPUs each; all tests share its start, which is most of their time."""

import os
import re
import socket
import sys
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import grid_cells
import pytest
from grid_cells import calls, cells, eventually, results, tries

from rtalib import grid
from rtalib.experiments.repair import chance
from rtalib.infra.grid import ray as grid_ray

pytestmark = pytest.mark.slow
EXPECTED = [{"number": number, "square": number**2} for number in range(6)]
STARTED = 240  # seconds until workers of Ray compute, on a busy machine; cells are released after it all the same


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'rtalib[ray]'")
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_agent_register_timeout_ms": str(STARTED * 1000)}
    from ray._private import services
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "num_gpus": 2, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "start_ray_process", partial(start_with_a_known_port, services.start_ray_process))
        made = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **node, **ports()})
        made.pretended = made.add_node(wait=False, **node, **ports())
    made.wait_for_nodes(timeout=STARTED)
    with grid.shared_workers():  # one connection
        yield made
    made.shutdown()


def ports() -> dict[str, int]:
    """Free ports for the agents of a node. A raylet waits for 15 seconds, which no setting changes, until its agents have written which
    ports they found (ray-project/ray#65983). On a busy machine it dies of that; for ports that it was told it does not wait."""
    names = ["metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", "dashboard_agent_listen_port"]
    with ExitStack() as stack:
        return {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for name in names}


def start_with_a_known_port(start, command, process_type, *args, **options):
    """Ray tells the last of these ports to the agent alone, though the raylet has a flag for it."""
    if process_type == "raylet":
        command = [*command, "--dashboard_agent_listen_port=" + re.search(r"--listen-port=(\d+)", " ".join(command))[1]]
    return start(command, process_type, *args, **options)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path


@pytest.fixture
def common(cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.setattr(grid_ray, "ANSWER", STARTED)
    return {"run": "demo", "table": "t", "executor": "ray", "gpus": 0}


def test_rows_are_those_of_the_serial_executor_and_gpus_are_hidden(folder, common):
    grid.run(grid_cells.square, cells(folder), recipe="square", **common)
    assert results("demo", "t") == EXPECTED and sorted(calls(folder)) == list(range(6))
    grid.run(grid_cells.square, cells(folder), recipe="square", **common)
    assert len(calls(folder)) == 6
    rows = grid.run(grid_cells.surroundings, cells(folder, 2), recipe="surroundings", **common | {"table": "u"})
    assert {(row["CUDA_VISIBLE_DEVICES"], row["threads"]) for row in rows} == {("", 1)}


def test_pretended_gpus_of_two_nodes_are_distinct(folder, common):
    together = []

    def release():
        together.append(eventually(lambda: len(begun(folder)) == 4, STARTED))
        (folder / "go").touch()

    threading.Thread(target=release).start()
    grid.run(grid_cells.waits_for_release, cells(folder, 4), recipe="waits_for_release", **common | {"gpus": 1})
    devices = sorted(name.split("-")[2] for name in begun(folder))
    assert together == [True] and devices == ["0", "0", "1", "1"] and len(calls(folder)) == 4


def begun(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("begun-*")]


def test_a_killed_worker_costs_one_try_of_one_cell(folder, common):
    grid.run(grid_cells.killed_once, cells(folder), recipe="killed_once", **common)
    assert results("demo", "t") == EXPECTED and sorted(calls(folder)) == list(range(6))


@pytest.mark.parametrize(
    "function, times, message",
    [
        (grid_cells.killed_always, 2, "worker lost, out of memory?"),
        (grid_cells.offline_always, 2, "TimeoutError: the network is away"),
        (grid_cells.wrong, 1, "AssertionError: one is not two"),
        (grid_cells.too_large, 1, "out of memory, not tried again"),
    ],
)
def test_a_cell_that_always_fails_does_so_alone(folder, common, function, times, message):
    with pytest.raises(grid.GridError, match=f"1 of 6 cells of t failed(.|\n)*{message}"):
        grid.run(function, cells(folder), recipe="function", retries=1, **common)
    assert tries(cells(folder)[1]) == times
    assert results("demo", "t") == [row for row in EXPECTED if row["number"] != 1]


def test_an_error_that_passes(folder, common):
    grid.run(grid_cells.offline_once, cells(folder), recipe="offline_once", **common)
    assert results("demo", "t") == EXPECTED


def test_more_gpus_than_a_node_has(folder, common):
    with pytest.raises(grid.GridError, match="asks for 3 GPUs on one node.*1 CPUs and 2 GPUs, 1 CPUs and 2 GPUs"):
        grid.run(grid_cells.square, cells(folder), recipe="square", **common | {"gpus": 3})


def test_results_on_a_disk_that_is_not_shared(folder, common, monkeypatch):
    monkeypatch.setattr(grid, "SHARED", 0.2)
    elsewhere = folder / "the other machine's"
    monkeypatch.setattr(grid_ray, "store", SimpleNamespace(outputs=lambda: elsewhere))
    with pytest.raises(grid.GridError, match="its row is not in .*outputs.*share"):
        grid.run(grid_cells.square, cells(folder), recipe="square", **common)


def test_a_table_equals_the_serial_one(tmp_path, common, monkeypatch):
    monkeypatch.setattr(grid, "run", partial(grid.run, gpus=0))  # which the tables do not say
    found = {}
    for executor in ("serial", "ray"):
        monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path / executor))
        rows = chance.run("smoke", executor=executor)
        found[executor] = [{name: value for name, value in row.items() if name not in grid_cells.VARYING} for row in rows]
    assert len(found["serial"]) == 2 and found["ray"] == found["serial"]


def test_a_lost_node_costs_no_row(folder, common, cluster):
    """Last but for the tests of addresses: the cluster has one node less after it."""

    together = []

    def remove():
        together.append(eventually(lambda: len(begun(folder)) == 2, STARTED))
        cluster.remove_node(cluster.pretended)
        (folder / "go").touch()

    thread = threading.Thread(target=remove)
    thread.start()
    grid.run(grid_cells.waits_for_release, cells(folder), recipe="waits_for_release", **common)
    thread.join()
    assert together == [True] and results("demo", "t") == EXPECTED
    assert sorted(calls(folder)) == list(range(6))


# ----------------------------------------------------------------------------------------------------- without a cluster


@pytest.mark.parametrize(
    "nodes, workers, gpus, expected",
    [
        ([{"CPU": 2.0}], None, None, (0.0, 1.0, 2)),
        ([{"CPU": 8.0}], 2, None, (0.0, 4.0, 2)),
        ([{"CPU": 4.0}, {"CPU": 8.0}], 1, 0, (0, 8.0, 1)),
        ([{"CPU": 96.0, "GPU": 8.0}], None, None, (1.0, 12.0, 8)),
        ([{"CPU": 96.0, "GPU": 8.0}, {"CPU": 4.0}], None, 2, (2, 24.0, 4)),
        ([{"CPU": 8.0, "GPU": 1.0}], None, 0.1, (0.1, 0.8, 10)),
    ],
)
def test_demand(nodes, workers, gpus, expected):
    assert grid_ray.demand(nodes, workers, gpus) == expected


def test_an_address_that_nobody_answers():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]  # bound, but not listening
        with pytest.raises(
            grid.GridError, match=f"no Ray cluster answers at '127.0.0.1:{port}'.*ray status --address.*firewall.*RAY_ADDRESS"
        ):
            grid_ray.check_address(f"127.0.0.1:{port}")


def test_an_address_at_which_something_else_listens(monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'rtalib[ray]'")
    monkeypatch.setattr(grid_ray, "ANSWER", 2)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(grid.GridError, match="no answer in 2 seconds"):
        grid_ray.check_address(f"127.0.0.1:{server.getsockname()[1]}")


def test_an_address_without_a_port():
    with pytest.raises(grid.GridError, match="^address \\(or RAY_ADDRESS\\): expected host:port.*got 'head-node'"):
        grid_ray.check_address("head-node")


def test_without_ray_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'rtalib\[ray\]'"):
        grid_ray.Pool(None, None, None)
