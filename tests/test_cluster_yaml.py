"""cluster.yaml: Ray's own offline validator takes it, and nothing in it opens the cluster to others."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from mfed_ray.runtime.cluster import may_start
from mfed_ray.runtime.placement import place

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
Tree = dict[str, Any]


@pytest.fixture
def tree() -> Tree:
    """As written, and as ``ray up`` completes it."""
    loaded: Tree = yaml.safe_load(TEXT)
    return loaded


@pytest.fixture
def prepared(tree: Tree) -> Tree:
    completed: Tree = prepare_config(copy.deepcopy(tree))
    return completed


def test_ray_takes_it_and_keeps_its_nodes(tree: Tree, prepared: Tree) -> None:
    validate_config(prepared)  # raises where it does not, as with the damaged copies below
    kept = {name: (kind["resources"], kind["max_workers"]) for name, kind in prepared["available_node_types"].items()}
    assert kept == {"head": ({"CPU": 0}, 0), "gpu_worker": ({"CPU": 8, "GPU": 1}, tree["max_workers"])}


def misspell(tree: Tree) -> None:
    tree["max_workrs"] = 4


def lose_the_head(tree: Tree) -> None:
    tree["head_node_type"] = "boss"


def want_too_many(tree: Tree) -> None:
    tree["available_node_types"]["gpu_worker"]["min_workers"] = 5


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (misspell, jsonschema.ValidationError, "'max_workrs' was unexpected"),
        (lose_the_head, ValueError, "`head_node_type` must be one of"),
        (want_too_many, ValueError, "`max_workers` is smaller"),
    ],
)
def test_ray_refuses_damaged_copies(
    tree: Tree, damage: Callable[[Tree], None], error: type[Exception], message: str
) -> None:
    damage(tree)
    with pytest.raises(error, match=message):
        validate_config(prepare_config(tree))


def test_every_machine_has_the_pinned_ray(prepared: Tree) -> None:
    pinned = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    docker = prepared["docker"]
    assert [docker["image"]] == [f"rayproject/ray:{version}-py311-gpu" for version in pinned]
    assert not {"head_image", "worker_image"} & docker.keys()


def test_the_head_runs_no_clients_and_workers_scale_from_none(prepared: Tree) -> None:
    head, worker = (prepared["available_node_types"][name] for name in (prepared["head_node_type"], "gpu_worker"))
    assert head["resources"] == {"CPU": 0}
    assert "--num-cpus=0" in prepared["head_start_ray_commands"][-1]
    assert (worker["min_workers"], worker["max_workers"], prepared["max_workers"]) == (0, 4, 4)
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert prepared["idle_timeout_minutes"] <= 15


def test_sixteen_quarters_of_a_gpu_fit(prepared: Tree) -> None:
    """4 workers of 1 GPU; 8 CPUs each are enough for 4 clients of 2."""
    offered = may_start(prepared, {prepared["head_node_type"]: 1})
    assert place(offered, clients=20, cpus=2, gpus=0.25).actors == 16


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_every_start_asks_for_the_token(prepared: Tree, kind: str) -> None:
    (start,) = [command for command in prepared[f"{kind}_start_ray_commands"] if "ray start" in command]
    assert "RAY_AUTH_MODE=token ray start" in start
    assert "-e RAY_AUTH_MODE=token" in prepared["docker"]["run_options"]
    assert ("/home/ray/.ray/auth_token", "~/.ray/auth_token") in prepared["file_mounts"].items()


def test_what_is_mounted_is_there_and_can_be_installed(prepared: Tree) -> None:
    mounted = [here for here in prepared["file_mounts"].values() if not here.startswith("~")]
    assert all((ROOT / here).exists() for here in mounted)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = {"pyproject.toml", "constraints.txt", "mfed_ray", *re.findall(r"README\.md|LICENSE", project)}
    assert needed == set(mounted)


def test_the_dashboard_listens_on_the_head_alone(prepared: Tree) -> None:
    assert "--dashboard-host=127.0.0.1" in prepared["head_start_ray_commands"][-1]
    assert not re.search(r"0\.0\.0\.0|::", TEXT)


def test_no_group_of_rays_making(prepared: Tree) -> None:
    """Ray's own lets SSH in from everywhere, whatever ``provider.security_group`` adds."""
    assert "security_group" not in prepared["provider"]
    for kind in prepared["available_node_types"].values():
        assert kind["node_config"]["SecurityGroupIds"] == ["sg-REPLACE"]


def test_no_account_and_no_secret() -> None:
    """Account numbers, access keys, secrets, tokens, and the ARNs and identifiers that would name an account."""
    assert not re.search(r"\d{12}|AKIA|ASIA|arn:aws|[0-9a-f]{32}|(sg|ami|subnet)-[0-9a-f]{8}", TEXT)
