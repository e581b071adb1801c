"""Where a run's simulation lives: in this process (serial), or in a driver actor on a Ray cluster."""

import hashlib
import json
import logging
import platform
import socket
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mfed_ray import checkpoint
from mfed_ray.errors import MfedError, PlacementError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.build import TrainerFactory, make_clients, make_simulation
from mfed_ray.messages import ClientSpec
from mfed_ray.results.recorder import Recorder, RunIdentity
from mfed_ray.results.run_folder import ENVIRONMENT, PARTITION, RunFolder
from mfed_ray.runtime.contract import Backend
from mfed_ray.runtime.ray_backend import RayBackend
from mfed_ray.runtime.serial import SerialBackend
from mfed_ray.runtime.worker import Worker
from mfed_ray.simulation import Progress, RoundReport

Event = Progress | RoundReport
MakeBackend = Callable[[Experiment, list[ClientSpec]], Backend]

FREE_KEYS = frozenset(
    f"runtime.{key}"
    for key in ("backend", "address", "cpus_per_client", "gpus_per_client", "max_actors", "max_retries")
)
"""Keys that change where a run runs, never what comes out: they may differ when it is resumed."""


def run(experiment: Experiment, folder: Path) -> Iterator[Event]:
    """Run the experiment in its folder, or go on from its last finished round; yields events as it goes.

    Raises InputError before anything is written if the input or the folder is wrong.
    """
    if experiment.runtime.backend == "serial":
        yield from _simulate(experiment, folder, _serial)
        return
    connect(experiment.runtime.address)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    driver = ray.remote(Driver).options(num_cpus=0, scheduling_strategy=here).remote()
    try:
        for reference in driver.run.options(num_returns="streaming").remote(experiment, folder.resolve()):
            yield ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, MfedError) else error) from None
    finally:
        ray.kill(driver)


def connect(address: str | None) -> None:
    """Join the Ray that is running already, or start one on this machine that ends with this process."""
    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address=address or "local", **({} if address else {"include_dashboard": False}), **quiet)
    except (ConnectionError, ValueError) as error:
        raise PlacementError(f"runtime.address: {address!r} cannot be reached ({error})") from error


class Driver:
    """The driver actor: owns the server's state, averages and fuses, and writes the run's folder."""

    def run(self, experiment: Experiment, folder: Path) -> Iterator[Event]:
        """``driver.run`` on the cluster that this actor lives in."""
        yield from _simulate(experiment, folder, _on_ray)


def _serial(experiment: Experiment, clients: list[ClientSpec]) -> Backend:
    by_name = {client.name: client for client in clients}
    factory, threads = TrainerFactory(experiment), experiment.runtime.threads_per_client
    return SerialBackend(Worker(by_name, experiment.algorithm, factory, threads))


def _on_ray(experiment: Experiment, clients: list[ClientSpec]) -> Backend:
    r = experiment.runtime
    return RayBackend(
        clients,
        experiment.algorithm,
        TrainerFactory(experiment),
        threads=r.threads_per_client,
        cpus=r.cpus_per_client,
        gpus=r.gpus_per_client,
        max_actors=r.max_actors,
        max_retries=r.max_retries,
    )


def _simulate(experiment: Experiment, path: Path, make_backend: MakeBackend) -> Iterator[Event]:
    folder, config = RunFolder(path), experiment.resolved()
    folder.check(config, FREE_KEYS)
    latest = checkpoint.load_latest(folder.checkpoints)
    if latest and latest.round == experiment.rounds:
        return
    torch.set_num_threads(experiment.runtime.threads_per_client)
    clients = make_clients(experiment)
    simulation = make_simulation(experiment, clients)
    backend = make_backend(experiment, clients)
    try:
        folder.write_config(config)
        folder.write_json(PARTITION, {client.name: list(client.train_ids) for client in clients})
        folder.append_json(ENVIRONMENT, environment())
        recorder = Recorder(folder, identity(experiment), clients)
        if latest:
            recorder.resume(latest.round)
        for event in simulation.run(backend, latest):
            if isinstance(event, Progress):
                yield event
            else:
                report, state = event
                recorder.record(report)
                checkpoint.save(folder.checkpoints, state)  # after the tables: it says that the round is whole
                yield report
    finally:
        backend.close()


def identity(experiment: Experiment) -> RunIdentity:
    """The run's names in the tables. Its id is a function of all that can change its results, the seed last."""
    config = {key: value for key, value in experiment.resolved().items() if key not in ("runtime", "seed")}
    config["threads"] = experiment.runtime.threads_per_client
    digest = hashlib.blake2b(json.dumps(config, sort_keys=True).encode(), digest_size=4).hexdigest()
    name, algorithm, seed = experiment.name, experiment.algorithm_name, experiment.seed
    return RunIdentity(f"{name}-{algorithm}-{digest}-seed{seed}", name, algorithm, seed)


def environment() -> dict[str, Any]:
    """Versions and hardware of this process."""
    packages = ("mfed-ray", "ray", "torch", "torchvision", "numpy", "pandas")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "commit": _commit(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpus": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _commit() -> str | None:
    """The checkout's commit; None where the package was not installed from one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
