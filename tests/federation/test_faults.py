"""What becomes of a round in which clients fail or are late: toy clients, by hand and against scripted absences."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from mfed_ray.algorithms.contract import Algorithm
from mfed_ray.algorithms.fedamp import FedAMP
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.algorithms.fedhca2 import FedHCA2
from mfed_ray.algorithms.fedper import FedPer
from mfed_ray.algorithms.matfl import MaTFL
from mfed_ray.algorithms.mfed import MFed
from mfed_ray.errors import DataError, MfedError
from mfed_ray.federation.backend import Done, Failed, Job, Kind, Late
from mfed_ray.federation.events import NOBODY, Absent, Evaluated, Failure, Step, Trained
from mfed_ray.federation.faults import Faults
from mfed_ray.federation.simulation import Simulation
from mfed_ray.messages import ClientSpec, Params, State
from mfed_ray.runtime.serial import SerialBackend
from mfed_ray.runtime.worker import Worker
from tests.algorithms.toy import ToyTrainer
from tests.algorithms.toy_federation import no_probe

TASKS = {"d-0": "depth", "d-1": "depth", "d-2": "depth", "s-0": "saliency", "s-1": "saliency"}
Broken = Mapping[tuple[Kind, int], Iterable[str]]
"""By phase and round, whose turn raises."""


class EvaluatedToy(ToyTrainer):
    """A toy trainer that is evaluated by its encoder's sum."""

    def evaluate(self) -> dict[str, dict[str, float]]:
        return {"depth": {"sum": float(self.w["encoder.w"].sum())}}

    def floors(self) -> dict[str, dict[str, float]]:
        return {"depth": {"sum": 0.0}}


def initial(task: str) -> Params:
    return {"encoder.w": np.zeros(2, np.float32), f"decoders.{task}.w": np.zeros(2, np.float32)}


def specs() -> list[ClientSpec]:
    """Of n images each, n from 1 on, and of data sets of their own: none is evaluated in another's place."""
    return [ClientSpec.of(name, (task,), name, ("i",) * (1 + n)) for n, (name, task) in enumerate(TASKS.items())]


def make_trainer(client: ClientSpec) -> EvaluatedToy:
    """The more images, the further off is what the client predicts."""
    (task,) = client.tasks
    number = float(client.examples)
    return EvaluatedToy(initial(task), [{task: (np.array([1, number], np.float32) / 4, number)}])


def federation(algorithm: Algorithm, **more: Any) -> Simulation:
    start = {task: initial(task) for task in sorted(set(TASKS.values()))}
    stages = frozenset[Any]({"after_aggregation"})
    return replace(Simulation(algorithm, specs(), start, no_probe, 3, stages, 1, None, seed=0), **more)


@dataclass
class Scripted:
    """The serial backend, whose ``completed`` first gives what ``script`` has for its call, from 1 on."""

    inner: SerialBackend
    broken: Broken = field(default_factory=dict)
    script: dict[int, Failed | Late] = field(default_factory=dict)
    hanging: set[str] = field(default_factory=set)
    calls: int = 0
    tried: list[Job] = field(default_factory=list)
    abandoned: list[tuple[tuple[Kind, str], bool]] = field(default_factory=list)

    def submit(self, jobs: Sequence[Job]) -> None:
        self.tried += jobs
        self.inner.submit([job for job in jobs if job.client not in self.hanging])
        self._hang = [job for job in jobs if job.client in self.hanging]

    def completed(self, timeout: float | None = None) -> Done | Failed | Late:
        self.calls += 1
        if self.calls in self.script:
            return self.script[self.calls]
        if not self.inner._waiting:
            assert timeout is not None
            time.sleep(timeout)
            return Late(tuple(self._hang))
        job = self.inner._waiting[0][0]
        number = job.instruction.round - (job.kind == "evaluate")
        if job.client in self.broken.get((job.kind, number), ()):
            self.inner._waiting.popleft()
            return Failed((job,), DataError(f"{job.client} is broken"))
        return self.inner.completed(timeout)

    def abandon(self, jobs: Sequence[Job], again: bool = False) -> None:
        self.abandoned += [(job.turn, again) for job in jobs]
        if again:
            self.hanging.clear()
            self.inner.submit(self._hang)
        else:
            self.inner.abandon(jobs)

    def accept(self, done: Done) -> None:
        self.inner.accept(done)

    def states(self) -> Mapping[str, State]:
        return self.inner.states()

    def restore(self, states: Mapping[str, State]) -> None:
        self.inner.restore(states)


