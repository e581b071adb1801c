"""What runs at a client, in whatever process: the algorithm's client half on a trainer."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from mfed_ray.algorithms.contract import Algorithm, Fit, Trainer
from mfed_ray.averages import PartialMean, add
from mfed_ray.errors import ClientError, ClientMemoryError, MfedError
from mfed_ray.federation.backend import Job
from mfed_ray.messages import ClientReport, ClientSpec, Params, State, Update
from mfed_ray.params import misfit, nbytes, not_finite
from mfed_ray.runtime.memory import keep_freed_memory, peak_memory

BYTES_OF_A_NUMBER = 8
"""Of each of ``Fit.values``, sent as float64."""


class EvaluatingTrainer(Trainer, Protocol):
    """A trainer whose model can be evaluated as well."""

    def evaluate(self) -> Mapping[str, Mapping[str, float]]:
        """Metrics by task over the client's held-out images."""
        ...

    def floors(self) -> Mapping[str, Mapping[str, float]]:
        """The same metrics of constant predictions."""
        ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of all that the model consists of, by name."""
        ...


TrainerFactory = Callable[[ClientSpec], EvaluatingTrainer]
"""Builds a client's trainer; picklable, and keeps models and datasets for the clients that follow."""


@dataclass
class Outcome:
    """What jobs came to. ``states``: of the clients that keep anything. ``errors``: by the place of the job."""

    reports: list[ClientReport] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    means: dict[str, list[PartialMean]] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    errors: dict[int, MfedError] = field(default_factory=dict)


class Worker:
    """Serves any number of clients, one at a time. Holds nothing of a client between calls."""

    def __init__(
        self, clients: Mapping[str, ClientSpec], algorithm: Algorithm, make_trainer: TrainerFactory, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        keep_freed_memory()
        self._clients = clients
        self._algorithm = algorithm
        self._make_trainer = make_trainer

    def run(self, jobs: Sequence[Job], states: Mapping[str, State]) -> Outcome:
        """Do the jobs in the order given; clients that are averaged stand in the order of their places.

        A client that fails leaves nothing but its error: the MfedError that it raised, or a ClientError. What goes
        wrong in the mean of several is raised, because the clients before are in it.
        """
        outcome = Outcome()
        for number, job in enumerate(jobs):
            state = states.get(job.client, State())
            try:
                report, fit = self._fit(job, state) if job.kind == "fit" else (self._evaluate(job, state), None)
            except MfedError as error:
                outcome.errors[number] = error
            except (MemoryError, torch.OutOfMemoryError) as error:
                outcome.errors[number] = ClientMemoryError(
                    f"client {job.client} ran out of memory: {error!r}; a smaller local.batch_size, or fewer clients "
                    "on a GPU (runtime.gpus_per_client), need less"
                )
            except Exception as error:
                outcome.errors[number] = ClientError(f"client {job.client} failed: {error!r}")
            else:
                outcome.reports.append(report)
                if fit is not None:
                    self._take(job, fit, outcome)
        return outcome

    def _take(self, job: Job, fit: Fit, outcome: Outcome) -> None:
        """Add to the outcome what a client sends and keeps."""
        client = self._clients[job.client]
        sent: Params = fit.params
        if job.weight is not None:
            leaf = PartialMean(job.place, 0, job.weight, fit.params)
            outcome.means[client.group] = add(outcome.means.get(client.group, []), leaf)
            sent = {}
        outcome.updates.append(Update(client.name, client.group, client.examples, sent, fit.values))
        if fit.state.params or fit.state.values:
            outcome.states[client.name] = fit.state

    def _fit(self, job: Job, state: State) -> tuple[ClientReport, Fit]:
        """Train a client: its report, and what it sends and keeps."""
        started = time.perf_counter()
        client = self._clients[job.client]
        trainer = self._make_trainer(client)
        for tree in job.instruction.trees:
            _freeze(tree)
        fit = self._algorithm.fit(trainer, job.instruction, state)
        _check(fit, trainer, f"client {client.name}, round {job.instruction.round} ({', '.join(client.tasks)})")
        held_out = trainer.evaluate() if job.evaluate else {}
        for tree in fit.state.params.values():
            _freeze(tree)
        seconds = time.perf_counter() - started
        up = nbytes([fit.params]) + BYTES_OF_A_NUMBER * len(fit.values)
        return ClientReport(client.name, fit.metrics, held_out, seconds, peak_memory(), up), fit

    def _evaluate(self, job: Job, state: State) -> ClientReport:
        """Evaluate a client's model as the round of the instruction would start with it."""
        started = time.perf_counter()
        trainer = self._make_trainer(self._clients[job.client])
        trainer.start(state, *job.instruction.load)
        held_out = trainer.evaluate()
        floors = trainer.floors() if job.floors else {}
        seconds = time.perf_counter() - started
        return ClientReport(
            job.client,
            held_out=held_out,
            seconds=seconds,
            peak_memory_bytes=peak_memory(),
            floors=floors,
        )


def _check(fit: Fit, trainer: EvaluatingTrainer, place: str) -> None:
    """Raises ClientError for parameters to send that are not the model's, and for any, sent or kept, not finite."""
    if told := misfit(fit.params, trainer.shapes):
        raise ClientError(f"{place}: {told}")
    arrays = {id(v): (n, v) for tree in (fit.params, *fit.state.params.values()) for n, v in tree.items()}
    for name, value in arrays.values():
        if told := not_finite({name: value}):
            raise ClientError(f"{place}: {told}; lower local.learning_rate or set local.gradient_clip")


def _freeze(tree: Params) -> None:
    """Let nobody write to a tree that goes on being needed, as nobody can write to what comes from Ray's store."""
    for value in tree.values():
        value.setflags(write=False)
