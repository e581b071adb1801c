"""Where a run's simulation lives: in this process (serial), or in a driver actor on a Ray cluster."""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mfed_ray.environment import environment
from mfed_ray.errors import DriverError, MfedError, PlacementError, RunFolderError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation.backend import Backend
from mfed_ray.federation.simulation import Event
from mfed_ray.messages import ClientSpec
from mfed_ray.recording import is_finished, recorded
from mfed_ray.results.recorder import RunIdentity
from mfed_ray.results.run_folder import FREE_KEYS, RunFolder
from mfed_ray.runtime.cluster import connect, preflight
from mfed_ray.runtime.ray_backend import ActorPool, RayBackend, import_from
from mfed_ray.runtime.serial import SerialBackend
from mfed_ray.runtime.worker import Worker
from mfed_ray.storage import Mirror, is_remote
from mfed_ray.tasks import get_task

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
        if is_finished(folder, experiment.rounds, experiment.evaluation.stages):
            return
        torch.set_num_threads(experiment.runtime.threads_per_client)
        located = experiment.located(directory)
        clients = make_clients(located)
        simulation = make_simulation(located, clients)
        _ = simulation.start  # before anything is written: the algorithm may refuse these clients
        with make_backend(located, simulation.everybody) as backend, folder.locked(patience):
            headlines = {task: get_task(task).headline for client in clients for task in client.tasks}
            run, started = identity(experiment), environment(directory)
            yield from recorded(simulation, backend, folder, config, run, started, headlines, keep)


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


def identity(experiment: Experiment) -> RunIdentity:
    """The run's names in the tables.

    Its id is NAME-ALGORITHM-SETTING-HYPERPARAMETERS-seedSEED: a digest of all else that can change its results, which
    runs must share to be compared, and one of the algorithm's own values.
    """
    config = experiment.resolved()
    setting = {key: value for key, value in config.items() if key not in ("algorithm", "runtime", "seed")}
    setting["threads"] = experiment.runtime.threads_per_client
    name, algorithm, seed = experiment.name, experiment.algorithm_name, experiment.seed
    digest = _digest(setting)
    run_id = f"{name}-{algorithm}-{digest}-{_digest(config['algorithm'])}-seed{seed}"
    return RunIdentity(run_id, name, algorithm, seed, digest)


def _digest(tree: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(tree, sort_keys=True).encode(), digest_size=4).hexdigest()
