"""Where a run's simulation lives: in this process (serial), or in a driver actor on a Ray cluster."""

import hashlib
import json
import platform
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mfed_ray.errors import DriverError, MfedError, PlacementError, RunFolderError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation import checkpoint
from mfed_ray.federation.backend import Backend
from mfed_ray.federation.simulation import Progress, RoundReport, Simulation
from mfed_ray.messages import ClientSpec
from mfed_ray.results.recorder import Recorder, RunIdentity
from mfed_ray.results.run_folder import ENVIRONMENT, FREE_KEYS, PARTITION, RunFolder
from mfed_ray.runtime.cluster import connect, preflight
from mfed_ray.runtime.ray_backend import ActorPool, RayBackend, import_from
from mfed_ray.runtime.serial import SerialBackend
from mfed_ray.runtime.worker import Worker
from mfed_ray.storage import Mirror, is_remote

Event = Progress | RoundReport
MakeBackend = Callable[[Experiment, list[ClientSpec]], AbstractContextManager[Backend]]
Place = str | Path
"""Where a run's folder is: a path, or a URI as ``mfed_ray.storage`` knows them."""


def run(experiment: Experiment, folder: Place) -> Iterator[Event]:
    """Run the experiment in its folder, or go on from its last finished round; yields events as it goes.

    Raises InputError before anything is written if the input or the folder is wrong.
    """
    directory = Path.cwd()
    if experiment.runtime.backend == "serial":
        yield from simulate(experiment, folder, serial, directory)
        return
    connect(experiment.runtime.address)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    driver = ray.remote(Driver).options(num_cpus=0, scheduling_strategy=here).remote(sys.path)
    try:
        driving = driver.run.options(num_returns="streaming")
        place = folder if is_remote(folder) else Path(folder).resolve()
        for reference in driving.remote(experiment, place, directory):
            yield ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, MfedError) else error) from None
    except ray.exceptions.RayError as error:
        raise DriverError(f"the driver actor died ({error}); the same command goes on from the last round") from error
    finally:
        ray.kill(driver)


class Driver:
    """The driver actor: owns the server's state, averages and fuses, and writes the run's folder."""

    def __init__(self, path: Sequence[str]) -> None:
        import_from(path)

    def run(self, experiment: Experiment, folder: Place, directory: Path) -> Iterator[Event]:
        """``driver.run``, called in ``directory``, on the cluster that this actor lives in."""
        yield from simulate(experiment, folder, _on_ray, directory)


def _check_devices(experiment: Experiment) -> None:
    """What Ray's preflight is to actors: this process must have the GPUs that its clients are to use."""
    r, found = experiment.runtime, torch.cuda.device_count()
    if r.gpus_per_client > found or (r.device == "cuda" and not found):
        raise PlacementError(
            f"runtime.gpus_per_client: {r.gpus_per_client:g}, runtime.device: {r.device}: "
            f"this process has {found} GPUs; ask for less"
        )


@contextmanager
def serial(experiment: Experiment, clients: list[ClientSpec]) -> Iterator[Backend]:
    """Clients in this process. Raises PlacementError where it has not the GPUs that they are to use."""
    _check_devices(experiment)
    by_name = {client.name: client for client in clients}
    factory, threads = TrainerFactory(experiment), experiment.runtime.threads_per_client
    yield SerialBackend(Worker(by_name, experiment.algorithm, factory, threads))


@contextmanager
def _on_ray(experiment: Experiment, clients: list[ClientSpec]) -> Iterator[Backend]:
    r = experiment.runtime
    pool = ActorPool(
        preflight(len(clients), r.cpus_per_client, r.gpus_per_client, r.max_actors),
        r.cpus_per_client,
        r.gpus_per_client,
        r.max_retries,
    )
    try:
        yield serving(pool, experiment, clients)
    finally:
        pool.close()


def serving(pool: ActorPool, experiment: Experiment, clients: list[ClientSpec]) -> RayBackend:
    """The pool's actors put to work for an experiment."""
    return RayBackend(
        pool, clients, experiment.algorithm, TrainerFactory(experiment), experiment.runtime.threads_per_client
    )


def simulate(
    experiment: Experiment, place: Place, make_backend: MakeBackend, directory: Path, patience: float = 20.0
) -> Generator[Event, None, None]:
    """Run the rounds that are left. Relative paths of the experiment start from ``directory``.

    A folder that another run holds is waited for, ``patience`` seconds.
    """
    with _workplace(place) as (path, keep):
        folder, config = RunFolder(path), experiment.resolved()
        folder.check(config, FREE_KEYS)
        if checkpoint.latest_round(folder.checkpoints) == experiment.rounds:
            return
        torch.set_num_threads(experiment.runtime.threads_per_client)
        located = experiment.located(directory)
        clients = make_clients(located)
        simulation = make_simulation(located, clients)
        _ = simulation.start  # before anything is written: the algorithm may refuse these clients
        with make_backend(located, simulation.everybody) as backend, folder.locked(patience):
            started = environment(directory)
            for event in _recorded(simulation, backend, folder, config, identity(experiment), started):
                if isinstance(event, RoundReport):
                    keep()
                yield event


@contextmanager
def _workplace(place: Place) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A run's folder on this machine, and what brings it to where it belongs: for a path, that is done already."""
    if not is_remote(place):
        yield Path(place), lambda: None
        return
    mirror = Mirror(str(place))
    with tempfile.TemporaryDirectory(prefix="mfed_ray_") as scratch:
        folder = Path(scratch)
        mirror.pull(folder)
        try:
            yield folder, lambda: mirror.push(folder)
        except RunFolderError as error:
            raise RunFolderError(str(error).replace(scratch, str(place))) from error


def _recorded(
    simulation: Simulation,
    backend: Backend,
    folder: RunFolder,
    config: Mapping[str, Any],
    run: RunIdentity,
    started: Mapping[str, Any],
) -> Iterator[Event]:
    """Run the rounds that are left, and write each to the folder before its report goes out."""
    shards = {client.name: list(client.train_ids) for client in simulation.clients}
    latest = checkpoint.load_latest(folder.checkpoints)
    if latest and folder.read_json(PARTITION) != shards:
        raise RunFolderError(f"{folder.path}: the data's images or their order changed since this run began; use --out")
    if not latest:
        folder.write_config(config)
        folder.write_json(PARTITION, shards)
    folder.append_json(ENVIRONMENT, started)
    recorder = Recorder(folder, run, simulation.everybody, config)
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


def identity(experiment: Experiment) -> RunIdentity:
    """The run's names in the tables.

    Its id is NAME-ALGORITHM-SETTING-HYPERPARAMETERS-seedSEED: a digest of all else that can change its results, which
    runs must share to be compared, and one of the algorithm's own values.
    """
    config = experiment.resolved()
    setting = {key: value for key, value in config.items() if key not in ("algorithm", "runtime", "seed")}
    setting["threads"] = experiment.runtime.threads_per_client
    name, algorithm, seed = experiment.name, experiment.algorithm_name, experiment.seed
    run_id = f"{name}-{algorithm}-{_digest(setting)}-{_digest(config['algorithm'])}-seed{seed}"
    return RunIdentity(run_id, name, algorithm, seed)


def _digest(tree: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(tree, sort_keys=True).encode(), digest_size=4).hexdigest()


def environment(directory: Path) -> dict[str, Any]:
    """Versions and hardware of this process, and the ``directory`` that the run's relative paths start from."""
    packages = ("mfed-ray", "ray", "torch", "torchvision", "numpy", "pandas")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "commit": _commit(),
        "directory": str(directory),
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
