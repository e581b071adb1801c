"""Where a run's clients live: in this process, or in actors. A host is there before the clients are known."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from mfed_ray.errors import PlacementError
from mfed_ray.evaluation import Headline
from mfed_ray.experiment.schema import Experiment
from mfed_ray.federation.backend import Backend
from mfed_ray.messages import ClientSpec, Params
from mfed_ray.runtime.cluster import preflight
from mfed_ray.runtime.pool import ActorPool
from mfed_ray.runtime.ray_backend import RayBackend


@dataclass(frozen=True)
class Start:
    """What a run starts from that only a process with the models knows.

    ``initial``: parameters by task group. ``headlines``: what each task is judged by.
    """

    initial: Mapping[str, Params]
    headlines: Mapping[str, Headline]


class Host(Protocol):
    """The clients' processes, and what runs on them. They serve any number of runs."""

    def start(self, experiment: Experiment, clients: Sequence[ClientSpec]) -> Start:
        """What the run of these clients starts from."""
        ...

    def backend(self, experiment: Experiment, clients: Sequence[ClientSpec]) -> Backend:
        """The processes put to work for these clients."""
        ...


def start_of(experiment: Experiment, clients: Sequence[ClientSpec]) -> Start:
    """``Host.start``, in a process that builds models."""
    from mfed_ray.experiment.models import make_initial
    from mfed_ray.tasks import get_task

    tasks = sorted({task for client in clients for task in client.tasks})
    return Start(make_initial(experiment, clients), {task: get_task(task).headline for task in tasks})


@dataclass
class MakeTrainer:
    """A ``TrainerFactory`` that is made where it is used: so it can be sent by a process without torch."""

    experiment: Experiment
    _factory: Callable[[ClientSpec], Any] | None = None

    def __call__(self, client: ClientSpec) -> Any:
        """The client's trainer."""
        if self._factory is None:
            from mfed_ray.experiment.trainers import TrainerFactory

            self._factory = TrainerFactory(self.experiment)
        return self._factory(client)


class SerialHost:
    """Clients in this process."""

    def start(self, experiment: Experiment, clients: Sequence[ClientSpec]) -> Start:
        """Built here."""
        return start_of(experiment, clients)

    def backend(self, experiment: Experiment, clients: Sequence[ClientSpec]) -> Backend:
        """One worker for all. Raises PlacementError where this process has not the GPUs that clients are to use."""
        from mfed_ray.experiment.trainers import TrainerFactory
        from mfed_ray.runtime.serial import SerialBackend
        from mfed_ray.runtime.worker import Worker

        _check_devices(experiment)
        by_name, threads = {client.name: client for client in clients}, experiment.runtime.threads_per_client
        return SerialBackend(Worker(by_name, experiment.algorithm, TrainerFactory(experiment), threads))


@dataclass(frozen=True)
class RayHost:
    """Clients in a pool of actors. The process that drives them needs no models, and so no torch."""

    pool: ActorPool

    def start(self, experiment: Experiment, clients: Sequence[ClientSpec]) -> Start:
        """Built by the first actor, which needs its libraries anyway."""
        start: Start = self.pool.call(start_of, experiment, clients)
        return start

    def backend(self, experiment: Experiment, clients: Sequence[ClientSpec]) -> Backend:
        """The pool's actors put to work."""
        threads = experiment.runtime.threads_per_client
        alone = experiment.faults.round_deadline is not None
        return RayBackend(self.pool, clients, experiment.algorithm, MakeTrainer(experiment), threads, alone)


@contextmanager
def in_actors(experiment: Experiment) -> Iterator[RayHost]:
    """Actors of this run alone, on the cluster that this process has joined. Raises PlacementError."""
    r = experiment.runtime
    placement = preflight(experiment.client_count, r.cpus_per_client, r.gpus_per_client, r.max_actors)
    pool = ActorPool(placement, r.cpus_per_client, r.gpus_per_client, r.max_retries, r.start_timeout)
    try:
        yield RayHost(pool)
    finally:
        pool.close()


def _check_devices(experiment: Experiment) -> None:
    """What Ray's preflight is to actors."""
    r = experiment.runtime
    if not r.gpus_per_client and r.device != "cuda":
        return
    import torch

    found = torch.cuda.device_count()
    if r.gpus_per_client > found or (r.device == "cuda" and not found):
        raise PlacementError(
            f"runtime.gpus_per_client: {r.gpus_per_client:g}, runtime.device: {r.device}: "
            f"this process has {found} GPUs; ask for less"
        )
