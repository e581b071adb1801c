"""The round loop: instruct, fit, aggregate, evaluate, report."""

import time
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Probe, by_group
from mfed_ray.algorithms.fusion import in_common
from mfed_ray.averages import PartialMean, mean
from mfed_ray.errors import ConfigError
from mfed_ray.evaluation import AFTER_AGGREGATION, BEFORE_AGGREGATION, Stage
from mfed_ray.federation.backend import Backend, Done, Failed, Job, Kind
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.federation.finite import check_finite
from mfed_ray.federation.participation import Policy, all_must_return
from mfed_ray.messages import ClientReport, ClientSpec, Params, State, Update
from mfed_ray.params import nbytes
from mfed_ray.seeds import derive, generator


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` clients have finished a phase of a round."""

    round: int
    phase: Kind
    done: int
    total: int


@dataclass(frozen=True)
class Trained:
    """A round's clients have trained and the server has aggregated. Reports are in the order of the clients.

    Of round 0, the initial models, there are no reports.
    """

    round: int
    reports: Sequence[ClientReport]
    diagnostics: Diagnostics
    seconds: Mapping[str, float]
    bytes_up: int
    bytes_down: int
    is_evaluated: bool
    """Whether ``Evaluated`` follows."""
    notes: Sequence[str] = ()
    """What a reader should know of the initial models, told with round 0."""


@dataclass(frozen=True)
class Evaluated:
    """The clients were evaluated after a round's aggregation. Reports are in the order of the clients."""

    round: int
    reports: Sequence[ClientReport]
    seconds: float


Event = Progress | Trained | Evaluated
"""What is told of a run."""

Step = Progress | tuple[Trained, Checkpoint] | Evaluated
"""What the loop yields: with each trained round all that the next one starts from."""


def ends_round(event: Event) -> bool:
    """Whether all that is measured of a round is known with the event."""
    return isinstance(event, Evaluated) or (isinstance(event, Trained) and not event.is_evaluated)


@dataclass(frozen=True)
class Simulation:
    """A federation: who takes part, how they learn, for how long, and when they are evaluated."""

    algorithm: Algorithm
    clients: Sequence[ClientSpec]
    initial: Mapping[str, Params]
    probe: Probe
    rounds: int
    stages: frozenset[Stage]
    evaluate_every: int
    clients_per_round: int | None
    seed: int
    policy: Policy = all_must_return

    @cached_property
    def trainees(self) -> Sequence[ClientSpec]:
        """Who trains: the clients, or who does it in their place."""
        return self.algorithm.trainees(self.clients)

    @cached_property
    def start(self) -> State:
        """The server's state before the first round. Raises ConfigError where the clients cannot be served."""
        return self.algorithm.init(sorted(self.clients, key=_name), self.initial)

    @property
    def everybody(self) -> list[ClientSpec]:
        """Whoever trains or is evaluated, each once."""
        return list({client.name: client for client in (*self.clients, *self.trainees)}.values())

    def cohort(self, number: int) -> list[ClientSpec]:
        """Who trains in a round: all, or ``clients_per_round`` drawn without replacement from (seed, round)."""
        size = self.clients_per_round
        if size is None or size >= len(self.trainees):
            return list(self.trainees)
        names = sorted(client.name for client in self.trainees)
        chosen = set(generator(self.seed, "cohort", number).choice(names, size, replace=False).tolist())
        return [client for client in self.trainees if client.name in chosen]

    def run(self, backend: Backend, resume: Checkpoint | None, evaluated: bool = False) -> Generator[Step, None, None]:
        """Train the rounds that are left; yields what happens as it happens.

        While the clients of a round train, those that are free are evaluated as the last round left them. That is told
        before the round is. ``resume``: the checkpoint to go on from, and whether its round is ``evaluated`` already.
        Round 0 is the initial models.
        """
        if resume is None:
            server = self.start
            begun = Trained(0, [], Diagnostics(), {}, 0, 0, is_evaluated=True, notes=in_common(self.initial))
            yield begun, Checkpoint(0, server, backend.states())
        else:
            server = resume.server
            backend.restore(resume.clients)
        first = 1 if resume is None else resume.round + 1
        keeping = set() if resume is None else set(resume.clients)
        waiting = None if evaluated else self._evaluation(server, first - 1, keeping)
        for number in range(first, self.rounds + 1):
            training = _Phase("fit", number, self._fit_jobs(server, number))
            yield from self._finish(backend, [training, waiting], keeping)
            server, trained = self._aggregate(server, training)
            waiting = self._evaluation(server, number, keeping)
            yield trained, Checkpoint(number, server, backend.states())
        yield from self._finish(backend, [waiting], keeping)

    def _finish(
        self, backend: Backend, asked: Sequence["_Phase | None"], keeping: set[str]
    ) -> Generator[Progress | Evaluated, None, None]:
        """Run the phases at the same time to their ends. ``keeping``, who keeps anything, is brought up to date."""
        phases = [phase for phase in asked if phase is not None and phase.jobs]
        for phase in phases:
            phase.begin()
            backend.submit(phase.jobs)
        while open_phases := [phase for phase in phases if not phase.is_over]:
            result = backend.completed()
            phase = next(phase for phase in open_phases if phase.kind == result.jobs[0].kind)
            if isinstance(result, Done):
                backend.accept(result)
                phase.take(result)
                if phase.kind == "fit":
                    keeping.difference_update(job.client for job in result.jobs)
                    keeping.update(result.states)
            else:
                self.policy(result)
                if isinstance(result, Failed):
                    phase.go_on_without(result)
            yield Progress(phase.round, phase.kind, phase.done, phase.total)
            if phase.kind == "evaluate" and phase.is_over:
                yield Evaluated(phase.round, phase.in_order(), phase.seconds)

    def _fit_jobs(self, server: State, number: int) -> list[Job]:
        """A job for each client of the cohort, with its place among those of its task group by name."""
        cohort = self.cohort(number)
        groups = by_group(sorted(cohort, key=_name))
        places = {client.name: place for members in groups.values() for place, client in enumerate(members)}
        weights = {client.name: self.algorithm.weight(client) for client in cohort}
        for group, members in groups.items():
            if len({weights[client.name] is None for client in members}) > 1:
                raise ConfigError(
                    f"algorithm {type(self.algorithm).__name__}: weight is None for some clients of {group}, a number "
                    "for others; allowed: one or the other for all clients of a task group"
                )
        evaluate = BEFORE_AGGREGATION in self.stages and self._is_evaluated(number)
        jobs = []
        for client in cohort:
            instruction = self.algorithm.instruct(server, client, number)
            jobs.append(Job("fit", instruction, evaluate, places[client.name], weights[client.name]))
        return jobs

    def _aggregate(self, server: State, training: "_Phase") -> tuple[State, Trained]:
        started = time.perf_counter()
        updates = self.algorithm.guarded(training.server_updates(), derive(self.seed, "guard", training.round))
        last = server
        server, diagnostics = self.algorithm.aggregate(last, updates, self.probe)
        check_finite(training.round, last, server)
        reports = training.in_order()
        trained = Trained(
            training.round,
            reports,
            diagnostics,
            {"fit": training.seconds, "aggregate": time.perf_counter() - started},
            bytes_up=sum(report.bytes_up for report in reports),
            bytes_down=sum(nbytes(job.instruction.trees) for job in training.jobs),
            is_evaluated=self._is_evaluated_after(training.round),
        )
        return server, trained

    def _evaluation(self, server: State, number: int, keeping: Collection[str]) -> "_Phase":
        """After aggregation: each client as its next round starts. Round 0 always counts as after aggregation.

        Floors depend on no model: round 0's evaluation tells them for the whole run.

        Clients that would be evaluated alike are evaluated once: those that keep nothing of their own, load the same
        trees, and have the same held-out images.
        """
        jobs: list[Job] = []
        alike: dict[tuple[Any, ...], str] = {}
        evaluated_as: dict[str, str] = {}
        for client in self.clients if self._is_evaluated_after(number) else []:
            instruction = replace(
                self.algorithm.instruct(server, client, number + 1), anchor=(), candidates={}, over=()
            )
            own = client.name if client.name in keeping else None
            key = (own, client.group, client.dataset, client.held_out_ids, *map(id, instruction.load))
            evaluated_as[client.name] = alike.setdefault(key, client.name)
            if evaluated_as[client.name] == client.name:
                jobs.append(Job("evaluate", instruction, floors=number == 0))
        return _Phase("evaluate", number, jobs, evaluated_as)

    def _is_evaluated_after(self, number: int) -> bool:
        return self._is_evaluated(number) and (number == 0 or AFTER_AGGREGATION in self.stages)

    def _is_evaluated(self, number: int) -> bool:
        return number % self.evaluate_every == 0 or number == self.rounds


def _name(client: ClientSpec | Update) -> str:
    return client.name if isinstance(client, ClientSpec) else client.client


class _Phase:
    """One kind of jobs of a round, and what has come of them. ``told_as``: by client, whose report is its report."""

    def __init__(self, kind: Kind, number: int, jobs: Sequence[Job], told_as: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.round = number
        self.jobs = jobs
        self.seconds = 0.0
        self._told_as = told_as or {job.client: job.client for job in jobs}
        self._reports: dict[str, ClientReport] = {}
        self._updates: list[Update] = []
        self._means: dict[str, list[PartialMean]] = {}
        self._failed: set[str] = set()
        self._started = 0.0

    @property
    def total(self) -> int:
        """Number of clients."""
        return len(self._told_as)

    @property
    def done(self) -> int:
        """Number of clients whose report is there."""
        return len(self.in_order())

    @property
    def is_over(self) -> bool:
        """Whether nobody is waited for any more."""
        return len(self._reports) + len(self._failed) == len(self.jobs)

    def begin(self) -> None:
        """From here on time counts."""
        self._started = time.perf_counter()

    def take(self, done: Done) -> None:
        """Take in what some of the jobs came to."""
        self._reports |= {report.client: report for report in done.reports}
        self._updates += done.updates
        for group, means in done.means.items():
            self._means.setdefault(group, []).extend(means)
        self.seconds = time.perf_counter() - self._started

    def go_on_without(self, failed: Failed) -> None:
        """These jobs are not waited for."""
        self._failed |= {job.client for job in failed.jobs}

    def in_order(self) -> list[ClientReport]:
        """The reports that are there, in the order of the clients."""
        return [
            self._reports[client] if client == source else replace(self._reports[source], client=client, seconds=0.0)
            for client, source in self._told_as.items()
            if source in self._reports
        ]

    def server_updates(self) -> list[Update]:
        """What the server aggregates, by name: clients' updates as they are, and the mean of each group that was added
        up."""
        senders: dict[str, list[Update]] = {}
        for update in sorted(self._updates, key=_name):
            senders.setdefault(update.group if update.group in self._means else update.client, []).append(update)
        return [
            _mean_update(members, self._means[name]) if name in self._means else members[0]
            for name, members in sorted(senders.items())
        ]


def _mean_update(members: Sequence[Update], means: Sequence[PartialMean]) -> Update:
    group, examples = members[0].group, sum(member.examples for member in members)
    return Update(group, group, examples, mean(means), members=tuple(members))
