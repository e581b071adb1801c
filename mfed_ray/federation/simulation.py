"""The round loop: instruct, fit, aggregate, evaluate, report."""

import time
from collections import Counter
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Probe, by_group
from mfed_ray.algorithms.fusion import in_common
from mfed_ray.errors import ConfigError
from mfed_ray.evaluation import AFTER_AGGREGATION, BEFORE_AGGREGATION, Stage
from mfed_ray.federation.backend import Backend, Job
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.federation.events import NOBODY, Absent, Step, Trained
from mfed_ray.federation.faults import Faults
from mfed_ray.federation.finite import check_finite
from mfed_ray.federation.gathering import Gathering
from mfed_ray.federation.phase import Phase
from mfed_ray.messages import ClientSpec, Params, State
from mfed_ray.params import nbytes
from mfed_ray.seeds import derive, generator


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
    faults: Faults = field(default_factory=Faults)
    max_retries: int = 0
    """How often clients that are late are run again."""

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

    def _notes(self) -> list[str]:
        left_out = [
            f"{client.name}: {len(client.skipped)} images cannot be read and are left out, {client.skipped[0]} first"
            for client in self.clients
            if client.skipped
        ]
        return [*in_common(self.initial), *left_out]

    def cohort(self, number: int) -> list[ClientSpec]:
        """Who trains in a round: all, or ``clients_per_round`` drawn without replacement from (seed, round)."""
        size = self.clients_per_round
        if size is None or size >= len(self.trainees):
            return list(self.trainees)
        names = sorted(client.name for client in self.trainees)
        chosen = set(generator(self.seed, "cohort", number).choice(names, size, replace=False).tolist())
        return [client for client in self.trainees if client.name in chosen]

    def run(
        self, backend: Backend, resume: Checkpoint | None, evaluated: bool = False, absent: Absent = NOBODY
    ) -> Generator[Step, None, None]:
        """Train the rounds that are left; yields what happens as it happens.

        While the clients of a round train, those that are free are evaluated as the last round left them. That is told
        before the round is. ``resume``: the checkpoint to go on from, and whether its round is ``evaluated`` already.
        Round 0 is the initial models. Whoever is ``absent`` is left out as if dropped. Raises what a client failed
        with, and ClientError where one is late or too few are left, as ``faults`` has it.
        """
        if resume is None:
            server = self.start
            begun = Trained(0, [], Diagnostics(), {}, 0, 0, is_evaluated=True, notes=self._notes())
            yield begun, Checkpoint(0, server, backend.states())
        else:
            server = resume.server
            backend.restore(resume.clients)
        tasks = {client.name: client.tasks for client in self.everybody}
        gathering = Gathering(backend, self.faults, self.max_retries, tasks)
        first = 1 if resume is None else resume.round + 1
        keeping = frozenset() if resume is None else frozenset(resume.clients)

        def evaluation(number: int) -> Phase:
            return self._evaluation(server, number, keeping, absent.get(("evaluate", number), ()))

        waiting = [] if evaluated else [evaluation(first - 1)]
        for number in range(first, self.rounds + 1):
            training = Phase("fit", number, self._fit_jobs(server, number, absent.get(("fit", number), ())))
            yield from gathering.finish([training, *waiting])
            keeping = training.keeping(keeping)
            server, trained = self._aggregate(server, training)
            waiting = [evaluation(number)]
            yield trained, Checkpoint(number, server, backend.states())
        yield from gathering.finish(waiting)

    def _fit_jobs(self, server: State, number: int, absent: Collection[str]) -> list[Job]:
        """A job for each client of the cohort that is not absent.

        Its place is that among all of the cohort of its task group by name, so that who is absent moves nobody's.
        """
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
        for client in (client for client in cohort if client.name not in absent):
            instruction = self.algorithm.instruct(server, client, number)
            jobs.append(Job("fit", instruction, evaluate, places[client.name], weights[client.name]))
        return jobs

    def _aggregate(self, server: State, training: Phase) -> tuple[State, Trained]:
        started = time.perf_counter()
        drawn = Counter(client.group for client in self.cohort(training.round))
        sent = [replace(update, drawn=drawn[update.group]) for update in training.server_updates()]
        updates = self.algorithm.guarded(sent, derive(self.seed, "guard", training.round))
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
            bytes_down=sum(nbytes(job.instruction.trees) for job in training.finished_jobs),
            is_evaluated=self._is_evaluated_after(training.round),
        )
        return server, trained

    def _evaluation(self, server: State, number: int, keeping: Collection[str], absent: Collection[str]) -> Phase:
        """After aggregation: each client as its next round starts. Round 0 always counts as after aggregation.

        Floors depend on no model: round 0's evaluation tells them for the whole run.

        Clients that would be evaluated alike are evaluated once: those that keep nothing of their own, load the same
        trees, and have the same held-out images.
        """
        jobs: list[Job] = []
        alike: dict[tuple[Any, ...], str] = {}
        evaluated_as: dict[str, str] = {}
        asked = self.clients if self._is_evaluated_after(number) else ()
        for client in (client for client in asked if client.name not in absent):
            instruction = replace(
                self.algorithm.instruct(server, client, number + 1), anchor=(), candidates={}, over=()
            )
            own = client.name if client.name in keeping else None
            key = (own, client.group, client.dataset, client.held_out_ids, *map(id, instruction.load))
            evaluated_as[client.name] = alike.setdefault(key, client.name)
            if evaluated_as[client.name] == client.name:
                jobs.append(Job("evaluate", instruction, floors=number == 0))
        return Phase("evaluate", number, jobs, evaluated_as)

    def _is_evaluated_after(self, number: int) -> bool:
        return self._is_evaluated(number) and (number == 0 or AFTER_AGGREGATION in self.stages)

    def _is_evaluated(self, number: int) -> bool:
        return number % self.evaluate_every == 0 or number == self.rounds


def _name(client: ClientSpec) -> str:
    return client.name
