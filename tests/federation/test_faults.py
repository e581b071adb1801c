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
from mfed_ray.algorithms.judging import Judging
from mfed_ray.algorithms.matfl import MaTFL
from mfed_ray.algorithms.mfed import MFed
from mfed_ray.errors import ClientError, ClientLostError, ClientMemoryError, DataError, MfedError
from mfed_ray.federation.backend import Done, Failed, Job, Kind, Late
from mfed_ray.federation.events import NOBODY, Absent, Evaluated, Failure, Progress, Step, Trained, Waiting
from mfed_ray.federation.faults import Clock, Faults, Outcome
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
    return [
        ClientSpec.of(name, (task,), name, ("i",) * (1 + n), kept_back=("k",))
        for n, (name, task) in enumerate(TASKS.items())
    ]


def make_trainer(client: ClientSpec) -> EvaluatedToy:
    """The more images, the further off is what the client predicts."""
    (task,) = client.tasks
    number = float(client.examples)
    batch = {task: (np.array([0.25, number / 4], np.float32), number)}
    return EvaluatedToy(initial(task), [batch], kept_back=[batch])


def federation(algorithm: Algorithm, **more: Any) -> Simulation:
    start = {task: initial(task) for task in sorted(set(TASKS.values()))}
    stages = frozenset[Any]({"after_aggregation"})
    return replace(Simulation(algorithm, specs(), start, no_probe, 3, stages, 1, None, seed=0), **more)


@dataclass
class Scripted:
    """The serial backend, whose ``completed`` first gives what ``script`` has for its call, from 1 on.

    It does so after ``pause`` seconds.
    """

    inner: SerialBackend
    broken: Broken = field(default_factory=dict)
    script: dict[int, Failed | Late] = field(default_factory=dict)
    hanging: set[str] = field(default_factory=set)
    pause: float = 0.0
    calls: int = 0
    tried: list[Job] = field(default_factory=list)
    abandoned: list[tuple[tuple[Kind, str], bool]] = field(default_factory=list)
    _hang: list[Job] = field(default_factory=list)

    def submit(self, jobs: Sequence[Job]) -> None:
        self.tried += jobs
        self.inner.submit([job for job in jobs if job.client not in self.hanging])
        self._hang += [job for job in jobs if job.client in self.hanging]

    def completed(self, timeout: float | None = None) -> Done | Failed | Late:
        self.calls += 1
        if self.calls in self.script:
            time.sleep(self.pause)
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
        self.inner.abandon(jobs, again)
        ended = [job for job in self._hang if job.turn in {job.turn for job in jobs}]
        self._hang = [job for job in self._hang if job.turn not in {job.turn for job in jobs}]
        if again:
            self.hanging.clear()
            self.inner.submit(ended)

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


