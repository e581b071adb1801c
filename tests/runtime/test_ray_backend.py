"""Ray for real: placement on logical GPUs, a killed actor, failures, what is stored once."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import ray

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.errors import ClientError, DataError, PlacementError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.build import TrainerFactory, make_clients, make_simulation
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.runtime.ray_backend import RayBackend, preflight
from mfed_ray.simulation import RoundReport
from mfed_ray.training import Trainer

MakeExperiment = Callable[..., Experiment]
pytestmark = pytest.mark.usefixtures("ray_cluster")


class Faulty(Algorithm):
    """FedAvg whose client ``victim`` ends badly: once by killing its process, or always with an error."""

    victim: str
    marker: str
    how: str

    def init(self, clients: Sequence[ClientSpec], initial: Params) -> State:
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


@contextmanager
def backend(experiment: Experiment, algorithm: Algorithm, retries: int = 1, gpus: float = 0.0) -> Iterator[RayBackend]:
    made = RayBackend(
        make_clients(experiment),
        algorithm,
        TrainerFactory(experiment),
        threads=1,
        cpus=1,
        gpus=gpus,
        max_actors=1,
        max_retries=retries,
    )
    yield made
    made.close()


def last_server(experiment: Experiment, algorithm: Algorithm, retries: int = 1) -> State:
    with backend(experiment, algorithm, retries) as made:
        simulation = make_simulation(experiment, make_clients(experiment))
        for event in simulation.run(made, None):
            if isinstance(event, tuple):
                report, checkpoint = event
                assert isinstance(report, RoundReport)
    return checkpoint.server


def test_a_killed_actor_changes_no_bit(tiny: MakeExperiment, tmp_path: Path) -> None:
    quiet = tiny(algorithm={"name": "fedavg"}, rounds=1)
    faulty = Faulty(victim="saliency-0", marker=str(tmp_path / "died"), how="die once")
    undisturbed, disturbed = (last_server(quiet, algorithm) for algorithm in (FedAvg(), faulty))
    assert (tmp_path / "died").exists()
    for group, tree in undisturbed.params.items():
        assert all(np.array_equal(value, disturbed.params[group][name]) for name, value in tree.items())


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("data", DataError, "^image 7 is broken$"),
        ("bug", ClientError, r"client saliency-0 failed: ZeroDivisionError\('a bug'\)"),
        ("die always", ClientError, "client saliency-0: its actor died and no retry helped"),
    ],
)
def test_failures_name_the_client(
    tiny: MakeExperiment, tmp_path: Path, how: str, error: type[Exception], message: str
) -> None:
    faulty = Faulty(victim="saliency-0", marker=str(tmp_path / "died"), how=how)
    with pytest.raises(error, match=message):
        last_server(tiny(rounds=1), faulty, retries=0)


def test_actors_take_their_share_of_a_gpu_and_give_it_back(tiny: MakeExperiment) -> None:
    with backend(tiny(), FedAvg(), gpus=0.25) as made:
        clients = make_clients(tiny())
        state = FedAvg().init(clients, make_simulation(tiny(), clients).initial)
        instructions = [FedAvg().instruct(state, client, 1) for client in clients[:2]]
        assert {report.client for report in made.evaluate(instructions)} == {client.name for client in clients[:2]}
        assert ray.available_resources()["GPU"] == pytest.approx(1.75)


def test_a_tree_is_stored_once_for_all_clients_and_again_only_when_it_changed(tiny: MakeExperiment) -> None:
    with backend(tiny(), FedAvg()) as made:
        tree: Params = {"encoder.w": np.ones(3, np.float32)}
        other: Params = {"encoder.w": np.ones(3, np.float32)}
        made._store([(tree,), (tree,), (other,)])
        first = made._references([tree, tree, other])
        assert (first[0] == first[1], first[0] == first[2]) == (True, False)
        made._store([(tree,)])
        assert made._references([tree]) == [first[0]]
        assert len(made._stored) == 1


def test_preflight_refuses_more_gpu_than_exists() -> None:
    with pytest.raises(PlacementError, match=r"runtime.gpus_per_client: 3: no node has room .* 2 CPU, 2 GPU"):
        preflight(clients=2, cpus=1, gpus=3, max_actors=None)
