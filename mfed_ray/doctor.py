"""What this machine or cluster offers, and where an experiment's clients would go."""

from collections.abc import Iterator
from importlib.metadata import version

import psutil
import torch

from mfed_ray.experiment import Experiment
from mfed_ray.runtime.cluster import MAY_START, connect, nodes, preflight
from mfed_ray.runtime.placement import describe


def report(experiment: Experiment | None, address: str | None) -> Iterator[str]:
    """Lines to read. Raises PlacementError where there is no such cluster, or its nodes fit no client.

    Without an experiment, ``address`` says which cluster to look at; an experiment names its own.
    """
    packages = ("mfed-ray", "ray", "torch", "torchvision", "numba", "pandas")
    yield "versions: " + ", ".join(f"{name} {version(name)}" for name in packages)
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    yield f"this machine: {psutil.cpu_count()} CPUs, {free:.1f} of {total:.1f} GiB free"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield f"GPUs that torch sees here: {', '.join(gpus) or 'none'}"
    if experiment is None or experiment.runtime.backend == "ray":
        connect(experiment.runtime.address if experiment else address)
        yield from (f"Ray node {node}" for node in describe(nodes()))
    if experiment is None:
        return
    clients = experiment.client_count
    runtime = experiment.runtime
    if runtime.backend == "serial":
        yield f"placement: {clients} clients one after the other in one process (runtime.backend: serial)"
    else:
        where = preflight(clients, runtime.cpus_per_client, runtime.gpus_per_client, runtime.max_actors)
        yield f"placement: {where}"
        if waiting := sum(count for node, count in where.actors_by_node.items() if node.endswith(MAY_START)):
            yield f"{waiting} client actors will wait for nodes that the autoscaler has yet to start"
