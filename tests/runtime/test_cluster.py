"""Which cluster is joined, and which of its nodes count; tests/test_job_submit.py joins a real one."""

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from mfed_ray.errors import PlacementError
from mfed_ray.runtime import cluster
from mfed_ray.runtime.cluster import connect, free, may_start, nodes, own_node, preflight

CONFIG: dict[str, Any] = {
    "max_workers": 5,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "large": {"resources": {"CPU": 32, "GPU": 4}, "max_workers": 2},
        "small": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 4},
        "plain": {"resources": {"CPU": 64}, "max_workers": 3},
    },
}
LARGE = {"name": "large (may start)", "CPU": 32, "GPU": 4}
SMALL = {"name": "small (may start)", "CPU": 8, "GPU": 1}
PLAIN = {"name": "plain (may start)", "CPU": 64, "GPU": 0.0}


@pytest.mark.parametrize(
    ("changes", "running", "expected"),
    [
        ({}, {"head": 1}, [SMALL] * 4 + [LARGE]),  # 5 in all: with GPUs first, small ones before large
        ({"max_workers": 20}, {"head": 1}, [SMALL] * 4 + [LARGE] * 2 + [PLAIN] * 3),
        ({"max_workers": 20}, {"head": 1, "small": 3, "plain": 3}, [SMALL] + [LARGE] * 2),
        ({}, {"head": 1, "large": 2, "small": 2}, [SMALL]),  # 4 of 5 run
        ({}, {"head": 1, "small": 4, "large": 1}, []),
        ({}, {"head": 1, "small": 6}, []),  # the limit was lowered under running nodes
        ({}, {"": 1}, []),  # another Ray on the head of that cluster
        ({}, {}, []),
    ],
)
def test_what_the_autoscaler_may_start(
    changes: dict[str, Any], running: dict[str, int], expected: list[dict[str, Any]]
) -> None:
    assert may_start(CONFIG | changes, running) == expected


@pytest.mark.usefixtures("ray_cluster")
def test_nodes_that_are_alive() -> None:
    (node,) = nodes()
    assert (node["CPU"], node["GPU"]) == (2, 2)


@pytest.mark.usefixtures("ray_cluster")
def test_preflight_refuses_more_gpu_than_exists() -> None:
    with pytest.raises(PlacementError, match=r"runtime.gpus_per_client: 3: no node has room .* 2 CPU, 2 GPU"):
        preflight(clients=2, cpus=1, gpus=3, max_actors=None)


@pytest.fixture
def closed_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Where nobody listens, for a process that has not joined a Ray."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


def test_an_unreachable_cluster_is_reported(closed_port: int) -> None:
    """Ray itself would try for 20 s."""
    with pytest.raises(
        PlacementError, match=f"^address: '127.0.0.1:{closed_port}' cannot be reached .*; expected HOST"
    ):
        connect(f"127.0.0.1:{closed_port}")


def test_the_environment_names_the_cluster_where_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port}")
    with pytest.raises(PlacementError, match=f"^RAY_ADDRESS: '127.0.0.1:{closed_port}' cannot be reached"):
        connect(None)
    with pytest.raises(PlacementError, match=f"^address: 'localhost:{closed_port}' cannot be reached"):
        connect(f"localhost:{closed_port}")


@pytest.mark.usefixtures("closed_port")
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://127.0.0.1:10001", r"'ray://127.0.0.1:10001' is a URL; expected HOST:PORT or auto, from a shell of its"),
        (
            "127.0.0.1",
            r"'127.0.0.1' cannot be reached \(Invalid address format: 127.0.0.1\); expected HOST:PORT or auto",
        ),
    ],
)
def test_what_is_no_address_is_reported(address: str, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        connect(address)


INTERNAL = (
    "ray._private.utils",
    "ray._private.services",
    "ray._private.grpc_utils",
    "ray._private.state",
    "ray.autoscaler.v2.sdk",
)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray whose modules that are not public are elsewhere."""
    for name in INTERNAL:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr("ray._private.services")


@pytest.mark.usefixtures("moved", "closed_port")
def test_a_ray_that_moved_its_internals_says_itself_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = []
    monkeypatch.setattr(ray, "init", lambda **options: joined.append(options["address"]))
    connect("127.0.0.1:1")
    assert joined == ["127.0.0.1:1"]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (node,) = own_node(None)
    assert node["CPU"] == os.cpu_count()


@pytest.mark.usefixtures("ray_cluster", "moved")
def test_without_internals_the_nodes_that_are_alive_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "BOOTSTRAP", tmp_path / "bootstrap.yaml")
    (tmp_path / "bootstrap.yaml").write_text(yaml.safe_dump(CONFIG))
    (node,) = nodes()
    assert (node["CPU"], node["GPU"]) == (2, 2)
    assert free() == []


@pytest.mark.usefixtures("closed_port")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"RAY_AUTH_TOKEN"}),
        ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE"}),
        ({"RAY_AUTH_TOKEN_PATH": "/x"}, {"RAY_AUTH_TOKEN_PATH"}),
    ],
)
def test_a_ray_of_ones_own_gets_a_token_unless_the_user_has_chosen(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: set[str]
) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: None)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")} | given
    monkeypatch.setattr(os, "environ", environment)
    connect("local")
    assert {name for name in environment if name.startswith("RAY_AUTH_")} == expected
    assert len(environment.get("RAY_AUTH_TOKEN", "0" * 64)) == 64


@pytest.mark.parametrize("given", [{}, {"RAY_AUTH_TOKEN": "the user's"}])
def test_the_token_of_ones_own_ray_is_not_shown_to_another_cluster(
    monkeypatch: pytest.MonkeyPatch, closed_port: int, given: dict[str, str]
) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: None)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")} | given
    monkeypatch.setattr(os, "environ", environment)
    connect("local")
    environment |= {"RAY_AUTH_MODE": "token"}  # as ray.init does
    with pytest.raises(PlacementError, match="cannot be reached"):
        connect(f"127.0.0.1:{closed_port}")
    kept = {name: value for name, value in environment.items() if name.startswith("RAY_AUTH_")}
    assert kept == (given | {"RAY_AUTH_MODE": "token"} if given else {})
