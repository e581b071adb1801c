"""The round loop: instruct, fit, aggregate, evaluate, report."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Probe
from mfed_ray.checkpoint import Checkpoint
from mfed_ray.messages import ClientReport, ClientSpec, Instruction, Params, State
from mfed_ray.params import nbytes
from mfed_ray.runtime.contract import Backend, Fitted

Stage = Literal["before_aggregation", "after_aggregation"]


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
    initial: Params
    probe: Probe
    rounds: int
    stages: frozenset[Stage]
    evaluate_every: int

    def run(self, backend: Backend, resume: Checkpoint | None) -> Iterator[Progress | tuple[RoundReport, Checkpoint]]:
        """Yield progress, and after each round its report with the checkpoint that the next one can start from.

        Round 0 is the evaluation of the initial models.
        """
        if resume is None:
            server = self.algorithm.init(self.clients, self.initial)
            evaluated = yield from self._evaluate(backend, server, 0)
            yield RoundReport(0, [], evaluated, Diagnostics(), {}, 0, 0), Checkpoint(0, server, backend.states())
            first = 1
        else:
            server, first = resume.server, resume.round + 1
            backend.restore(resume.clients)
        for number in range(first, self.rounds + 1):
            clock = _Clock()
            instructions = self._instructions(server, number)
            fitted = yield from self._fit(backend, instructions, number)
            clock.lap("fit")
            updates = [one.update for one in fitted]
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

    def _instructions(self, server: State, number: int) -> list[Instruction]:
        return [self.algorithm.instruct(server, client, number) for client in self.clients]

    def _fit(
        self, backend: Backend, instructions: Sequence[Instruction], number: int
    ) -> Generator[Progress, None, list[Fitted]]:
        evaluate = "before_aggregation" in self.stages and self._is_evaluated(number)
        done: dict[str, Fitted] = {}
        for fitted in backend.fit(instructions, evaluate=evaluate):
            done[fitted.update.client] = fitted
            yield Progress(number, "fit", len(done), len(instructions))
        return [done[client.name] for client in self.clients]

    def _evaluate(self, backend: Backend, server: State, number: int) -> Generator[Progress, None, list[ClientReport]]:
        """After aggregation: each client as its next round starts. Round 0 always counts as after aggregation."""
        if not self._is_evaluated(number) or (number and "after_aggregation" not in self.stages):
            return []
        done: dict[str, ClientReport] = {}
        for report in backend.evaluate(self._instructions(server, number + 1)):
            done[report.client] = report
            yield Progress(number, "evaluate", len(done), len(self.clients))
        return [done[client.name] for client in self.clients]

    def _is_evaluated(self, number: int) -> bool:
        return number % self.evaluate_every == 0 or number == self.rounds


@dataclass
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.perf_counter)

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase], self.last = now - self.last, now
