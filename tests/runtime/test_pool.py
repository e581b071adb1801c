"""Actors that cannot be placed, hang or die as they start; and what the errors of Ray are called."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, ObjectLostError, ObjectStoreFullError, OutOfMemoryError, RayTaskError

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.errors import ClientError, ClientLostError, ClientMemoryError, DataError, MfedError, PlacementError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation.backend import Done, Job, Late
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.runtime.losses import may_pass, told
from mfed_ray.runtime.placement import Placement
from mfed_ray.runtime.pool import ActorPool
from mfed_ray.runtime.ray_backend import RayBackend

MakeExperiment = Callable[..., Experiment]


def pool_of(actors: int, max_retries: int = 0, start_timeout: float = 60.0) -> ActorPool:
    return ActorPool(Placement({"here": actors}, clients=4), 1, 0, max_retries, start_timeout)


@contextmanager
def another_job(cpus: int) -> Iterator[None]:
    """Somebody else holds so many CPUs."""

    @ray.remote(num_cpus=cpus)
    class Other:
        def there(self) -> None:
            pass

    other = Other.remote()  # type: ignore[attr-defined]
    ray.get(other.there.remote(), timeout=60)
    yield
    ray.kill(other)


class Hanging(Algorithm):
    """FedAvg whose client ``victim`` hangs in training, as long as the file ``marker`` is missing."""

    victim: str
    marker: str

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        return FedAvg().init(clients, initial)

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        return FedAvg().instruct(state, client, round_number)

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        if instruction.client == self.victim and not Path(self.marker).exists():
            Path(self.marker).touch()
            time.sleep(600)
        return FedAvg().fit(trainer, instruction, state)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        return FedAvg().aggregate(state, updates, probe)


def jobs_of(experiment: Experiment) -> list[Job]:
    clients = make_clients(experiment)
    start = make_simulation(experiment, clients).start
    return [Job("fit", FedAvg().instruct(start, client, 1), place=n) for n, client in enumerate(clients)]


def gathered(backend: RayBackend, clients: int) -> list[str]:
    """Who is done, in the order of names, once that are so many."""
    names: list[str] = []
    while len(names) < clients:
        result = backend.completed()
        assert isinstance(result, Done)
        names += [job.client for job in result.jobs]
    return sorted(names)


@pytest.mark.usefixtures("ray_cluster")
def test_no_free_cpu_ends_the_run_and_says_what_is_free() -> None:
    with another_job(cpus=2):
        pool = pool_of(2, start_timeout=1)
        message = (
            r"^no client actor could be placed within 1 s: 2 of 2 client actors wait for \(1 CPU, 0 GPU\) each; free: "
            r".*: 0 CPU, 2 GPU \(ray status tells who has the rest\)$"
        )
        with pytest.raises(PlacementError, match=message):
            pool.call(os.getpid)
        pool.close()


@pytest.mark.usefixtures("ray_cluster")
def test_actors_that_were_there_and_find_no_place_again_may_come_back() -> None:
    """As where all spot nodes of a cluster went: another time there may be some, so this is no wrong input."""
    pool = pool_of(1)
    pool.call(os.getpid)
    pool._start_timeout = 0.5
    ray.kill(pool.actors[0])
    with another_job(cpus=2):
        pool.replace(0)
        with pytest.raises(ClientLostError, match=r"^no client actor could be placed within 0.5 s: 1 of 1 client act"):
            pool.call(os.getpid)
        pool.close()


@pytest.mark.usefixtures("ray_cluster")
def test_clients_go_to_the_actors_that_answered(tiny: MakeExperiment) -> None:
    """One of two actors waits for a CPU that somebody else has; its clients are trained by the other one."""
    experiment = tiny()
    with another_job(cpus=1):
        pool = pool_of(2)
        backend = RayBackend(pool, make_clients(experiment), FedAvg(), TrainerFactory(experiment), threads=1)
        jobs = jobs_of(experiment)
        backend.submit(jobs)
        assert gathered(backend, 4) == sorted(job.client for job in jobs)
        assert len(pool.ready) == 1
        assert pool.missing().startswith("1 of 2 client actors wait for (1 CPU, 0 GPU) each; free: ")
        pool.close()


@pytest.mark.usefixtures("ray_cluster")
def test_a_client_that_hangs_is_ended(tiny: MakeExperiment, tmp_path: Path) -> None:
    """The others of its call come all the same; itself if it is to run again."""
    experiment, marker = tiny(), tmp_path / "hangs"
    algorithm = Hanging(victim="saliency-0", marker=str(marker))
    pool = pool_of(1)
    backend = RayBackend(pool, make_clients(experiment), algorithm, TrainerFactory(experiment), threads=1)
    jobs = jobs_of(experiment)
    (victim,) = (job for job in jobs if job.client == "saliency-0")
    for again in (True, False):
        marker.unlink(missing_ok=True)
        backend.submit(jobs)
        done: list[str] = []
        while not marker.exists():
            result = backend.completed(timeout=0.2)
            assert isinstance(result, Done | Late)
            done += [job.client for job in result.jobs] if isinstance(result, Done) else []
        backend.abandon([victim], again=again)
        expected = sorted(job.client for job in jobs if again or job is not victim)
        assert sorted(done + gathered(backend, len(expected) - len(done))) == expected
    pool.close()


class Deadly:
    """Ends the process that reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


@pytest.mark.usefixtures("ray_cluster")
def test_actors_that_die_as_they_start_end_the_run() -> None:
    pool = pool_of(1)
    pool._path = [Deadly()]  # type: ignore[list-item]
    pool.replace(0)
    with pytest.raises(ClientError, match=r"^client actors die as they start, 2 in a row: "):
        pool.call(os.getpid)
    pool.close()


def jobs_named(*names: str) -> list[Job]:
    return [Job("fit", Instruction(name, 1)) for name in names]


def raised(cause: Exception) -> RayTaskError:
    return RayTaskError("run", "traceback", cause)


@pytest.mark.parametrize(
    ("error", "passes", "kind", "message"),
    [
        (ActorDiedError(), True, ClientError, r"^clients a, b: their actor died \("),
        (
            OutOfMemoryError("9 GB"),
            True,
            ClientMemoryError,
            r"process was ended for want of memory \(9 GB\); a smaller",
        ),
        (
            raised(MemoryError("big")),
            True,
            ClientMemoryError,
            r"for want of memory \(big\); a smaller local.batch_size",
        ),
        (
            raised(ObjectStoreFullError("full")),
            True,
            ClientMemoryError,
            r"full\); start Ray with a larger --object-sto",
        ),
        (raised(ObjectLostError("ab" * 28, b"", "")), True, ClientError, r"were lost with a node \("),
        (raised(DataError("image 7")), False, DataError, r"^image 7$"),
        (raised(ValueError("odd")), False, ClientError, r"^clients a, b: their process failed: ValueError\('odd'\)$"),
    ],
)
def test_what_ray_says(error: Exception, passes: bool, kind: type[MfedError], message: str) -> None:
    assert may_pass(error) is passes
    with pytest.raises(kind, match=message):
        raise told(error, jobs_named("a", "b"))
