"""The round loop: instruct, fit, aggregate, evaluate, report."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Probe
from mfed_ray.checkpoint import Checkpoint
from mfed_ray.evaluation import AFTER_AGGREGATION, BEFORE_AGGREGATION, Stage
from mfed_ray.messages import ClientReport, ClientSpec, Instruction, Params, State
from mfed_ray.params import nbytes
from mfed_ray.runtime.contract import Backend, Fitted
from mfed_ray.seeds import generator


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` clients have finished a phase of a round."""

    round: int
    phase: Literal["fit", "evaluate"]
    done: int
    total: int


@dataclass(frozen=True)
class RoundReport:
    """A finished round. ``fitted`` and ``evaluated`` (after aggregation) are in the order of the clients."""

    round: int
    fitted: Sequence[ClientReport]
    evaluated: Sequence[ClientReport]
    diagnostics: Diagnostics
    seconds: Mapping[str, float]
    bytes_up: int
    bytes_down: int


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

    def run(self, backend: Backend, resume: Checkpoint | None) -> Iterator[Progress | tuple[RoundReport, Checkpoint]]:
        """Yield progress, and after each round its report with the checkpoint that the next one can start from.

        Round 0 is the evaluation of the initial models.
        """
        if resume is None:
            server = self.start
            evaluated = yield from self._evaluate(backend, server, 0)
            yield RoundReport(0, [], evaluated, Diagnostics(), {}, 0, 0), Checkpoint(0, server, backend.states())
            first = 1
        else:
            server, first = resume.server, resume.round + 1
            backend.restore(resume.clients)
        for number in range(first, self.rounds + 1):
            clock = _Clock()
            instructions = self._instructions(self.cohort(number), server, number)
            fitted = yield from self._fit(backend, instructions, number)
            clock.lap("fit")
            updates = sorted((one.update for one in fitted), key=lambda update: update.client)
            server, diagnostics = self.algorithm.aggregate(server, updates, self.probe)
            clock.lap("aggregate")
            evaluated = yield from self._evaluate(backend, server, number)
            clock.lap("evaluate")
            yield (
                RoundReport(
                    number,
                    [one.report for one in fitted],
                    evaluated,
                    diagnostics,
                    clock.seconds,
                    bytes_up=sum(nbytes([update.params]) for update in updates),
                    bytes_down=sum(nbytes([*i.load, *i.anchor]) for i in instructions),
                ),
                Checkpoint(number, server, backend.states()),
            )

    def _instructions(self, clients: Sequence[ClientSpec], server: State, number: int) -> list[Instruction]:
        return [self.algorithm.instruct(server, client, number) for client in clients]

    def _fit(
        self, backend: Backend, instructions: Sequence[Instruction], number: int
    ) -> Generator[Progress, None, list[Fitted]]:
        evaluate = BEFORE_AGGREGATION in self.stages and self._is_evaluated(number)
        done: dict[str, Fitted] = {}
        for fitted in backend.fit(instructions, evaluate=evaluate):
            done[fitted.update.client] = fitted
            yield Progress(number, "fit", len(done), len(instructions))
        return [done[instruction.client] for instruction in instructions]

    def _evaluate(self, backend: Backend, server: State, number: int) -> Generator[Progress, None, list[ClientReport]]:
        """After aggregation: each client as its next round starts. Round 0 always counts as after aggregation."""
        if not self._is_evaluated(number) or (number and AFTER_AGGREGATION not in self.stages):
            return []
        done: dict[str, ClientReport] = {}
        for report in backend.evaluate(self._instructions(self.clients, server, number + 1)):
            done[report.client] = report
            yield Progress(number, "evaluate", len(done), len(self.clients))
        return [done[client.name] for client in self.clients]

    def _is_evaluated(self, number: int) -> bool:
        return number % self.evaluate_every == 0 or number == self.rounds


def _name(client: ClientSpec) -> str:
    return client.name


@dataclass
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.perf_counter)

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase], self.last = now - self.last, now
