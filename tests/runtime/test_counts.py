"""What a round costs beside training, counted: puts, calls, bytes. Seconds are measured in benchmarks/overhead.py."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import ray

from mfed_ray.algorithms.contract import Algorithm
from mfed_ray.algorithms.fedamp import FedAMP
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.algorithms.fedper import FedPer
from mfed_ray.federation.backend import Done, Late
from mfed_ray.federation.events import Trained
from mfed_ray.federation.simulation import Simulation
from mfed_ray.messages import ClientSpec, Params
from mfed_ray.params import nbytes
from mfed_ray.runtime.placement import Placement
from mfed_ray.runtime.pool import ActorPool
from mfed_ray.runtime.ray_backend import RayBackend
from tests.algorithms.toy import ToyTrainer
from tests.algorithms.toy_federation import no_probe

CLIENTS, ROUNDS, NUMBERS = 16, 3, 20_000
TASKS = ("depth", "saliency")


class EvaluatedToy(ToyTrainer):
    """A toy trainer that is evaluated by a constant."""

    def evaluate(self) -> dict[str, dict[str, float]]:
        return {"depth": {"rmse": 1.0}}

    def floors(self) -> dict[str, dict[str, float]]:
        return {"depth": {"rmse": 2.0}}


def initial(task: str) -> Params:
    return {"encoder.w": np.zeros(NUMBERS, np.float32), f"decoders.{task}.w": np.zeros(NUMBERS, np.float32)}


def make_trainer(client: ClientSpec) -> EvaluatedToy:
    (task,) = client.tasks
    x = np.full(NUMBERS, 0.01, np.float32)
    return EvaluatedToy(initial(task), [{task: (x, float(len(client.train_ids)))}])


def clients() -> list[ClientSpec]:
    return [ClientSpec.of(f"{TASKS[n % 2]}-{n:02d}", (TASKS[n % 2],), "d", ("i",) * (1 + n)) for n in range(CLIENTS)]


def federation_of(algorithm: Algorithm, rounds: int) -> Simulation:
    """Evaluated in round 0 alone."""
    start = {task: initial(task) for task in TASKS}
    return Simulation(algorithm, clients(), start, no_probe, rounds, frozenset(), rounds + 1, None, seed=0)


@dataclass
class Counts:
    """Of one round."""

    puts: int = 0
    calls: int = 0
    returned_bytes: int = 0


@pytest.fixture(scope="module")
def pool(ray_cluster: None) -> Iterator[ActorPool]:
    del ray_cluster
    made = ActorPool(Placement({"here": 2}, clients=CLIENTS), cpus=0.5, gpus=0, max_retries=0)
    yield made
    made.close()


def counted(
    algorithm: Algorithm, pool: ActorPool, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Counts], list[Trained]]:
    """Each round's counts, and what it told."""
    counts = [Counts()]
    put, call, completed = ray.put, RayBackend._called, RayBackend.completed

    def counting_put(value: Any) -> Any:
        counts[-1].puts += 1
        return put(value)

    def counting_call(self: RayBackend, *arguments: Any) -> Any:
        counts[-1].calls += 1
        return call(self, *arguments)

    def counting_completed(self: RayBackend, timeout: float | None = None) -> Any:
        done = completed(self, timeout)
        if not isinstance(done, Done):
            assert isinstance(done, Late)  # on a machine that is busy
            return done
        counts[-1].returned_bytes += sum(nbytes([update.params]) for update in done.updates)
        counts[-1].returned_bytes += sum(nbytes([node.params]) for nodes in done.means.values() for node in nodes)
        return done

    federation = Simulation(
        algorithm,
        clients(),
        {task: initial(task) for task in TASKS},
        no_probe,
        ROUNDS,
        frozenset(),
        ROUNDS + 1,
        None,
        0,
    )
    backend = RayBackend(pool, federation.clients, algorithm, make_trainer, threads=1)
    told: list[Trained] = []
    with monkeypatch.context() as patched:
        patched.setattr(ray, "put", counting_put)
        patched.setattr(RayBackend, "_called", counting_call)
        patched.setattr(RayBackend, "completed", counting_completed)
        for step in federation.run(backend, None):
            if isinstance(step, tuple):
                told.append(step[0])
                counts.append(Counts())
    return counts[2:-1], told[2:]


MODEL = 2 * NUMBERS * 4
"""Bytes of a client's encoder and decoder."""


def test_a_round_of_means(pool: ActorPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """FedAvg of two tasks: each group's encoder and decoder is put once; few calls; means come back, not models."""
    counts, told = counted(FedAvg(), pool, monkeypatch)
    assert len(counts) == ROUNDS - 1
    for one, trained in zip(counts, told, strict=True):
        assert one.puts == 4
        assert 2 <= one.calls <= CLIENTS // 2
        # a call has at most the means of two runs of neighbours: 2 log2(8) nodes, most far fewer
        assert one.returned_bytes < CLIENTS * MODEL
        assert (trained.bytes_up, trained.bytes_down) == (CLIENTS * MODEL, CLIENTS * MODEL)


def test_what_all_clients_load_is_put_once_for_all(pool: ActorPool, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, _ = counted(FedPer(), pool, monkeypatch)
    assert [one.puts for one in counts] == [1, 1]


def test_a_round_of_updates(pool: ActorPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """FedAMP needs every client's encoder, and gives every client its own anchor."""
    counts, _ = counted(FedAMP(), pool, monkeypatch)
    for one in counts:
        assert one.puts == CLIENTS
        assert one.calls <= CLIENTS // 2
        assert one.returned_bytes == CLIENTS * MODEL // 2


def everything(values: Sequence[Params]) -> bytes:
    return b"".join(value.tobytes() for tree in values for value in tree.values())


@pytest.mark.parametrize("actors", [1, 2, 4])
def test_bits_do_not_depend_on_the_number_of_actors(ray_cluster: None, actors: int) -> None:
    """Odd weights and fractions: another order of additions would show."""
    del ray_cluster
    made = ActorPool(Placement({"here": actors}, clients=CLIENTS), cpus=0.25, gpus=0, max_retries=0)
    federation = federation_of(FedAvg(), 2)
    backends = [RayBackend(made, federation.clients, FedAvg(), make_trainer, threads=1), serial(federation)]
    last = []
    for backend in backends:
        *_, (_, checkpoint) = [step for step in federation.run(backend, None) if isinstance(step, tuple)]
        last.append(everything(list(checkpoint.server.params.values())))
    made.close()
    assert last[0] == last[1]
    assert any(last[0])


def serial(federation: Simulation) -> Any:
    from mfed_ray.runtime.serial import SerialBackend
    from mfed_ray.runtime.worker import Worker

    by_name = {client.name: client for client in federation.clients}
    return SerialBackend(Worker(by_name, federation.algorithm, make_trainer, threads=1))