def backend(simulation: Simulation, **more: Any) -> Scripted:
    clients = {client.name: client for client in simulation.everybody}
    return Scripted(SerialBackend(Worker(clients, simulation.algorithm, make_trainer, threads=1)), **more)


def followed(simulation: Simulation, made: Scripted, absent: Absent = NOBODY) -> tuple[list[Step], MfedError | None]:
    """All steps up to the end or an error."""
    steps: list[Step] = []
    try:
        steps.extend(simulation.run(made, None, absent=absent))
    except MfedError as error:
        return steps, error
    return steps, None


def run_all(simulation: Simulation, made: Scripted, absent: Absent = NOBODY) -> list[Step]:
    return list(simulation.run(made, None, absent=absent))


def failures(steps: Iterable[Step]) -> list[Failure]:
    return [step for step in steps if isinstance(step, Failure)]


def told(steps: Iterable[Step]) -> list[Any]:
    """All that does not depend on time: states, reports, bytes, in the order in which it came."""
    outcome: list[Any] = []
    for step in steps:
        if isinstance(step, tuple):
            trained, checkpoint = step
            everybody = {"server": checkpoint.server, **checkpoint.clients}
            values = {
                (who, tree, name): value.tobytes()
                for who, state in everybody.items()
                for tree, params in state.params.items()
                for name, value in params.items()
            }
            outcome.append((values, [state.values for state in everybody.values()], trained.diagnostics))
            outcome.append((trained.round, reports(trained), trained.bytes_up, trained.bytes_down))
        elif isinstance(step, Evaluated):
            outcome.append((step.round, reports(step)))
    return outcome


def reports(event: Trained | Evaluated) -> list[Any]:
    return [(one.client, one.training, one.held_out, one.floors, one.bytes_up) for one in event.reports]


DROP = Faults(on_client_failure="drop")
BROKEN: Broken = {("fit", 2): ["d-1"], ("evaluate", 1): ["s-0"], ("fit", 3): ["d-0", "s-1"]}


@pytest.mark.parametrize(
    "algorithm",
    [FedAvg(), FedPer(), MFed(correlation="update_cosine"), FedAMP(), FedHCA2(), MaTFL()],
    ids=lambda algorithm: type(algorithm).__name__,
)
def test_a_run_that_drops_clients_is_the_undisturbed_run_without_them(algorithm: Algorithm) -> None:
    """Bit for bit: what fails leaves no trace, neither in a mean nor in what a client keeps."""
    dropping = federation(algorithm, faults=DROP)
    steps = run_all(dropping, backend(dropping, broken=BROKEN))
    undisturbed = federation(algorithm)
    absent = {turn: frozenset(clients) for turn, clients in BROKEN.items()}
    made = backend(undisturbed)
    expected = run_all(undisturbed, made, absent)
    assert told(steps) == told(expected)
    assert failures(expected) == []
    assert {(job.kind, job.instruction.round, job.client) for job in made.tried} & {
        ("fit", 2, "d-1"), ("evaluate", 2, "s-0"), ("fit", 3, "d-0"), ("fit", 3, "s-1")
    } == set()  # fmt: skip
    whole = federation(algorithm)
    assert told(run_all(whole, backend(whole))) != told(expected)
