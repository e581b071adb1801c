"""The Ray cluster that a run is on: joining it, its nodes, and what fits on them.

Ray's own modules that are not public are imported where they are used, and done without where they are not there.
"""

import logging
import os
import secrets
import socket
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import yaml

from mfed_ray.errors import PlacementError
from mfed_ray.runtime.placement import Node, Placement, place
from mfed_ray.storage import shown

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""Where ``ray up`` leaves the cluster's description on its head."""

MAY_START = "(may start)"
"""Ends the names of nodes that the autoscaler has yet to start."""

REFUSED = (
    "refuses this process's token; set RAY_AUTH_MODE=token and give the cluster's token in RAY_AUTH_TOKEN or in "
    "~/.ray/auth_token"
)
OWN_TOKEN = secrets.token_hex(32)
"""What a Ray that this process starts asks for."""
FROM_A_NODE = "from a shell of its head (ray attach) or as its job (ray job submit)"


def connect(address: str | None) -> None:
    """Join the Ray cluster at the address, else at RAY_ADDRESS; else start a Ray here that ends with this process.

    An address is HOST:PORT of a cluster that this machine is a node of, ``auto`` for the one that runs here, or
    ``local`` for a Ray of one's own. Raises PlacementError.
    """
    if ray.is_initialized():
        return
    asked = address or os.environ.get("RAY_ADDRESS") or "local"
    place = f"{'address' if address or asked == 'local' else 'RAY_ADDRESS'}: {shown(asked)!r}"
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if "://" in asked:
        raise PlacementError(f"{place} is a URL; expected HOST:PORT or auto, {FROM_A_NODE}")
    try:
        if asked == "local":
            _own_token()
            ray.init(address="local", include_dashboard=False, **quiet)
        else:
            _forget_own_token()
            _check_head(asked, place)
            ray.init(address=asked, **quiet)
    except (OSError, ValueError) as error:
        raise PlacementError(f"{place} cannot be reached ({error}); expected HOST:PORT or auto") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise PlacementError(f"{place} cannot be joined ({reason}); it needs the cluster's Ray and Python") from error


def _own_token() -> None:
    """A Ray that starts here listens on the network, and takes orders from whoever has its token.

    It gets a token of its own, in memory; Ray itself would leave one in the home folder that others may read. What the
    user's environment says of tokens stands.
    """
    if not any(name.startswith("RAY_AUTH_") for name in os.environ):
        os.environ["RAY_AUTH_TOKEN"] = OWN_TOKEN


def _forget_own_token() -> None:
    """A cluster that is joined has another token than a Ray that this process started before."""
    if os.environ.get("RAY_AUTH_TOKEN") != OWN_TOKEN:
        return
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):  # Ray itself set the mode, as it starts
        os.environ.pop(name, None)
    try:
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
    except ImportError:
        return  # this Ray keeps it elsewhere, if at all
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def own_node(address: str | None) -> list[Node]:
    """The node that ``connect`` would start here; none where it would join a cluster, or has."""
    if ray.is_initialized() or (address or os.environ.get("RAY_ADDRESS") or "local") != "local":
        return []
    import torch

    try:
        from ray._private.utils import get_num_cpus  # which knows a container's share
    except ImportError:
        get_num_cpus = os.cpu_count
    return [{"name": socket.gethostname(), "CPU": float(get_num_cpus() or 1), "GPU": float(torch.cuda.device_count())}]


def _check_head(asked: str, place: str) -> None:
    """Ask the head for its nodes: where it does not answer, Ray itself would try for 20 to 60 s, and print."""
    try:
        import grpc  # type: ignore[import-untyped]
        from ray._private import services
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
        from ray._private.grpc_utils import init_grpc_channel
        from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
        from ray.exceptions import AuthenticationError
    except ImportError:
        return  # this Ray has them elsewhere; it says itself what is wrong, later
    if asked == "auto":
        logging.getLogger("ray").setLevel(logging.ERROR)
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)  # as ray.init does, for auto alone
    request = gcs_service_pb2.GetAllNodeInfoRequest()
    try:
        with init_grpc_channel(services.canonicalize_bootstrap_address(asked)) as channel:
            reply = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel).GetAllNodeInfo(request, timeout=5)
    except AuthenticationError as error:
        raise PlacementError(f"{place} {REFUSED}") from error
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise PlacementError(f"{place} {REFUSED}") from error
        raise ConnectionError(error.details()) from error
    if {node.node_id.hex() for node in reply.node_info_list}.isdisjoint(services.find_node_ids()):
        raise PlacementError(f"{place} has no node on this machine; start the run {FROM_A_NODE}")


def nodes() -> list[Node]:
    """Name, CPU and GPU of every node that is alive, and of those that the autoscaler may still start."""
    alive = [_node(n["NodeManagerHostname"], n["Resources"]) for n in ray.nodes() if n["Alive"]]
    path = BOOTSTRAP.expanduser()
    if not path.is_file():
        return alive
    try:
        from ray.autoscaler.v2.sdk import get_cluster_status
    except ImportError:
        return alive
    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    running = Counter(node.ray_node_type_name for node in (*status.active_nodes, *status.idle_nodes))
    return alive + may_start(yaml.safe_load(path.read_text(encoding="utf-8")), running)


def free() -> list[Node]:
    """What of every node that is alive nobody uses, by Ray's last count; none where this Ray does not tell."""
    try:
        from ray._private.state import available_resources_per_node
    except ImportError:
        return []
    left = available_resources_per_node()
    return [_node(n["NodeManagerHostname"], left.get(n["NodeID"], {})) for n in ray.nodes() if n["Alive"]]


def may_start(config: Mapping[str, Any], running: Mapping[str, int]) -> list[Node]:
    """Nodes that the autoscaler may add to the ``running`` ones (how many of each type).

    Where ``max_workers`` of the cluster allows less than its types together, the autoscaler chooses; types with a GPU
    count first, small ones before large, so as not to promise what it may not start.
    """
    if not running.get(config["head_node_type"]):
        return []  # this is not the Ray that ``ray up`` started here
    left = config["max_workers"] + 1 - sum(running.values())
    types = [(_node(f"{name} {MAY_START}", kind["resources"]), name) for name, kind in _workers(config).items()]
    found: list[Node] = []
    for node, name in sorted(types, key=lambda kind: (not kind[0]["GPU"], kind[0]["GPU"], kind[0]["CPU"])):
        free = _workers(config)[name]["max_workers"] - running.get(name, 0)
        found += [node] * min(free, left - len(found))
    return found


def _workers(config: Mapping[str, Any]) -> dict[str, Any]:
    types: dict[str, Any] = config["available_node_types"]
    return {name: kind for name, kind in types.items() if name != config["head_node_type"]}


def _node(name: str, resources: Mapping[str, float]) -> Node:
    return {"name": name, "CPU": resources.get("CPU", 0.0), "GPU": resources.get("GPU", 0.0)}


def preflight(clients: int, cpus: float, gpus: float, max_actors: int | None) -> Placement:
    """Where the client actors would go on the running cluster; PlacementError where none would fit."""
    return place(nodes(), clients, cpus, gpus, max_actors)