ALGORITHMS = {
    "fedavg": FedAvg(),
    "fedper": FedPer(),
    "mfed": MFed(correlation="update_cosine"),
    "judged": MFed(correlation_threshold="judged", judging=Judging(until=2, rounds=1, steps=1)),
    "fedamp": FedAMP(),
    "fedhca2": FedHCA2(),
    "matfl": MaTFL(),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
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


def test_what_is_told_of_failures() -> None:
    dropping = federation(FedAvg(), faults=DROP)
    steps = run_all(dropping, backend(dropping, broken=BROKEN))
    assert failures(steps) == [
        Failure(1, "evaluate", ("s-0",), "s-0 is broken", "dropped"),
        Failure(2, "fit", ("d-1",), "d-1 is broken", "dropped"),
        Failure(3, "fit", ("d-0",), "d-0 is broken", "dropped"),
        Failure(3, "fit", ("s-1",), "s-1 is broken", "dropped"),
    ]
    trained = [step[0] for step in steps if isinstance(step, tuple)]
    assert [[report.client for report in one.reports] for one in trained] == [
        [],
        ["d-0", "d-1", "d-2", "s-0", "s-1"],
        ["d-0", "d-2", "s-0", "s-1"],
        ["d-1", "d-2", "s-0"],
    ]
    size = 2 * 2 * 4  # encoder and decoder of two float32
    assert [one.bytes_down for one in trained] == [0, 5 * size, 4 * size, 3 * size]
    assert [one.bytes_up for one in trained] == [0, 5 * size, 4 * size, 3 * size]
    evaluated = {
        step.round: [report.client for report in step.reports] for step in steps if isinstance(step, Evaluated)
    }
    assert evaluated == {0: list(TASKS), 1: ["d-0", "d-1", "d-2", "s-1"], 2: list(TASKS), 3: list(TASKS)}
    last = [step for step in steps if isinstance(step, Progress) and (step.phase, step.round) == ("fit", 2)][-1]
    assert (last.done, last.total) == (4, 4)


@pytest.mark.parametrize("setting", ["retry", "stop"])
def test_an_error_of_the_clients_own_code_ends_the_run_unless_it_is_dropped(setting: Any) -> None:
    stopping = federation(FedAvg(), faults=Faults(on_client_failure=setting), max_retries=3)
    made = backend(stopping, broken={("fit", 2): ["d-1"]})
    steps, error = followed(stopping, made)
    assert failures(steps) == [Failure(2, "fit", ("d-1",), "d-1 is broken", "stopped")]
    assert isinstance(error, DataError)
    assert str(error) == "d-1 is broken"
    assert sum(job.turn == ("fit", "d-1") for job in made.tried) == 2  # rounds 1 and 2, each once


@pytest.mark.parametrize(
    ("setting", "outcome"), [("retry", "retried"), ("drop", "retried"), ("stop", "stopped")]
)  # fmt: skip
def test_what_the_backend_runs_again_is_waited_for_unless_the_first_failure_ends_the_run(
    setting: Any, outcome: Outcome
) -> None:
    simulation = federation(FedAvg(), faults=Faults(on_client_failure=setting))
    job = Job("fit", simulation.algorithm.instruct(simulation.start, specs()[0], 1))
    lost = Failed((job,), ClientError("its process died"), again=True)
    steps, error = followed(simulation, backend(simulation, script={7: lost}))
    assert failures(steps) == [Failure(1, "fit", ("d-0",), "its process died", outcome)]
    if outcome == "stopped":
        assert str(error) == "its process died"
    else:
        assert told(steps) == told(run_all(federation(FedAvg()), backend(simulation)))


def test_a_failed_evaluation_counts_for_all_clients_that_are_told_by_it() -> None:
    """All of one task have one model here and the same held-out images: one is evaluated for them all."""
    alike = [replace(client, sources=tuple(replace(s, dataset="d") for s in client.sources)) for client in specs()]
    dropping = federation(FedAvg(), clients=alike, faults=DROP)
    steps = run_all(dropping, backend(dropping, broken={("evaluate", 2): ["s-0"]}))
    assert failures(steps) == [Failure(2, "evaluate", ("s-0", "s-1"), "s-0 is broken", "dropped")]
    evaluated = {step.round: [one.client for one in step.reports] for step in steps if isinstance(step, Evaluated)}
    assert evaluated == {0: list(TASKS), 1: list(TASKS), 2: ["d-0", "d-1", "d-2"], 3: list(TASKS)}


@pytest.mark.parametrize(("least", "is_ended"), [(1, False), (2, False), (3, True)])
def test_a_round_with_too_few_clients_of_a_task_ends_the_run(least: int, is_ended: bool) -> None:
    """Of three clients one is dropped; the task that loses nobody may have fewer than the least."""
    dropping = federation(FedAvg(), faults=DROP.model_copy(update={"min_clients_per_task": least}))
    steps, error = followed(dropping, backend(dropping, broken={("fit", 2): ["d-1"]}))
    (failure,) = failures(steps)
    if not is_ended:
        assert (error, failure.outcome) == (None, "dropped")
        return
    assert str(error) == failure.error == (
        "round 2: fit: clients left of depth: 2; allowed by faults.min_clients_per_task: 3 at least; "
        "the last failure: d-1 is broken"
    )  # fmt: skip
    assert failure.outcome == "stopped"


@pytest.mark.parametrize("kind", [ClientError, ClientLostError, ClientMemoryError])
def test_too_few_clients_may_pass_where_what_they_failed_with_may(kind: type[ClientError]) -> None:
    dropping = federation(FedAvg(), faults=DROP.model_copy(update={"min_clients_per_task": 3}))
    job = Job("fit", dropping.algorithm.instruct(dropping.start, specs()[0], 1))
    _, error = followed(dropping, backend(dropping, script={6: Failed((job,), kind("gone"))}))
    assert str(error).endswith("at least; the last failure: gone")
    assert error is not None
    assert error.may_pass == kind.may_pass


def test_who_is_late_is_dropped_at_once() -> None:
    faults = Faults(on_client_failure="drop", round_deadline=0.05)
    dropping = federation(FedAvg(), faults=faults, max_retries=5, rounds=1)
    made = backend(dropping, hanging={"s-1"})
    gone: Absent = {("fit", 1): {"s-1"}, ("evaluate", 0): {"s-1"}, ("evaluate", 1): {"s-1"}}
    steps = run_all(dropping, made)
    assert {(one.phase, one.round, one.clients, one.outcome) for one in failures(steps)} == {
        (phase, number, ("s-1",), "dropped") for phase, number in gone
    }
    assert failures(steps)[0].error == "s-1: not finished within faults.round_deadline, 0.05 s"
    assert {again for _, again in made.abandoned} == {False}
    expected = federation(FedAvg(), rounds=1)
    assert told(steps) == told(run_all(expected, backend(expected), gone))


def test_the_deadline_counts_from_when_a_process_has_taken_on_a_client() -> None:
    """Nobody has for the first three looks, each of which is at the deadline: so nobody is late."""
    faults = Faults(on_client_failure="drop", round_deadline=0.05)
    starting = federation(FedAvg(), faults=faults, rounds=1)
    made = backend(starting, script=dict.fromkeys((1, 2, 3), Late(())), pause=0.05)
    steps = run_all(starting, made)
    assert failures(steps) == []
    whole = federation(FedAvg(), rounds=1)
    assert told(steps) == told(run_all(whole, backend(whole)))


def test_who_is_late_is_run_again_as_often_as_there_are_retries() -> None:
    faults = Faults(round_deadline=0.05)
    retrying = federation(FedAvg(), faults=faults, max_retries=1, rounds=1)
    made = backend(retrying, hanging={"s-1"})
    steps = run_all(retrying, made)
    assert {(one.clients, one.outcome) for one in failures(steps)} == {(("s-1",), "retried")}
    assert {again for _, again in made.abandoned} == {True}
    whole = federation(FedAvg(), rounds=1)
    assert told(steps) == told(run_all(whole, backend(whole)))


@pytest.mark.parametrize("faults", [Faults(round_deadline=0.05), Faults(on_client_failure="stop", round_deadline=0.05)])
def test_who_is_late_ends_the_run_where_no_retry_is_left(faults: Faults) -> None:
    stopping = federation(FedAvg(), faults=faults)
    steps, error = followed(stopping, backend(stopping, hanging={"s-1"}))
    assert [failure.outcome for failure in failures(steps)] == ["stopped"]
    assert isinstance(error, ClientError)
    assert str(error) == "s-1: not finished within faults.round_deadline, 0.05 s"


def test_retries_and_deadlines_by_hand() -> None:
    retry, drop, stop = (Faults(on_client_failure=setting) for setting in ("retry", "drop", "stop"))
    assert [one.outcome(again=True) for one in (retry, drop, stop)] == ["retried", "retried", "stopped"]
    assert [one.outcome(again=False) for one in (retry, drop, stop)] == ["stopped", "dropped", "stopped"]
    assert [retry.outcome_of_late(attempts, max_retries=2) for attempts in (1, 2, 3)] == [
        "retried",
        "retried",
        "stopped",
    ]
    assert [one.outcome_of_late(1, max_retries=2) for one in (drop, stop)] == ["dropped", "stopped"]
    assert [Clock(limit).patience for limit in (None, 3600.0, 1e-9)] == [10.0, 10.0, 0.0]
    assert [Clock(limit).is_over for limit in (None, 3600.0)] == [False, False]


def test_silence_is_told() -> None:
    """Whom the run waits for; nobody where no process has taken on a job."""
    simulation = federation(FedAvg(), rounds=1)
    job = Job("fit", simulation.algorithm.instruct(simulation.start, specs()[0], 1))
    steps = run_all(simulation, backend(simulation, script={6: Late(()), 7: Late((job,))}))
    waits = [(one.round, one.phase, one.clients) for one in steps if isinstance(one, Waiting)]
    assert waits == [(1, "fit", ()), (1, "fit", ("d-0",))]
    assert all(0 <= one.seconds < 10 for one in steps if isinstance(one, Waiting))


def test_a_resumed_run_leaves_out_who_was_dropped() -> None:
    """From its checkpoint on, as the record says: also in the evaluation that was still to come."""
    broken: Broken = {("fit", 2): ["d-1"], ("evaluate", 1): ["s-0"], ("fit", 3): ["d-0"]}
    absent: Absent = {turn: frozenset(clients) for turn, clients in broken.items()}
    dropping = federation(FedPer(), faults=DROP)
    steps = run_all(dropping, backend(dropping, broken=broken))
    checkpoints = {step[0].round: step[1] for step in steps if isinstance(step, tuple)}
    for number in (1, 2):
        going_on = federation(FedPer())
        made = backend(going_on)
        again = list(going_on.run(made, checkpoints[number], absent=absent))
        rest = told(step for step in steps if not isinstance(step, tuple | Evaluated) or round_of(step) > number)
        evaluated = told(step for step in steps if isinstance(step, Evaluated) and step.round == number)
        assert sorted(map(repr, told(again))) == sorted(map(repr, [*rest, *evaluated]))


def round_of(step: Any) -> int:
    return int(step[0].round if isinstance(step, tuple) else step.round)
