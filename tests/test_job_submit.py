"""A real head with token authentication, and an autoscaler that starts a worker with a GPU when an actor waits for one.

Ray's own provider for tests starts nodes as processes of this machine; all else is what runs in the cloud. Such nodes
share the folder that a job's files are unpacked into, and each unpacks them anew, so the job comes before the worker.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from mfed_ray.experiment.loading import merge
from mfed_ray.results.loading import load_results
from mfed_ray.runtime.cluster import REFUSED

HEAD_ID = f"{0:056x}"
MFED = [sys.executable, "-m", "mfed_ray"]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


@dataclass(frozen=True)
class Head:
    """Where it listens, and the environment of a shell on it."""

    address: str
    dashboard: str
    shell: dict[str, str]


def bootstrap_config(gcs_address: str) -> dict[str, Any]:
    """What ``ray up`` would leave on the head: one kind of worker, scaled from 0 to 1."""
    provider = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    lists = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    return {
        "cluster_name": "here",
        "max_workers": 1,
        "idle_timeout_minutes": 5,
        "provider": {
            "type": "external",
            "module": provider,
            "head_node_id": HEAD_ID,
            "gcs_address": gcs_address,
            "launch_multiple": True,
            "disable_node_updaters": True,
        },
        "auth": {},
        "docker": {},
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "gpu_worker": {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 1},
        },
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        **{key: [] for key in (*lists, "head_start_ray_commands", "worker_start_ray_commands")},
    }


def free_ports(count: int) -> list[int]:
    """Outside of what Ray's workers (to 19999) and the system (from 32768) take by themselves."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(20000, 32000)  # noqa: S311 - not for secrets
        with socket.socket() as probe:
            if port not in found and probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    home = Path(tempfile.mkdtemp(prefix="mfed-", dir="/tmp"))  # a socket's path has 107 characters at most
    port, dashboard, client, agent = free_ports(4)
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("the token of this head")
    config = home / "ray_bootstrap_config.yaml"
    config.write_text(yaml.safe_dump(bootstrap_config(f"127.0.0.1:{port}")))
    shell = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    shell |= {"HOME": str(home), "RAY_AUTH_MODE": "token", "OMP_NUM_THREADS": "1"}
    autoscaled = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_NODE_TYPE_NAME": "ray.head.default",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    options = {
        "node-ip-address": "127.0.0.1",
        "port": port,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "ray-client-server-port": client,
        "dashboard-agent-listen-port": agent,
        "num-cpus": 1,
        "temp-dir": home / "tmp",
        "autoscaling-config": config,
    }
    command = [*RAY, "start", "--head", "--block", "--disable-usage-stats"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, *(f"--{key}={value}" for key, value in options.items())],
            env=shell | autoscaled,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while "Ray runtime started" not in (home / "log").read_text():
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.1)
        yield Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", shell)
    finally:
        end(process)
        shutil.rmtree(home, ignore_errors=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """The head and all that it started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return


def call(command: list[str], shell: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=shell, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def config(tiny_tree: dict[str, Any], tmp_path: Path) -> Path:
    """Two clients of one task on one actor that asks for a share of a GPU, as in the cloud; for one round."""
    changes = {
        "rounds": 1,
        "algorithm": {"name": "fedavg"},
        "clients": [{"tasks": ["saliency"], "data": "scenes", "count": 2}],
        "runtime": {"backend": "ray", "gpus_per_client": 0.25, "device": "cpu", "max_actors": 1},
    }
    path = tmp_path / "work" / "tiny.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(merge(tiny_tree, changes)))
    return path


def test_the_doctor_counts_what_the_autoscaler_may_start(head: Head, config: Path) -> None:
    done = call([*MFED, "doctor", str(config), "--address", head.address], head.shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nRay node gpu_worker (may start): 1 CPU, 1 GPU\n" in done.stdout
    assert "\nplacement: 2 clients on 1 actors (1 on gpu_worker (may start))\n" in done.stdout
    assert done.stdout.endswith("1 client actors will wait for nodes that the autoscaler has yet to start\n")


def test_a_submitted_job_and_a_run_give_the_same_table(head: Head, config: Path, tmp_path: Path) -> None:
    """The job, on the head, finds the cluster by the RAY_ADDRESS that Ray gives it; the run waits for the worker."""
    entry = [*MFED, "run", config.name, "runtime.gpus_per_client=0", "--out", str(tmp_path / "job")]
    submit = [*RAY, "job", "submit", "--address", head.dashboard, "--working-dir", str(config.parent), "--", *entry]
    job = call(submit, head.shell)
    assert job.returncode == 0, job.stdout + job.stderr
    assert "round 1/1  saliency max_miou 0." in job.stdout
    run = call([*MFED, "run", str(config), "--address", head.address, "--out", str(tmp_path / "run")], head.shell)
    assert (run.returncode, run.stderr) == (0, "")
    tables = [load_results(tmp_path / name) for name in ("run", "job")]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    assert set(tables[0]["round"]) == {0, 1}


def test_a_wrong_token_is_one_sentence(head: Head, config: Path) -> None:
    done = call([*MFED, "doctor", str(config), "--address", head.address], head.shell | {"RAY_AUTH_TOKEN": "another"})
    assert (done.returncode, done.stderr) == (2, f"mfed: address: '{head.address}' {REFUSED}\n")


@pytest.mark.parametrize(
    ("change", "before", "message"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "", REFUSED),
        ({"HOME": "/"}, "", REFUSED),
        ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "", REFUSED),
        ({}, "import ray; ray.__version__ = '2.0.0'", "cannot be joined (Version mismatch: "),
        ({}, "import ray._private.services as s; s.find_node_ids = list", "has no node on this machine; start the run"),
    ],
    ids=["no mode", "no token", "no token file", "another Ray", "another machine"],
)
def test_who_cannot_join_is_told_why(head: Head, change: dict[str, str], before: str, message: str) -> None:
    """Ray alone would print for 20 s and more; the last two stand for machines that a test does not have."""
    code = f"{before}\nfrom mfed_ray.runtime.cluster import connect\nconnect({head.address!r})"
    done = call([sys.executable, "-c", code], head.shell | change)
    assert done.returncode == 1
    assert f"\nmfed_ray.errors.PlacementError: address: '{head.address}' {message}" in done.stderr
