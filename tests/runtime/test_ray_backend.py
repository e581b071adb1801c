"""Ray for real: placement on logical GPUs, a killed actor, failures, what is stored once."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import ray

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.errors import ClientError, ClientMemoryError, DataError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation.backend import Done, Job
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.runtime.cluster import preflight
from mfed_ray.runtime.placement import Placement
from mfed_ray.runtime.pool import ActorPool
from mfed_ray.runtime.ray_backend import SMALL, RayBackend

MakeExperiment = Callable[..., Experiment]
pytestmark = pytest.mark.usefixtures("ray_cluster")


class Faulty(Algorithm):
    """FedAvg whose client ``victim`` ends badly: once by killing its process, or always with an error."""

    victim: str
    marker: str
    how: str

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        return FedAvg().init(clients, initial)

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        return FedAvg().instruct(state, client, round_number)

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        if instruction.client == self.victim:
            if self.how == "data":
                raise DataError("image 7 is broken")
            if self.how == "bug":
                raise ZeroDivisionError("a bug")
            if self.how == "die always" or not Path(self.marker).exists():
                Path(self.marker).touch()
                os._exit(1)
        return FedAvg().fit(trainer, instruction, state)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        return FedAvg().aggregate(state, updates, probe)


@pytest.fixture(scope="module")
def pool(ray_cluster: None) -> Iterator[ActorPool]:
    """One actor, which Ray restarts as often as it dies."""
    del ray_cluster
    made = ActorPool(Placement({"here": 1}, clients=4), cpus=1, gpus=0, max_retries=3)
    yield made
    made.close()


def backend(experiment: Experiment, algorithm: Algorithm, pool: ActorPool) -> RayBackend:
    return RayBackend(pool, make_clients(experiment), algorithm, TrainerFactory(experiment), threads=1)


def last_server(experiment: Experiment, algorithm: Algorithm, pool: ActorPool) -> State:
    simulation = make_simulation(experiment, make_clients(experiment))
    steps = simulation.run(backend(experiment, algorithm, pool), None)
    *_, (_, last) = [step for step in steps if isinstance(step, tuple)]
    return last.server


def test_a_killed_actor_changes_no_bit(tiny: MakeExperiment, pool: ActorPool, tmp_path: Path) -> None:
    quiet = tiny(algorithm={"name": "fedavg"}, rounds=1)
    faulty = Faulty(victim="saliency-0", marker=str(tmp_path / "died"), how="die once")
    undisturbed, disturbed = (last_server(quiet, algorithm, pool) for algorithm in (FedAvg(), faulty))
    assert (tmp_path / "died").exists()
    for group, tree in undisturbed.params.items():
        assert all(np.array_equal(value, disturbed.params[group][name]) for name, value in tree.items())


def test_an_actor_serves_runs_in_turn(tiny: MakeExperiment, pool: ActorPool) -> None:
    """Each with its own clients, algorithm and settings, whichever run the actor served last."""
    experiments = [tiny(seed=seed, algorithm={"name": "fedavg"}) for seed in (0, 1)]
    backends = [backend(experiment, FedAvg(), pool) for experiment in experiments]
    servers = [make_simulation(experiment, make_clients(experiment)).start for experiment in experiments]

    def sent(run: int, round_number: int) -> Params:
        client = make_clients(experiments[run])[2]
        backends[run].submit([Job("fit", FedAvg().instruct(servers[run], client, round_number))])
        done = backends[run].completed()
        assert isinstance(done, Done)
        (update,) = done.updates
        return update.params

    first, other, again = sent(0, 1), sent(1, 1), sent(0, 1)
    assert all(np.array_equal(value, again[name]) for name, value in first.items())
    assert not any(np.array_equal(value, other[name]) for name, value in first.items() if name.endswith("conv1.weight"))


def test_clients_have_calls_of_their_own_where_one_must_not_make_others_late(
    tiny: MakeExperiment, pool: ActorPool
) -> None:
    clients = make_clients(tiny())
    server = make_simulation(tiny(algorithm={"name": "fedavg"}), clients).start
    jobs = [Job("evaluate", FedAvg().instruct(server, client, 1)) for client in clients]
    for alone in (False, True):
        made = RayBackend(pool, clients, FedAvg(), TrainerFactory(tiny()), threads=1, alone=alone)
        made.submit(jobs)
        sizes: list[int] = []
        while sum(sizes) < len(jobs):
            sizes.append(len(made.completed().jobs))
        assert (sizes == [1] * len(jobs)) == alone


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("data", DataError, "^image 7 is broken$"),
        ("bug", ClientError, r"client saliency-0 failed: ZeroDivisionError\('a bug'\)"),
    ],
)
def test_failures_name_the_client(
    tiny: MakeExperiment, pool: ActorPool, tmp_path: Path, how: str, error: type[Exception], message: str
) -> None:
    faulty = Faulty(victim="saliency-0", marker=str(tmp_path / "died"), how=how)
    with pytest.raises(error, match=message):
        last_server(tiny(rounds=1), faulty, pool)


def test_an_actor_that_dies_for_good_names_the_client(tiny: MakeExperiment, tmp_path: Path) -> None:
    """It alone: whoever shared its call is run apart from it, without a retry."""
    faulty = Faulty(victim="saliency-0", marker=str(tmp_path / "died"), how="die always")
    mortal = ActorPool(Placement({"here": 1}, clients=4), cpus=1, gpus=0, max_retries=0)
    with pytest.raises(ClientError, match=r"^client saliency-0: its actor died \(The actor died unexpectedly"):
        last_server(tiny(rounds=1), faulty, mortal)
    mortal.close()


def test_the_losses_of_jobs_that_are_given_up_are_forgotten(tiny: MakeExperiment, pool: ActorPool) -> None:
    """Else a client that is dropped while it is run again would have fewer retries in every round after."""
    made = backend(tiny(), FedAvg(), pool)
    job, other = (Job("fit", Instruction(name, 1)) for name in ("saliency-0", "surface_normals-0"))
    made._losses.update([job.turn, other.turn])
    made.abandon([job], again=True)
    assert made._losses == {job.turn: 1, other.turn: 1}
    made.abandon([job])
    assert made._losses == {other.turn: 1}


def test_actors_take_their_share_of_a_gpu_and_give_it_back(tiny: MakeExperiment) -> None:
    shared = ActorPool(preflight(2, cpus=1, gpus=0.25, max_actors=1), cpus=1, gpus=0.25, max_retries=0)
    made = backend(tiny(), FedAvg(), shared)
    clients = make_clients(tiny())
    state = make_simulation(tiny(algorithm={"name": "fedavg"}), clients).start
    made.submit([Job("evaluate", FedAvg().instruct(state, client, 1)) for client in clients[:2]])
    finished = [made.completed(), made.completed()]
    assert {job.client for done in finished for job in done.jobs} == {client.name for client in clients[:2]}
    assert ray.available_resources()["GPU"] == pytest.approx(1.75)
    shared.close()
    deadline = time.monotonic() + 30
    while ray.available_resources().get("GPU") != 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ray.available_resources()["GPU"] == 2


def test_a_tree_is_stored_once_for_all_clients_and_again_only_when_it_changed(
    tiny: MakeExperiment, pool: ActorPool
) -> None:
    made = backend(tiny(), FedAvg(), pool)
    size = SMALL // 4
    tree: Params = {"encoder.w": np.ones(size, np.float32)}
    other: Params = {"encoder.w": np.ones(size, np.float32)}
    made._store([tree, tree, other])
    first = [made._stored[id(tree)][1], made._stored[id(other)][1]]
    assert len(made._stored) == 2
    assert first[0] != first[1]
    made._store([tree])
    assert {key: reference for key, (_, reference) in made._stored.items()} == {id(tree): first[0]}
    small: Params = {"encoder.w": np.ones(size - 1, np.float32)}
    made._store([small])
    assert made._stored[id(small)][1] is small  # it travels within the call


def test_a_full_store_is_told_wherever_something_is_put(
    tiny: MakeExperiment, pool: ActorPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's setup, a round's trees, a checkpoint's states: a sweep may try again after each."""
    made, jobs = backend(tiny(), FedAvg(), pool), [Job("fit", Instruction("saliency-0", 1, load=(large(),)))]

    def full(_: object) -> None:
        raise ray.exceptions.ObjectStoreFullError("9 GB")

    monkeypatch.setattr(ray, "put", full)
    message = r"^Ray's object store and the disk that it spills to are full \(9 GB\); start Ray with a larger --obj"
    for put in (
        lambda: backend(tiny(), FedAvg(), pool),
        lambda: made.submit(jobs),
        lambda: made.restore({"saliency-0": State()}),
    ):
        with pytest.raises(ClientMemoryError, match=message):
            put()


def large() -> Params:
    return {"encoder.w": np.ones(SMALL // 4, np.float32)}
