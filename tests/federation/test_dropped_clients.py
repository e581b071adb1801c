"""A client whose training really fails, through the driver: on Ray, in this process, and resumed in between."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer
from mfed_ray.algorithms.fedper import FedPer
from mfed_ray.driver import run
from mfed_ray.errors import ClientError, DataError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.identity import identity
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation import checkpoint
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.federation.events import Failure, Progress
from mfed_ray.messages import ClientSpec, Instruction, State, Update
from mfed_ray.results.failures import absent
from mfed_ray.results.loading import load
from mfed_ray.runtime.serial import SerialBackend
from mfed_ray.runtime.worker import Worker
from tests.rounds import whole

MakeExperiment = Callable[..., Experiment]
VICTIM = "semantic_segmentation-1"
DROP = {"on_client_failure": "drop"}


class Broken(Algorithm):
    """FedPer whose client ``VICTIM`` fails in round 2, whenever it is tried."""

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, object]) -> State:
        return FedPer().init(clients, initial)  # type: ignore[arg-type]

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        return FedPer().instruct(state, client, round_number)

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        if (instruction.client, instruction.round) == (VICTIM, 2):
            raise DataError("image 7 is broken")
        return FedPer().fit(trainer, instruction, state)

    def weight(self, client: ClientSpec) -> float | None:
        return FedPer().weight(client)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        return FedPer().aggregate(state, updates, probe)


def broken(experiment: Experiment) -> Experiment:
    return experiment.model_copy(update={"algorithm": Broken()})


def last(folder: Path) -> Checkpoint:
    found = checkpoint.load_latest(folder / "checkpoints")
    assert found is not None
    return found


def assert_same(a: Checkpoint, b: Checkpoint) -> None:
    assert a.clients.keys() == b.clients.keys()
    for one, other in ((a.server, b.server), *((state, b.clients[name]) for name, state in a.clients.items())):
        assert one.params.keys() == other.params.keys()
        for tree, params in one.params.items():
            assert all(np.array_equal(value, other.params[tree][name]) for name, value in params.items())


def rows(folder: Path) -> list[tuple[int, str, str, str, str]]:
    failures = load(folder).failures[["round", "phase", "client", "error", "outcome"]]
    return list(failures.itertuples(index=False, name=None))


@pytest.mark.usefixtures("ray_cluster")
def test_ray_drops_as_one_process_does_and_goes_on_without_who_was_dropped(
    tiny: MakeExperiment, tmp_path: Path
) -> None:
    """All are the undisturbed run without the client, bit for bit. The one on Ray is stopped when the client fails."""
    experiment = broken(tiny(faults=DROP))
    on_ray = broken(tiny(faults=DROP, runtime={"backend": "ray", "max_actors": 2}))
    events = run(on_ray, tmp_path / "ray")
    assert any(isinstance(event, Failure) for event in events)
    events.close()  # type: ignore[attr-defined]
    assert last(tmp_path / "ray").round == 1
    patient = broken(tiny(runtime={"backend": "serial"}, faults={"on_client_failure": "retry"}))
    told = [event for folder, it in (("ray", patient), ("serial", experiment)) for event in run(it, tmp_path / folder)]
    assert [event.outcome for event in told if isinstance(event, Failure)] == ["dropped"]  # of the serial run
    for folder in ("ray", "serial"):
        assert rows(tmp_path / folder) == [(2, "fit", VICTIM, "image 7 is broken", "dropped")]
    assert_same(last(tmp_path / "ray"), last(tmp_path / "serial"))
    a, b = (load(tmp_path / folder).metrics for folder in ("ray", "serial"))
    pd.testing.assert_frame_equal(a, b, check_exact=True)

    clients = make_clients(tiny())
    simulation = make_simulation(tiny(algorithm={"name": "fedper"}), clients)
    worker = Worker({client.name: client for client in clients}, FedPer(), TrainerFactory(tiny()), threads=1)
    assert absent(tmp_path / "ray") == {("fit", 2): {VICTIM}}
    undisturbed = whole(simulation.run(SerialBackend(worker), None, absent={("fit", 2): {VICTIM}}))
    assert_same(last(tmp_path / "ray"), undisturbed[-1][1])


@pytest.mark.parametrize(
    ("faults", "error", "message"),
    [
        ({"on_client_failure": "retry"}, DataError, r"^image 7 is broken$"),
        (
            {"on_client_failure": "drop", "min_clients_per_task": 2},
            ClientError,
            r"^round 2: fit: clients left of semantic_segmentation: 1; allowed by faults\.min_clients",
        ),
    ],
)
def test_a_run_that_a_failure_ends_says_so_and_tries_the_client_again(
    tiny: MakeExperiment, tmp_path: Path, faults: dict[str, object], error: type[Exception], message: str
) -> None:
    for tries in (1, 2):
        with pytest.raises(error, match=message):
            list(run(broken(tiny(faults=faults)), tmp_path))
        assert [row[:3] + row[4:] for row in rows(tmp_path)] == [(2, "fit", VICTIM, "stopped")] * tries
    list(run(broken(tiny(faults=DROP)), tmp_path))
    assert last(tmp_path).round == 2
    assert rows(tmp_path)[-1] == (2, "fit", VICTIM, "image 7 is broken", "dropped")


def test_a_run_of_before_the_settings_goes_on_under_any_of_them(tiny: MakeExperiment, tmp_path: Path) -> None:
    events = run(tiny(), tmp_path)
    while not (isinstance(event := next(events), Progress) and event.round == 2):
        pass
    events.close()  # type: ignore[attr-defined]
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config.pop("faults") == {"on_client_failure": "retry", "round_deadline": None, "min_clients_per_task": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    experiment = tiny(faults={**DROP, "round_deadline": 60})
    assert identity(experiment) == identity(tiny())
    list(run(experiment, tmp_path))
    assert last(tmp_path).round == 2
    assert rows(tmp_path) == []
